// SPDX-License-Identifier: Apache-2.0
package io.caravan.devices.internal;

import com.fasterxml.jackson.core.JsonFactory;
import com.fasterxml.jackson.core.JsonGenerator;
import com.fasterxml.jackson.core.JsonParser;
import com.fasterxml.jackson.core.JsonToken;
import io.caravan.devices.Devices.NewDevice;
import io.caravan.devices.Devices.Signing;
import java.io.IOException;
import java.io.InputStream;
import java.io.StringWriter;
import java.nio.ByteBuffer;
import java.nio.charset.CharacterCodingException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.DateTimeException;
import java.time.OffsetDateTime;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.HashSet;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeSet;

/**
 * Devices to enrol: a JSON array of objects, or CSV (RFC 4180) whose first line names the columns. The same names in both,
 * {@link #FIELDS}; only {@code device_id} is compulsory, an empty value is none. A CSV library would be one more bundle for
 * the one place that reads thirty lines' worth of it.
 */
final class ImportFile {
  static final List<String> FIELDS = List.of("device_id", "allow", "capabilities", "signing", "messages_per_s", "bytes_per_s", "note",
      "not_before", "not_after", "controller");
  static final int MAX_BYTES = 16 << 20;
  static final int MAX_DEVICES = 100_000;
  static final int MAX_PROBLEMS = 100;

  private final List<String> problems;
  private final Map<String, NewDevice> devices = new LinkedHashMap<>();
  private final Set<String> ids = new HashSet<>();

  private ImportFile(List<String> problems) {
    this.problems = problems;
  }

  /**
   * @param problems gets one line for each; the fields' own rules are not checked here
   * @return where (a line, an element) to what
   * @throws IOException the file cannot be read, or is no such file at all
   */
  static Map<String, NewDevice> read(Path file, List<String> problems) throws IOException {
    byte[] bytes;
    try (InputStream in = Files.newInputStream(file)) {
      bytes = in.readNBytes(MAX_BYTES + 1);
    }
    if (bytes.length > MAX_BYTES) {
      throw new IOException("file [" + file + "] must have at most " + MAX_BYTES + " bytes: import it in parts");
    }
    String text;
    try {
      text = StandardCharsets.UTF_8.newDecoder().decode(ByteBuffer.wrap(bytes)).toString();
    } catch (CharacterCodingException e) {
      throw new IOException("file [" + file + "] must be UTF-8: save it as such", e);
    }
    if (text.startsWith("\uFEFF")) {
      text = text.substring(1);
    }
    ImportFile read = new ImportFile(problems);
    if (text.stripLeading().startsWith("[") || text.stripLeading().startsWith("{")) {
      read.json(text, file);
    } else {
      read.csv(text);
    }
    return read.devices;
  }

  // ---------------------------------------------------------------------------------------------- JSON

  private void json(String text, Path file) throws IOException {
    try (JsonParser parser = Rules.JSON.createParser(text)) {
      if (parser.nextToken() != JsonToken.START_ARRAY) {
        throw new IOException("file [" + file + "] must be a JSON array of objects, [{\"device_id\":\"dev-1\"}, ...]");
      }
      for (int element = 1; parser.nextToken() != JsonToken.END_ARRAY; element++) {
        String where = "element " + element;
        if (parser.currentToken() != JsonToken.START_OBJECT) {
          problem(where + " must be an object");
          parser.skipChildren();
          continue;
        }
        object(parser, where);
        if (full(where)) {
          return;
        }
      }
      if (parser.nextToken() != null) {
        throw new IOException("file [" + file + "] must end with the array");
      }
    } catch (com.fasterxml.jackson.core.JacksonException e) {
      throw new IOException("file [" + file + "] is no JSON: " + Rules.shown(e.getOriginalMessage()) + " in line "
          + (e.getLocation() == null ? "?" : e.getLocation().getLineNr()), e);
    }
  }

  private void object(JsonParser parser, String where) throws IOException {
    Map<String, String> values = new HashMap<>();
    List<String> allow = new ArrayList<>();
    while (parser.nextToken() != JsonToken.END_OBJECT) {
      String name = parser.currentName();
      JsonToken value = parser.nextToken();
      if (value == JsonToken.VALUE_NULL) {
        continue;
      }
      if (name.equals("allow") && value == JsonToken.START_ARRAY) {
        while (parser.nextToken() != JsonToken.END_ARRAY) {
          if (parser.currentToken().isStructStart()) {
            problem(where + ": allow must be a list of texts");
            parser.skipChildren();
          } else {
            allow.add(parser.getText());
          }
        }
      } else if (name.equals("capabilities") && value == JsonToken.START_OBJECT) {
        StringWriter json = new StringWriter();
        try (JsonGenerator copy = new JsonFactory().createGenerator(json)) {
          copy.copyCurrentStructure(parser);
        }
        values.put(name, json.toString());
      } else if (value.isStructStart()) {
        problem(where + ": " + Rules.shown(name) + " must be one value");
        parser.skipChildren();
      } else {
        values.put(name, parser.getText());
      }
    }
    for (String name : new TreeSet<>(values.keySet())) {
      if (!FIELDS.contains(name)) {
        problem(where + ": field [" + Rules.shown(name) + "] must be one of " + String.join(", ", FIELDS));
      }
    }
    device(where, values, allow);
  }

  // ---------------------------------------------------------------------------------------------- CSV

  private void csv(String text) {
    List<String> names = null;
    int[] at = {0};
    int line = 1;
    while (at[0] < text.length()) {
      String where = "line " + line;
      int from = at[0];
      List<String> fields;
      try {
        fields = record(text, at);
      } catch (IllegalArgumentException e) {
        problem(where + ": " + e.getMessage());
        return;
      }
      line += (int) text.substring(from, at[0]).chars().filter(c -> c == '\n').count();
      if (fields.size() == 1 && fields.get(0).isBlank()) {
        continue;
      }
      if (names == null) {
        names = fields.stream().map(String::strip).toList();
        if (!header(names, where)) {
          return;
        }
        continue;
      }
      if (fields.size() != names.size()) {
        problem(where + " has [" + fields.size() + "] fields, it must have " + names.size() + " as the first line: put fields with commas in quotes");
      } else {
        Map<String, String> values = new HashMap<>();
        for (int i = 0; i < names.size(); i++) {
          values.put(names.get(i), fields.get(i));
        }
        device(where, values, List.of());
      }
      if (full(where)) {
        return;
      }
    }
    if (names == null) {
      problem("line 1 must name the columns, " + String.join(",", FIELDS) + "; only device_id is compulsory");
    }
  }

  private boolean header(List<String> names, String where) {
    int before = problems.size();
    for (String name : names) {
      if (!FIELDS.contains(name)) {
        problem(where + ": column [" + Rules.shown(name) + "] must be one of " + String.join(", ", FIELDS));
      }
    }
    if (!names.contains("device_id") || new HashSet<>(names).size() != names.size()) {
      problem(where + " must name the column device_id, and each column once");
    }
    return problems.size() == before;
  }

  /** @param at moves behind the record and the end of its line */
  private static List<String> record(String text, int[] at) {
    List<String> fields = new ArrayList<>();
    StringBuilder field = new StringBuilder();
    int i = at[0];
    while (true) {
      field.setLength(0);
      if (i < text.length() && text.charAt(i) == '"') {
        i++;
        while (true) {
          if (i >= text.length()) {
            throw new IllegalArgumentException("a field begins with a quote that is never closed");
          }
          char c = text.charAt(i++);
          if (c != '"') {
            field.append(c);
          } else if (i < text.length() && text.charAt(i) == '"') {
            field.append('"');
            i++;
          } else {
            break;
          }
        }
        if (i < text.length() && ",\r\n".indexOf(text.charAt(i)) < 0) {
          throw new IllegalArgumentException("behind the quote that closes a field stands [" + Rules.shown(text.substring(i, i + 1)) + "]");
        }
      } else {
        while (i < text.length() && ",\r\n".indexOf(text.charAt(i)) < 0) {
          char c = text.charAt(i++);
          if (c == '"') {
            throw new IllegalArgumentException("a quote stands inside of a field: put the field in quotes, and write each of its own twice");
          }
          field.append(c);
        }
      }
      fields.add(field.toString());
      if (i >= text.length() || text.charAt(i) != ',') {
        break;
      }
      i++;
    }
    if (i < text.length() && text.charAt(i) == '\r') {
      i++;
    }
    if (i < text.length() && text.charAt(i) == '\n') {
      i++;
    }
    at[0] = i;
    return fields;
  }

  // ---------------------------------------------------------------------------------------------- both

  private void device(String where, Map<String, String> values, List<String> allowed) {
    try {
      String id = value(values, "device_id");
      if (id == null) {
        throw new IllegalArgumentException("device_id is missing");
      }
      List<String> allow = new ArrayList<>(allowed);
      String addresses = value(values, "allow");
      if (addresses != null) {
        allow.addAll(List.of(addresses.split(" +")));
      }
      NewDevice device = new NewDevice(id, allow, value(values, "capabilities"), signing(value(values, "signing")),
          (Integer) number(values, "messages_per_s", Integer.MAX_VALUE, Long::intValue), number(values, "bytes_per_s", Long.MAX_VALUE, n -> n),
          value(values, "note"), time(values, "not_before"), time(values, "not_after"), flag(values, "controller"));
      if (!ids.add(id)) {
        throw new IllegalArgumentException("device [" + Rules.shown(id) + "] stands there twice");
      }
      devices.put(where, device);
    } catch (IllegalArgumentException e) {
      problem(where + ": " + e.getMessage());
    }
  }

  private static String value(Map<String, String> values, String name) {
    String value = values.get(name);
    return value == null || value.isBlank() ? null : value.strip();
  }

  private static Signing signing(String text) {
    return text == null ? null : switch (text) {
      case "off" -> Signing.OFF;
      case "accept" -> Signing.ACCEPT;
      case "require" -> Signing.REQUIRE;
      default -> throw new IllegalArgumentException("signing [" + Rules.shown(text) + "] must be off, accept or require");
    };
  }

  private static Boolean flag(Map<String, String> values, String name) {
    String text = value(values, name);
    return text == null ? null : switch (text) {
      case "true" -> true;
      case "false" -> false;
      default -> throw new IllegalArgumentException(name + " [" + Rules.shown(text) + "] must be true or false");
    };
  }

  private static <T> T number(Map<String, String> values, String name, long max, java.util.function.Function<Long, T> as) {
    String text = value(values, name);
    if (text == null) {
      return null;
    }
    if (!text.matches("\\d{1,18}") || Long.parseLong(text) > max) {
      throw new IllegalArgumentException(name + " [" + Rules.shown(text) + "] must be a whole number, 0 for no limit");
    }
    return as.apply(Long.parseLong(text));
  }

  private static Long time(Map<String, String> values, String name) {
    String text = value(values, name);
    if (text == null) {
      return null;
    }
    if (text.matches("\\d{12,15}")) {
      return Long.parseLong(text);
    }
    try {
      return OffsetDateTime.parse(text).toInstant().toEpochMilli();
    } catch (DateTimeException | ArithmeticException e) {
      throw new IllegalArgumentException(name + " [" + Rules.shown(text) + "] must be a time like 2026-11-21T10:00:00Z, or milliseconds since 1970", e);
    }
  }

  private boolean full(String where) {
    if (devices.size() > MAX_DEVICES) {
      problem(where + ": a file must have at most " + MAX_DEVICES + " devices: import it in parts");
      return true;
    }
    return problems.size() >= MAX_PROBLEMS;
  }

  private void problem(String text) {
    if (problems.size() < MAX_PROBLEMS) {
      problems.add(text);
    }
  }
}
