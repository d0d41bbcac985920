// SPDX-License-Identifier: Apache-2.0
package io.caravan.torture;

import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Set;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.TimeUnit;
import java.util.regex.MatchResult;
import java.util.regex.Pattern;

/**
 * Packets of a port of the loopback that the kernel drops. A table of its own for each port, as worlds may be side by side, and for each process, so that
 * one that was killed leaves nothing that the next one would not know for what it is.
 */
final class Nft {
  private static final String PREFIX = "caravan_torture_";
  private static final Pattern TABLE = Pattern.compile("table inet (" + PREFIX + "(\\d+)_\\d+)\\b");
  private static final Pattern DROPPED = Pattern.compile("counter packets (\\d+)");
  private static final Set<Integer> PORTS = ConcurrentHashMap.newKeySet();

  static {
    Runtime.getRuntime().addShutdownHook(new Thread(() -> PORTS.forEach(port -> {
      try {
        clear(port);
      } catch (IOException e) {
        System.err.println(e.getMessage());
      }
    })));
  }

  private Nft() { }

  static String table(int port) {
    return PREFIX + ProcessHandle.current().pid() + "_" + port;
  }

  /** @return why it cannot be done here; null: it can */
  static String missing() {
    if (!"root".equals(System.getProperty("user.name"))) {
      return "needs root";
    }
    try {
      run("list tables");
      return null;
    } catch (IOException e) {
      return "needs nft and nftables in the kernel";
    }
  }

  static void drop(int port) throws IOException {
    String table = table(port);
    PORTS.add(port);
    run("add table inet " + table + "; add chain inet " + table + " in { type filter hook input priority 0; }; add rule inet " + table
        + " in tcp dport " + port + " counter drop; add rule inet " + table + " in tcp sport " + port + " counter drop");
  }

  /** @return packets since {@link #drop} */
  static long dropped(int port) throws IOException {
    return DROPPED.matcher(run("list table inet " + table(port))).results().mapToLong(packets -> Long.parseLong(packets.group(1))).sum();
  }

  /** Also without a drop before. */
  static void clear(int port) throws IOException {
    run("add table inet " + table(port) + "; delete table inet " + table(port));
    PORTS.remove(port);
  }

  /** Removes what processes left that were killed. */
  static void clean() throws IOException {
    for (MatchResult left : TABLE.matcher(run("list tables")).results().toList()) {
      if (ProcessHandle.of(Long.parseLong(left.group(2))).isEmpty()) {
        run("delete table inet " + left.group(1));
      }
    }
  }

  /** No {@link io.caravan.it.Child}: what is done at the process's end must not be ended by its end. */
  private static String run(String command) throws IOException {
    Path log = Files.createTempFile("nft", ".log");
    try {
      Process nft = new ProcessBuilder(List.of("/usr/sbin/nft", command)).redirectErrorStream(true).redirectOutput(log.toFile()).start();
      boolean ended = nft.waitFor(20, TimeUnit.SECONDS);
      String said = Files.readString(log, StandardCharsets.ISO_8859_1);
      if (!ended || nft.exitValue() != 0) {
        nft.destroyForcibly();
        throw new IOException("nft '" + command + "' failed: " + said);
      }
      return said;
    } catch (InterruptedException e) {
      throw new IllegalStateException(e);
    } finally {
      Files.delete(log);
    }
  }
}
