// SPDX-License-Identifier: Apache-2.0
package io.caravan.devices.internal;

import com.fasterxml.jackson.core.JsonFactory;
import com.fasterxml.jackson.core.JsonFactoryBuilder;
import com.fasterxml.jackson.core.JsonGenerator;
import com.fasterxml.jackson.core.JsonParser;
import com.fasterxml.jackson.core.JsonToken;
import com.fasterxml.jackson.core.StreamReadConstraints;
import com.fasterxml.jackson.core.StreamReadFeature;
import io.caravan.devices.Devices.Signing;
import java.io.IOException;
import java.io.StringWriter;

/** What the fields of a device must be. Messages say which value broke which rule. */
final class Rules {
  static final int MAX_ID = 64;
  private static final int MAX_NOTE = 200;
  private static final int MAX_CAPABILITIES = 16_384;
  private static final int MAX_MESSAGES_PER_S = 1_000_000;
  private static final long MAX_BYTES_PER_S = 1L << 40;
  private static final int MAX_SHOWN = 80;

  /** Strict, as the payloads are: no doubles, no depth that costs a stack. */
  static final JsonFactory JSON = new JsonFactoryBuilder().enable(StreamReadFeature.STRICT_DUPLICATE_DETECTION)
      .disable(JsonFactory.Feature.INTERN_FIELD_NAMES)
      .streamReadConstraints(StreamReadConstraints.builder().maxNestingDepth(32).maxStringLength(MAX_CAPABILITIES).maxNumberLength(64).build())
      .build();

  private Rules() {}

  /** docs/contract.md section 1. */
  static boolean isId(String id) {
    if (id == null || id.isEmpty() || id.length() > MAX_ID || id.contains("..")) {
      return false;
    }
    for (int i = 0; i < id.length(); i++) {
      char c = id.charAt(i);
      boolean alphanumeric = c >= 'A' && c <= 'Z' || c >= 'a' && c <= 'z' || c >= '0' && c <= '9';
      if (!alphanumeric && (i == 0 || c != '.' && c != '_' && c != '-')) {
        return false;
      }
    }
    return true;
  }

  /** @throws IllegalArgumentException it cannot be the id of a device */
  static String id(String id) {
    if (id != null && id.startsWith(Secrets.PREFIX)) {
      // Not shown: it is probably a token in the wrong place.
      throw new IllegalArgumentException("device id [" + Secrets.PREFIX + "...] must not begin as a token does: is it one?");
    }
    if (!isId(id)) {
      throw new IllegalArgumentException("device id [" + shown(id) + "] must be 1 to 64 characters out of A-Z a-z 0-9 . _ -, "
          + "the first one a letter or digit, without two dots in a row");
    }
    if (id.equals("gateway")) {
      throw new IllegalArgumentException("device id [gateway] is the gateway's own name at a broker: choose another one");
    }
    return id;
  }

  /** @throws IllegalArgumentException a controller whose messages must be signed */
  static Entry controls(Entry entry) {
    if (entry.controller() && entry.signing() == Signing.REQUIRE) {
      throw new IllegalArgumentException("device [" + entry.id() + "] cannot be a controller with signing [require]: control messages carry no "
          + "signature; device:signing " + entry.id() + " accept, or device:controller " + entry.id() + " off");
    }
    return entry;
  }

  static String note(String note) {
    if (note == null || note.isBlank()) {
      return null;
    }
    if (note.length() > MAX_NOTE || note.chars().anyMatch(c -> Character.isISOControl(c) || Character.isSurrogate((char) c))) {
      throw new IllegalArgumentException("note [" + shown(note) + "] must be at most " + MAX_NOTE + " characters without control characters");
    }
    return note.strip();
  }

  static Integer messagesPerS(Integer value) {
    if (value != null && (value < 0 || value > MAX_MESSAGES_PER_S)) {
      throw new IllegalArgumentException("messages per second [" + value + "] must be 0 (no limit) to " + MAX_MESSAGES_PER_S);
    }
    return value;
  }

  static Long bytesPerS(Long value) {
    if (value != null && (value < 0 || value > MAX_BYTES_PER_S)) {
      throw new IllegalArgumentException("bytes per second [" + value + "] must be 0 (no limit) to " + MAX_BYTES_PER_S);
    }
    return value;
  }

  /** @return compact; null if nothing was declared */
  static String capabilities(String json) {
    if (json == null || json.isBlank()) {
      return null;
    }
    if (json.length() > MAX_CAPABILITIES) {
      throw new IllegalArgumentException("capabilities of [" + json.length() + "] characters must have at most " + MAX_CAPABILITIES);
    }
    StringWriter compact = new StringWriter();
    try (JsonParser in = JSON.createParser(json); JsonGenerator out = JSON.createGenerator(compact)) {
      if (in.nextToken() != JsonToken.START_OBJECT) {
        throw new IllegalArgumentException("capabilities [" + shown(json) + "] must be a JSON object");
      }
      out.copyCurrentStructure(in);
      if (in.nextToken() != null) {
        throw new IllegalArgumentException("capabilities [" + shown(json) + "] must be one JSON object and nothing behind it");
      }
    } catch (IOException e) {
      throw new IllegalArgumentException("capabilities [" + shown(json) + "] must be a JSON object: " + firstLine(e), e);
    }
    return compact.toString();
  }

  static void validity(Long notBeforeMs, Long notAfterMs, long nowMs) {
    if (notBeforeMs != null && notBeforeMs < 0) {
      throw new IllegalArgumentException("not before [" + notBeforeMs + "] must be a time since 1970");
    }
    if (notAfterMs != null && notAfterMs <= Math.max(nowMs, notBeforeMs == null ? 0 : notBeforeMs)) {
      throw new IllegalArgumentException("not after [" + java.time.Instant.ofEpochMilli(notAfterMs) + "] must be later than now"
          + (notBeforeMs == null ? "" : " and than not before") + ", else the token would never be valid");
    }
  }

  /** Foreign text for a message or a line of the log: short, printable, one line. */
  static String shown(String text) {
    if (text == null) {
      return "";
    }
    StringBuilder shown = new StringBuilder();
    for (int i = 0; i < text.length() && i < MAX_SHOWN; i++) {
      char c = text.charAt(i);
      shown.append(c < ' ' || c > '~' ? '?' : c);
    }
    return text.length() > MAX_SHOWN ? shown + "..." : shown.toString();
  }

  private static String firstLine(IOException e) {
    return shown(String.valueOf(e.getMessage()).lines().findFirst().orElse(""));
  }
}
