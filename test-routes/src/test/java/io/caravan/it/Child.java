// SPDX-License-Identifier: Apache-2.0
package io.caravan.it;

import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.Map;
import java.util.List;
import java.util.Set;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.TimeUnit;
import java.util.stream.Stream;

/** A process of ours: its output goes to a file, and it does not outlive the test's JVM. Used by one thread at a time. */
public final class Child implements AutoCloseable {
  private static final Set<Process> RUNNING = ConcurrentHashMap.newKeySet();

  static {
    Runtime.getRuntime().addShutdownHook(new Thread(() -> RUNNING.forEach(Child::destroy)));
  }

  private final String name;
  private final Path log;
  private final Process process;

  private Child(String name, Path log, Process process) {
    this.name = name;
    this.log = log;
    this.process = process;
  }

  /** @param log gets stdout and stderr, appended */
  public static Child start(String name, List<String> command, Map<String, String> environment, Path directory, Path log) {
    try {
      Files.createDirectories(log.getParent());
      ProcessBuilder builder = new ProcessBuilder(command).directory(directory.toFile()).redirectErrorStream(true)
          .redirectOutput(ProcessBuilder.Redirect.appendTo(log.toFile()));
      // Settings of the machine must not leak into what is tested.
      builder.environment().keySet().removeIf(k -> k.startsWith("CARAVAN_"));
      builder.environment().putAll(environment);
      Process process = builder.start();
      RUNNING.add(process);
      return new Child(name, log, process);
    } catch (IOException e) {
      throw new UncheckedIOException(name + " cannot be started: " + command, e);
    }
  }

  public long pid() {
    return process.pid();
  }

  public boolean alive() {
    return process.isAlive();
  }

  /** SIGKILL to it and whatever it started; returns when they are gone. */
  public void kill() {
    Stream.concat(process.descendants(), Stream.of(process.toHandle())).toList().forEach(h -> {
      h.destroyForcibly();
      await(h);
    });
    RUNNING.remove(process);
  }

  private static void await(ProcessHandle handle) {
    try {
      handle.onExit().get(30, TimeUnit.SECONDS);
    } catch (Exception e) {
      throw new IllegalStateException("process [" + handle.pid() + "] survives SIGKILL", e);
    }
  }

  private static void destroy(Process process) {
    process.descendants().forEach(ProcessHandle::destroyForcibly);
    process.destroyForcibly();
  }

  /** @param name STOP, CONT, HUP */
  public void signal(String name) {
    try {
      if (new ProcessBuilder("kill", "-" + name, Long.toString(process.pid())).start().waitFor() != 0) {
        throw new IllegalStateException("signal " + name + " to " + this.name + " [" + process.pid() + "] failed");
      }
    } catch (IOException | InterruptedException e) {
      throw new IllegalStateException(e);
    }
  }

  /** SIGTERM, and its exit code. */
  public int stop(Duration limit) {
    process.destroy();
    return awaitExit(limit);
  }

  public int awaitExit(Duration limit) {
    try {
      if (!process.waitFor(limit.toMillis(), TimeUnit.MILLISECONDS)) {
        kill();
        throw new AssertionError(name + " did not end within " + limit + ":\n" + tail());
      }
    } catch (InterruptedException e) {
      throw new IllegalStateException(e);
    }
    RUNNING.remove(process);
    return process.exitValue();
  }

  public String output() {
    try {
      return Files.exists(log) ? Files.readString(log, StandardCharsets.ISO_8859_1) : "";
    } catch (IOException e) {
      throw new UncheckedIOException(e);
    }
  }

  /** The last lines it wrote, for a failure's message. */
  public String tail() {
    List<String> lines = output().lines().toList();
    return String.join("\n", lines.subList(Math.max(0, lines.size() - 60), lines.size()));
  }

  @Override
  public void close() {
    if (process.isAlive()) {
      kill();
    }
  }
}
