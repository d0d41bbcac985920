// SPDX-License-Identifier: Apache-2.0
package io.caravan.it;

import static org.awaitility.Awaitility.await;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.stream.Stream;
import org.awaitility.core.ConditionTimeoutException;

/**
 * One unpacked distribution and the process that runs it, seen from outside only: its folders, its ports, its exit code.
 * Used by one thread.
 */
public final class Distribution implements AutoCloseable {
  public static final Path REPO = Path.of(System.getProperty("repo.dir", "..")).toAbsolutePath().normalize();
  /** Two shared cores: a start that takes longer than this is a failure, not a slow machine. Where much else runs: {@code -Dpatience.seconds=}. */
  public static final Duration START = Duration.ofSeconds(Integer.getInteger("patience.seconds", 120));
  /** What a service manager grants before it kills. */
  private static final Duration STOP = Duration.ofSeconds(10);
  private static final HttpClient HTTP = HttpClient.newBuilder().version(HttpClient.Version.HTTP_1_1)
      .connectTimeout(Duration.ofSeconds(5)).build();

  public final String side;
  public final Path home;
  public final int httpPort;
  private final Map<String, String> settings = new LinkedHashMap<>();
  private final Map<String, String> environment = new LinkedHashMap<>();
  private Child child;

  /** The same process's other home: another version in its own folder, with the same settings and ports. */
  Distribution in(Path otherHome) {
    return new Distribution(this, otherHome);
  }

  private Distribution(Distribution same, Path home) {
    side = same.side;
    this.home = home;
    httpPort = same.httpPort;
    settings.putAll(same.settings);
    environment.putAll(same.environment);
  }

  private Distribution(String side, Path home) {
    httpPort = Ports.free();
    this.side = side;
    this.home = home;
    with("http.port", httpPort);
    if (side.equals("gateway")) {
      // What is tested is elsewhere; who tests trust says registry, the default.
      with("device.access", "open");
    }
  }

  /** Unpacks {@code karaf-assembly/<side>/target/*.tar.gz} into an empty folder {@code target/it/<name>}. */
  public static Distribution unpack(String side, String name) {
    return unpack(side, REPO.resolve("test-routes/target/it/" + name));
  }

  /** As above, into a folder of its own elsewhere: the repository may stand where another user cannot come. */
  public static Distribution unpack(String side, Path home) {
    String name = home.getFileName().toString();
    Path target = REPO.resolve("karaf-assembly/" + side + "/target");
    try {
      Path archive;
      try (Stream<Path> files = Files.isDirectory(target) ? Files.list(target) : Stream.empty()) {
        archive = files.filter(p -> p.toString().endsWith(".tar.gz")).findFirst()
            .orElseThrow(() -> new AssertionError("no distribution in " + target + ": run mvn package in karaf-assembly/" + side));
      }
      delete(home);
      Files.createDirectories(home);
      Child tar = Child.start("tar", List.of("tar", "xzf", archive.toString(), "--strip-components=1", "-C", home.toString()),
          Map.of(), home, home.resolveSibling(name + ".tar.log"));
      if (tar.awaitExit(START) != 0) {
        throw new AssertionError("tar failed: " + tar.output());
      }
      return new Distribution(side, home);
    } catch (IOException e) {
      throw new UncheckedIOException(e);
    }
  }

  public static void delete(Path folder) throws IOException {
    if (Files.exists(folder)) {
      try (Stream<Path> all = Files.walk(folder)) {
        for (Path p : all.sorted(Comparator.reverseOrder()).toList()) {
          Files.delete(p);
        }
      }
    }
  }

  /** A setting of every later start, given as an argument. */
  public Distribution with(String key, Object value) {
    settings.put(key, value.toString());
    return this;
  }

  public Distribution without(String key) {
    settings.remove(key);
    return this;
  }

  /** A variable of every later start. */
  public Distribution withEnvironment(String name, String value) {
    environment.put(name, value);
    return this;
  }

  /** Starts the process and does not wait for it. */
  public Distribution start() {
    List<String> command = new ArrayList<>(List.of(home.resolve("bin/caravan").toString(), "run"));
    settings.forEach((k, v) -> command.add("--" + k + "=" + v));
    child = Child.start(side, command, environment, home, home.resolve("console.log"));
    return this;
  }

  /** Waits until /readyz says 200. */
  public Distribution awaitReady() {
    return await200("/readyz");
  }

  /** Waits until /healthz says 200: the process works, ready or not. */
  public Distribution awaitLive() {
    return await200("/healthz");
  }

  private Distribution await200(String path) {
    try {
      await().atMost(START).pollInterval(Duration.ofMillis(200)).until(() -> !child.alive() || status(path) == 200);
    } catch (ConditionTimeoutException e) {
      throw new AssertionError(side + " " + path + " is not 200 after " + START + ": " + body(path) + "\n" + child.tail(), e);
    }
    if (!child.alive()) {
      throw new AssertionError(side + " ended by itself:\n" + child.tail());
    }
    return this;
  }

  private String body(String path) {
    try {
      return get(path).body();
    } catch (IOException e) {
      return e.toString();
    }
  }

  /** SIGKILL; returns when the process is gone. */
  public void kill() {
    child.kill();
  }

  /** @param name STOP, CONT */
  public void signal(String name) {
    child.signal(name);
  }

  /** SIGTERM, and the exit code. */
  public int stop() {
    return child.stop(STOP);
  }

  /** The exit code of a process that ends by itself. */
  public int awaitExit() {
    return child.awaitExit(START);
  }

  /** The lines of the console that say that something went wrong. */
  public List<String> errors() {
    return console().lines().filter(l -> l.contains("\"level\":\"ERROR\"")).toList();
  }

  /** What is on stdout: every line of the console that is not the launcher's or Java's own on stderr must be JSON. */
  List<JsonNode> logLines() {
    ObjectMapper mapper = new ObjectMapper();
    return console().lines().filter(l -> l.startsWith("{")).map(l -> {
      try {
        return mapper.readTree(l);
      } catch (IOException e) {
        throw new AssertionError(side + ": no JSON: " + l, e);
      }
    }).toList();
  }

  /** The message of a check of /readyz; null: there is no such check, or it is UP. */
  public String down(String check) throws IOException {
    for (JsonNode c : json("/readyz").path("checks")) {
      if (c.path("name").asText().equals(check) && !c.path("status").asText().equals("UP")) {
        return c.path("message").asText();
      }
    }
    return null;
  }

  /** What a command of the shell printed. Fails when the command did. */
  public String shell(String command) {
    try (Child shell = Child.start("shell", List.of(home.resolve("bin/caravan").toString(), "shell", command), environment, home,
        home.resolve("shell-" + System.nanoTime() + ".log"))) {
      int exit = shell.awaitExit(START);
      if (exit != 0) {
        throw new AssertionError("bin/caravan shell '" + command + "' ended with " + exit + ":\n" + shell.output());
      }
      return shell.output();
    }
  }

  /** Of the process itself: bin/caravan becomes the JVM. */
  public long pid() {
    return child.pid();
  }

  public boolean running() {
    return child != null && child.alive();
  }

  public String console() {
    return child.output();
  }

  public String log() {
    try {
      Path log = home.resolve("data/log/karaf.log");
      return Files.exists(log) ? Files.readString(log) : "";
    } catch (IOException e) {
      throw new UncheckedIOException(e);
    }
  }

  /** The answer's status; 0 when there was no answer. */
  public int status(String path) {
    try {
      return get(path).statusCode();
    } catch (IOException e) {
      return 0;
    }
  }

  public HttpResponse<String> get(String path) throws IOException {
    return send(HttpRequest.newBuilder(uri(path)));
  }

  public JsonNode json(String path) throws IOException {
    return new ObjectMapper().readTree(get(path).body());
  }

  public HttpResponse<String> post(String path, String contentType, byte[] body) throws IOException {
    return send(HttpRequest.newBuilder(uri(path)).header("Content-Type", contentType).POST(HttpRequest.BodyPublishers.ofByteArray(body)));
  }

  public HttpResponse<String> send(HttpRequest.Builder request) throws IOException {
    try {
      return HTTP.send(request.timeout(Duration.ofSeconds(30)).build(), HttpResponse.BodyHandlers.ofString());
    } catch (InterruptedException e) {
      throw new IllegalStateException(e);
    }
  }

  URI uri(String path) {
    return URI.create("http://127.0.0.1:" + httpPort + path);
  }

  @Override
  public void close() {
    if (child != null) {
      child.close();
    }
  }
}
