// SPDX-License-Identifier: Apache-2.0
package io.caravan.torture;

import io.caravan.wal.Record;
import io.caravan.wal.Wal;
import io.caravan.wal.WalState;
import java.io.FileDescriptor;
import java.io.FileOutputStream;
import java.io.IOException;
import java.io.OutputStream;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.util.concurrent.Semaphore;

/**
 * A gateway's store in a process of its own, and one device that sends as fast as it is acknowledged; to be killed. Writes a line for
 * each acknowledgement: nanoTime, nanoseconds that it took, key; and a line {@code state ...} whenever that changes.
 */
final class StoreChild {
  private static final int WINDOW = 200;

  private StoreChild() { }

  /** @param args the store's file */
  public static void main(String[] args) throws Exception {
    OutputStream out = new FileOutputStream(FileDescriptor.out); // unbuffered: a line is out when written
    StoreJudge store = new StoreJudge();
    store.open(Path.of(args[0]));
    Wal wal = store.bean("wal", Wal.class);
    Thread state = new Thread(() -> watch(wal, out), "state");
    state.setDaemon(true);
    state.start();
    Semaphore window = new Semaphore(WINDOW);
    for (long i = 1;; i++) {
      window.acquire();
      String key = Record.numberedKey("d1", "b1", i);
      long begun = System.nanoTime();
      byte[] body = ("{\"n\":" + i + ",\"pad\":\"" + "x".repeat((int) (i % 300)) + "\"}").getBytes(StandardCharsets.US_ASCII);
      Record record = new Record(key, "c" + i, "d1", "telemetry", "live", "b1", i, 1, 2, 3, 1, "application/json", null, body);
      wal.submit(record, "mqtt-server", "devices/d1/telemetry").whenComplete((result, failure) -> {
        long now = System.nanoTime();
        if (failure == null) {
          say(out, now + " " + (now - begun) + " " + key);
        }
        window.release();
      });
    }
  }

  private static void watch(Wal wal, OutputStream out) {
    WalState before = WalState.DURABLE;
    while (true) {
      WalState now = wal.state();
      if (now != before) {
        say(out, "state " + now + " " + wal.reason());
        before = now;
      }
      java.util.concurrent.locks.LockSupport.parkNanos(10_000_000);
    }
  }

  private static void say(OutputStream out, String line) {
    try {
      synchronized (out) {
        out.write((line + "\n").getBytes(StandardCharsets.UTF_8));
      }
    } catch (IOException e) {
      Runtime.getRuntime().halt(2);
    }
  }
}
