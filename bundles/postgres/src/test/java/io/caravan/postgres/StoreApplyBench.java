// SPDX-License-Identifier: Apache-2.0
package io.caravan.postgres;

import java.lang.management.ManagementFactory;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Locale;
import java.util.Map;

/** How long direct:store-apply takes for a batch, on either store, with many windows there. Not a test: run its main. */
public final class StoreApplyBench {
  private static final int WINDOWS = Integer.getInteger("windows", 1_000_000);

  private StoreApplyBench() {
  }

  public static void main(String[] args) throws Exception {
    for (Box.Kind kind : Box.Kind.values()) {
      Path home = Files.createTempDirectory("store-apply");
      try (Box box = Box.open(kind, home, "routes", "store", "store.tick.ms", "600000", "store.retain.ms", "86400000").ready()) {
        long now = System.currentTimeMillis() / 60_000 * 60_000;
        // 500 devices with two metrics each; their last windows.
        String numbers = kind == Box.Kind.SQLITE ? "(WITH RECURSIVE c(n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM c WHERE n < " + (WINDOWS - 1) + ") SELECT n FROM c)"
            : "generate_series(0, " + (WINDOWS - 1) + ") AS n(n)";
        box.execute("INSERT INTO rollup_window SELECT 'g' || (n % 50), 'd' || (n % 500), 'm' || (n / 500 % 2), " + now + " - (n / 1000) * 60000, 60000, 0, 1,"
            + " 1, 1, 1, 1, 1, 1, 1, 1 FROM " + numbers);
        long begun = 0;
        long cpu = 0;
        int batches = 60;
        for (int batch = 0; batch < batches + 10; batch++) {
          if (batch == 10) {
            begun = System.nanoTime();
            cpu = ManagementFactory.getThreadMXBean().getCurrentThreadCpuTime();
          }
          StringBuilder rows = new StringBuilder("[");
          for (int i = 0; i < 1000; i++) {
            rows.append(i > 0 ? "," : "").append(String.format(Locale.ROOT, "{\"seq\":%d,\"gateway_id\":\"g%d\",\"device_id\":\"d%d\",\"kind\":\"window\","
                + "\"message_key\":\"k%d/%d\",\"observed_at_ms\":%d,\"received_at_ms\":%d,\"body\":{\"device_id\":\"d%d\",\"metric\":\"m%d\",\"start_ms\":%d,"
                + "\"width_ms\":60000,\"part\":0,\"revision\":1,\"count\":60,\"min\":1.5,\"max\":2.25,\"sum\":100.125,\"mean\":1.75,\"last\":2.0,"
                + "\"last_observed_ms\":%d}}", i, i % 50, i % 500, batch, i, now, now, i % 500, i / 500, now + (batch + 1) * 60_000L, now + batch));
          }
          box.send("direct:store-apply", Map.of("rows", rows.append(']').toString()));
        }
        System.out.printf(Locale.ROOT, "%s: %d windows there, a batch of 1000 in %.1f ms, %.1f ms of this thread's processor time%n", kind, WINDOWS,
            (System.nanoTime() - begun) / 1e6 / batches, (ManagementFactory.getThreadMXBean().getCurrentThreadCpuTime() - cpu) / 1e6 / batches);
      }
    }
    System.exit(0);
  }
}
