// SPDX-License-Identifier: Apache-2.0
package io.caravan.torture;

import java.io.IOException;
import java.io.InputStream;
import java.io.OutputStream;
import java.net.URISyntaxException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.jar.Attributes;
import java.util.jar.JarEntry;
import java.util.jar.JarOutputStream;
import java.util.jar.Manifest;
import org.objectweb.asm.ClassReader;

/** The named points at which a gateway can be made to end, and how it is told to. */
final class HaltPoints {
  /** On the way of a message, in order. {@code <}: on entering the method, {@code >}: on returning from it. */
  private static final Map<String, String> POINTS = new LinkedHashMap<>();

  static {
    POINTS.put("before-insert", "io.caravan.wal.internal.LogWriter.write<");
    POINTS.put("before-commit", "io.caravan.wal.internal.LogWriter.write>");
    POINTS.put("before-ack", "io.caravan.wal.internal.GroupCommit.acknowledge<");
    POINTS.put("after-ack", "io.caravan.wal.internal.GroupCommit.acknowledge>");
    POINTS.put("before-send", "io.caravan.wal.internal.Sinks.deliver<");
    POINTS.put("before-mark-acked", "io.caravan.wal.internal.Sinks.deliver>");
    POINTS.put("after-mark-acked", "io.caravan.wal.internal.Sinks.acked<");
  }

  private HaltPoints() { }

  static List<String> names() {
    return List.copyOf(POINTS.keySet());
  }

  /** @return by name: class, method, and whether entered or left */
  static Map<String, String> points() {
    return Map.copyOf(POINTS);
  }

  private static Path file(Path folder) {
    return folder.resolve("halt-point");
  }

  /** @return the JVM's argument; folder gets the agent */
  static String agent(Path folder) throws IOException {
    Path jar = Files.createDirectories(folder).resolve("halt-agent.jar");
    Manifest manifest = new Manifest();
    manifest.getMainAttributes().put(Attributes.Name.MANIFEST_VERSION, "1.0");
    manifest.getMainAttributes().putValue("Premain-Class", HaltAgent.class.getName());
    manifest.getMainAttributes().putValue("Class-Path", Path.of(location(ClassReader.class)).toUri().toString());
    try (JarOutputStream out = new JarOutputStream(Files.newOutputStream(jar), manifest)) {
      Path classes = Path.of(location(HaltAgent.class)).resolve(HaltAgent.class.getPackageName().replace('.', '/'));
      try (var all = Files.list(classes)) {
        for (Path c : all.filter(p -> p.getFileName().toString().matches("HaltAgent(\\$.*)?\\.class")).toList()) {
          add(out, HaltAgent.class.getPackageName().replace('.', '/') + "/" + c.getFileName(), c);
        }
      }
    }
    StringBuilder argument = new StringBuilder(file(folder).toString());
    POINTS.forEach((name, where) -> argument.append(';').append(name).append('=').append(where));
    // JAVA_OPTS is split at spaces, and the launcher's shell must not see < and >: it does not, as they come from a variable.
    return "-javaagent:" + jar + "=" + argument;
  }

  private static String location(Class<?> c) {
    try {
      return Path.of(c.getProtectionDomain().getCodeSource().getLocation().toURI()).toString();
    } catch (URISyntaxException e) {
      throw new IllegalStateException(e);
    }
  }

  private static void add(OutputStream to, String name, Path file) throws IOException {
    JarOutputStream out = (JarOutputStream) to;
    out.putNextEntry(new JarEntry(name));
    try (InputStream in = Files.newInputStream(file)) {
      in.transferTo(out);
    }
    out.closeEntry();
  }

  /** From now on the process ends at this point. */
  static void arm(Path folder, String point) throws IOException {
    Path written = Files.writeString(folder.resolve("halt-point.saved"), point);
    Files.move(written, file(folder), StandardCopyOption.ATOMIC_MOVE, StandardCopyOption.REPLACE_EXISTING);
  }

  static void disarm(Path folder) throws IOException {
    Files.deleteIfExists(file(folder));
  }

  /** @return points that exist in the gateway that runs: a method that was renamed is missing here */
  static List<String> woven(Path folder) throws IOException {
    Path woven = folder.resolve("halt-point.woven");
    return Files.exists(woven) ? Files.readAllLines(woven).stream().distinct().toList() : List.of();
  }
}
