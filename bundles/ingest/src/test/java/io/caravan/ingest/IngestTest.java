// SPDX-License-Identifier: Apache-2.0
package io.caravan.ingest;

import static java.nio.charset.StandardCharsets.UTF_8;
import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertNotNull;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertSame;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.caravan.ingest.internal.Meters;
import io.caravan.ingest.internal.Settings;
import io.caravan.ingest.internal.Shape;
import io.caravan.ingest.internal.proto.Event;
import io.caravan.ingest.internal.proto.Telemetry;
import io.caravan.runtime.Traces;
import io.caravan.wal.Record;
import io.caravan.wal.Rejection;
import io.micrometer.core.instrument.simple.SimpleMeterRegistry;
import java.nio.file.Path;
import java.time.OffsetDateTime;
import java.util.HashMap;
import java.util.Map;
import java.util.Random;
import java.util.stream.Collectors;
import java.util.stream.IntStream;
import org.apache.camel.Exchange;
import org.apache.camel.ProducerTemplate;
import org.apache.camel.builder.RouteBuilder;
import org.apache.camel.component.jsonvalidator.JsonValidationException;
import org.apache.camel.impl.DefaultCamelContext;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.ValueSource;

/** The bean in the route it is made for: parse, json-validator with the shipped schemas, enrich, reject. */
class IngestTest {
  private static final int MAX_BYTES = 65_536;
  private static final String JSON = "application/json";
  private static final String PROTOBUF = "application/x-protobuf";
  private static final Path SCHEMAS = Path.of(System.getProperty("basedir", "."), "../../config/common/schema");
  private static final SimpleMeterRegistry METERS = new SimpleMeterRegistry();
  private static DefaultCamelContext context;
  private static ProducerTemplate template;

  @BeforeAll
  static void start() throws Exception {
    context = new DefaultCamelContext();
    context.getRegistry().bind("ingest", new Ingest(new Settings(MAX_BYTES, JSON, 10_000), shapes(), Meters.of(METERS), Traces.of(context)));
    String schemas = "json-validator:file:" + SCHEMAS + '/';
    context.addRoutes(new RouteBuilder() {
      @Override
      public void configure() {
        onException(RejectedException.class, JsonValidationException.class).handled(true).bean("ingest", "reject");
        from("direct:ingest").bean("ingest", "parse")
            .choice()
            .when().simple("${variable.schema} == 'telemetry'").to(schemas + "telemetry-1.json")
            .when().simple("${variable.schema} == 'event'").to(schemas + "event-1.json")
            .end()
            .bean("ingest", "enrich").setVariable("outcome", constant("durable"));
      }
    });
    context.start();
    template = context.createProducerTemplate();
  }

  private static Map<String, Shape> shapes() {
    return Map.of("telemetry", Shape.of(SCHEMAS.resolve("telemetry-1.json")), "event", Shape.of(SCHEMAS.resolve("event-1.json")));
  }

  @AfterAll
  static void stop() {
    context.stop();
  }

  // ------------------------------------------------------------------------------------------------- accepted

  @Test
  void whatIsCertainlyValidNeedsNoJsonValidator() {
    Exchange plain = telemetry("{\"schema_version\":1,\"boot_id\":\"b\",\"device_seq\":4,\"metrics\":{\"t\":1}}");
    accepted(plain);
    assertNull(plain.getVariable("schema"));
    // Valid, but only json-validator knows that 1.0 is a whole number.
    Exchange odd = telemetry("{\"schema_version\":1.0,\"metrics\":{\"t\":1}}");
    accepted(odd);
    assertEquals("telemetry", odd.getVariable("schema"));
    assertNull(send("capabilities", JSON, "{\"commands\":{}}").getVariable("schema"), "no schema");
  }

  @Test
  void numberedTelemetryBecomesARecordWithTheDevicesBytes() {
    String json = """
        {"schema_version": 1, "device_id": "d1", "boot_id": "b7", "device_seq": 42,
         "observed_at": "2026-11-21T10:00:00.123Z", "metrics": {"temperature_c": 21.5, "humidity_pct": 40}}""";
    Exchange exchange = send("telemetry", JSON, json.getBytes(UTF_8), Map.of("CaravanTraceparent",
        "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"));
    Record record = accepted(exchange);
    assertEquals("d1/b7/0000000000000042", record.messageKey());
    assertEquals("d1", record.deviceId());
    assertEquals("telemetry", record.kind());
    assertEquals("live", record.lane());
    assertEquals("b7", record.bootId());
    assertEquals(42, record.deviceSeq());
    assertEquals(1_795_255_200_123L, record.observedAtMs());
    assertEquals(1, record.schemaVersion());
    assertEquals(JSON, record.contentType());
    assertEquals("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", record.traceContext());
    assertEquals(json, new String(record.body(), UTF_8));
    assertEquals(record.correlationId(), exchange.getVariable("correlationId"));
    assertEquals('7', record.correlationId().charAt(14), "UUIDv7");
    assertTrue(Math.abs(System.currentTimeMillis() - record.receivedAtMs()) < 10_000);
  }

  @Test
  void correlationIdsAscend() {
    String before = "";
    for (int i = 0; i < 1000; i++) {
      String id = accepted(telemetry("{\"schema_version\":1,\"metrics\":{\"t\":1}}")).correlationId();
      assertTrue(before.compareTo(id) < 0, before + " must be before " + id);
      before = id;
    }
  }

  @Test
  void eventsCapabilitiesAndStatusesHaveTheirKind() {
    assertEquals("event", accepted(send("events", JSON,
        "{\"schema_version\":1,\"event\":\"door\",\"severity\":\"alarm\",\"data\":{\"a\":[1,{\"b\":null}]}}")).kind());
    assertEquals("capabilities", accepted(send("capabilities", JSON, "{\"commands\":{\"reboot\":{}}}")).kind());
    Record status = accepted(send("command-status", JSON, "{\"boot_id\":\"b\",\"device_seq\":3,\"id\":\"c1\"}"));
    assertEquals("command-status", status.kind());
    assertEquals("d1/b/0000000000000003", status.messageKey());
    Record reported = accepted(send("reported", JSON, "{\"boot_id\":\"b\",\"device_seq\":4,\"led\":{\"on\":null}}"));
    assertEquals("reported", reported.kind());
    assertEquals("d1/b/0000000000000004", reported.messageKey());
    // Kept as they are, whatever a field is called.
    assertEquals(0, accepted(send("capabilities", JSON, "{\"device_seq\":\"many\",\"schema_version\":9}")).deviceSeq());
  }

  @ParameterizedTest
  @CsvSource({
    "2026-11-21T10:00:00Z, 1795255200000", "2026-11-21T10:00:00.1Z, 1795255200100", "2026-11-21T12:30:00.123456789+02:30, 1795255200123",
    "2026-11-21t10:00:00z, 1795255200000", "2024-02-29T00:00:00-00:00, 1709164800000", "2026-06-30T23:59:60Z, 1782864000000"})
  void observedAtIsAnRfc3339Time(String time, long millis) {
    assertEquals(millis, accepted(telemetry("{\"schema_version\":1,\"observed_at\":\"" + time + "\",\"metrics\":{\"t\":1}}")).observedAtMs());
  }

  @Test
  void timesAgreeWithTheJdk() {
    Random random = new Random(7);
    for (int i = 0; i < 2000; i++) {
      OffsetDateTime time = OffsetDateTime.parse("2020-01-01T00:00:00Z").plusSeconds(random.nextInt(200_000_000)).plusNanos(random.nextInt(1_000_000_000));
      assertEquals(time.toInstant().toEpochMilli(), accepted(telemetry("{\"schema_version\":1,\"observed_at\":\"" + time
          + "\",\"metrics\":{\"t\":1}}")).observedAtMs(), time.toString());
    }
  }

  @Test
  void aGatewayWithoutATimeBelievesDevices() {
    long now = 1_795_255_200_000L;
    long day = 86_400_000L;
    assertTrue(Ingest.plausible(now + day, now));
    assertFalse(Ingest.plausible(now + day + 1, now));
    assertTrue(Ingest.plausible(now, 200_000), "started in 1970");
    assertFalse(Ingest.plausible(Long.MAX_VALUE, 200_000));
    assertFalse(Ingest.plausible(100_000, 200_000), "both in 1970");
  }

  @ParameterizedTest
  @ValueSource(strings = {"\"1970-01-01T00:00:09Z\"", "9000", "\"2019-12-31T23:59:59Z\"", "\"2999-01-01T00:00:00Z\"", "99999999999999999999999", "-1"})
  void anImplausibleClockIsReplacedAndCounted(String observedAt) {
    double before = METERS.get("caravan.ingest.clock.implausible").counter().count();
    Record record = accepted(telemetry("{\"schema_version\":1,\"observed_at\":" + observedAt + ",\"metrics\":{\"t\":1}}"));
    assertEquals(record.receivedAtMs(), record.observedAtMs());
    assertEquals(before + 1, METERS.get("caravan.ingest.clock.implausible").counter().count());
  }

  @Test
  void withoutANumberTheKeyIsTheGivenOneElseTheContent() {
    String json = "{\"schema_version\":1,\"metrics\":{\"t\":1}}";
    assertEquals("d1//k/order-17", accepted(send("telemetry", JSON, json.getBytes(UTF_8), Map.of("CaravanIdempotencyKey", "order-17"))).messageKey());
    String hostile = accepted(send("telemetry", JSON, json.getBytes(UTF_8), Map.of("CaravanIdempotencyKey", "a b\n" + "x".repeat(5000)))).messageKey();
    assertTrue(hostile.matches("d1//k/sha256-[0-9a-f]{32}"), hostile);
    String content = accepted(telemetry(json)).messageKey();
    assertTrue(content.matches("d1//h/[0-9a-f]{12}[.][0-9a-z]+-[0-9a-f]{32}"), content);
    assertNotEquals(content.substring(content.indexOf('-')), accepted(telemetry(json.replace("1}", "2}"))).messageKey().substring(content.indexOf('-')));
    assertNotEquals(content.substring(content.indexOf('-')), accepted(send("capabilities", JSON, json)).messageKey().substring(content.indexOf('-')));
  }

  @ParameterizedTest
  @ValueSource(strings = {"", "00-zz", "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01", "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
      "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01x"})
  void aBadTraceparentIsDropped(String traceparent) {
    assertNull(accepted(send("telemetry", JSON, "{\"schema_version\":1,\"metrics\":{\"t\":1}}".getBytes(UTF_8),
        Map.of("CaravanTraceparent", traceparent))).traceContext());
  }

  @ParameterizedTest
  @ValueSource(strings = {"", " ", "application/json", "Application/JSON; charset=UTF-8", "application/json;charset=\"utf-8\""})
  void jsonIsTheDefaultContentType(String type) {
    assertEquals(JSON, accepted(send("telemetry", type, "{\"schema_version\":1,\"metrics\":{\"t\":1}}")).contentType());
  }

  @Test
  void utf8IsKeptWhereNamesAllowIt() {
    String json = "{\"schema_version\":1,\"event\":\"T\u00fcr \u20ac \ud83d\ude00 \\ud83d\\ude00 \\\\ud800\"}";
    assertEquals(json, new String(accepted(send("events", JSON, json)).body(), UTF_8));
  }

  // ------------------------------------------------------------------------------------------------- Protobuf

  @Test
  void protobufBecomesTheJsonItMeans() {
    byte[] bytes = Telemetry.newBuilder().setSchemaVersion(1).setDeviceId("d1").setBootId("b7").setDeviceSeq(42)
        .setObservedAtMs(1_795_255_200_123L).putMetrics("t", 21.5).build().toByteArray();
    Exchange exchange = send("telemetry", PROTOBUF, bytes, Map.of());
    Record record = accepted(exchange);
    assertEquals("{\"schema_version\":1,\"device_id\":\"d1\",\"boot_id\":\"b7\",\"device_seq\":42,\"observed_at\":1795255200123,\"metrics\":{\"t\":21.5}}",
        new String(record.body(), UTF_8));
    assertEquals("d1/b7/0000000000000042", record.messageKey());
    assertEquals(PROTOBUF, record.contentType());
    assertSame(record.body(), exchange.getMessage().getBody());
  }

  @Test
  void protobufEventsCarryJsonData() {
    byte[] bytes = Event.newBuilder().setSchemaVersion(1).setEvent("door").setSeverity("info").setDataJson("{\"door\":[2]}").build().toByteArray();
    assertEquals("{\"schema_version\":1,\"event\":\"door\",\"severity\":\"info\",\"data\":{\"door\":[2]}}",
        new String(accepted(send("events", PROTOBUF, bytes, Map.of())).body(), UTF_8));
  }

  @ParameterizedTest
  @ValueSource(strings = {"1},\"device_seq\":5,\"x\":{", "{}}", "[1]", "7", "{\"a\":1,\"a\":2}", "{\"a\":\"\\ud800\"}", ""})
  void protobufDataCannotLeaveItsField(String data) {
    byte[] bytes = Event.newBuilder().setSchemaVersion(1).setEvent("door").setDataJson(data).build().toByteArray();
    rejected(send("events", PROTOBUF, bytes, Map.of()), Reason.SCHEMA_VIOLATION, "/data");
  }

  @Test
  void malformedProtobuf() {
    byte[] good = Telemetry.newBuilder().setSchemaVersion(1).setDeviceId("d1").putMetrics("t", 1).build().toByteArray();
    rejected(send("telemetry", PROTOBUF, java.util.Arrays.copyOf(good, good.length - 1), Map.of()), Reason.MALFORMED_PROTOBUF, null);
    rejected(send("telemetry", PROTOBUF, hex("0a64"), Map.of()), Reason.MALFORMED_PROTOBUF, null);
    rejected(send("telemetry", PROTOBUF, hex("08ffffffffffffffffffffff01"), Map.of()), Reason.MALFORMED_PROTOBUF, null);
    rejected(send("telemetry", PROTOBUF, hex("1202c328"), Map.of()), Reason.MALFORMED_PROTOBUF, null);
    rejected(send("telemetry", PROTOBUF, hex("00"), Map.of()), Reason.MALFORMED_PROTOBUF, null);
  }

  @Test
  void protobufUnderTheRulesOfJson() {
    rejected(send("telemetry", PROTOBUF, new byte[0], Map.of()), Reason.SCHEMA_VIOLATION, "/metrics");
    rejected(send("telemetry", PROTOBUF, hex("08015001"), Map.of()), Reason.SCHEMA_VIOLATION, "");
    rejected(protobuf(Telemetry.newBuilder().setSchemaVersion(1).putMetrics("t", Double.NaN)), Reason.SCHEMA_VIOLATION, "/metrics/t");
    rejected(protobuf(Telemetry.newBuilder().setSchemaVersion(1).putMetrics("a/b", Double.POSITIVE_INFINITY)), Reason.SCHEMA_VIOLATION, "/metrics/a~1b");
    rejected(protobuf(Telemetry.newBuilder().setSchemaVersion(2).putMetrics("t", 1)), Reason.UNSUPPORTED_SCHEMA_VERSION, "/schema_version");
    rejected(protobuf(Telemetry.newBuilder().setSchemaVersion(-1).putMetrics("t", 1)), Reason.UNSUPPORTED_SCHEMA_VERSION, "/schema_version");
    rejected(protobuf(Telemetry.newBuilder().setSchemaVersion(1).setDeviceId("d2").putMetrics("t", 1)), Reason.DEVICE_ID_MISMATCH, "/device_id");
    rejected(protobuf(Telemetry.newBuilder().setSchemaVersion(1).setBootId("b").setDeviceSeq(-1).putMetrics("t", 1)), Reason.SCHEMA_VIOLATION, "/device_seq");
  }

  // ------------------------------------------------------------------------------------------------- refused

  @ParameterizedTest
  @ValueSource(strings = {"", " ", "{", "{\"schema_version\":1,\"metrics\":{\"t\":1}", "{\"schema_version\":1,\"metrics\":{\"t\":1}}x",
      "{\"schema_version\":1,\"metrics\":{\"t\":1}} {}", "{\"schema_version\":1,\"metrics\":{\"t\":NaN}}", "{\"schema_version\":1,\"metrics\":{\"t\":Infinity}}",
      "{\"schema_version\":1,\"metrics\":{\"t\":-Infinity}}", "{\"schema_version\":1,\"metrics\":{\"t\":01}}", "{\"schema_version\":1,\"metrics\":{\"t\":+1}}",
      "{\"schema_version\":1,\"metrics\":{\"t\":.5}}", "{\"schema_version\":1,\"metrics\":{\"t\":1.}}", "{'schema_version':1}", "{schema_version:1}",
      "{\"schema_version\":1,}", "{\"schema_version\":1,\"metrics\":{\"t\":1,}}", "[1,]", "{\"a\":1 /* c */}", "// c\n{}", "{\"a\":\"\t\"}",
      "{\"a\":\"\\x\"}", "{\"a\":\"\\u12\"}", "{\"schema_version\":1,\"schema_version\":1,\"metrics\":{\"t\":1}}", "{\"schema_version\":1,\"metrics\":{\"t\":1,\"t\":2}}",
      "{\"schema_version\":1,\"metrics\":{\"t\":1,\"\\u0074\":2}}", "nul", "{\"schema_version\":1,\"metrics\":\u0000{\"t\":1}}", "{\"a\":\"\u0000\"}",
      "{\"a\":\"\\ud800\"}", "{\"a\":\"\\udc00\\ud800\"}", "{\"a\":\"\\ud800\\n\"}", "{\"a\":\"\\ud800x\\udc00\"}", "{\"\\udfff\":1}"})
  void malformedJson(String json) {
    rejected(telemetry(json), Reason.MALFORMED_JSON, null);
    rejected(send("capabilities", JSON, json), Reason.MALFORMED_JSON, null);
  }

  @Test
  void everyTruncationIsRefused() {
    byte[] json = "{\"schema_version\":1,\"boot_id\":\"b\",\"device_seq\":1,\"observed_at\":5,\"metrics\":{\"t\u00e9\":-1.5e3,\"u\":[true,null]}}".getBytes(UTF_8);
    for (int length = 0; length < json.length; length++) {
      Exchange exchange = send("telemetry", JSON, java.util.Arrays.copyOf(json, length), Map.of());
      assertEquals("rejected", exchange.getVariable("outcome"), "length " + length);
    }
  }

  @Test
  void byteOrderMarksAndOtherEncodings() {
    String json = "{\"schema_version\":1,\"metrics\":{\"t\":1}}";
    rejected(telemetry("\ufeff" + json), Reason.MALFORMED_JSON, null);
    rejected(send("telemetry", JSON, json.getBytes(java.nio.charset.StandardCharsets.UTF_16LE), Map.of()), Reason.MALFORMED_JSON, null);
    rejected(send("telemetry", JSON, json.getBytes(java.nio.charset.StandardCharsets.UTF_16), Map.of()), Reason.NOT_UTF8, null);
  }

  @ParameterizedTest
  @ValueSource(strings = {"ff", "c0af", "c1bf", "e08080", "eda080", "edbfbf", "f0808080", "f4908080", "f5808080", "80", "bf", "c3", "e282", "f09f98", "c328", "e28228", "fffe"})
  void notUtf8(String bytes) {
    byte[] start = "{\"schema_version\":1,\"event\":\"".getBytes(UTF_8);
    byte[] bad = hex(bytes);
    byte[] end = "\"}".getBytes(UTF_8);
    for (int pad = 0; pad < 9; pad++) {
      java.io.ByteArrayOutputStream all = new java.io.ByteArrayOutputStream();
      all.writeBytes(start);
      all.writeBytes("x".repeat(pad).getBytes(UTF_8));
      all.writeBytes(bad);
      all.writeBytes(end);
      rejected(send("events", JSON, all.toByteArray(), Map.of()), Reason.NOT_UTF8, null);
    }
  }

  @Test
  void utf8IsJudgedAsTheJdkJudgesIt() {
    Random random = new Random(11);
    for (int i = 0; i < 20_000; i++) {
      byte[] bytes = new byte[1 + random.nextInt(12)];
      for (int b = 0; b < bytes.length; b++) {
        int[] interesting = {'a', 0x7F, 0x80, 0xBF, 0xC2, 0xDF, 0xE0, 0xA0, 0xED, 0x9F, 0xEF, 0xF0, 0x90, 0xF4, 0x8F};
        bytes[b] = (byte) interesting[random.nextInt(interesting.length)];
      }
      boolean valid;
      try {
        UTF_8.newDecoder().decode(java.nio.ByteBuffer.wrap(bytes));
        valid = true;
      } catch (java.nio.charset.CharacterCodingException e) {
        valid = false;
      }
      Exchange exchange = send("telemetry", JSON, bytes, Map.of());
      assertEquals(!valid, "not_utf8".equals(exchange.getVariable("reason")), () -> java.util.HexFormat.of().formatHex(bytes));
    }
  }

  @Test
  void depth() {
    accepted(send("capabilities", JSON, "{\"a\":".repeat(32) + "1" + "}".repeat(32)));
    rejected(send("capabilities", JSON, "{\"a\":".repeat(33) + "1" + "}".repeat(33)), Reason.TOO_DEEP, null);
    rejected(telemetry("[".repeat(50_000)), Reason.TOO_DEEP, null);
    rejected(telemetry("{\"a\":[".repeat(10_000)), Reason.TOO_DEEP, null);
    rejected(telemetry("[".repeat(100_000)), Reason.TOO_LARGE, null);
  }

  @Test
  void size() {
    String json = "{\"schema_version\":1,\"metrics\":{\"t\":1}}";
    accepted(telemetry(json + " ".repeat(MAX_BYTES - json.length() - 1)));
    accepted(telemetry(json + " ".repeat(MAX_BYTES - json.length())));
    Exchange exchange = telemetry(json + " ".repeat(MAX_BYTES - json.length() + 1));
    rejected(exchange, Reason.TOO_LARGE, null);
    assertEquals(MAX_BYTES, exchange.getVariable("rejection", Rejection.class).body().length, "cut");
  }

  @Test
  @Timeout(240) // against a hang only
  void aMillionKeysAreTooLargeAndThousandsHaveTheirAnswer() {
    rejected(telemetry("{\"schema_version\":1,\"metrics\":{" + keys(1_000_000) + "}}"), Reason.TOO_LARGE, null);
    String many = "{\"schema_version\":1,\"metrics\":{" + keys(6_000) + "}}";
    for (int i = 0; i < 20; i++) {
      rejected(telemetry(many), Reason.SCHEMA_VIOLATION, "/metrics");
    }
  }

  @ParameterizedTest
  @CsvSource(delimiter = '|', value = {
    "{\"metrics\":{\"t\":1}} | /schema_version", "{\"schema_version\":1} | /metrics", "{\"schema_version\":1,\"metrics\":{}} | /metrics",
    "{\"schema_version\":1,\"metrics\":[]} | /metrics", "{\"schema_version\":1,\"metrics\":{\"t\":\"hot\"}} | /metrics/t",
    "{\"schema_version\":1,\"metrics\":{\"t\":null}} | /metrics/t", "{\"schema_version\":1,\"metrics\":{\"t\":1e400}} | /metrics/t",
    "{\"schema_version\":1,\"metrics\":{\"t\":-1E+999}} | /metrics/t", "{\"schema_version\":1,\"metrics\":{\"9t\":1}} | /metrics/9t",
    "{\"schema_version\":1,\"metrics\":{\"a/b\":1}} | /metrics/a~1b", "{\"schema_version\":1,\"metrics\":{\"\":1}} | /metrics/",
    "{\"schema_version\":\"1\",\"metrics\":{\"t\":1}} | /schema_version", "{\"schema_version\":1.5,\"metrics\":{\"t\":1}} | /schema_version",
    "{\"schema_version\":1,\"devise_seq\":4,\"metrics\":{\"t\":1}} | /devise_seq", "{\"schema_version\":1,\"event\":\"x\",\"metrics\":{\"t\":1}} | /event",
    "{\"schema_version\":1,\"device_id\":7,\"metrics\":{\"t\":1}} | /device_id", "{\"schema_version\":1,\"device_seq\":4,\"metrics\":{\"t\":1}} | /boot_id",
    "{\"schema_version\":1,\"boot_id\":\"b\",\"metrics\":{\"t\":1}} | /device_seq", "{\"schema_version\":1,\"boot_id\":\"b c\",\"device_seq\":1,\"metrics\":{\"t\":1}} | /boot_id",
    "{\"schema_version\":1,\"boot_id\":\"b\",\"device_seq\":0,\"metrics\":{\"t\":1}} | /device_seq",
    "{\"schema_version\":1,\"boot_id\":\"b\",\"device_seq\":1.0,\"metrics\":{\"t\":1}} | /device_seq",
    "{\"schema_version\":1,\"boot_id\":\"b\",\"device_seq\":\"1\",\"metrics\":{\"t\":1}} | /device_seq",
    "{\"schema_version\":1,\"boot_id\":\"b\",\"device_seq\":9007199254740992,\"metrics\":{\"t\":1}} | /device_seq",
    "{\"schema_version\":1,\"observed_at\":\"yesterday\",\"metrics\":{\"t\":1}} | /observed_at", "{\"schema_version\":1,\"observed_at\":1.5,\"metrics\":{\"t\":1}} | /observed_at",
    "{\"schema_version\":1,\"observed_at\":\"2026-02-30T00:00:00Z\",\"metrics\":{\"t\":1}} | /observed_at",
    "{\"schema_version\":1,\"observed_at\":null,\"metrics\":{\"t\":1}} | /observed_at", "[] | ''", "7 | ''", "\"x\" | ''", "null | ''", "[{\"schema_version\":1}] | ''"})
  void schemaViolation(String json, String field) {
    rejected(telemetry(json), Reason.SCHEMA_VIOLATION, field);
  }

  @ParameterizedTest
  @CsvSource(delimiter = '|', value = {
    "{\"schema_version\":1} | /event", "{\"schema_version\":1,\"event\":\"\"} | /event", "{\"schema_version\":1,\"event\":\"e\",\"severity\":\"bad\"} | /severity",
    "{\"schema_version\":1,\"event\":\"e\",\"data\":[1]} | /data", "{\"schema_version\":1,\"event\":\"e\",\"data\":{\"x\":[0,1e999]}} | /data/x/1",
    "{\"schema_version\":1,\"event\":\"e\",\"metrics\":{\"t\":1}} | /metrics"})
  void eventSchemaViolation(String json, String field) {
    rejected(send("events", JSON, json), Reason.SCHEMA_VIOLATION, field);
  }

  @Test
  void longNumbersAreRefused() {
    rejected(telemetry("{\"schema_version\":1,\"metrics\":{\"t\":" + "9".repeat(301) + "}}"), Reason.SCHEMA_VIOLATION, "/metrics/t");
    rejected(telemetry("{\"schema_version\":1,\"metrics\":{\"t\":" + "9".repeat(60_000) + "}}"), Reason.MALFORMED_JSON, null);
    accepted(telemetry("{\"schema_version\":1,\"metrics\":{\"t\":" + "9".repeat(300) + ",\"u\":1e308,\"v\":5e-324}}"));
  }

  @Test
  void sixtyFourMetricsAndOneMore() {
    accepted(telemetry("{\"schema_version\":1,\"metrics\":{" + keys(64) + "}}"));
    rejected(telemetry("{\"schema_version\":1,\"metrics\":{" + keys(65) + "}}"), Reason.SCHEMA_VIOLATION, "/metrics");
    accepted(telemetry("{\"schema_version\":1,\"metrics\":{\"" + "m".repeat(64) + "\":1}}"));
    rejected(telemetry("{\"schema_version\":1,\"metrics\":{\"" + "m".repeat(65) + "\":1}}"), Reason.SCHEMA_VIOLATION, "/metrics/" + "m".repeat(65));
  }

  @Test
  void versionDeviceAndTypeBeforeFields() {
    rejected(telemetry("{\"schema_version\":2,\"what\":\"ever\"}"), Reason.UNSUPPORTED_SCHEMA_VERSION, "/schema_version");
    rejected(telemetry("{\"schema_version\":" + "9".repeat(200) + "}"), Reason.UNSUPPORTED_SCHEMA_VERSION, "/schema_version");
    rejected(telemetry("{\"schema_version\":1,\"device_id\":\"d2\",\"metrics\":{\"t\":1}}"), Reason.DEVICE_ID_MISMATCH, "/device_id");
    rejected(send("capabilities", JSON, "{\"device_id\":\"d2\"}"), Reason.DEVICE_ID_MISMATCH, "/device_id");
    rejected(send("telemetry", "text/plain", "t=1"), Reason.UNSUPPORTED_CONTENT_TYPE, null);
    rejected(send("telemetry", "application/json; charset=latin1", "{}"), Reason.UNSUPPORTED_CONTENT_TYPE, null);
    rejected(send("capabilities", PROTOBUF, "{}"), Reason.UNSUPPORTED_CONTENT_TYPE, null);
  }

  @ParameterizedTest
  @ValueSource(strings = {"", "devices", "devices/", "devices/d1", "devices/d1/", "devices/d1/telemetrie", "devices/d1/Telemetry", "devices/d1/x/telemetry",
      "/devices/d1/telemetry", "other/d1/telemetry", "devices/d1/commands", "devices/d1/receipts", "$SYS/x", "devices/d1/telemetry/"})
  void badTopic(String topic) {
    Exchange exchange = send("{}".getBytes(UTF_8), Map.of("CaravanTopic", topic));
    rejected(exchange, Reason.BAD_TOPIC, null);
    assertEquals(topic, exchange.getVariable("rejection", Rejection.class).topic());
  }

  @ParameterizedTest
  @ValueSource(strings = {"", ".d", "-d", "d..2", "d 1", "d\u00e9", "d\u0000", "..", "d%2e", "{{x}}", "${x}"})
  void badDeviceId(String id) {
    Exchange exchange = send("{}".getBytes(UTF_8), Map.of("CaravanTopic", "devices/" + id + "/telemetry"));
    rejected(exchange, Reason.BAD_DEVICE_ID, null);
    assertEquals(id, exchange.getVariable("rejection", Rejection.class).deviceId());
  }

  @Test
  void deviceIdLength() {
    String json = "{\"schema_version\":1,\"metrics\":{\"t\":1}}";
    accepted(send(json.getBytes(UTF_8), Map.of("CaravanTopic", "devices/" + "d".repeat(64) + "/telemetry")));
    rejected(send(json.getBytes(UTF_8), Map.of("CaravanTopic", "devices/" + "d".repeat(65) + "/telemetry")), Reason.BAD_DEVICE_ID, null);
    rejected(send(json.getBytes(UTF_8), Map.of("CaravanTopic", "devices/d1/telemetry", "CaravanDeviceId", "d2")), Reason.DEVICE_ID_MISMATCH, null);
  }

  @Test
  void aRejectionKeepsTheMessageAsItCame() {
    byte[] body = "{\"schema_version\":1,\"metrics\":{\"t\":\"hot\"}}".getBytes(UTF_8);
    Exchange exchange = send("telemetry", JSON, body, Map.of());
    Rejection rejection = exchange.getVariable("rejection", Rejection.class);
    assertArrayEquals(body, rejection.body());
    assertEquals("mqtt-server", rejection.source());
    assertEquals("d1", rejection.deviceId());
    assertEquals(JSON, rejection.contentType());
    assertEquals(exchange.getVariable("correlationId"), rejection.correlationId());
    assertEquals(exchange.getVariable("error"), rejection.error());
    assertFalse(rejection.error().isBlank());
  }

  @Test
  void randomDamageNeverEscapes() {
    byte[] good = "{\"schema_version\":1,\"device_id\":\"d1\",\"boot_id\":\"b\",\"device_seq\":1,\"observed_at\":\"2026-11-21T10:00:00Z\",\"metrics\":{\"t\":-1.5e3}}".getBytes(UTF_8);
    byte[] proto = Telemetry.newBuilder().setSchemaVersion(1).setDeviceId("d1").setBootId("b").setDeviceSeq(1).putMetrics("t", 1).build().toByteArray();
    Random random = new Random(3);
    for (int i = 0; i < 30_000; i++) {
      boolean json = i % 2 == 0;
      byte[] bytes = (json ? good : proto).clone();
      for (int n = 1 + random.nextInt(4); n > 0; n--) {
        bytes[random.nextInt(bytes.length)] = (byte) (random.nextBoolean() ? random.nextInt(256) : "{}[]\",:\\0e-".charAt(random.nextInt(11)));
      }
      Exchange exchange = send("telemetry", json ? JSON : PROTOBUF, bytes, Map.of());
      assertNull(exchange.getException(), () -> java.util.HexFormat.of().formatHex(bytes));
      assertNotNull(exchange.getVariable("outcome"));
    }
  }

  // ------------------------------------------------------------------------------------------------- hostile

  @Test
  void tenThousandLevelsWhereverTheyStand() {
    String deep = "[".repeat(10_000) + "]".repeat(10_000);
    rejected(telemetry(deep), Reason.TOO_DEEP, null);
    rejected(send("events", JSON, "{\"schema_version\":1,\"event\":\"e\",\"data\":{\"a\":" + deep + "}}"), Reason.TOO_DEEP, null);
    rejected(send("capabilities", JSON, "{\"a\":" + "{\"a\":".repeat(9_999) + "1" + "}".repeat(10_000)), Reason.TOO_DEEP, null);
    // In a string it is a string.
    accepted(send("capabilities", JSON, "{\"a\":\"" + deep + "\"}"));
    rejected(send("events", PROTOBUF, Event.newBuilder().setSchemaVersion(1).setEvent("e").setDataJson("{\"a\":" + deep + "}").build().toByteArray(),
        Map.of()), Reason.TOO_DEEP, null);
    // Groups in groups, of a field that nobody knows: 0x53 begins field 10 as a group, 0x54 ends it.
    byte[] groups = new byte[20_000];
    java.util.Arrays.fill(groups, 0, 10_000, (byte) 0x53);
    java.util.Arrays.fill(groups, 10_000, 20_000, (byte) 0x54);
    rejected(send("telemetry", PROTOBUF, groups, Map.of()), Reason.MALFORMED_PROTOBUF, null);
  }

  @ParameterizedTest
  @ValueSource(strings = {JSON, PROTOBUF})
  void tenMegabytes(String type) {
    Exchange exchange = send("telemetry", type, new byte[10_000_000], Map.of());
    rejected(exchange, Reason.TOO_LARGE, null);
    assertEquals(MAX_BYTES, exchange.getVariable("rejection", Rejection.class).body().length, "what is kept is cut");
  }

  /** Numbers that are short to write and long to reckon with, in every place a number can stand. */
  @Test
  @Timeout(240) // against a hang only
  void numbersThatTakeLongToReckonWith() {
    String[] numbers = {"1e999999999", "-1e999999999", "1e-999999999", "1E+2147483648", "1e99999999999999999999", "9".repeat(60_000),
        "0." + "1".repeat(60_000), "1" + "0".repeat(299), "1e" + "0".repeat(250) + "9", "-0", "-0.0e-0", "1e308", "5e-324"};
    for (String number : numbers) {
      for (String json : new String[] {"{\"schema_version\":1,\"metrics\":{\"t\":%s}}", "{\"schema_version\":%s,\"metrics\":{\"t\":1}}",
          "{\"schema_version\":1,\"boot_id\":\"b\",\"device_seq\":%s,\"metrics\":{\"t\":1}}",
          "{\"schema_version\":1,\"observed_at\":%s,\"metrics\":{\"t\":1}}", "{\"schema_version\":1,\"metrics\":{\"t\":1},\"x\":%s}",
          "{\"schema_version\":1,\"metrics\":%s}"}) {
        Exchange exchange = telemetry(String.format(json, number));
        assertNull(exchange.getException(), () -> json + " " + number);
        if (exchange.getVariable("record") != null) {
          assertTrue(Double.isFinite(Double.parseDouble(number)), () -> number + " became a record");
        }
        Exchange event = send("events", JSON, "{\"schema_version\":1,\"event\":\"e\",\"data\":{\"a\":[" + number + "]}}");
        assertNull(event.getException(), number);
      }
    }
  }

  /** The cloud's database writes decimals in full. */
  @Test
  void exponentsOfMoreThanThreeDigits() {
    accepted(send("capabilities", JSON, "{\"a\":[1e999,-1E-999,1e+0000308]}"));
    for (String number : new String[] {"1e1000", "1E+1000", "-1e-1000", "0e-0001000"}) {
      rejected(send("capabilities", JSON, "{\"a\":" + number + "}"), Reason.MALFORMED_JSON, null);
      rejected(send("events", JSON, "{\"schema_version\":1,\"event\":\"e\",\"data\":{\"a\":" + number + "}}"), Reason.SCHEMA_VIOLATION, "/data/a");
    }
  }

  @Test
  @Timeout(240) // against a hang only
  void namesMadeToCollide() {
    // "Aa" and "BB" have the same hash in Java, and so have all their combinations.
    StringBuilder names = new StringBuilder();
    for (int i = 0; i < 3_000; i++) {
      names.append(i == 0 ? "\"" : ",\"");
      for (int bit = 0; bit < 12; bit++) {
        names.append((i >> bit & 1) == 0 ? "Aa" : "BB");
      }
      names.append("\":1");
    }
    String hostile = "{\"schema_version\":1,\"metrics\":{" + names.substring(0, Math.min(names.length(), 60_000)).replaceFirst(",\"[^,]*$", "") + "}}";
    for (int i = 0; i < 50; i++) {
      rejected(telemetry(hostile), Reason.SCHEMA_VIOLATION, "/metrics");
    }
  }

  /** The parser remembers names over messages: nobody may use that up for others. */
  @Test
  void namesThatNeverComeAgainTakeNothingFromOthers() {
    Random random = new Random(5);
    for (int message = 0; message < 1_000; message++) {
      StringBuilder names = new StringBuilder();
      for (int i = 0; i < 64; i++) {
        names.append(i == 0 ? "\"" : ",\"").append("n").append(Long.toString(random.nextLong() & Long.MAX_VALUE, 36)).append("\":1");
      }
      accepted(telemetry("{\"schema_version\":1,\"metrics\":{" + names + "}}"));
      accepted(telemetry("{\"schema_version\":1,\"metrics\":{\"t\":1}}"));
    }
  }

  @ParameterizedTest
  @ValueSource(strings = {"t\\n", "t\\r\\n", "t\\u0000", "t\\u0085", "t\\u2028", "t\\u001b[2J", "t'; DROP TABLE wal; --", "t\\u202e", "${t}", "{{t}}", " t", "t "})
  void namesOfMetricsAreNames(String name) {
    Exchange exchange = telemetry("{\"schema_version\":1,\"metrics\":{\"" + name + "\":1}}");
    rejected(exchange, Reason.SCHEMA_VIOLATION, exchange.getVariable("field", String.class));
    assertTrue(exchange.getVariable("field", String.class).startsWith("/metrics/"), exchange.getVariable("field", String.class));
  }

  /** The validator's library leaves such names out of additionalProperties; propertyNames of the schemas has them. */
  @ParameterizedTest
  @ValueSource(strings = {"#", "#t", "#{t}", "#'"})
  void namesThatTheValidatorSkips(String name) {
    rejected(telemetry("{\"schema_version\":1,\"metrics\":{\"" + name + "\":1}}"), Reason.SCHEMA_VIOLATION, "/metrics/" + name);
    rejected(telemetry("{\"schema_version\":1,\"" + name + "\":1,\"metrics\":{\"t\":1}}"), Reason.SCHEMA_VIOLATION, "/" + name);
    rejected(send("events", JSON, "{\"schema_version\":1,\"" + name + "\":1,\"event\":\"e\"}"), Reason.SCHEMA_VIOLATION, "/" + name);
    accepted(send("events", JSON, "{\"schema_version\":1,\"event\":\"e\",\"data\":{\"" + name + "\":1}}"));
  }

  @ParameterizedTest
  @ValueSource(strings = {"b\\n", "b\\u0000", "b/c", "..\\/b", "b'", "${b}", "b\\u202e"})
  void bootIdsAreIds(String boot) {
    rejected(telemetry("{\"schema_version\":1,\"boot_id\":\"" + boot + "\",\"device_seq\":1,\"metrics\":{\"t\":1}}"), Reason.SCHEMA_VIOLATION, "/boot_id");
  }

  /** What quotes a device must not forge a line of a log, steer a terminal, or break the answer. */
  @ParameterizedTest
  @ValueSource(strings = {"\\n2026-11-21 | ERROR | forged", "\\r\\n", "\\u001b[31m", "\\u009b31m", "\\u0007", "\\u202e", "\\u2028", "\\u2029", "\\u0000", "\\u007f"})
  void whatIsSaidOfAMessageIsOneLineOfText(String evil) throws Exception {
    for (Exchange exchange : new Exchange[] {telemetry("{\"schema_version\":1,\"device_id\":\"" + evil + "\",\"metrics\":{\"t\":1}}"),
        telemetry("{\"schema_version\":1,\"metrics\":{\"" + evil + "\":1}}"), telemetry("{\"schema_version\":1,\"" + evil + "\":1,\"metrics\":{\"t\":1}}"),
        send("events", JSON, "{\"schema_version\":1,\"event\":\"e\",\"severity\":\"" + evil + "\"}"),
        send("events", JSON, "{\"schema_version\":1,\"event\":\"e\",\"data\":{\"" + evil + "\":1e999}}"),
        send("{}".getBytes(UTF_8), Map.of("CaravanTopic", "devices/" + unescaped(evil) + "/telemetry")),
        send("{}".getBytes(UTF_8), Map.of("CaravanTopic", "x" + unescaped(evil))),
        send("telemetry", "text/" + unescaped(evil), "{}")}) {
      assertEquals("rejected", exchange.getVariable("outcome"));
      for (String variable : new String[] {"error", "field"}) {
        String text = exchange.getVariable(variable, String.class);
        assertTrue(text == null || text.codePoints().noneMatch(c -> Character.isISOControl(c) || Character.getType(c) == Character.FORMAT
            || c == 0x2028 || c == 0x2029), () -> variable + ": " + text);
      }
    }
  }

  @Test
  void whatIsSaidOfAMessageIsTextThatCanBeAnswered() throws Exception {
    String faces = "\ud83d\ude00".repeat(600);
    for (int shift = 0; shift < 2; shift++) {
      String text = "x".repeat(shift) + faces;
      for (Exchange exchange : new Exchange[] {telemetry("{\"schema_version\":1,\"device_id\":\"" + text + "\",\"metrics\":{\"t\":1}}"),
          telemetry("{\"schema_version\":1,\"metrics\":{\"" + text + "\":1}}"), send("{}".getBytes(UTF_8), Map.of("CaravanTopic", text)),
          send("{}".getBytes(UTF_8), Map.of("CaravanTopic", "devices/" + text + "/telemetry"))}) {
        assertEquals("rejected", exchange.getVariable("outcome"));
        Rejection rejection = exchange.getVariable("rejection", Rejection.class);
        for (String said : new String[] {rejection.error(), rejection.field()}) {
          // Throws for half a character, as the encoder of HTTP's answer does.
          UTF_8.newEncoder().encode(java.nio.CharBuffer.wrap(said == null ? "" : said));
          assertTrue(said == null || said.length() <= 500);
        }
      }
    }
  }

  private static String unescaped(String json) throws java.io.IOException {
    try (var parser = new com.fasterxml.jackson.core.JsonFactory().createParser('"' + json + '"')) {
      parser.nextToken();
      return parser.getText();
    }
  }

  // ------------------------------------------------------------------------------------------------- around it

  @Test
  void anUnexpectedExceptionIsNotTheDevicesFault() {
    Ingest ingest = new Ingest(new Settings(100, JSON, 1000), new Meters(), Traces.of(context));
    Exchange exchange = context.getEndpoint("direct:ingest").createExchange();
    exchange.setException(new IllegalStateException("disk"));
    assertEquals("disk", assertThrows(IllegalStateException.class, () -> ingest.reject(exchange)).getMessage());
  }

  @ParameterizedTest
  @CsvSource({"durable, '', 202", "duplicate, '', 202", "rejected, schema_violation, 400", "rejected, key_conflict, 400", "rejected, too_large, 413",
      "rejected, unsupported_content_type, 415", "rejected, bad_signature, 403", "rejected, replayed, 403", "unavailable, '', 503"})
  void httpAnswers(String outcome, String reason, int status) {
    Exchange exchange = context.getEndpoint("direct:ingest").createExchange();
    exchange.setVariable("outcome", outcome);
    exchange.setVariable("correlationId", "c-1");
    if (!reason.isEmpty()) {
      exchange.setVariable("reason", reason);
      exchange.setVariable("field", "/metrics/t");
      exchange.setVariable("error", "why");
    }
    new Ingest(new Settings(100, JSON, 1000), new Meters(), Traces.of(context)).answer(exchange);
    assertEquals(status, exchange.getMessage().getHeader(Exchange.HTTP_RESPONSE_CODE));
    assertEquals(status == 503, exchange.getMessage().getHeader("Retry-After") != null);
    Map<?, ?> body = exchange.getMessage().getBody(Map.class);
    if (status == 202) {
      assertEquals(Map.of("correlation_id", "c-1", "status", outcome), body);
    } else if (status != 503) {
      assertEquals(Map.of("error", "invalid_payload", "reason", reason, "field", "/metrics/t", "message", "why", "correlation_id", "c-1"), body);
    }
  }

  // ------------------------------------------------------------------------------------------------- helpers

  private static Exchange telemetry(String json) {
    return send("telemetry", JSON, json);
  }

  private static Exchange protobuf(Telemetry.Builder telemetry) {
    return send("telemetry", PROTOBUF, telemetry.build().toByteArray(), Map.of());
  }

  private static Exchange send(String channel, String contentType, String body) {
    return send(channel, contentType, body.getBytes(UTF_8), Map.of());
  }

  private static Exchange send(String channel, String contentType, byte[] body, Map<String, Object> more) {
    Map<String, Object> headers = new HashMap<>(more);
    headers.put("CaravanTopic", "devices/d1/" + channel);
    headers.put("CaravanDeviceId", "d1");
    headers.put("CaravanContentType", contentType);
    return send(body, headers);
  }

  private static Exchange send(byte[] body, Map<String, Object> headers) {
    return template.send("direct:ingest", exchange -> {
      exchange.getMessage().setBody(body);
      exchange.getMessage().setHeaders(new HashMap<>(headers));
      exchange.getMessage().setHeader("CaravanSource", "mqtt-server");
    });
  }

  private static Record accepted(Exchange exchange) {
    assertNull(exchange.getException());
    assertEquals("durable", exchange.getVariable("outcome"), () -> exchange.getVariables().toString());
    return exchange.getVariable("record", Record.class);
  }

  private static void rejected(Exchange exchange, Reason reason, String field) {
    assertNull(exchange.getException());
    assertEquals("rejected", exchange.getVariable("outcome"));
    assertEquals(reason.toString(), exchange.getVariable("reason"), () -> "error: " + exchange.getVariable("error"));
    assertEquals(field, exchange.getVariable("field"), () -> "error: " + exchange.getVariable("error"));
    assertNotNull(exchange.getVariable("correlationId"));
  }

  private static String keys(int count) {
    return IntStream.range(0, count).mapToObj(i -> "\"k" + i + "\":1").collect(Collectors.joining(","));
  }

  private static byte[] hex(String hex) {
    return java.util.HexFormat.of().parseHex(hex);
  }
}
