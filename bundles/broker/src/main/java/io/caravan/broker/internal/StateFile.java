// SPDX-License-Identifier: Apache-2.0
package io.caravan.broker.internal;

import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.channels.FileChannel;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.nio.file.StandardOpenOption;
import java.nio.file.attribute.PosixFilePermissions;
import java.util.Base64;
import org.apache.camel.util.json.JsonObject;
import org.apache.camel.util.json.Jsoner;

/** The complete state of the plugin as it must be, on disk for a broker that starts while the gateway is away. For one thread. */
final class StateFile {
  private final Path file;
  private String written;

  StateFile(Path file) {
    this.file = file;
  }

  /** Replaces the file if it is not so already; on disk when it returns. */
  void write(String content) throws IOException {
    if (content.equals(written) && Files.exists(file)) {
      return;
    }
    Path folder = file.toAbsolutePath().getParent();
    if (!Files.isDirectory(folder)) {
      Files.createDirectories(folder, PosixFilePermissions.asFileAttribute(PosixFilePermissions.fromString("rwxr-x---")));
    }
    Path fresh = folder.resolve(file.getFileName() + ".new");
    Files.deleteIfExists(fresh);
    Files.createFile(fresh, PosixFilePermissions.asFileAttribute(PosixFilePermissions.fromString("rw-r-----")));
    try (FileChannel out = FileChannel.open(fresh, StandardOpenOption.WRITE)) {
      ByteBuffer bytes = ByteBuffer.wrap(content.getBytes(StandardCharsets.UTF_8));
      while (bytes.hasRemaining()) {
        out.write(bytes);
      }
      out.force(true);
    }
    Files.move(fresh, file, StandardCopyOption.ATOMIC_MOVE, StandardCopyOption.REPLACE_EXISTING);
    try (FileChannel entry = FileChannel.open(folder, StandardOpenOption.READ)) {
      entry.force(true);
    }
    written = content;
  }

  /** @return what the file has for the user if it fits the password, so that the file and the broker stay as they are; else anew */
  Secret secret(String user, String password) {
    try {
      for (Object element : Found.list((JsonObject) Jsoner.deserialize(Files.readString(file)), "clients")) {
        JsonObject client = (JsonObject) element;
        if (user.equals(client.getString("username")) && client.getString("password") != null) {
          Secret secret = new Secret(Base64.getDecoder().decode(client.getString("password")),
              Base64.getDecoder().decode(client.getString("salt")), client.getInteger("iterations"));
          if (secret.matches(password)) {
            return secret;
          }
        }
      }
    } catch (Exception e) {
      return Secret.of(password); // no file yet, or one that is damaged and is replaced now
    }
    return Secret.of(password);
  }
}
