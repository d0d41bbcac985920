// SPDX-License-Identifier: Apache-2.0
package io.caravan.app;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.caravan.runtime.Caravan;
import java.io.ByteArrayInputStream;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.util.List;
import java.util.Map;
import java.util.regex.MatchResult;
import java.util.regex.Pattern;
import java.util.zip.GZIPInputStream;
import org.apache.camel.impl.DefaultCamelContext;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;

/** The app as a browser gets it: the real route file, the files that npm built. */
class AppFilesTest {
  private static final Path REPO = Path.of(System.getProperty("repo.dir", "../..")).toAbsolutePath().normalize();
  private static final HttpClient HTTP = HttpClient.newHttpClient();
  private static Caravan cloud;

  @BeforeAll
  static void start() throws Exception {
    DefaultCamelContext context = new DefaultCamelContext();
    context.disableJMX();
    cloud = Caravan.builder().context(context).keys(REPO.resolve("config/cloud/keys")).environment(Map.of())
        .set("container.role", "cloud").set("http.port", "0").withoutDiscovery().module("app", new AppModule())
        .routes(REPO.resolve("routes/cloud/app.camel.yaml")).start();
    assertTrue(cloud.ready(), () -> cloud.checks().toString());
  }

  @AfterAll
  static void stop() {
    if (cloud != null) {
      cloud.close();
    }
  }

  private static HttpResponse<byte[]> get(String path, String... headers) throws Exception {
    HttpRequest.Builder request = HttpRequest.newBuilder(URI.create("http://127.0.0.1:" + cloud.httpPort() + path));
    if (headers.length > 0) {
      request.headers(headers);
    }
    return HTTP.send(request.build(), HttpResponse.BodyHandlers.ofByteArray());
  }

  private static String header(HttpResponse<?> answer, String name) {
    return answer.headers().firstValue(name).orElse("");
  }

  private static List<String> linked(String page) {
    return Pattern.compile("(?:href|src)=\"([^\"]+)\"").matcher(page).results().map(r -> r.group(1)).toList();
  }

  @Test
  void pageIsAskedForEachTimeAndNamesFilesThatAreKeptForEver() throws Exception {
    HttpResponse<byte[]> page = get("/");
    assertEquals(200, page.statusCode());
    assertEquals("text/html; charset=utf-8", header(page, "Content-Type"));
    assertEquals("no-cache", header(page, "Cache-Control"));
    assertEquals(304, get("/", "If-None-Match", header(page, "ETag")).statusCode());
    assertEquals(0, get("/", "If-None-Match", "W/" + header(page, "ETag")).body().length);
    assertEquals(200, get("/", "If-None-Match", "\"another\"").statusCode());

    String html = new String(page.body(), StandardCharsets.UTF_8);
    List<String> files = linked(html);
    assertTrue(files.size() >= 5, html);
    for (String file : files) {
      HttpResponse<byte[]> answer = get(file);
      assertEquals(200, answer.statusCode(), file);
      assertEquals("public, max-age=31536000, immutable", header(answer, "Cache-Control"), file);
      assertTrue(file.matches("/app/[a-z0-9-]+-[0-9a-f]{16}\\.[a-z]+"), file);
    }
    HttpResponse<byte[]> worker = get("/sw.js");
    assertEquals("no-cache", header(worker, "Cache-Control"), "a worker that is kept hides new versions");
    assertTrue(new String(worker.body(), StandardCharsets.UTF_8).contains(files.stream().filter(f -> f.endsWith(".js")).findFirst().orElseThrow()));
  }

  @Test
  void nothingInThePageNeedsMoreThanThePolicyAllows() throws Exception {
    HttpResponse<byte[]> page = get("/");
    String policy = header(page, "Content-Security-Policy");
    assertTrue(policy.startsWith("default-src 'none'; script-src 'self'; style-src 'self';"), policy);
    assertTrue(policy.contains("frame-ancestors 'none'"), policy);
    assertFalse(policy.contains("unsafe"), policy);
    assertEquals("nosniff", header(page, "X-Content-Type-Options"));
    assertEquals("no-referrer", header(page, "Referrer-Policy"));
    String html = new String(page.body(), StandardCharsets.UTF_8);
    assertFalse(Pattern.compile("<style|\\sstyle=|<script(?![^>]*src=)|\\son[a-z]+=|https?://").matcher(html).find(), html);
  }

  @Test
  void compressedAsTheClientTakesIt() throws Exception {
    String script = linked(new String(get("/").body(), StandardCharsets.UTF_8)).stream().filter(f -> f.endsWith(".js")).findFirst().orElseThrow();
    HttpResponse<byte[]> plain = get(script);
    HttpResponse<byte[]> gzip = get(script, "Accept-Encoding", "deflate, gzip;q=0.8, br;q=0");
    assertEquals("gzip", header(gzip, "Content-Encoding"));
    assertEquals("Accept-Encoding", header(gzip, "Vary"));
    assertArrayEquals(plain.body(), new GZIPInputStream(new ByteArrayInputStream(gzip.body())).readAllBytes());
    HttpResponse<byte[]> br = get(script, "Accept-Encoding", "gzip, deflate, br");
    assertEquals("br", header(br, "Content-Encoding"));
    assertTrue(br.body().length < gzip.body().length && gzip.body().length < plain.body().length / 2);
    assertEquals(3, List.of(plain, gzip, br).stream().map(a -> header(a, "ETag")).distinct().count(), "one tag per encoding");
    assertEquals("", header(get(script, "Accept-Encoding", "gzip;q=0"), "Content-Encoding"));
  }

  @Test
  void whatIsNotThereIsNotFound() throws Exception {
    for (String path : List.of("/app/index.html", "/app/main-0000000000000000.js", "/app/index.tsv", "/app/%2e%2e%2fapp")) {
      int status = get(path).statusCode();
      assertTrue(status == 404 || status == 400, path + " " + status);
    }
    assertEquals(404, get("/index.html").statusCode());
  }

  @Test
  void whatOthersWroteGoesWithItsLicence() throws Exception {
    String html = new String(get("/").body(), StandardCharsets.UTF_8);
    String script = new String(get(linked(html).stream().filter(f -> f.endsWith(".js")).findFirst().orElseThrow()).body(), StandardCharsets.UTF_8);
    MatchResult licences = Pattern.compile("/app/licences-[0-9a-f]{16}\\.txt").matcher(script).results().findFirst().orElseThrow();
    String text = new String(get(licences.group()).body(), StandardCharsets.UTF_8);
    assertTrue(text.contains("preact ") && text.contains("uplot ") && text.contains("Permission is hereby granted"), text);
  }
}
