// SPDX-License-Identifier: Apache-2.0
package io.caravan.commands.internal;

import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.UUID;

/** The clocks. Thread-safe. */
public interface Time {
  /** Milliseconds since the operating system was started; steps of the wall clock do not change it. */
  long monoMs();

  /** Wall clock, milliseconds since 1970. */
  long wallMs();

  /** Which start of the operating system: {@link #monoMs} of another one means nothing. */
  String bootId();

  /** The machine's. */
  static Time system() {
    String bootId;
    Path file = Path.of("/proc/sys/kernel/random/boot_id");
    try {
      // Elsewhere nanoTime may begin anew with each process: then each process is a boot of its own.
      bootId = Files.isReadable(file) ? Files.readString(file).trim() : UUID.randomUUID().toString();
    } catch (IOException e) {
      throw new UncheckedIOException("[" + file + "] cannot be read, so it is not known which monotonic clock counts", e);
    }
    return new Time() {
      @Override
      public long monoMs() {
        return System.nanoTime() / 1_000_000;
      }

      @Override
      public long wallMs() {
        return System.currentTimeMillis();
      }

      @Override
      public String bootId() {
        return bootId;
      }
    };
  }
}
