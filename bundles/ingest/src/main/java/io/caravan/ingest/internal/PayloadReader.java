// SPDX-License-Identifier: Apache-2.0
package io.caravan.ingest.internal;

import com.fasterxml.jackson.core.JsonFactory;
import com.fasterxml.jackson.core.JsonParser;
import com.fasterxml.jackson.core.JsonProcessingException;
import com.fasterxml.jackson.core.JsonToken;
import com.fasterxml.jackson.core.StreamReadConstraints;
import com.fasterxml.jackson.core.StreamReadFeature;
import io.caravan.ingest.Reason;
import io.caravan.ingest.RejectedException;
import java.io.IOException;

/**
 * One pass over a payload: that it is strict JSON within limits, and the few fields that make a record. The rest is the
 * JSON Schema's.
 *
 * <p>The whole text is read before a field is judged: malformed beats wrong version beats wrong device beats wrong field.
 */
public final class PayloadReader {
  static final int MAX_DEPTH = 32;
  private static final int MAX_NUMBER = 300;
  private static final int MAX_EXPONENT_DIGITS = 3;
  private static final long MAX_SEQ = (1L << 53) - 1;
  private static final JsonFactory JSON = JsonFactory.builder()
      .enable(StreamReadFeature.STRICT_DUPLICATE_DETECTION)
      // Names come from devices: interning them would fill the JVM's table of strings.
      .disable(JsonFactory.Feature.INTERN_FIELD_NAMES)
      .streamReadConstraints(StreamReadConstraints.builder().maxNestingDepth(MAX_DEPTH + 8).maxNumberLength(MAX_NUMBER + 100).build())
      .build();

  private final Draft draft;
  private final JsonParser parser;
  /** Null: json-validator judges. */
  private final Shape.Walk shape;
  private RejectedException version;
  private RejectedException device;
  private RejectedException field;
  private String bootId;
  private boolean numbered;

  private PayloadReader(Draft draft, JsonParser parser, Shape shape) {
    this.draft = draft;
    this.parser = parser;
    this.shape = shape == null ? null : new Shape.Walk(shape);
  }

  /**
   * Fills the draft from its original.
   *
   * @param shape of the kind's schema; null: none
   */
  public static void read(Draft draft, Shape shape) throws RejectedException {
    draft.json = draft.contentType.equals(Draft.PROTOBUF) ? Protobuf.toJson(draft) : draft.original;
    text(draft.json);
    try (JsonParser parser = JSON.createParser(draft.json)) {
      new PayloadReader(draft, parser, shape).read();
    } catch (JsonProcessingException e) {
      throw malformed(e.getOriginalMessage() + (e.getLocation() == null ? ""
          : " at line " + e.getLocation().getLineNr() + ", column " + e.getLocation().getColumnNr()));
    } catch (IOException | IllegalStateException e) {
      throw malformed(e.getMessage());
    }
  }

  /** Checks that a text is one JSON object under the same rules. */
  static void checkObject(byte[] json, String pointer) throws RejectedException {
    Draft nobody = new Draft("", 0, 0, "", "", json);
    nobody.kind = "data";
    nobody.json = json;
    try (JsonParser parser = JSON.createParser(json)) {
      text(json);
      new PayloadReader(nobody, parser, null).walk();
    } catch (RejectedException e) {
      throw e.reason() == Reason.TOO_DEEP ? e : noObject(pointer, e);
    } catch (IOException | IllegalStateException e) {
      throw noObject(pointer, e);
    }
  }

  private static RejectedException noObject(String pointer, Exception why) {
    return new RejectedException(Reason.SCHEMA_VIOLATION, pointer, "must be a JSON object: " + why.getMessage());
  }

  private static void text(byte[] json) throws RejectedException {
    if (!Text.utf8(json)) {
      throw new RejectedException(Reason.NOT_UTF8, null, "payload is not well-formed UTF-8");
    }
    if (json.length == 0) {
      throw malformed("payload is empty");
    }
    if (Text.byteOrderMark(json)) {
      throw malformed("payload begins with a byte order mark");
    }
    int nul = Text.nul(json);
    if (nul >= 0) {
      throw malformed("NUL at byte " + nul);
    }
  }

  private void read() throws IOException, RejectedException {
    walk();
    if (version != null) {
      throw version;
    }
    if (device != null) {
      throw device;
    }
    boolean modelled = Draft.MODELLED.contains(draft.kind);
    if ((bootId != null) != numbered) {
      violation(bootId != null ? "/device_seq" : "/boot_id", "boot_id and device_seq come only together");
    }
    if (modelled && field != null) {
      throw field;
    }
    // The other kinds are kept as they are: numbered only if both fields are as they should be.
    if (field == null && numbered) {
      draft.bootId = bootId;
    } else {
      draft.deviceSeq = 0;
    }
    draft.valid = shape != null && shape.certain();
  }

  private void walk() throws IOException, RejectedException {
    JsonToken token = parser.nextToken();
    if (token == null) {
      throw malformed("payload is blank");
    }
    if (token != JsonToken.START_OBJECT) {
      if (token == JsonToken.START_ARRAY) {
        // To the end all the same: what is malformed or too deep says so.
        skipArray();
      }
      throw new RejectedException(Reason.SCHEMA_VIOLATION, "", "payload must be a JSON object");
    }
    judge(token);
    int depth = 1;
    while (depth > 0) {
      token = parser.nextToken();
      if (token == null) {
        throw malformed("payload ends within the object");
      }
      judge(token);
      switch (token) {
        case START_OBJECT, START_ARRAY -> depth = deeper(depth);
        case END_OBJECT, END_ARRAY -> depth--;
        case FIELD_NAME -> {
          if (depth == 1) {
            String name = parser.currentName();
            token = parser.nextToken();
            if (token != null) {
              judge(token);
            }
            top(name, token);
            if (token == JsonToken.START_OBJECT || token == JsonToken.START_ARRAY) {
              depth = deeper(depth);
            }
          }
        }
        case VALUE_NUMBER_FLOAT, VALUE_NUMBER_INT -> finite();
        default -> { }
      }
    }
    if (parser.nextToken() != null) {
      throw malformed("something follows the object at column " + parser.currentTokenLocation().getColumnNr());
    }
    int lone = Text.loneSurrogate(draft.json);
    if (lone >= 0) {
      throw malformed("escaped half of a character at byte " + lone);
    }
  }

  private void judge(JsonToken token) throws IOException {
    if (shape != null) {
      shape.token(token, parser);
    }
  }

  private void skipArray() throws IOException, RejectedException {
    for (int depth = 1; depth > 0;) {
      JsonToken token = parser.nextToken();
      if (token == null) {
        throw malformed("payload ends within the array");
      }
      if (token.isStructStart()) {
        depth = deeper(depth);
      } else if (token.isStructEnd()) {
        depth--;
      }
    }
  }

  private static int deeper(int depth) throws RejectedException {
    if (depth == MAX_DEPTH) {
      throw new RejectedException(Reason.TOO_DEEP, null, "payload has more than " + MAX_DEPTH + " levels");
    }
    return depth + 1;
  }

  /** A double overflows to Infinity only with an exponent, or with hundreds of digits. */
  private void finite() throws IOException, RejectedException {
    int length = parser.getTextLength();
    boolean suspect = length > MAX_NUMBER;
    boolean extreme = false;
    if (parser.currentToken() == JsonToken.VALUE_NUMBER_FLOAT) {
      char[] text = parser.getTextCharacters();
      int end = parser.getTextOffset() + length;
      for (int i = parser.getTextOffset(); i < end; i++) {
        if ((text[i] | 0x20) == 'e') {
          suspect = true;
          extreme = extreme(text, i + 1, end);
          break;
        }
      }
    }
    if (extreme && !Draft.MODELLED.contains(draft.kind)) {
      // Kept as it is, it would be met by readers that have no such number: decimals, and the cloud's database.
      throw malformed("a number has an exponent of more than " + MAX_EXPONENT_DIGITS + " digits");
    }
    if (suspect && (extreme || length > MAX_NUMBER || !Double.isFinite(parser.getDoubleValue()))) {
      violation(parser.getParsingContext().pathAsPointer().toString(), "number must be finite and have at most " + MAX_NUMBER + " characters");
    }
  }

  private static boolean extreme(char[] text, int from, int end) {
    int at = from;
    while (at < end && (text[at] == '+' || text[at] == '-' || text[at] == '0')) {
      at++;
    }
    return end - at > MAX_EXPONENT_DIGITS;
  }

  private void top(String name, JsonToken token) throws IOException, RejectedException {
    if (token == JsonToken.VALUE_NUMBER_FLOAT || token == JsonToken.VALUE_NUMBER_INT) {
      finite();
    }
    switch (name) {
      case "schema_version" -> {
        if (token == JsonToken.VALUE_NUMBER_INT && Draft.MODELLED.contains(draft.kind) && !parser.getText().equals("1")) {
          version = new RejectedException(Reason.UNSUPPORTED_SCHEMA_VERSION, "/schema_version",
              "schema_version [" + cut(parser.getText()) + "] must be 1");
        }
      }
      case "device_id" -> {
        if (token == JsonToken.VALUE_STRING && !parser.getText().equals(draft.deviceId)) {
          device = new RejectedException(Reason.DEVICE_ID_MISMATCH, "/device_id",
              "device_id [" + cut(parser.getText()) + "] must be that of the topic [" + draft.deviceId + "]");
        }
      }
      case "boot_id" -> {
        bootId = token == JsonToken.VALUE_STRING ? parser.getText() : "";
        if (!validBoot(bootId)) {
          violation("/boot_id", "must be text of 1 to 64 characters out of A-Z a-z 0-9 . _ -");
        }
      }
      case "device_seq" -> {
        numbered = true;
        draft.deviceSeq = token == JsonToken.VALUE_NUMBER_INT && parser.getTextLength() <= 16 ? parser.getLongValue() : 0;
        if (draft.deviceSeq < 1 || draft.deviceSeq > MAX_SEQ) {
          violation("/device_seq", "must be a whole number from 1 to " + MAX_SEQ);
        }
      }
      case "observed_at" -> observed(token);
      default -> { }
    }
  }

  private void observed(JsonToken token) throws IOException {
    draft.observed = true;
    if (token == JsonToken.VALUE_NUMBER_INT) {
      // More digits than a long has are as implausible as its largest value.
      draft.observedAtMs = parser.getTextLength() <= 18 ? parser.getLongValue() : Long.MAX_VALUE;
    } else {
      draft.observedAtMs = token == JsonToken.VALUE_STRING ? Text.rfc3339(parser.getText()) : Long.MIN_VALUE;
      if (draft.observedAtMs == Long.MIN_VALUE) {
        violation("/observed_at", "must be an RFC 3339 time or whole milliseconds since 1970");
      }
    }
  }

  private void violation(String pointer, String rule) {
    if (field == null) {
      field = new RejectedException(Reason.SCHEMA_VIOLATION, pointer, rule);
    }
  }

  private static boolean validBoot(String id) {
    if (id.isEmpty() || id.length() > 64) {
      return false;
    }
    for (int i = 0; i < id.length(); i++) {
      char c = id.charAt(i);
      if (!Draft.alphanumeric(c) && c != '.' && c != '_' && c != '-') {
        return false;
      }
    }
    return true;
  }

  private static String cut(String text) {
    return text.length() > 64 ? text.substring(0, 64) + "..." : text;
  }

  static RejectedException malformed(String why) {
    return new RejectedException(Reason.MALFORMED_JSON, null, "malformed JSON: " + why);
  }
}
