// SPDX-License-Identifier: Apache-2.0
package io.caravan.commands.internal;

import com.fasterxml.jackson.core.JsonFactory;
import com.fasterxml.jackson.core.JsonProcessingException;
import com.fasterxml.jackson.core.StreamReadConstraints;
import com.fasterxml.jackson.core.StreamReadFeature;
import com.fasterxml.jackson.databind.DeserializationFeature;
import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.json.JsonMapper;
import com.fasterxml.jackson.databind.node.JsonNodeFactory;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.math.BigDecimal;
import java.util.Iterator;
import java.util.Map;

/** JSON of others, strictly: no duplicate names, bounded depth and numbers, decimals exactly as they are written. */
final class Json {
  static final int MAX_DEPTH = 32;
  /** As far as a double goes: beyond it, comparing and dividing cost memory, and no device has a use for it. */
  private static final int MAX_EXPONENT = 400;
  private static final int MAX_SHOWN = 80;
  private static final int MAX_MESSAGE = 500;
  static final ObjectMapper MAPPER = JsonMapper.builder(JsonFactory.builder()
          .enable(StreamReadFeature.STRICT_DUPLICATE_DETECTION)
          // Names come from devices: interning them would fill the JVM's table of strings.
          .disable(JsonFactory.Feature.INTERN_FIELD_NAMES)
          .streamReadConstraints(StreamReadConstraints.builder().maxNestingDepth(MAX_DEPTH).maxNumberLength(400).maxStringLength(1 << 20).build())
          .build())
      .enable(DeserializationFeature.USE_BIG_DECIMAL_FOR_FLOATS, DeserializationFeature.FAIL_ON_TRAILING_TOKENS)
      .nodeFactory(JsonNodeFactory.withExactBigDecimals(true))
      .build();

  private Json() {}

  /** @throws IllegalArgumentException what is no JSON object under these rules, or has more characters */
  static ObjectNode object(String text, String what, int maxChars) {
    if (text.length() > maxChars) {
      throw new IllegalArgumentException(what + " of [" + text.length() + "] characters must have at most " + maxChars);
    }
    JsonNode node;
    try {
      node = MAPPER.readTree(text);
    } catch (JsonProcessingException e) {
      throw new IllegalArgumentException(what + " [" + shown(text) + "] must be JSON: " + shown(e.getOriginalMessage()), e);
    } catch (NumberFormatException e) {
      // What Jackson throws at an exponent of more than ten digits.
      throw new IllegalArgumentException(what + " [" + shown(text) + "] must not have a number with such an exponent", e);
    }
    if (!(node instanceof ObjectNode)) {
      throw new IllegalArgumentException(what + " [" + shown(text) + "] must be a JSON object");
    }
    numbers(node, what);
    return (ObjectNode) node;
  }

  private static void numbers(JsonNode node, String what) {
    if (node.isNumber() && !bounded(node)) {
      throw new IllegalArgumentException(what + ": number [" + shown(node.toString()) + "] must be between 1e-" + MAX_EXPONENT + " and 1e"
          + MAX_EXPONENT);
    }
    for (JsonNode child : node) {
      numbers(child, what);
    }
  }

  /** Whether arithmetic with it is cheap. */
  static boolean bounded(JsonNode number) {
    if (number.isDouble() || number.isFloat()) {
      return Double.isFinite(number.doubleValue());
    }
    if (!number.isBigDecimal()) {
      return true;
    }
    BigDecimal value = number.decimalValue();
    return Math.abs((long) value.precision() - value.scale()) <= MAX_EXPONENT && Math.abs(value.scale()) <= 2 * MAX_EXPONENT;
  }

  /** Equal as JSON values: 1 and 1.0 are. */
  static boolean same(JsonNode one, JsonNode other) {
    if (one.isNumber() && other.isNumber()) {
      return one.decimalValue().compareTo(other.decimalValue()) == 0;
    }
    if (one.getNodeType() != other.getNodeType() || one.size() != other.size()) {
      return false;
    }
    if (one.isObject()) {
      for (Iterator<Map.Entry<String, JsonNode>> members = one.fields(); members.hasNext();) {
        Map.Entry<String, JsonNode> member = members.next();
        JsonNode there = other.get(member.getKey());
        if (there == null || !same(member.getValue(), there)) {
          return false;
        }
      }
      return true;
    }
    if (one.isArray()) {
      for (int i = 0; i < one.size(); i++) {
        if (!same(one.get(i), other.get(i))) {
          return false;
        }
      }
      return true;
    }
    return one.equals(other);
  }

  /** RFC 7396. Changes target; takes nothing of patch that can be changed later. */
  static ObjectNode merge(ObjectNode target, ObjectNode patch) {
    for (Iterator<Map.Entry<String, JsonNode>> members = patch.fields(); members.hasNext();) {
      Map.Entry<String, JsonNode> member = members.next();
      if (member.getValue().isNull()) {
        target.remove(member.getKey());
      } else if (member.getValue() instanceof ObjectNode) {
        JsonNode there = target.get(member.getKey());
        target.set(member.getKey(), merge(there instanceof ObjectNode ? (ObjectNode) there : MAPPER.createObjectNode(), (ObjectNode) member.getValue()));
      } else {
        target.set(member.getKey(), member.getValue().deepCopy());
      }
    }
    return target;
  }

  /** What of desired is not, or otherwise, in reported. */
  static ObjectNode delta(ObjectNode desired, ObjectNode reported) {
    ObjectNode delta = MAPPER.createObjectNode();
    for (Iterator<Map.Entry<String, JsonNode>> members = desired.fields(); members.hasNext();) {
      Map.Entry<String, JsonNode> member = members.next();
      JsonNode wanted = member.getValue();
      JsonNode there = reported.get(member.getKey());
      if (wanted instanceof ObjectNode && there instanceof ObjectNode) {
        ObjectNode inner = delta((ObjectNode) wanted, (ObjectNode) there);
        if (!inner.isEmpty()) {
          delta.set(member.getKey(), inner);
        }
      } else if (there == null || !same(wanted, there)) {
        delta.set(member.getKey(), wanted);
      }
    }
    return delta;
  }

  /** A message that quotes others: bounded, and without what steers a terminal or ends a line. */
  static String readable(String text) {
    StringBuilder readable = new StringBuilder();
    for (int i = 0; i < text.length() && i < MAX_MESSAGE; i++) {
      char c = text.charAt(i);
      int type = Character.getType(c);
      boolean steers = type == Character.CONTROL || type == Character.FORMAT || type == Character.SURROGATE
          || type == Character.LINE_SEPARATOR || type == Character.PARAGRAPH_SEPARATOR;
      readable.append(steers ? '?' : c);
    }
    return text.length() > MAX_MESSAGE ? readable + "..." : readable.toString();
  }

  /** Foreign text for a message or a line of the log: short, printable, one line. */
  static String shown(String text) {
    StringBuilder shown = new StringBuilder();
    for (int i = 0; i < text.length() && i < MAX_SHOWN; i++) {
      char c = text.charAt(i);
      shown.append(c < ' ' || c > '~' ? '?' : c);
    }
    return text.length() > MAX_SHOWN ? shown + "..." : shown.toString();
  }
}
