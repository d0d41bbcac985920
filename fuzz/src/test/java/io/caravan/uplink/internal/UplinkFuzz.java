// SPDX-License-Identifier: Apache-2.0
package io.caravan.uplink.internal;

import static io.caravan.fuzz.Invariant.bounded;
import static io.caravan.fuzz.Invariant.message;
import static io.caravan.fuzz.Invariant.same;
import static io.caravan.fuzz.Invariant.that;

import com.code_intelligence.jazzer.junit.DictionaryEntries;
import com.code_intelligence.jazzer.junit.FuzzTest;
import com.fasterxml.jackson.core.JsonProcessingException;
import com.fasterxml.jackson.databind.JsonNode;
import io.caravan.fuzz.Invariant;
import io.caravan.fuzz.Sqlite;
import io.caravan.runtime.Traceparent;
import io.caravan.runtime.Traces;
import io.caravan.uplink.FrameException;
import io.micrometer.core.instrument.simple.SimpleMeterRegistry;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.math.BigDecimal;
import java.nio.charset.StandardCharsets;
import java.util.Iterator;
import java.util.List;
import java.util.Map;
import java.util.zip.GZIPOutputStream;
import org.apache.camel.impl.DefaultCamelContext;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.BeforeAll;

/** Frames of the one WebSocket: what the cloud takes of gateways, and a gateway of the cloud. */
class UplinkFuzz {
  private static final int MAX_INFLATED = 1 << 20;
  private static final int MAX_ROWS = 100;
  private static final int MAX_MESSAGE = 500;
  private static final long PER_BYTE = 2_000;
  private static final SimpleMeterRegistry METERS = new SimpleMeterRegistry();
  private static Frames frames;
  private static CommandFrames commands;
  private static Sqlite sqlite;

  @BeforeAll
  static void start() throws Exception {
    frames = new Frames(MAX_INFLATED, MAX_ROWS, Traces.of(new DefaultCamelContext()));
    commands = new CommandFrames("cloud", METERS);
    sqlite = new Sqlite();
  }

  @AfterAll
  static void stop() throws Exception {
    sqlite.close();
  }

  /** Cloud, binary frame: as it comes off the line. */
  @FuzzTest
  void gzip(byte[] frame) throws Exception {
    batch(frame, frame.length);
  }

  /** Cloud, binary frame: its text, compressed here, so that what a mutation changes is the text. */
  @FuzzTest
  @DictionaryEntries({"\"type\":\"batch\"", "\"log_id\":\"l1\"", "\"lane\":\"live\"", "\"lane\":\"historical\"", "\"first_seq\":", "\"after\":", "\"last\":", "\"rows\":[",
      "\"seq\":", "\"kind\":\"command\"", "\"device_id\":\"d1\"", "\"message_key\":\"", "\"observed_at_ms\":", "\"body\":", "\"trace_context\":",
      "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "9223372036854775807", "-9223372036854775808", "1e999999999", "1e-401", "1e400", "\\ud800", "\\u0000", "[[[[[[[["})
  void batch(byte[] text) throws Exception {
    ByteArrayOutputStream gzip = new ByteArrayOutputStream();
    try (GZIPOutputStream out = new GZIPOutputStream(gzip)) {
      out.write(text);
    }
    Frames.Batch read = batch(gzip.toByteArray(), text.length);
    if (read != null && read.traces().isEmpty() && !read.text().contains("trace_context")) {
      String came = new String(text, StandardCharsets.UTF_8);
      if (!read.text().equals(came)) {
        sameDoubles(Invariant.STRICT.readTree(read.text()), Invariant.STRICT.readTree(came));
      }
    }
  }

  /** The text goes on as it came, but for numbers that no double has. */
  private static void sameDoubles(JsonNode now, JsonNode came) {
    if (now.isNumber() && came.isNumber()) {
      same(now.doubleValue() + 0.0, came.doubleValue() + 0.0, "number");
    } else if (!came.isContainerNode()) {
      same(now, came, "value");
    }
    same(now.size(), came.size(), "size");
    for (Iterator<String> names = came.fieldNames(); names.hasNext();) {
      String name = names.next();
      sameDoubles(now.path(name), came.path(name));
    }
    for (int i = 0; came.isArray() && i < came.size(); i++) {
      sameDoubles(now.get(i), came.get(i));
    }
  }

  /** A database that has decimals writes them so. */
  private static void written(JsonNode node) {
    if (node.isBigDecimal()) {
      BigDecimal value = node.decimalValue();
      that(Math.abs((long) value.scale()) + value.precision() <= 2_000 && value.toPlainString().length() <= 1_000, "a number of few characters in full");
    }
    node.forEach(UplinkFuzz::written);
  }

  private static Frames.Batch batch(byte[] frame, int length) throws Exception {
    Frames.Batch read;
    try {
      // What it inflates to is bounded apart from what came.
      read = bounded(Math.max(length, MAX_INFLATED / 8), PER_BYTE, () -> frames.batch(frame));
    } catch (FrameException e) {
      same(e.reason(), "bad_frame", "reason");
      message(e.getMessage(), MAX_MESSAGE);
      return null;
    }
    JsonNode tree = Invariant.STRICT.readTree(read.text());
    sqlite.check(read.text(), tree);
    written(tree.path("rows"));
    same(read.rows(), tree.path("rows").size(), "rows");
    that(read.rows() >= 1 && read.rows() <= MAX_ROWS, "rows within the limit");
    that(read.firstSeq() >= 1 && read.after() >= read.firstSeq() - 1 && read.last() > read.after(), "range");
    long seq = read.after();
    int said = 0;
    for (JsonNode row : tree.path("rows")) {
      that(row.path("seq").longValue() > seq, "order of seq");
      seq = row.path("seq").longValue();
      that(Frames.isId(row.path("device_id").textValue()), "device id");
      String trace = row.path("trace_context").textValue();
      that(trace == null || trace.equals(Traceparent.valid(trace)), "a trace context that is none is taken out");
      said += row.path("kind").textValue().equals("command") || row.path("kind").textValue().equals("twin") ? 1 : 0;
    }
    same(seq, read.last(), "last");
    same(said, read.commands(), "rows about commands");
    return read;
  }

  /** Cloud, text frame: hello, backlog and whatever else a gateway says. */
  @FuzzTest
  @DictionaryEntries({"\"type\":\"hello\"", "\"protocol\":\"caravan.v1\"", "\"gateway_id\":\"g1\"", "\"version\":\"1\"", "\"log_id\":\"l1\"", "\"ranges\":[", "\"first_seq\":1",
      "\"acked_seq\":0", "\"features\":[\"commands\"]", "\"type\":\"backlog\"", "\"rows\":", "1e999999999", "9223372036854775808", "[[[[[[[[", "\\ud800"})
  void hello(byte[] bytes) throws Exception {
    String text = new String(bytes, StandardCharsets.UTF_8);
    JsonNode node;
    try {
      node = bounded(bytes.length, PER_BYTE, () -> frames.control(text));
    } catch (FrameException e) {
      message(e.getMessage(), MAX_MESSAGE);
      return;
    }
    that(node.isObject() && node.path("type").isTextual(), "an object with a type");
    try {
      Frames.Hello hello = frames.hello(node, "g1");
      JsonNode ranges = Invariant.STRICT.readTree(hello.ranges());
      sqlite.check(hello.ranges(), ranges);
      same(ranges, Invariant.STRICT.readTree(text).path("ranges"), "ranges");
      that(hello.logId().matches("[A-Za-z0-9-]{1,64}") && hello.version().length() <= 64 && hello.features().size() <= 32, "bounded");
    } catch (FrameException e) {
      message(e.getMessage(), MAX_MESSAGE);
    }
    try {
      that(frames.rows(node) >= 0, "a backlog is not negative");
    } catch (FrameException e) {
      message(e.getMessage(), MAX_MESSAGE);
    }
  }

  /** Gateway, text frame with commands: each is handed on bounded, or dropped and counted. */
  @FuzzTest
  @DictionaryEntries({"\"type\":\"command\"", "\"type\":\"command-cancel\"", "\"commands\":[", "\"ids\":[", "\"id\":\"c1\"", "\"device_id\":\"d1\"", "\"name\":\"led\"",
      "\"arguments\":{", "\"units\":{", "\"precondition\":{", "\"ttl_ms\":", "\"issued_by\":\"", "\"by\":\"", "\"trace_context\":\"", "1e999999999", "0.1e-999999999", "\\ud83d\\ude00",
      "\\u0085", "\\u202e", "[[[[[[[["})
  void command(byte[] bytes) throws Exception {
    String text = new String(bytes, StandardCharsets.UTF_8);
    JsonNode frame;
    try {
      frame = Connection.frame(text);
    } catch (JsonProcessingException e) {
      return;
    }
    if (!frame.isObject() || !commands.isOne(frame)) {
      return;
    }
    double[] counted = new double[1];
    Map<String, Object> read = bounded(bytes.length, PER_BYTE, () -> {
      counted[0] = dropped();
      return commands.read(text, frame);
    });
    double before = counted[0];
    JsonNode list = frame.path("commands");
    JsonNode ids = frame.path("ids");
    if (read == null) {
      that(dropped() == before + 1 || (frame.path("type").asText().equals("command") ? list : ids).isEmpty(), "what is dropped is counted");
      return;
    }
    if (read.get("ids") instanceof List<?> cancelled) {
      that(!cancelled.isEmpty() && cancelled.size() <= CommandFrames.LIST_MAX && cancelled.stream().allMatch(id -> id.toString().matches("[A-Za-z0-9._-]{1,64}")), "ids");
      person(read.get("by"));
      that(cancelled.size() == ids.size() || dropped() == before + 1, "what is dropped is counted");
      return;
    }
    List<?> items = (List<?>) read.get("commands");
    that(!items.isEmpty() && items.size() <= CommandFrames.LIST_MAX && (items.size() == list.size() || dropped() == before + 1), "what is dropped is counted");
    for (Object item : items) {
      Map<?, ?> command = (Map<?, ?>) item;
      that(command.get("id").toString().matches("[A-Za-z0-9._-]{1,64}") && Frames.isId((String) command.get("device_id")), "ids");
      person(command.get("issued_by"));
      that(command.containsKey("problem") || command.get("name") != null && command.get("ttl_ms") instanceof Long, "whole, or with what is wrong");
      for (String field : List.of("arguments", "units", "precondition")) {
        if (command.get(field) != null) {
          that(Connection.frame(command.get(field).toString()).isObject(), field + " is JSON again: " + command.get(field));
        }
      }
    }
  }

  private static void person(Object by) {
    String text = (String) by;
    that(!text.isBlank() && text.length() <= 128, "who is somebody");
    that(!Invariant.loneSurrogate(text), "who has no half characters");
    that(text.chars().noneMatch(Character::isISOControl), "who cannot steer a terminal");
  }

  private static double dropped() {
    return METERS.getMeters().stream().mapToDouble(m -> m.measure().iterator().next().getValue()).sum();
  }
}
