// SPDX-License-Identifier: Apache-2.0
package io.caravan.mqtt.client.internal;

import io.caravan.wal.Row;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.function.Function;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

/**
 * A topic with named fields, {@code offload/{gateway_id}/{device_id}/{kind}}, filled from rows. What a row brings cannot
 * make another topic of it: no level more, no wildcard, no empty level. Immutable, thread-safe.
 */
public final class TopicPattern {
  private static final int MAX_CHARS = 256;
  private static final Pattern FIELD = Pattern.compile("\\{([^{}]*)}");
  /** Letters, digits and what stands in ids; above all none of + # / $. */
  private static final Pattern VALUE = Pattern.compile("[A-Za-z0-9._:@~-]{1,256}");
  private static final Map<String, Function<Row, String>> FIELDS = Map.of("gateway_id", Row::gatewayId, "device_id",
      Row::deviceId, "kind", Row::kind, "lane", Row::lane);

  private record Piece(String text, String field) { }

  private final String text;
  private final List<Piece> pieces = new ArrayList<>();

  /** @throws IllegalArgumentException the text breaks a rule; the message says which */
  public TopicPattern(String text) {
    this.text = text == null ? "" : text;
    if (this.text.isEmpty() || this.text.length() > MAX_CHARS) {
      throw wrong("must have 1 to " + MAX_CHARS + " characters");
    }
    Matcher field = FIELD.matcher(this.text);
    int from = 0;
    while (field.find()) {
      literal(this.text.substring(from, field.start()));
      if (!FIELDS.containsKey(field.group(1))) {
        throw wrong("names the field [" + field.group(1) + "], there are {gateway_id}, {device_id}, {kind} and {lane}");
      }
      pieces.add(new Piece(null, field.group(1)));
      from = field.end();
    }
    literal(this.text.substring(from));
    for (String level : this.text.split("/", -1)) {
      if (level.isEmpty()) {
        throw wrong("has an empty level: no / at its begin or end, and no //");
      }
    }
  }

  private void literal(String literal) {
    for (int i = 0; i < literal.length(); i++) {
      char c = literal.charAt(i);
      if ("+#${}".indexOf(c) >= 0 || c <= ' ' || c >= 0x7f) {
        throw wrong("has the character [" + (c <= ' ' || c >= 0x7f ? String.format("\\u%04x", (int) c) : c)
            + "]: use printable ASCII without blanks, + # and $, and braces only around a field");
      }
    }
    if (!literal.isEmpty()) {
      pieces.add(new Piece(literal, null));
    }
  }

  private IllegalArgumentException wrong(String rule) {
    return new IllegalArgumentException("topic [" + text + "] " + rule);
  }

  /** @throws IllegalArgumentException the row's value of a field cannot stand in a topic; the message names it */
  public String of(Row row) {
    StringBuilder topic = new StringBuilder(text.length() + 64);
    for (Piece piece : pieces) {
      topic.append(piece.text != null ? piece.text : value(piece.field, row));
    }
    return topic.toString();
  }

  private static String value(String field, Row row) {
    String value = FIELDS.get(field).apply(row);
    if (!isValue(value)) {
      throw new IllegalArgumentException(field + " [" + printable(value) + "] cannot stand in a topic: it must be 1 to 256"
          + " characters out of A-Z a-z 0-9 . _ : @ ~ -");
    }
    return value;
  }

  /** @return whether the text may stand for a field */
  public static boolean isValue(String text) {
    return text != null && VALUE.matcher(text).matches();
  }

  private static String printable(String value) {
    return value == null ? "" : value.substring(0, Math.min(100, value.length())).replaceAll("[^\\x20-\\x7e]", "?");
  }

  /** @return whether there may be a row whose topic the filter matches; when in doubt true */
  public boolean mayMatch(String filter) {
    String[] own = text.split("/");
    String[] theirs = filter.replaceFirst("^\\$share/[^/]*/", "").split("/", -1);
    for (int i = 0; i < theirs.length; i++) {
      if (theirs[i].equals("#")) {
        return true;
      }
      if (i >= own.length || !theirs[i].equals("+") && !level(own[i], theirs[i])) {
        return false;
      }
    }
    return theirs.length == own.length;
  }

  private static boolean level(String own, String literal) {
    StringBuilder regex = new StringBuilder();
    Matcher field = FIELD.matcher(own);
    int from = 0;
    while (field.find()) {
      regex.append(Pattern.quote(own.substring(from, field.start()))).append(".+");
      from = field.end();
    }
    return literal.matches(regex + Pattern.quote(own.substring(from)));
  }

  @Override
  public String toString() {
    return text;
  }
}
