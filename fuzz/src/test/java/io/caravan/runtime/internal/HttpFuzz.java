// SPDX-License-Identifier: Apache-2.0
package io.caravan.runtime.internal;

import static io.caravan.fuzz.Invariant.same;
import static io.caravan.fuzz.Invariant.that;

import com.code_intelligence.jazzer.junit.DictionaryEntries;
import com.code_intelligence.jazzer.junit.FuzzTest;
import io.caravan.fuzz.Invariant;
import io.caravan.runtime.Caravan;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.InputStream;
import java.net.Socket;
import java.net.SocketException;
import java.net.SocketTimeoutException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Map;
import java.util.Set;
import java.util.TreeMap;
import org.apache.camel.Exchange;
import org.apache.camel.impl.DefaultCamelContext;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.BeforeAll;

/**
 * Bytes to the one HTTP server of a container, over real sockets: what comes back is HTTP with an answer of the contract and never a 500,
 * and another connection does not notice.
 */
class HttpFuzz {
  private static final int HANG_MS = 20_000;
  /** For answers that are under way, before the end is told; nothing depends on it. */
  private static final int PAUSE_MS = 10;
  private static final Set<Integer> STATUSES = Set.of(100, 200, 400, 401, 403, 404, 405, 406, 408, 413, 414, 415, 417, 429, 431, 503);
  private static final String ROUTES = """
      - route: {id: in, from: {uri: "platform-http:/in", steps: [{bean: {ref: probe, method: echo}}]}}
      - route: {id: in-one, from: {uri: "platform-http:/devices/{id}/in?httpMethodRestrict=POST", steps: [{bean: {ref: probe, method: echo}}]}}
      - route: {id: in-admin, from: {uri: "platform-http:/admin", steps: [{bean: {ref: adminAccess, method: check}}]}}
      """;
  private static Path folder;
  private static Caravan caravan;
  private static Socket neighbour;

  /** Bean of the routes. */
  public static final class Probe {
    public void echo(Exchange exchange) {
      byte[] body = exchange.getMessage().getBody(byte[].class);
      exchange.getMessage().removeHeaders("*");
      exchange.getMessage().setBody("got " + (body == null ? 0 : body.length));
    }
  }

  @BeforeAll
  static void start() throws Exception {
    folder = Files.createTempDirectory("fuzz-http");
    DefaultCamelContext context = new DefaultCamelContext();
    context.getRegistry().bind("probe", new Probe());
    caravan = Caravan.builder().keys(Path.of(System.getProperty("repo.dir", ".."), "bundles/runtime/src/test/resources/keys")).environment(Map.of())
        .withoutDiscovery().context(context).home(folder).set("admin.login", "always")
        .routes(Files.writeString(folder.resolve("in.camel.yaml"), ROUTES)).start();
  }

  @AfterAll
  static void stop() throws IOException {
    if (neighbour != null) {
      neighbour.close();
    }
    caravan.close();
  }

  @FuzzTest
  @DictionaryEntries({"GET /in HTTP/1.1", "POST /devices/d1/in HTTP/1.1", "Host: a", "Content-Length: ", "Transfer-Encoding: chunked", "Expect: 100-continue", "Connection: close",
      "Connection: Upgrade", "Upgrade: h2c", "Upgrade: websocket", "HTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA", "PRI * HTTP/2.0", "Authorization: Basic ", "Content-Type: multipart/form-data; boundary=a",
      "Content-Type: application/x-www-form-urlencoded", "Content-Encoding: gzip", "X-Forwarded-For: ", "Cookie: a=b", "Origin: http://a", "%2e%2e", "%00", "%ff", "/../", "?a=%zz", "http://a/in", "OPTIONS *"})
  void bytes(byte[] input) throws Exception {
    ByteArrayOutputStream answer = new ByteArrayOutputStream();
    boolean cut = exchange(input, answer);
    answers(answer.toString(StandardCharsets.ISO_8859_1), new String(input, StandardCharsets.ISO_8859_1), cut);
    if (neighbour == null) {
      // Not earlier: who says nothing for long is cut off, and the first run waits for Jazzer.
      neighbour = new Socket("127.0.0.1", caravan.httpPort());
      neighbour.setSoTimeout(HANG_MS);
    }
    neighbour.getOutputStream().write("GET /in HTTP/1.1\r\nHost: neighbour\r\n\r\n".getBytes(StandardCharsets.US_ASCII));
    String head = "";
    while (!head.endsWith("\r\n\r\ngot 0")) {
      int next = neighbour.getInputStream().read();
      that(next >= 0, "the neighbour was cut off");
      head += (char) next;
    }
    that(head.startsWith("HTTP/1.1 200 "), "the neighbour: " + head);
  }

  private static boolean exchange(byte[] sent, ByteArrayOutputStream answer) throws IOException {
    try (Socket socket = new Socket("127.0.0.1", caravan.httpPort())) {
      socket.setTcpNoDelay(true);
      try {
        socket.getOutputStream().write(sent);
        InputStream in = socket.getInputStream();
        byte[] buffer = new byte[4096];
        socket.setSoTimeout(PAUSE_MS);
        try {
          for (int n = in.read(buffer); n >= 0; n = in.read(buffer)) {
            answer.write(buffer, 0, n);
          }
          return false;
        } catch (SocketTimeoutException e) {
          socket.setSoTimeout(HANG_MS);
          socket.shutdownOutput();
        }
        for (int n = in.read(buffer); n >= 0; n = in.read(buffer)) {
          answer.write(buffer, 0, n);
        }
        return false;
      } catch (SocketException e) {
        return true;
      }
    }
  }

  private static void answers(String text, String sent, boolean cut) throws IOException {
    int at = 0;
    while (at < text.length()) {
      int end = text.indexOf("\r\n\r\n", at);
      if (end < 0) {
        that(cut, "the answer ends within a header: " + text.substring(at));
        return;
      }
      String[] lines = text.substring(at, end).split("\r\n");
      that(lines[0].matches("HTTP/\\d\\.\\d \\d{3} [A-Za-z -]+"), "status line [" + lines[0] + "]");
      int status = Integer.parseInt(lines[0].substring(9, 12));
      that(STATUSES.contains(status), "status " + status + " for " + sent);
      Map<String, String> headers = new TreeMap<>(String.CASE_INSENSITIVE_ORDER);
      for (int i = 1; i < lines.length; i++) {
        int colon = lines[i].indexOf(": ");
        that(colon > 0 && lines[i].chars().allMatch(c -> c >= ' ' && c < 127), "header [" + lines[i] + "]");
        that(headers.put(lines[i].substring(0, colon), lines[i].substring(colon + 2)) == null, "header twice [" + lines[i] + "]");
      }
      at = end + 4;
      if (status == 100) {
        continue;
      }
      that(status != 429 || headers.get("Retry-After") != null, "429 says when to come again");
      same(headers.get("X-Content-Type-Options"), "nosniff", "X-Content-Type-Options of " + status);
      int length = Integer.parseInt(headers.getOrDefault("Content-Length", "0"));
      // An answer to HEAD has a length and no body; which one it was is not followed here.
      boolean head = sent.contains("HEAD") && !text.startsWith("{", at) && !text.startsWith("got", at);
      if (head) {
        continue;
      }
      if (at + length > text.length()) {
        that(cut, "the answer ends within a body");
        return;
      }
      String body = text.substring(at, at + length);
      at += length;
      if (status != 200 && length > 0) {
        var json = Invariant.STRICT.readTree(body);
        that(json.path("error").isTextual() && (json.path("message").isTextual() || json.path("reason").isTextual()
            || json.path("title").isTextual() && json.path("detail").isTextual()), "an error says what is wrong: " + body);
      } else if (status == 200) {
        that(body.matches("got \\d+"), "body [" + body + "]");
      }
    }
  }
}
