// SPDX-License-Identifier: Apache-2.0
package io.caravan.sinks;

import io.caravan.it.Ports;
import io.caravan.parts.KafkaPart;
import io.caravan.runtime.Caravan;
import io.caravan.wal.WalModule;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.sql.Connection;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.Statement;
import java.time.Duration;
import java.util.Map;
import java.util.zip.CRC32C;
import javax.sql.DataSource;
import org.apache.camel.impl.DefaultCamelContext;

/**
 * Measures how fast sink-kafka drains a backlog into a real Kafka on this machine: real store, template and routes in
 * this JVM, the broker in its own. Arguments: rows (1000000), then {@code key=value} of the configuration; {@code -Droute.file} is another version of the route.
 */
public final class KafkaDrain {
  private static final Path REPO = Path.of(System.getProperty("repo.dir", "..")).toAbsolutePath().normalize();
  private static final int DEVICES = 100;

  private KafkaDrain() {
  }

  public static void main(String[] args) throws Exception {
    int rows = args.length > 0 ? Integer.parseInt(args[0]) : 1_000_000;
    Path home = Files.createTempDirectory("kafka-drain");
    DefaultCamelContext context = new DefaultCamelContext();
    context.disableJMX();
    try (KafkaPart kafka = KafkaPart.start()) {
      kafka.createTopic("telemetry", 3, Map.of());
      Caravan.Builder builder = Caravan.builder().context(context).home(home).cfg(Files.createDirectories(home.resolve("etc")))
          .keys(REPO.resolve("config/gateway/keys")).set("container.role", "gateway")
          .set("http.port", String.valueOf(Ports.free())).set("sink.kafka.brokers", kafka.brokers())
          .withoutDiscovery().module("wal", new WalModule())
          .routes(REPO.resolve("routes/gateway/sink.camel.yaml"), REPO.resolve("routes/gateway/fanout.camel.yaml"));
      for (int i = 1; i < args.length; i++) {
        builder.set(args[i].substring(0, args[i].indexOf('=')), args[i].substring(args[i].indexOf('=') + 1));
      }
      try (Caravan caravan = builder.start()) {
        caravan.awaitReady(Duration.ofSeconds(60));
        fill(caravan.context().getRegistry().lookupByNameAndType("writer", DataSource.class), rows);
        DataSource reader = caravan.context().getRegistry().lookupByNameAndType("reader", DataSource.class);
        long begun = System.nanoTime();
        caravan.deploy(Path.of(System.getProperty("route.file", REPO.resolve("routes/gateway/sink-kafka.camel.yaml").toString())));
        long last = 0;
        long lastAt = begun;
        for (long acked = 0; acked < rows;) {
          Thread.sleep(1_000);
          acked = number(reader, "SELECT acked FROM ledger WHERE sink = 'kafka'");
          long now = System.nanoTime();
          System.out.printf("%,d acked, %,d rows/s%n", acked, (acked - last) * 1_000_000_000L / (now - lastAt));
          last = acked;
          lastAt = now;
        }
        double seconds = (lastAt - begun) / 1e9;
        System.out.printf("{\"rows\":%d,\"seconds\":%.1f,\"rows_per_s\":%.0f,\"in_topic\":%d,\"dead\":%d,\"unaccounted\":%d}%n", rows, seconds,
            rows / seconds, kafka.count("telemetry"), number(reader, "SELECT dead FROM ledger WHERE sink = 'kafka'"),
            number(reader, "SELECT unaccounted FROM ledger WHERE sink = 'kafka'"));
      }
    }
  }

  private static void fill(DataSource writer, int rows) throws Exception {
    try (Connection c = writer.getConnection(); PreparedStatement s = c.prepareStatement("INSERT INTO wal (message_key, correlation_id, device_id,"
        + " kind, lane, boot_id, device_seq, observed_at_ms, received_at_ms, mono_ms, schema_version, content_type, body, crc)"
        + " VALUES (?, ?, ?, 'telemetry', 'live', 'b1', ?, ?, ?, 0, 1, 'application/json', ?, ?)")) {
      c.setAutoCommit(false);
      CRC32C crc = new CRC32C();
      for (int i = 0; i < rows; i++) {
        String device = "device-" + i % DEVICES;
        long seq = 1 + i / DEVICES;
        long at = 1_795_299_238_846L + i;
        byte[] body = ("{\"schema_version\":1,\"device_id\":\"" + device + "\",\"boot_id\":\"b1\",\"device_seq\":" + seq + ",\"observed_at\":" + at
            + ",\"metrics\":{\"temperature_c\":" + reading(i, 1) + ",\"humidity_pct\":" + reading(i, 2) + ",\"pressure_hpa\":" + reading(i, 3)
            + ",\"vibration_x\":" + reading(i, 4) + ",\"vibration_y\":" + reading(i, 5) + ",\"vibration_z\":" + reading(i, 6) + ",\"battery_v\":"
            + reading(i, 7) + "}}").getBytes(StandardCharsets.UTF_8);
        crc.reset();
        crc.update(body);
        s.setString(1, String.format("%s/b1/%016d", device, seq));
        s.setString(2, String.format("0193%08x-0000-7000-8000-%012x", i, i * 7919L));
        s.setString(3, device);
        s.setLong(4, seq);
        s.setLong(5, at);
        s.setLong(6, at);
        s.setBytes(7, body);
        s.setLong(8, crc.getValue());
        s.addBatch();
        if (i % 10_000 == 9_999) {
          s.executeBatch();
          c.commit();
        }
      }
      s.executeBatch();
      c.commit();
    }
  }

  private static String reading(long i, int which) {
    return String.valueOf((i * 2_654_435_761L * which & 0xffffff) / 1000.0);
  }

  private static long number(DataSource reader, String sql) throws Exception {
    try (Connection c = reader.getConnection(); Statement s = c.createStatement(); ResultSet r = s.executeQuery(sql)) {
      return r.next() ? r.getLong(1) : 0;
    }
  }
}
