// SPDX-License-Identifier: Apache-2.0
package io.caravan.conventions;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.sun.net.httpserver.HttpExchange;
import com.sun.net.httpserver.HttpServer;
import java.io.IOException;
import java.net.InetAddress;
import java.net.InetSocketAddress;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.concurrent.TimeUnit;
import java.util.stream.Stream;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** bin/scan against a server that answers as OSV documents it: https://google.github.io/osv.dev/post-v1-querybatch/ */
class ScanTest {
  private static final Path REPO = Path.of(System.getProperty("repo.dir", "..")).toAbsolutePath().normalize();
  private static final String NETTY = "pkg:maven/io.netty/netty-codec@4.1.1.Final";
  private static final String JACKSON = "pkg:maven/com.fasterxml.jackson.core/jackson-core@2.1.0";

  @TempDir
  Path folder;
  private HttpServer osv;
  private final List<String> asked = new ArrayList<>();

  @BeforeEach
  void start() throws IOException {
    osv = HttpServer.create(new InetSocketAddress(InetAddress.getLoopbackAddress(), 0), 0);
    osv.start();
  }

  @AfterEach
  void stop() {
    osv.stop(0);
  }

  @Test
  void whatIsNotAnsweredIsNamed() throws Exception {
    answer(Map.of(NETTY, "[{\"id\": \"GHSA-aaaa-bbbb-cccc\", \"modified\": \"2026-01-01T00:00:00Z\"}]"));
    advisory("GHSA-aaaa-bbbb-cccc", "[\"CVE-2099-1\"]", "Too much of it");
    Result scan = scan();
    assertEquals(1, scan.exit, scan.output);
    assertTrue(scan.output.contains("GHSA-aaaa-bbbb-cccc CVE-2099-1 | " + NETTY + " | not in security/advisories.yaml | Too much of it"), scan.output);
    assertTrue(scan.output.contains("2 components, 1 advisories, 1 of them not answered"), scan.output);
    assertFalse(asked.stream().anyMatch(p -> p.contains("io.caravan") || p.contains("?")), asked::toString);
  }

  @Test
  void answersCountByAliasButNotWhenTheyAreUntrue() throws Exception {
    answer(Map.of(NETTY, "[{\"id\": \"GHSA-x\", \"modified\": \"m\"}]", JACKSON, "[{\"id\": \"GHSA-y\", \"modified\": \"m\"}]"));
    // mitigated, by its alias; and one that is said to be fixed, which the database contradicts.
    advisory("GHSA-x", "[\"CVE-2026-91006\"]", "known");
    advisory("GHSA-y", "[\"CVE-2025-6965\"]", "known too");
    Result scan = scan();
    assertEquals(1, scan.exit, scan.output);
    assertFalse(scan.output.contains("GHSA-x"), scan.output);
    assertTrue(scan.output.contains("GHSA-y CVE-2025-6965 | " + JACKSON + " | security/advisories.yaml says fixed, but this version is affected"), scan.output);
  }

  @Test
  void aCutAnswerIsAskedForAgain() throws Exception {
    int[] calls = {0};
    osv.createContext("/v1/querybatch", exchange -> {
      JsonNode queries = new ObjectMapper().readTree(exchange.getRequestBody()).path("queries");
      boolean first = calls[0]++ == 0;
      asked.add(queries.toString());
      send(exchange, 200, first ? "{\"results\": [{}, {\"vulns\": [], \"next_page_token\": \"more\"}]}"
          : "{\"results\": [{\"vulns\": [{\"id\": \"GHSA-late\", \"modified\": \"m\"}]}]}");
    });
    advisory("GHSA-late", "[]", "on the second page");
    Result scan = scan();
    assertEquals(1, scan.exit, scan.output);
    assertTrue(scan.output.contains("GHSA-late"), scan.output);
    assertEquals("[{\"package\":{\"purl\":\"" + NETTY + "\"},\"page_token\":\"more\"}]", asked.get(1));
  }

  @Test
  void nothingFoundIsSuccess() throws Exception {
    answer(Map.of());
    Result scan = scan();
    assertEquals(0, scan.exit, scan.output);
    assertTrue(scan.output.contains("2 components, 0 advisories, 0 of them not answered"), scan.output);
  }

  @Test
  void noAnswerIsNotSuccess() throws Exception {
    String gone = "http://127.0.0.1:" + osv.getAddress().getPort();
    osv.stop(0);
    assertNotScanned(run("--api", gone, sbom().toString()), "could not be asked");
    start();
    osv.createContext("/v1/querybatch", e -> send(e, 400, "{\"code\":3,\"message\":\"Invalid query.\"}"));
    assertNotScanned(scan(), "could not be asked");
    osv.removeContext("/v1/querybatch");
    osv.createContext("/v1/querybatch", e -> send(e, 200, "<html>proxy login</html>"));
    assertNotScanned(scan(), "does not fit");
    assertEquals(2, run("--api", gone, folder.resolve("none.json").toString()).exit);
    assertEquals(2, run("--nonsense").exit);
  }

  private static void assertNotScanned(Result scan, String words) {
    assertEquals(3, scan.exit, scan.output);
    assertTrue(scan.output.contains("not scanned") && scan.output.contains(words), scan.output);
  }

  private void answer(Map<String, String> vulns) {
    osv.createContext("/v1/querybatch", exchange -> {
      List<String> results = new ArrayList<>();
      for (JsonNode query : new ObjectMapper().readTree(exchange.getRequestBody()).path("queries")) {
        String purl = query.path("package").path("purl").asText();
        asked.add(purl);
        results.add(vulns.containsKey(purl) ? "{\"vulns\": " + vulns.get(purl) + "}" : "{}");
      }
      send(exchange, 200, "{\"results\": [" + String.join(",", results) + "]}");
    });
  }

  private void advisory(String id, String aliases, String summary) {
    osv.createContext("/v1/vulns/" + id, exchange -> send(exchange, 200,
        "{\"id\": \"" + id + "\", \"summary\": \"" + summary + "\", \"aliases\": " + aliases + ", \"modified\": \"2026-01-01T00:00:00Z\"}"));
  }

  private static void send(HttpExchange exchange, int status, String body) throws IOException {
    exchange.sendResponseHeaders(status, body.length());
    exchange.getResponseBody().write(body.getBytes(StandardCharsets.UTF_8));
    exchange.close();
  }

  private Result scan() throws Exception {
    return run("--api", "http://127.0.0.1:" + osv.getAddress().getPort(), sbom().toString());
  }

  /** Two components, one of them inside the other, and ours, which is in no database. */
  private Path sbom() throws IOException {
    return Files.writeString(folder.resolve("sbom.json"), """
        {"metadata": {"component": {"purl": "pkg:maven/io.caravan/caravan-gateway@1?type=tar.gz"}},
         "components": [{"purl": "pkg:maven/io.caravan/caravan-wal@1"},
                        {"purl": "%s?classifier=x", "components": [{"purl": "%s"}, {"purl": "pkg:generic/sqlite@3"}]}]}
        """.formatted(NETTY, JACKSON));
  }

  private Result run(String... arguments) throws Exception {
    Path log = folder.resolve("log");
    Process process = new ProcessBuilder(Stream.concat(Stream.of(REPO.resolve("bin/scan").toString()), Stream.of(arguments)).toList())
        .redirectErrorStream(true).redirectOutput(log.toFile()).start();
    assertTrue(process.waitFor(120, TimeUnit.SECONDS), "bin/scan does not end");
    return new Result(process.exitValue(), Files.readString(log));
  }

  private record Result(int exit, String output) { }
}
