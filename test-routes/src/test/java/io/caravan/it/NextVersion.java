// SPDX-License-Identifier: Apache-2.0
package io.caravan.it;

import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.FileSystem;
import java.nio.file.FileSystems;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.util.List;
import java.util.Map;
import java.util.stream.Stream;

/**
 * A gateway as a later version will be, made out of today's: every bundle of ours at other coordinates, tables of one version more
 * (a column, a table), a key renamed and one gone, a route changed. What runs is another distribution in all that an
 * upgrade has to cope with; no second build is needed.
 */
final class NextVersion {
  static final String VERSION = "99.0.0";
  private static final String TODAY = "0.1.0";

  private NextVersion() {
  }

  /** @param home of today's gateway, as unpacked; @param next becomes a folder with the later one */
  static void make(Path home, Path next) throws IOException {
    try (Stream<Path> tree = Files.walk(home)) {
      for (Path from : tree.toList()) {
        String name = home.relativize(from).toString();
        String renamed = name.matches("system/io/caravan/.*") ? name.replace("/" + TODAY, "/" + VERSION).replace("-" + TODAY, "-" + VERSION) : name;
        Path to = next.resolve(renamed);
        if (Files.isDirectory(from)) {
          Files.createDirectories(to);
        } else if (name.equals("VERSION") || name.matches("etc/startup\\.properties|etc/org\\.apache\\.karaf\\.features.*|system/io/caravan/.*features\\.xml")) {
          Files.writeString(to, Files.readString(from, StandardCharsets.ISO_8859_1).replace(TODAY, VERSION), StandardCharsets.ISO_8859_1);
        } else {
          Files.copy(from, to, StandardCopyOption.COPY_ATTRIBUTES);
        }
      }
    }
    int version = 1;
    Path wal = next.resolve("system/io/caravan/caravan-wal/" + VERSION + "/caravan-wal-" + VERSION + ".jar");
    try (FileSystem jar = FileSystems.newFileSystem(wal)) {
      while (Files.exists(jar.getPath("io/caravan/wal/gateway-" + version + ".sql"))) {
        version++;
      }
    }
    into(wal, Map.of("io/caravan/wal/gateway-" + version + ".sql", "CREATE TABLE it_next (seq INTEGER PRIMARY KEY) STRICT; ALTER TABLE sink ADD COLUMN it_next TEXT",
        "io/caravan/wal/gateway-" + version + "-back.sql", "ALTER TABLE sink DROP COLUMN it_next; DROP TABLE it_next"));
    Path rollup = next.resolve("system/io/caravan/caravan-routes/" + VERSION + "/caravan-routes-" + VERSION + "-gateway-rollup.jar");
    try (FileSystem jar = FileSystems.newFileSystem(rollup)) {
      Path route = jar.getPath("OSGI-INF/camel/rollup.camel.yaml");
      Files.writeString(route, "# Later.\n" + Files.readString(route));
    }
    replace(next.resolve("etc/keys/io.caravan.sink.mqtt.yaml"), "sink.mqtt.keepalive.s: {type: int,", "sink.mqtt.keepalive.seconds: {type: int, was: sink.mqtt.keepalive.s,");
    Path analytics = next.resolve("etc/keys/io.caravan.sink.analytics.yaml");
    Files.write(analytics, Files.readAllLines(analytics).stream().filter(l -> !l.startsWith("sink.analytics.historical.rows:")).toList());
  }

  private static void into(Path file, Map<String, String> entries) throws IOException {
    try (FileSystem jar = FileSystems.newFileSystem(file)) {
      for (String name : List.copyOf(entries.keySet())) {
        Files.writeString(jar.getPath(name), entries.get(name));
      }
    }
  }

  private static void replace(Path file, String old, String now) throws IOException {
    String text = Files.readString(file);
    if (!text.contains(old)) {
      throw new IllegalStateException("[" + old + "] is not in " + file);
    }
    Files.writeString(file, text.replace(old, now));
  }
}
