// SPDX-License-Identifier: Apache-2.0
package io.caravan.parts;

import java.io.IOException;
import java.io.InputStream;
import java.io.UncheckedIOException;
import java.net.InetAddress;
import java.net.ServerSocket;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.List;
import java.util.concurrent.ThreadLocalRandom;
import java.util.concurrent.TimeUnit;
import java.util.stream.Stream;

/**
 * A server in a JVM of its own, that can be killed, stopped and started again with the same command. Its output is
 * appended to a file. It does not outlive this JVM, unless this one is killed.
 *
 * <p>Not thread-safe.
 */
final class ServerProcess implements AutoCloseable {
    /** Decides that the server answers; an exception means: not yet. */
    interface Probe {
        void check() throws Exception;
    }

    private static final long START_TIMEOUT_S = 90;
    private static final long STOP_TIMEOUT_S = 30;
    private static final long PROBE_INTERVAL_MS = 50;

    private final String name;
    private final List<String> command;
    private final Path log;
    private final Probe answers;
    private final Thread killer = new Thread(this::destroy, "parts-killer");
    private Process process;

    ServerProcess(String name, List<String> command, Path log, Probe answers) {
        this.name = name;
        this.command = List.copyOf(command);
        this.log = log;
        this.answers = answers;
        Runtime.getRuntime().addShutdownHook(killer);
    }

    /** @return {@code java} of this JVM with a small heap, without the rest of the command line */
    static List<String> java(String maxHeap) {
        List<String> command = new ArrayList<>();
        command.add(Path.of(System.getProperty("java.home"), "bin", "java").toString());
        command.addAll(List.of("-Xms64m", "-Xmx" + maxHeap, "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xshare:auto"));
        return command;
    }

    /** @return the class path that the build wrote as resource {@code <server>.classpath} */
    static String classPath(String server) {
        try (InputStream in = ServerProcess.class.getResourceAsStream(server + ".classpath")) {
            if (in == null) {
                throw new IllegalStateException("No resource [" + server + ".classpath] in caravan-parts; build it with mvn package");
            }
            return new String(in.readAllBytes(), StandardCharsets.UTF_8).trim();
        } catch (IOException e) {
            throw new UncheckedIOException(e);
        }
    }

    /** @return a free port of 127.0.0.1 that no outgoing connection can take while the server is down: below the ephemeral range */
    static int freePort() {
        for (int attempt = 0; attempt < 1000; attempt++) {
            int port = ThreadLocalRandom.current().nextInt(20000, 32000);
            try (ServerSocket socket = new ServerSocket(port, 1, InetAddress.getLoopbackAddress())) {
                return port;
            } catch (IOException e) {
                // taken: another one
            }
        }
        throw new IllegalStateException("No free port between 20000 and 32000");
    }

    /** Starts the server and returns when it answers. */
    void start() {
        try {
            process = new ProcessBuilder(command).redirectErrorStream(true)
                    .redirectOutput(ProcessBuilder.Redirect.appendTo(log.toFile())).start();
        } catch (IOException e) {
            throw new UncheckedIOException(e);
        }
        awaitAnswer();
    }

    /** Returns when the server answers. */
    void awaitAnswer() {
        long deadline = System.nanoTime() + TimeUnit.SECONDS.toNanos(START_TIMEOUT_S);
        while (true) {
            Exception last;
            try {
                answers.check();
                return;
            } catch (InterruptedException e) {
                Thread.currentThread().interrupt();
                throw new IllegalStateException(name + " was not waited for", e);
            } catch (Exception e) {
                last = e;
            }
            if (!process.isAlive() || System.nanoTime() > deadline) {
                String how = process.isAlive() ? "did not answer within " + START_TIMEOUT_S + " s" : "ended with " + process.exitValue();
                destroy();
                throw new IllegalStateException(name + " " + how + "; see " + log + ":\n" + tail(), last);
            }
            try {
                // Ends early when the server does: then the loop reports it.
                process.waitFor(PROBE_INTERVAL_MS, TimeUnit.MILLISECONDS);
            } catch (InterruptedException e) {
                Thread.currentThread().interrupt();
            }
        }
    }

    /** SIGTERM, and waits for the end. */
    void stop() {
        process.destroy();
        await();
    }

    /** SIGKILL, and waits for the end. */
    void kill() {
        destroy();
    }

    /** SIGSTOP: connections stay open, nothing answers. */
    void pause() {
        signal("STOP");
    }

    /** SIGCONT. */
    void resume() {
        signal("CONT");
    }

    boolean isAlive() {
        return process != null && process.isAlive();
    }

    long pid() {
        return process.pid();
    }

    @Override
    public void close() {
        destroy();
        try {
            Runtime.getRuntime().removeShutdownHook(killer);
        } catch (IllegalStateException e) {
            // The JVM ends: the hook runs anyway.
        }
    }

    /** Deletes a folder and what is in it. */
    static void delete(Path folder) {
        try (Stream<Path> files = Files.walk(folder)) {
            for (Path file : files.sorted(Comparator.reverseOrder()).toList()) {
                Files.deleteIfExists(file);
            }
        } catch (IOException e) {
            throw new UncheckedIOException(e);
        }
    }

    private void destroy() {
        if (process != null && process.isAlive()) {
            process.destroyForcibly();
            await();
        }
    }

    private void await() {
        try {
            if (!process.waitFor(STOP_TIMEOUT_S, TimeUnit.SECONDS)) {
                process.destroyForcibly().waitFor();
            }
        } catch (InterruptedException e) {
            process.destroyForcibly();
            Thread.currentThread().interrupt();
        }
    }

    private void signal(String signal) {
        try {
            int code = new ProcessBuilder("kill", "-" + signal, Long.toString(process.pid())).inheritIO().start().waitFor();
            if (code != 0) {
                throw new IllegalStateException("kill -" + signal + " of " + name + " ended with " + code);
            }
        } catch (IOException e) {
            throw new UncheckedIOException(e);
        } catch (InterruptedException e) {
            Thread.currentThread().interrupt();
            throw new IllegalStateException(name + " was not sent SIG" + signal, e);
        }
    }

    private String tail() {
        try {
            List<String> lines = Files.readAllLines(log);
            return String.join("\n", lines.subList(Math.max(0, lines.size() - 30), lines.size()));
        } catch (IOException e) {
            return e.toString();
        }
    }
}
