// SPDX-License-Identifier: Apache-2.0
package io.caravan.app.internal;

import io.caravan.runtime.HttpCall;
import java.io.BufferedReader;
import java.io.FileNotFoundException;
import java.io.IOException;
import java.io.InputStream;
import java.io.InputStreamReader;
import java.nio.charset.StandardCharsets;
import java.util.Arrays;
import java.util.HashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import org.apache.camel.Exchange;
import org.apache.camel.Message;

/**
 * The files of the app, in memory, compressed when they were built. Java, because no component serves files out of a bundle with
 * validators and in the encoding that the client takes. Immutable, thread-safe.
 */
public final class AppFiles {
  private static final String FOLDER = "files/";

  /** @param encodings bytes by Content-Encoding; {@code identity} is always there */
  private record File(String type, String hash, boolean named, Map<String, byte[]> encodings) {
  }

  private final Map<String, File> byPath;

  private AppFiles(Map<String, File> byPath) {
    this.byPath = Map.copyOf(byPath);
  }

  /**
   * Reads what the build made.
   *
   * @throws IOException this jar was built without the app
   */
  public static AppFiles load() throws IOException {
    Map<String, File> files = new HashMap<>();
    try (BufferedReader index = new BufferedReader(new InputStreamReader(open("index.tsv"), StandardCharsets.UTF_8))) {
      for (String line = index.readLine(); line != null; line = index.readLine()) {
        String[] column = line.split("\t");
        Map<String, byte[]> encodings = new HashMap<>();
        for (String encoding : column[4].split(",")) {
          String suffix = encoding.equals("identity") ? "" : "." + encoding;
          try (InputStream in = open(column[1] + suffix)) {
            encodings.put(encoding, in.readAllBytes());
          }
        }
        // A name with its hash never stands for anything else.
        files.put(column[0], new File(column[2], column[3], column[1].contains(column[3]), encodings));
      }
    }
    return new AppFiles(files);
  }

  private static InputStream open(String name) throws IOException {
    InputStream in = AppFiles.class.getResourceAsStream(FOLDER + name);
    if (in == null) {
      throw new FileNotFoundException("[" + FOLDER + name + "] is not in the jar of the app: build bundles/app with Maven");
    }
    return in;
  }

  /** Answers with the file that is at the path of the request: 200, 304 if the client has it, 404 if there is none. */
  public void serve(Exchange exchange) {
    HttpCall call = HttpCall.of(exchange);
    Message answer = exchange.getMessage();
    answer.removeHeaders("*");
    File file = byPath.get(call.path());
    if (file == null) {
      answer.setHeader(Exchange.HTTP_RESPONSE_CODE, 404);
      answer.setHeader(Exchange.CONTENT_TYPE, "application/problem+json");
      answer.setBody("{\"title\":\"Not Found\",\"status\":404,\"error\":\"not_found\",\"detail\":\"the app has no such file: reload the page\"}");
      return;
    }
    String encoding = List.of("br", "gzip").stream().filter(file.encodings::containsKey).filter(e -> accepts(call, e)).findFirst().orElse("identity");
    String tag = '"' + file.hash + (encoding.equals("identity") ? "" : "-" + encoding) + '"';
    answer.setHeader("ETag", tag);
    answer.setHeader("Vary", "Accept-Encoding");
    answer.setHeader("Cache-Control", file.named ? "public, max-age=31536000, immutable" : "no-cache");
    if (known(call, tag)) {
      answer.setHeader(Exchange.HTTP_RESPONSE_CODE, 304);
      answer.setBody(null);
      return;
    }
    answer.setHeader(Exchange.CONTENT_TYPE, file.type);
    if (!encoding.equals("identity")) {
      answer.setHeader(Exchange.CONTENT_ENCODING, encoding);
    }
    answer.setBody(file.encodings.get(encoding));
  }

  /** Whether it is named, and not with a weight of zero. */
  private static boolean accepts(HttpCall call, String encoding) {
    return call.headers("Accept-Encoding").stream().flatMap(line -> Arrays.stream(line.toLowerCase(Locale.ROOT).split(",")))
        .map(String::strip).anyMatch(part -> part.split(";")[0].strip().equals(encoding) && !part.matches("[^;]*;\\s*q=0(\\.0*)?"));
  }

  private static boolean known(HttpCall call, String tag) {
    return call.headers("If-None-Match").stream().flatMap(line -> Arrays.stream(line.split(","))).map(String::strip)
        .map(t -> t.startsWith("W/") ? t.substring(2) : t).anyMatch(t -> t.equals(tag) || t.equals("*"));
  }
}
