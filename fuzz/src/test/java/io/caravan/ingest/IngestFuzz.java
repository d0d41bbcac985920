// SPDX-License-Identifier: Apache-2.0
package io.caravan.ingest;

import static io.caravan.fuzz.Invariant.bounded;
import static io.caravan.fuzz.Invariant.loneSurrogate;
import static io.caravan.fuzz.Invariant.message;
import static io.caravan.fuzz.Invariant.same;
import static io.caravan.fuzz.Invariant.that;

import com.code_intelligence.jazzer.junit.DictionaryEntries;
import com.code_intelligence.jazzer.junit.FuzzTest;
import com.fasterxml.jackson.databind.JsonNode;
import com.google.protobuf.InvalidProtocolBufferException;
import io.caravan.fuzz.Invariant;
import io.caravan.fuzz.Sqlite;
import io.caravan.ingest.internal.Meters;
import io.caravan.ingest.internal.Settings;
import io.caravan.ingest.internal.Shape;
import io.caravan.ingest.internal.proto.Event;
import io.caravan.ingest.internal.proto.Telemetry;
import io.caravan.runtime.Traces;
import io.caravan.uplink.FrameException;
import io.caravan.uplink.internal.Frames;
import io.caravan.wal.Record;
import io.caravan.wal.Rejection;
import io.micrometer.core.instrument.simple.SimpleMeterRegistry;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.HashMap;
import java.util.Map;
import java.util.regex.Pattern;
import java.util.zip.GZIPOutputStream;
import org.apache.camel.Exchange;
import org.apache.camel.ProducerTemplate;
import org.apache.camel.builder.RouteBuilder;
import org.apache.camel.component.jsonvalidator.JsonValidationException;
import org.apache.camel.impl.DefaultCamelContext;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.BeforeAll;

/** What devices send: topic, content type, key and payload, through the bean in the route it is made for. */
class IngestFuzz {
  private static final int MAX_BYTES = 65_536;
  private static final int MAX_ERROR = 500;
  /** Of an allocation: the text as characters, the parser's copies, the schema's tree. */
  private static final long PER_BYTE = 2_000;
  private static final String KEY = "[A-Za-z0-9][A-Za-z0-9._-]{0,63}/([A-Za-z0-9._-]{1,64}/\\d{16}|/k/[!-~]{1,128}|/h/[0-9a-f]{12}\\.[0-9a-z]+-[0-9a-f]{32})";
  private static final String HEAD = "devices/d1/";
  /** Malformed by contract outside strings. */
  private static final Pattern LONG_EXPONENT = Pattern.compile("[0-9][eE][+-]?0*[1-9][0-9]{3}");
  private static final SimpleMeterRegistry METERS = new SimpleMeterRegistry();
  private static DefaultCamelContext context;
  private static ProducerTemplate template;
  private static Sqlite sqlite;
  private static Frames frames;

  @BeforeAll
  static void start() throws Exception {
    sqlite = new Sqlite();
    context = new DefaultCamelContext();
    String folder = System.getProperty("repo.dir", "..") + "/config/common/schema/";
    Map<String, Shape> shapes = Map.of("telemetry", Shape.of(Path.of(folder, "telemetry-1.json")), "event", Shape.of(Path.of(folder, "event-1.json")));
    context.getRegistry().bind("ingest",
        new Ingest(new Settings(MAX_BYTES, "application/json", 10_000), shapes, Meters.of(METERS), Traces.of(context)));
    String schemas = "json-validator:file:" + folder;
    context.addRoutes(new RouteBuilder() {
      @Override
      public void configure() {
        onException(RejectedException.class, JsonValidationException.class).handled(true).bean("ingest", "reject");
        from("direct:ingest").bean("ingest", "parse")
            .choice()
            .when().simple("${variable.kind} == 'telemetry'").to(schemas + "telemetry-1.json")
            .when().simple("${variable.kind} == 'event'").to(schemas + "event-1.json")
            .end()
            .bean("ingest", "enrich").setVariable("outcome", constant("durable"));
      }
    });
    context.start();
    frames = new Frames(1 << 20, 10, Traces.of(context));
    template = context.createProducerTemplate();
  }

  @AfterAll
  static void stop() throws Exception {
    context.stop();
    sqlite.close();
  }

  /** Input: a line with the topic, one with the content type, one with the idempotency key, then the payload. */
  @FuzzTest
  @DictionaryEntries({"devices/", "/telemetry", "/events", "/capabilities", "/command-status", "/reported", "application/json", "application/x-protobuf",
      "; charset=utf-8", "\"schema_version\":1", "\"device_id\":\"d1\"", "\"boot_id\":\"b\"", "\"device_seq\":", "\"observed_at\":", "\"metrics\":{",
      "\"event\":\"", "\"severity\":\"alarm\"", "\"data\":{", "2026-11-21T10:00:00.123Z", "9007199254740991", "9007199254740992", "1e999", "-0", "\\u0000", "\\ud800",
      "\\udc00", "\u00e9", "NaN", "\ufeff", "null", "true", "[[[[[[[[", "}}}}"})
  void whole(byte[] input) throws Exception {
    int first = indexOf(input, 0);
    int second = indexOf(input, first + 1);
    int third = indexOf(input, second + 1);
    Map<String, Object> headers = new HashMap<>();
    headers.put("CaravanTopic", text(input, 0, first));
    headers.put("CaravanContentType", text(input, first + 1, second));
    headers.put("CaravanIdempotencyKey", text(input, second + 1, third));
    byte[] body = third + 1 >= input.length ? new byte[0] : Arrays.copyOfRange(input, third + 1, input.length);
    check(body, headers);
  }

  /** Payloads alone, each as telemetry, event and reported state: no input is spent on finding the topic. */
  @FuzzTest
  @DictionaryEntries({"\"schema_version\":1", "\"device_id\":\"d1\"", "\"boot_id\":\"b\"", "\"device_seq\":", "\"observed_at\":", "\"metrics\":{", "\"event\":\"",
      "\"severity\":\"alarm\"", "\"data\":{", "2026-11-21T10:00:00.123Z", "+00:00", "9007199254740991", "1e999", "1E-999", "-0", "\\u0000", "\\ud800", "\\udc00",
      "\\/", "\u00e9", "NaN", "\ufeff", "null", "[[[[[[[[", "}}}}"})
  void json(byte[] body) throws Exception {
    for (String channel : new String[] {"telemetry", "events", "reported"}) {
      check(body, Map.of("CaravanTopic", HEAD + channel, "CaravanContentType", "application/json"));
    }
  }

  /** Protobuf: what is accepted says the same as the JSON it becomes. */
  @FuzzTest
  @DictionaryEntries({"temperature_c", "\\x08\\x01", "\\x12\\x02d1", "{\"a\":1}", "\\xff\\xff\\xff\\xff\\xff\\xff\\xff\\xff\\xff\\x01", "{\"a\":\"\\ud800\"}"})
  void protobuf(byte[] body) throws Exception {
    Record telemetry = check(body, Map.of("CaravanTopic", HEAD + "telemetry", "CaravanContentType", "application/x-protobuf"));
    if (telemetry != null) {
      Telemetry sent = Telemetry.parseFrom(body);
      JsonNode json = Invariant.STRICT.readTree(telemetry.body());
      same(json.path("metrics").size(), sent.getMetricsCount(), "metrics");
      for (Map.Entry<String, Double> each : sent.getMetricsMap().entrySet()) {
        same(json.path("metrics").get(each.getKey()).doubleValue() + 0.0, each.getValue() + 0.0, each.getKey());
      }
      numbered(telemetry, sent.hasBootId() ? sent.getBootId() : null, sent.getDeviceSeq());
    }
    Record event = check(body, Map.of("CaravanTopic", HEAD + "events", "CaravanContentType", "application/x-protobuf"));
    if (event != null) {
      Event sent = Event.parseFrom(body);
      JsonNode json = Invariant.STRICT.readTree(event.body());
      same(json.path("event").asText(), sent.getEvent(), "event");
      same(json.path("data").isMissingNode(), !sent.hasDataJson(), "data left out");
      numbered(event, sent.hasBootId() ? sent.getBootId() : null, sent.getDeviceSeq());
    }
  }

  private static void numbered(Record record, String boot, long seq) {
    same(record.bootId(), boot, "boot_id");
    same(record.deviceSeq(), boot == null ? 0L : seq, "device_seq");
  }

  /** @return what was accepted, or null */
  private static Record check(byte[] body, Map<String, Object> headers) throws Exception {
    double[] before = new double[1];
    Exchange exchange = bounded(body.length, PER_BYTE, () -> {
      before[0] = refusals();
      return template.request("direct:ingest", e -> {
        e.getMessage().setBody(body);
        e.getMessage().setHeaders(new HashMap<>(headers));
      });
    });
    double counted = before[0];
    if (exchange.getException() != null) {
      throw new AssertionError("neither accepted nor rejected", exchange.getException());
    }
    String type = headers.get("CaravanContentType").toString();
    if ("rejected".equals(exchange.getVariable("outcome"))) {
      Rejection rejection = exchange.getVariable("rejection", Rejection.class);
      same(refusals(), counted + 1, "counted");
      same(Reason.valueOf(rejection.reason().toUpperCase(java.util.Locale.ROOT)).toString(), rejection.reason(), "reason");
      message(rejection.error(), MAX_ERROR);
      that(!(exchange.getProperty(Exchange.EXCEPTION_CAUGHT) instanceof JsonValidationException) || exchange.getVariable("schema") != null,
          "called certain, and refused by json-validator: " + rejection.error());
      that(rejection.field() == null || rejection.field().length() <= MAX_ERROR, "field is bounded");
      that(Arrays.equals(rejection.body(), body.length > MAX_BYTES ? Arrays.copyOf(body, MAX_BYTES) : body), "the payload is kept as it came");
      if (rejection.reason().equals("malformed_json") && type.equals("application/json")) {
        that(!plainObject(body), "what Jackson reads and nothing speaks against was called malformed: " + rejection.error());
      }
      return null;
    }
    same(exchange.getVariable("outcome"), "durable", "outcome");
    same(refusals(), counted, "counted");
    Record record = exchange.getVariable("record", Record.class);
    that(record.messageKey().matches(KEY), "key " + record.messageKey());
    String text = StandardCharsets.UTF_8.newDecoder().decode(ByteBuffer.wrap(record.body())).toString();
    JsonNode tree;
    try {
      tree = Invariant.STRICT.readTree(record.body());
    } catch (NumberFormatException e) {
      throw new AssertionError("accepted with a number that cannot be read: " + text, e);
    }
    that(tree.isObject(), "an object");
    sqlite.check(text, tree);
    theCloudTakesIt(record, text);
    if (record.contentType().equals("application/json")) {
      that(Arrays.equals(record.body(), body), "JSON is kept byte for byte");
      if (record.bootId() != null) {
        same(tree.path("boot_id").textValue(), record.bootId(), "boot_id");
        same(tree.path("device_seq").longValue(), record.deviceSeq(), "device_seq");
      }
    } else {
      // The JSON it became, sent as JSON, is the same message.
      Map<String, Object> asJson = new HashMap<>(headers);
      asJson.put("CaravanContentType", "application/json");
      Record again = check(record.body(), asJson);
      that(again != null, "the JSON of a Protobuf message must be good too: " + text);
      same(again.bootId() == null ? "" : again.messageKey(), record.bootId() == null ? "" : record.messageKey(), "key");
    }
    return record;
  }

  /** A row that the cloud refused would hold up all rows behind it. */
  private static void theCloudTakesIt(Record record, String text) throws Exception {
    ByteArrayOutputStream bytes = new ByteArrayOutputStream();
    try (GZIPOutputStream gzip = new GZIPOutputStream(bytes)) {
      gzip.write(("{\"type\":\"batch\",\"log_id\":\"l\",\"lane\":\"live\",\"first_seq\":1,\"after\":0,\"last\":1,\"rows\":[{\"seq\":1,\"kind\":\""
          + record.kind() + "\",\"device_id\":\"" + record.deviceId() + "\",\"message_key\":\"" + record.messageKey().replace("\\", "\\\\").replace("\"", "\\\"")
          + "\",\"observed_at_ms\":" + record.observedAtMs() + ",\"body\":" + text + "}]}").getBytes(StandardCharsets.UTF_8));
    }
    try {
      frames.batch(bytes.toByteArray());
    } catch (FrameException e) {
      throw new AssertionError("accepted by the gateway, refused by the cloud: " + text, e);
    }
  }

  private static boolean plainObject(byte[] body) {
    try {
      String text = StandardCharsets.UTF_8.newDecoder().decode(ByteBuffer.wrap(body)).toString();
      return text.indexOf('\0') < 0 && !text.startsWith("\ufeff") && !LONG_EXPONENT.matcher(text).find() && fits(Invariant.STRICT.readTree(text));
    } catch (IOException | NumberFormatException e) {
      return false;
    }
  }

  /** Numbers of more characters than anybody reads, and halves of characters, are malformed by contract. */
  private static boolean fits(JsonNode node) {
    if (node.isMissingNode() || node.isNumber() && node.toString().length() > 300 || node.isTextual() && loneSurrogate(node.textValue())) {
      return false;
    }
    for (var fields = node.fields(); fields.hasNext();) {
      var field = fields.next();
      if (loneSurrogate(field.getKey())) {
        return false;
      }
    }
    for (JsonNode child : node) {
      if (!fits(child)) {
        return false;
      }
    }
    return true;
  }

  private static double refusals() {
    return METERS.getMeters().stream().filter(m -> m.getId().getName().contains("rejected"))
        .mapToDouble(m -> m.measure().iterator().next().getValue()).sum();
  }

  private static int indexOf(byte[] input, int from) {
    for (int i = Math.max(0, from); i < input.length; i++) {
      if (input[i] == '\n') {
        return i;
      }
    }
    return input.length;
  }

  private static String text(byte[] input, int from, int to) {
    return from >= to ? "" : new String(input, from, to - from, StandardCharsets.UTF_8);
  }
}
