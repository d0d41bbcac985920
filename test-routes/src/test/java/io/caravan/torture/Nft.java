// SPDX-License-Identifier: Apache-2.0
package io.caravan.torture;

import io.caravan.it.Child;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.List;
import java.util.Map;

/** Packets of a port of the loopback that the kernel drops; a table of its own for each port, as worlds may be side by side. */
final class Nft {
  private Nft() { }

  static String table(int port) {
    return "caravan_torture_" + port;
  }

  /** @return why it cannot be done here; null: it can */
  static String missing() {
    if (!"root".equals(System.getProperty("user.name"))) {
      return "needs root";
    }
    try {
      run("list tables");
      return null;
    } catch (IOException | IllegalStateException e) {
      return "needs nft and nftables in the kernel";
    }
  }

  static void drop(int port) throws IOException {
    String table = table(port);
    run("add table inet " + table + "; add chain inet " + table + " in { type filter hook input priority 0; }; add rule inet " + table
        + " in tcp dport " + port + " drop; add rule inet " + table + " in tcp sport " + port + " drop");
  }

  /** Also without a drop before. */
  static void clear(int port) throws IOException {
    run("add table inet " + table(port) + "; delete table inet " + table(port));
  }

  private static void run(String command) throws IOException {
    Path log = Files.createTempFile("nft", ".log");
    try (Child nft = Child.start("nft", List.of("/usr/sbin/nft", command), Map.of(), Path.of("/"), log)) {
      if (nft.awaitExit(Duration.ofSeconds(20)) != 0) {
        throw new IllegalStateException("nft '" + command + "' failed: " + nft.output());
      }
    } catch (UncheckedIOException e) {
      throw new IOException(e);
    } finally {
      Files.delete(log);
    }
  }
}
