// SPDX-License-Identifier: Apache-2.0
package io.caravan.desk.internal;

import com.fasterxml.jackson.core.JsonFactory;
import com.fasterxml.jackson.core.JsonProcessingException;
import com.fasterxml.jackson.core.StreamReadConstraints;
import com.fasterxml.jackson.core.StreamReadFeature;
import com.fasterxml.jackson.databind.DeserializationFeature;
import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.SerializationFeature;
import com.fasterxml.jackson.databind.json.JsonMapper;
import com.fasterxml.jackson.databind.node.JsonNodeFactory;
import com.fasterxml.jackson.databind.node.ObjectNode;
import io.caravan.desk.CommandDesk.Request;
import io.caravan.desk.DeskException;
import io.caravan.runtime.Config;
import java.nio.charset.StandardCharsets;
import java.security.MessageDigest;
import java.security.NoSuchAlgorithmException;
import java.util.TreeMap;
import java.util.UUID;
import java.util.concurrent.ThreadLocalRandom;
import java.util.regex.Pattern;

/** What a command must look like before it is kept; what a device can do is the gateway's to know. Thread-safe. */
final class Rules {
  static final int DEPTH = 32;
  static final int BY = 128;

  private static final Pattern ID = Pattern.compile("(?!.*\\.\\.)[A-Za-z0-9][A-Za-z0-9._-]{0,63}");
  private static final Pattern NAME = Pattern.compile("[A-Za-z][A-Za-z0-9_.-]{0,63}");
  private static final Pattern TRACE = Pattern.compile("[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}");
  private static final Pattern UNPRINTABLE = Pattern.compile("[\\p{Cntrl}]");

  static final JsonMapper JSON = JsonMapper.builder(JsonFactory.builder()
          .streamReadConstraints(StreamReadConstraints.builder().maxNestingDepth(DEPTH).maxNumberLength(64).build())
          .enable(StreamReadFeature.STRICT_DUPLICATE_DETECTION).build())
      .enable(DeserializationFeature.FAIL_ON_TRAILING_TOKENS)
      .enable(DeserializationFeature.USE_BIG_DECIMAL_FOR_FLOATS)
      .enable(SerializationFeature.ORDER_MAP_ENTRIES_BY_KEYS)
      // 1.50 stays what was sent.
      .nodeFactory(JsonNodeFactory.withExactBigDecimals(true))
      .build();

  /** A command ready to be kept; texts are canonical JSON. */
  record Checked(String gatewayId, String deviceId, String id, String name, String arguments, String units, String precondition,
      byte[] hash, long createdAtMs, long expiresAtMs, String origin, String issuedBy, String traceContext) {}

  private final Config config;

  Rules(Config config) {
    this.config = config;
  }

  /** @throws DeskException {@code bad_request} */
  Checked check(Request r, long nowMs) {
    id("/gateway_id", r.gatewayId());
    id("/device_id", r.deviceId());
    String id = r.id() == null ? newId(nowMs) : r.id();
    id("/id", id);
    if (r.name() == null || !NAME.matcher(r.name()).matches()) {
      throw bad("/name", "name [" + shown(r.name()) + "] must be the name of a capability: a letter, then letters, digits, _ . and -, at most 64");
    }
    String arguments = object("/arguments", r.arguments() == null ? "{}" : r.arguments());
    String units = r.units() == null ? null : object("/units", r.units());
    String precondition = r.precondition() == null ? null : object("/precondition", r.precondition());
    long bytes = bytes(arguments) + bytes(units) + bytes(precondition);
    long most = config.getLong("command.max.bytes");
    if (bytes > most) {
      throw bad("/arguments", "arguments, units and precondition have " + bytes + " bytes, more than command.max.bytes (" + most + ")");
    }
    if (r.issuedBy() == null || r.issuedBy().isBlank() || r.issuedBy().length() > BY || UNPRINTABLE.matcher(r.issuedBy()).find()) {
      throw bad("/issued_by", "issued_by must be 1 to " + BY + " printable characters");
    }
    // A traceparent that is none is dropped, as W3C has it.
    String trace = r.traceContext() != null && TRACE.matcher(r.traceContext()).matches() ? r.traceContext() : null;
    return new Checked(r.gatewayId(), r.deviceId(), id, r.name(), arguments, units, precondition,
        hash(r.deviceId(), r.name(), arguments, units, precondition), nowMs, expiry(r, nowMs), r.origin(), r.issuedBy(), trace);
  }

  private long expiry(Request r, long nowMs) {
    if (r.ttlMs() != null && r.expiresAtMs() != null) {
      throw bad("/expires_at", "give ttl_ms or expires_at, not both");
    }
    long most = config.getLong("command.ttl.max.ms");
    String field = r.expiresAtMs() != null ? "/expires_at" : "/ttl_ms";
    long ttl = r.expiresAtMs() != null ? r.expiresAtMs() - nowMs : r.ttlMs() != null ? r.ttlMs() : config.getLong("command.ttl.default.ms");
    if (ttl < 1 || ttl > most) {
      throw bad(field, "a command must expire 1 to " + most + " ms (command.ttl.max.ms) from now, not " + ttl + " ms");
    }
    return nowMs + ttl;
  }

  /** @throws DeskException it is no id of docs/contract.md section 1 */
  static void id(String field, String id) {
    if (id == null || !ID.matcher(id).matches()) {
      throw bad(field, field.substring(1) + " [" + shown(id)
          + "] must be 1 to 64 characters out of A-Z a-z 0-9 . _ -, first a letter or digit, without ..");
    }
  }

  private static String object(String field, String text) {
    JsonNode node;
    try {
      node = JSON.readTree(text);
    } catch (JsonProcessingException e) {
      throw bad(field, field.substring(1) + " must be a JSON object, at most " + DEPTH + " levels deep: " + e.getOriginalMessage());
    } catch (NumberFormatException e) {
      // What Jackson throws at an exponent of more than ten digits.
      throw bad(field, field.substring(1) + " must not have a number with such an exponent");
    }
    if (!(node instanceof ObjectNode)) {
      throw bad(field, field.substring(1) + " must be a JSON object");
    }
    return canonical(node);
  }

  /** The same object is the same text, whatever the order of its members. */
  static String canonical(JsonNode node) {
    try {
      return JSON.writeValueAsString(sorted(node));
    } catch (JsonProcessingException e) {
      throw new IllegalStateException(e);
    }
  }

  private static JsonNode sorted(JsonNode node) {
    if (node instanceof ObjectNode object) {
      TreeMap<String, JsonNode> members = new TreeMap<>();
      object.fields().forEachRemaining(m -> members.put(m.getKey(), sorted(m.getValue())));
      return JSON.getNodeFactory().objectNode().setAll(members);
    }
    if (node.isArray()) {
      var array = JSON.getNodeFactory().arrayNode();
      node.forEach(element -> array.add(sorted(element)));
      return array;
    }
    return node;
  }

  private static byte[] hash(String... parts) {
    try {
      MessageDigest digest = MessageDigest.getInstance("SHA-256");
      for (String part : parts) {
        byte[] bytes = part == null ? new byte[0] : part.getBytes(StandardCharsets.UTF_8);
        digest.update((part == null ? "-" : bytes.length + ":").getBytes(StandardCharsets.US_ASCII));
        digest.update(bytes);
      }
      return digest.digest();
    } catch (NoSuchAlgorithmException e) {
      throw new IllegalStateException(e);
    }
  }

  private static long bytes(String text) {
    return text == null ? 0 : text.getBytes(StandardCharsets.UTF_8).length;
  }

  /** UUIDv7: ordered by time, so that the index grows at its end. */
  static String newId(long nowMs) {
    ThreadLocalRandom random = ThreadLocalRandom.current();
    return new UUID(nowMs << 16 | 0x7000 | random.nextInt(0x1000), 0x8000000000000000L | random.nextLong() >>> 2).toString();
  }

  static DeskException bad(String field, String message) {
    return new DeskException("bad_request", field, message);
  }

  static String shown(String text) {
    if (text == null) {
      return "";
    }
    String clean = UNPRINTABLE.matcher(text).replaceAll("?");
    return clean.length() > 80 ? clean.substring(0, 80) + "..." : clean;
  }
}
