// SPDX-License-Identifier: Apache-2.0
package io.caravan.devices;

import static java.nio.charset.StandardCharsets.UTF_8;

import io.caravan.ingest.Ingest;
import io.caravan.ingest.IngestModule;
import io.caravan.runtime.Audit;
import io.caravan.runtime.Config;
import java.lang.management.ManagementFactory;
import java.lang.reflect.Proxy;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Base64;
import java.util.Map;
import org.apache.camel.Exchange;
import org.apache.camel.impl.DefaultCamelContext;
import org.apache.camel.support.DefaultExchange;

/** What verify costs per message, in processor time: {@code java -cp ... io.caravan.devices.SignaturesBench}. */
final class SignaturesBench {
  private static final int MESSAGES = 2_000_000;
  private static final int ROUNDS = 5;

  private SignaturesBench() {}

  public static void main(String[] args) throws Exception {
    Map<String, String> keys = new java.util.HashMap<>(Map.of("device.access", "registry", "device.registry.file",
        Files.createTempDirectory("bench").resolve("registry.db").toString(), "device.lock.failures", "10", "device.lock.address.failures", "100",
        "device.lock.ms", "60000", "device.messages.per.s", "1000", "device.bytes.per.s", "1048576", "device.signature.window", "10000"));
    keys.putAll(Map.of("config.dir", "absent", "ingest.max.bytes", "65536", "ingest.content.type.default", "application/json", "ingest.dedupe.window.ms", "10000"));
    Config config = (Config) Proxy.newProxyInstance(Config.class.getClassLoader(), new Class<?>[] {Config.class}, (proxy, method, values) ->
        switch (method.getName()) {
          case "getLong" -> Long.parseLong(keys.get(values[0]));
          case "getPath" -> Path.of(keys.get(values[0]));
          case "getBoolean" -> Boolean.parseBoolean(keys.get(values[0]));
          case "onChange" -> (AutoCloseable) () -> { };
          default -> keys.get(values[0]);
        });
    DefaultCamelContext context = new DefaultCamelContext();
    context.getRegistry().bind("audit", Audit.class, (Audit) (action, subject, outcome, details) -> { });
    try (AutoCloseable ingest = new IngestModule().start(context, config); AutoCloseable module = new DevicesModule().start(context, config)) {
      Devices devices = context.getRegistry().lookupByNameAndType("devices", Devices.class);
      Signatures signatures = context.getRegistry().lookupByNameAndType("signatures", Signatures.class);
      Ingest parser = context.getRegistry().lookupByNameAndType("ingest", Ingest.class);
      for (Devices.Signing signing : Devices.Signing.values()) {
        devices.add(new Devices.NewDevice("d-" + signing, null, null, signing, null, null, null, null, null));
      }
      for (int round = 0; round < ROUNDS; round++) {
        for (String device : new String[] {"nobody", "d-OFF", "d-ACCEPT", "d-REQUIRE"}) {
          Exchange exchange = new DefaultExchange(context);
          String topic = "devices/" + device + "/telemetry";
          String body = "{\"schema_version\":1,\"boot_id\":\"b7\",\"device_seq\":42,\"metrics\":{\"t\":21.5}}";
          byte[] payload = (body + " ".repeat(300 - body.length())).getBytes(UTF_8);
          exchange.getMessage().setBody(payload);
          exchange.getMessage().setHeader("CaravanTopic", topic);
          if (device.equals("d-REQUIRE")) {
            String key = devices.rotate(device, 0, null).signingKey();
            exchange.getMessage().setHeader("CaravanSignature", Signatures.sign(Base64.getUrlDecoder().decode(key), topic, "b7", 42, payload));
          }
          parser.parse(exchange);
          int messages = device.equals("d-REQUIRE") ? MESSAGES / 10 : MESSAGES;
          long begun = cpu();
          for (int i = 0; i < messages; i++) {
            signatures.verify(exchange);
          }
          System.out.printf("round %d %-10s %6.0f ns of processor time per message%n", round, device, (cpu() - begun) / (double) messages);
        }
      }
    }
    context.stop();
  }

  private static long cpu() {
    return ManagementFactory.getThreadMXBean().getCurrentThreadCpuTime();
  }
}
