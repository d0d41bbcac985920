// SPDX-License-Identifier: Apache-2.0
package io.caravan.devices;

import static java.nio.charset.StandardCharsets.UTF_8;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.caravan.devices.Devices.Enrolment;
import io.caravan.devices.Devices.NewDevice;
import io.caravan.devices.Devices.Signing;
import io.caravan.ingest.IngestModule;
import io.caravan.ingest.RejectedException;
import io.caravan.runtime.Audit;
import io.caravan.runtime.Config;
import io.caravan.wal.Record;
import io.caravan.wal.Rejection;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.Base64;
import java.util.HashMap;
import java.util.HexFormat;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.ConcurrentHashMap;
import java.util.function.Consumer;
import org.apache.camel.Exchange;
import org.apache.camel.ProducerTemplate;
import org.apache.camel.builder.RouteBuilder;
import org.apache.camel.impl.DefaultCamelContext;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;
import org.junit.jupiter.params.provider.ValueSource;

/** The bean between parse and enrich, with the real registry. */
class SignaturesTest {
  private static final String TOPIC = "devices/d1/telemetry";
  private static final String BODY = "{\"schema_version\":1,\"boot_id\":\"b7\",\"device_seq\":42,\"metrics\":{\"t\":21.5}}";

  @TempDir
  Path directory;
  private final Map<String, String> keys = new ConcurrentHashMap<>();
  private final DefaultCamelContext context = new DefaultCamelContext();
  private AutoCloseable ingest;
  private AutoCloseable module;
  private Devices devices;
  private ProducerTemplate template;

  @BeforeEach
  void start() throws Exception {
    keys.putAll(Map.of("device.access", "registry", "device.registry.file", directory.resolve("registry.db").toString(), "device.lock.failures", "10",
        "device.lock.address.failures", "100", "device.lock.ms", "60000", "device.messages.per.s", "1000", "device.bytes.per.s", "1048576",
        "device.signature.window", "10000"));
    keys.putAll(Map.of("config.dir", directory.toString(), "ingest.max.bytes", "65536", "ingest.content.type.default", "application/json", "ingest.dedupe.window.ms", "10000"));
    context.getRegistry().bind("audit", Audit.class, (Audit) (action, subject, outcome, details) -> { });
    ingest = new IngestModule().start(context, config());
    module = new DevicesModule().start(context, config());
    devices = context.getRegistry().lookupByNameAndType("devices", Devices.class);
    context.addRoutes(new RouteBuilder() {
      @Override
      public void configure() {
        onException(RejectedException.class).handled(true).bean("ingest", "reject");
        from("direct:ingest").bean("ingest", "parse").bean("signatures", "verify").bean("ingest", "enrich");
      }
    });
    context.start();
    template = context.createProducerTemplate();
  }

  @AfterEach
  void stop() throws Exception {
    context.stop();
    module.close();
    ingest.close();
  }

  // ------------------------------------------------------------------------------------------------- policies

  @Test
  void offAndUnknownLookAtNothing() throws Exception {
    enrol("d1", Signing.OFF);
    for (String topic : List.of(TOPIC, "devices/never-heard-of/telemetry")) {
      for (String signature : Arrays.asList(null, "", "v1=", "nonsense")) {
        assertEquals(0, accepted(send(topic, BODY, signature)).replayWindow());
      }
    }
    assertFalse(accepted(send(TOPIC, BODY, sign(enrol("d2", Signing.OFF), TOPIC, BODY))).signed(), "not looked at, hence not promised to be remembered");
  }

  @Test
  void acceptTakesBothAndChecksWhatIsThere() throws Exception {
    Enrolment d1 = enrol("d1", Signing.ACCEPT);
    assertFalse(accepted(send(TOPIC, BODY, null)).signed());
    assertEquals(10_000, accepted(send(TOPIC, BODY, sign(d1, TOPIC, BODY))).replayWindow());
    refused(send(TOPIC, BODY, sign(d1, TOPIC, BODY + " ")));
  }

  @Test
  void requireTakesOnlyWhatIsSigned() throws Exception {
    Enrolment d1 = enrol("d1", Signing.REQUIRE);
    assertTrue(accepted(send(TOPIC, BODY, sign(d1, TOPIC, BODY))).signed());
    Rejection rejection = refused(send(TOPIC, BODY, null));
    assertEquals("d1", rejection.deviceId());
    assertEquals(BODY, new String(rejection.body(), UTF_8));
    refused(send(TOPIC, BODY, ""));
    for (String channel : List.of("events", "capabilities", "command-status")) {
      refused(send("devices/d1/" + channel, "{\"boot_id\":\"b7\",\"device_seq\":1}", null));
    }
  }

  @ParameterizedTest
  @EnumSource(value = Signing.class, names = {"ACCEPT", "REQUIRE"})
  void whatIsSignedIsNumbered(Signing signing) throws Exception {
    Enrolment d1 = enrol("d1", signing);
    String body = "{\"schema_version\":1,\"metrics\":{\"t\":1}}";
    for (String boot : new String[] {"", "null"}) {
      assertTrue(refused(send(TOPIC, body, Signatures.sign(key(d1), TOPIC, boot, 0, body.getBytes(UTF_8)))).error().contains("replayed"));
    }
  }

  @Test
  void theWindowIsHot() throws Exception {
    Enrolment d1 = enrol("d1", Signing.REQUIRE);
    keys.put("device.signature.window", "7");
    assertEquals(7, accepted(send(TOPIC, BODY, sign(d1, TOPIC, BODY))).replayWindow());
  }

  // ------------------------------------------------------------------------------------------------- what is signed

  @Test
  void nothingOfAMessageCanBeChanged() throws Exception {
    Enrolment d1 = enrol("d1", Signing.REQUIRE);
    Enrolment d2 = enrol("d2", Signing.REQUIRE);
    byte[] body = BODY.getBytes(UTF_8);
    String good = Signatures.sign(key(d1), TOPIC, "b7", 42, body);
    accepted(send(TOPIC, BODY, good));
    refused(send("devices/d2/telemetry", BODY, good));
    refused(send("devices/d1/events", BODY, good));
    refused(send(TOPIC, BODY, Signatures.sign(key(d2), TOPIC, "b7", 42, body)));
    refused(send(TOPIC, BODY.replace("42", "43"), good));
    refused(send(TOPIC, BODY.replace("b7", "b8"), good));
    refused(send(TOPIC, BODY.replace("21.5", "21.6"), good));
    refused(send(TOPIC, BODY + " ", good));
    refused(send(TOPIC, " " + BODY, good));
    refused(send(TOPIC, BODY.replace("\"t\"", "\"\\u0074\""), good));
    // The same bytes, cut elsewhere.
    refused(send(TOPIC, BODY, Signatures.sign(key(d1), TOPIC + "\nb7", "42", 42, body)));
    refused(send(TOPIC, BODY, Signatures.sign(key(d1), TOPIC, "b7", 42, ("\n" + BODY).getBytes(UTF_8))));
    refused(send(TOPIC, BODY, Signatures.sign(key(d1), TOPIC, "b7", 4, ("2\n" + BODY).getBytes(UTF_8))));
    for (int bit = 0; bit < 256; bit++) {
      byte[] forged = HexFormat.of().parseHex(good, 3, good.length());
      forged[bit / 8] ^= 1 << bit % 8;
      refused(send(TOPIC, BODY, "v1=" + HexFormat.of().formatHex(forged)));
    }
  }

  @Test
  void protobufIsSignedAsItIsSent() throws Exception {
    Enrolment d1 = enrol("d1", Signing.REQUIRE);
    // schema_version 1, boot_id b7, device_seq 42, metrics {t: 1.0} of config/common/telemetry.proto
    byte[] bytes = io.caravan.ingest.internal.proto.Telemetry.newBuilder().setSchemaVersion(1).setBootId("b7").setDeviceSeq(42).putMetrics("t", 1).build()
        .toByteArray();
    Record record = accepted(send(TOPIC, bytes, "application/x-protobuf", Signatures.sign(key(d1), TOPIC, "b7", 42, bytes)));
    assertTrue(record.signed());
    refused(send(TOPIC, bytes, "application/x-protobuf", Signatures.sign(key(d1), TOPIC, "b7", 42, record.body())));
  }

  @Test
  void theVectorOfTheContract() {
    byte[] key = new byte[32];
    for (int i = 0; i < key.length; i++) {
      key[i] = (byte) i;
    }
    assertEquals("v1=fce7d76a84eb3fb931f70d0794d398993b9eed9b05f6ca01410f70a58bf4a428",
        Signatures.sign(key, "devices/stm32-01/telemetry", "b7", 42, "{\"schema_version\":1}".getBytes(UTF_8)));
  }

  /** As the contract tells a board that has only its token. */
  @Test
  void theKeyIsMadeOfTheToken() throws Exception {
    Enrolment d1 = enrol("d1", Signing.REQUIRE);
    javax.crypto.Mac mac = javax.crypto.Mac.getInstance("HmacSHA256");
    mac.init(new javax.crypto.spec.SecretKeySpec(d1.token().getBytes(UTF_8), "HmacSHA256"));
    byte[] key = mac.doFinal("caravan message signature v1".getBytes(UTF_8));
    assertTrue(accepted(send(TOPIC, BODY, Signatures.sign(key, TOPIC, "b7", 42, BODY.getBytes(UTF_8)))).signed());
  }

  // ------------------------------------------------------------------------------------------------- how it is written

  @Test
  void eitherCaseOfHex() throws Exception {
    String good = sign(enrol("d1", Signing.REQUIRE), TOPIC, BODY);
    accepted(send(TOPIC, BODY, "v1=" + good.substring(3).toUpperCase(Locale.ROOT)));
  }

  @ParameterizedTest
  @ValueSource(strings = {"%s0", "%s ", " %s", "%s,%s", "[%s, %s]", "%s\n", "V1=", "v2=", "v1", "v1=", "v1=0", "hmac", "${header.x}", "{{env:PATH}}", "v1=\u0661"})
  void malformed(String form) throws Exception {
    String good = sign(enrol("d1", Signing.ACCEPT), TOPIC, BODY);
    String given = form.replace("%s", good);
    if (form.startsWith("V") || form.startsWith("v2")) {
      given = form + good.substring(3);
    }
    Rejection rejection = refused(send(TOPIC, BODY, given));
    assertFalse(rejection.error().contains(good), "what was given is not repeated");
    refused(send(TOPIC, BODY, "v1=" + "g".repeat(64)));
    refused(send(TOPIC, BODY, "v1=" + "\u00e9".repeat(64)));
    refused(send(TOPIC, BODY, "x".repeat(100_000)));
  }

  @Test
  void twiceIsNotOnce() throws Exception {
    String good = sign(enrol("d1", Signing.REQUIRE), TOPIC, BODY);
    // As HTTP gives a header that is there twice.
    refused(send(TOPIC, BODY.getBytes(UTF_8), "application/json", List.of(good, good)));
  }

  // ------------------------------------------------------------------------------------------------- whose key

  @Test
  void bothTokensCountWhileBothAreValid() throws Exception {
    Enrolment old = enrol("d1", Signing.REQUIRE);
    Enrolment young = devices.rotate("d1", 60_000, null);
    accepted(send(TOPIC, BODY, sign(old, TOPIC, BODY)));
    accepted(send(TOPIC, BODY, sign(young, TOPIC, BODY)));
    devices.revokeToken("d1", old.tokenId());
    refused(send(TOPIC, BODY, sign(old, TOPIC, BODY)));
    accepted(send(TOPIC, BODY, sign(young, TOPIC, BODY)));
    Enrolment last = devices.rotate("d1", 0, null);
    refused(send(TOPIC, BODY, sign(young, TOPIC, BODY)));
    accepted(send(TOPIC, BODY, sign(last, TOPIC, BODY)));
  }

  /** What waited in a broker when its device was revoked: nothing can be verified any more, so nothing that had to be is taken. */
  @Test
  void ofARevokedDeviceNothingSignedIsTaken() throws Exception {
    Enrolment d1 = enrol("d1", Signing.REQUIRE);
    Enrolment d2 = enrol("d2", Signing.OFF);
    devices.revoke("d1");
    devices.revoke("d2");
    refused(send(TOPIC, BODY, sign(d1, TOPIC, BODY)));
    refused(send(TOPIC, BODY, null));
    accepted(send("devices/d2/telemetry", BODY, null));
    Enrolment again = devices.restore("d1");
    refused(send(TOPIC, BODY, sign(d1, TOPIC, BODY)));
    accepted(send(TOPIC, BODY, sign(again, TOPIC, BODY)));
  }

  @Test
  void aTokenThatIsNotValidYetOrAnyMoreSignsNothing() throws Exception {
    long now = System.currentTimeMillis();
    Enrolment early = devices.add(new NewDevice("d1", null, null, Signing.REQUIRE, null, null, null, now + 3_600_000, null));
    refused(send(TOPIC, BODY, sign(early, TOPIC, BODY)));
  }

  // ------------------------------------------------------------------------------------------------- helpers

  private Enrolment enrol(String id, Signing signing) throws Exception {
    return devices.add(new NewDevice(id, null, null, signing, null, null, null, null, null));
  }

  private static byte[] key(Enrolment enrolment) {
    return Base64.getUrlDecoder().decode(enrolment.signingKey());
  }

  private static String sign(Enrolment enrolment, String topic, String body) {
    return Signatures.sign(key(enrolment), topic, "b7", 42, body.getBytes(UTF_8));
  }

  private Exchange send(String topic, String body, Object signature) {
    return send(topic, body.getBytes(UTF_8), "application/json", signature);
  }

  private Exchange send(String topic, byte[] body, String type, Object signature) {
    Map<String, Object> headers = new HashMap<>(Map.of("CaravanTopic", topic, "CaravanSource", "mqtt-server", "CaravanContentType", type));
    if (signature != null) {
      headers.put("CaravanSignature", signature);
    }
    return template.send("direct:ingest", exchange -> {
      exchange.getMessage().setBody(body);
      exchange.getMessage().setHeaders(headers);
    });
  }

  private static Record accepted(Exchange exchange) {
    assertNull(exchange.getException());
    assertNull(exchange.getVariable("error"));
    return exchange.getVariable("record", Record.class);
  }

  private static Rejection refused(Exchange exchange) {
    assertNull(exchange.getException());
    assertEquals("bad_signature", exchange.getVariable("reason"));
    return exchange.getVariable("rejection", Rejection.class);
  }

  private Config config() {
    return new Config() {
      @Override
      public String get(String key) {
        String value = keys.get(key);
        if (value == null) {
          throw new IllegalArgumentException("key [" + key + "] is not declared");
        }
        return value;
      }

      @Override
      public long getLong(String key) {
        return Long.parseLong(get(key));
      }

      @Override
      public boolean getBoolean(String key) {
        return Boolean.parseBoolean(get(key));
      }

      @Override
      public Path getPath(String key) {
        return Path.of(get(key));
      }

      @Override
      public List<String> getList(String key) {
        return List.of(get(key).split(","));
      }

      @Override
      public AutoCloseable onChange(Consumer<Set<String>> listener) {
        return () -> { };
      }
    };
  }
}
