// SPDX-License-Identifier: Apache-2.0
package io.caravan.ingest.internal;

import com.fasterxml.jackson.core.JsonFactory;
import com.fasterxml.jackson.core.JsonParser;
import com.fasterxml.jackson.core.JsonToken;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.ConcurrentHashMap;
import java.util.regex.Pattern;

/**
 * A JSON Schema (draft 7) compiled for one question: is this message certainly valid? It is asked while the message is read, token
 * by token, so that json-validator, which builds a tree and walks it once per keyword, is needed only for messages that may not be.
 * Those it judges as ever, and its words are what a device is told. Measured: half of a message's CPU on the event loop was json-validator's.
 *
 * <p>Never says yes to what the schema refuses. A schema with a keyword that is not known here has no shape. Immutable but for
 * {@link #known}; thread-safe.
 */
public final class Shape {
  private static final Set<String> IGNORED = Set.of("$schema", "$comment", "title", "description", "examples");
  private static final int MAX_NAMES = 60;
  private static final int MAX_DEPTH = 4;
  /** Names that matched, so that an expression runs once for each; a device may invent as many as it likes, so not for all. */
  private static final int MAX_KNOWN = 4096;
  private static final int MAX_KNOWN_LENGTH = 64;
  private static final int STRING = 1;
  private static final int INTEGER = 2;
  private static final int FLOAT = 4;
  private static final int OBJECT = 8;
  private static final int ARRAY = 16;
  private static final int BOOLEAN = 32;
  private static final int NULL = 64;
  private static final Map<String, Integer> TYPES = Map.of("string", STRING, "integer", INTEGER, "number", INTEGER | FLOAT, "object", OBJECT,
      "array", ARRAY, "boolean", BOOLEAN, "null", NULL);

  /** A property that the schema names: its bit in what was seen, and what it must be; null: only counted, as if it were not named. */
  private record Property(long bit, Shape shape) {}

  private int types = STRING | INTEGER | FLOAT | OBJECT | ARRAY | BOOLEAN | NULL;
  private long min = Long.MIN_VALUE;
  private long max = Long.MAX_VALUE;
  private boolean numeric;
  private int minLength;
  private int maxLength = Integer.MAX_VALUE;
  private Pattern pattern;
  private Set<String> values;
  private final Map<String, Property> properties = new HashMap<>();
  /** Of properties that are not named; null: there must be none. */
  private Shape additional = ANY;
  private long required;
  /** Pairs: who has the first bit has the others. */
  private long[] together = {};
  private int minProperties;
  private int maxProperties = Integer.MAX_VALUE;
  private Pattern names;
  private final Set<String> known = ConcurrentHashMap.newKeySet();
  private boolean constrained;

  private static final Shape ANY = new Shape();

  private Shape() {}

  /** @return null: this file cannot be read, or has a keyword that is not known here; json-validator then judges every message */
  public static Shape of(Path schema) {
    try (JsonParser parser = new JsonFactory().createParser(Files.readAllBytes(schema))) {
      parser.nextToken();
      return parser.currentToken() == JsonToken.START_OBJECT ? new Compiler().compile(parser, 1) : null;
    } catch (IOException | RuntimeException e) {
      return null;
    }
  }

  private static final class Unknown extends RuntimeException {
    private static final long serialVersionUID = 1L;

    Unknown(String what) {
      super(what, null, false, false);
    }
  }

  /** Reads a schema; the names of "required" and "dependencies" may come before or after those of "properties". */
  private static final class Compiler {

    Shape compile(JsonParser parser, int depth) throws IOException {
      if (depth > MAX_DEPTH) {
        throw new Unknown("nested too deep");
      }
      Shape shape = new Shape();
      Map<String, Shape> shapes = new HashMap<>();
      List<String> required = new ArrayList<>();
      Map<String, List<String>> dependencies = new HashMap<>();
      while (parser.nextToken() != JsonToken.END_OBJECT) {
        String keyword = parser.currentName();
        JsonToken value = parser.nextToken();
        if (IGNORED.contains(keyword)) {
          parser.skipChildren();
          continue;
        }
        shape.constrained = true;
        switch (keyword) {
          case "type" -> shape.types = types(value == JsonToken.START_ARRAY ? texts(parser) : List.of(text(parser)));
          case "const" -> {
            shape.types &= INTEGER;
            shape.min = Math.max(shape.min, whole(parser));
            shape.max = Math.min(shape.max, parser.getLongValue());
            shape.numeric = true;
          }
          case "minimum" -> {
            shape.min = Math.max(shape.min, whole(parser));
            shape.numeric = true;
          }
          case "maximum" -> {
            shape.max = Math.min(shape.max, whole(parser));
            shape.numeric = true;
          }
          case "enum" -> shape.values = Set.copyOf(texts(parser));
          case "minLength" -> shape.minLength = (int) whole(parser);
          case "maxLength" -> shape.maxLength = (int) whole(parser);
          case "pattern" -> shape.pattern = Pattern.compile(text(parser));
          case "required" -> required.addAll(texts(parser));
          case "minProperties" -> shape.minProperties = (int) whole(parser);
          case "maxProperties" -> shape.maxProperties = (int) whole(parser);
          case "additionalProperties" -> {
            if (value == JsonToken.VALUE_FALSE) {
              shape.additional = null;
            } else if (value == JsonToken.START_OBJECT) {
              shape.additional = compile(parser, depth + 1);
            } else if (value != JsonToken.VALUE_TRUE) {
              throw new Unknown(keyword);
            }
          }
          case "propertyNames" -> {
            // {"pattern": "..."} and nothing else
            if (value != JsonToken.START_OBJECT || !"pattern".equals(parser.nextFieldName())) {
              throw new Unknown(keyword);
            }
            parser.nextToken();
            shape.names = Pattern.compile(text(parser));
            if (parser.nextToken() != JsonToken.END_OBJECT) {
              throw new Unknown(keyword);
            }
          }
          case "properties" -> {
            while (parser.nextToken() != JsonToken.END_OBJECT) {
              String name = parser.currentName();
              if (parser.nextToken() != JsonToken.START_OBJECT) {
                throw new Unknown(keyword);
              }
              shapes.put(name, compile(parser, depth + 1));
            }
          }
          case "dependencies" -> {
            while (parser.nextToken() != JsonToken.END_OBJECT) {
              String name = parser.currentName();
              parser.nextToken();
              dependencies.put(name, texts(parser));
            }
          }
          default -> throw new Unknown(keyword);
        }
      }
      shapes.forEach((name, each) -> shape.properties.put(name, new Property(1L << shape.properties.size(), each)));
      required.forEach(name -> shape.required |= shape.bit(name));
      List<Long> pairs = new ArrayList<>();
      dependencies.forEach((name, others) -> {
        long all = 0;
        for (String other : others) {
          all |= shape.bit(other);
        }
        pairs.add(shape.bit(name));
        pairs.add(all);
      });
      shape.together = pairs.stream().mapToLong(Long::longValue).toArray();
      if (shape.properties.size() > MAX_NAMES) {
        throw new Unknown("too many names");
      }
      return shape;
    }

    private static int types(List<String> names) {
      int types = 0;
      for (String name : names) {
        Integer type = TYPES.get(name);
        if (type == null) {
          throw new Unknown(name);
        }
        types |= type;
      }
      return types;
    }

    private static List<String> texts(JsonParser parser) throws IOException {
      if (parser.currentToken() != JsonToken.START_ARRAY) {
        throw new Unknown("no array");
      }
      List<String> texts = new ArrayList<>();
      while (parser.nextToken() != JsonToken.END_ARRAY) {
        texts.add(text(parser));
      }
      return texts;
    }

    private static String text(JsonParser parser) throws IOException {
      if (parser.currentToken() != JsonToken.VALUE_STRING) {
        throw new Unknown("no text");
      }
      return parser.getText();
    }

    private static long whole(JsonParser parser) throws IOException {
      if (parser.currentToken() != JsonToken.VALUE_NUMBER_INT) {
        throw new Unknown("no whole number");
      }
      return parser.getLongValue();
    }
  }

  private long bit(String name) {
    return properties.computeIfAbsent(name, absent -> new Property(1L << properties.size(), null)).bit();
  }

  /** One message under examination. Of one thread. */
  static final class Walk {
    private final Shape[] shapes = new Shape[MAX_DEPTH];
    private final long[] seen = new long[MAX_DEPTH];
    private final int[] counts = new int[MAX_DEPTH];
    private int depth = -1;
    /** Levels below the last that the schema says something about. */
    private int free;
    private Shape next;
    private boolean certain = true;

    Walk(Shape shape) {
      next = shape;
    }

    /** Each token of the message, in turn, while the parser is there. */
    void token(JsonToken token, JsonParser parser) throws IOException {
      if (!certain) {
        return;
      }
      if (free > 0) {
        free += token.isStructStart() ? 1 : token.isStructEnd() ? -1 : 0;
        return;
      }
      switch (token) {
        case FIELD_NAME -> name(parser.currentName());
        case START_OBJECT -> {
          certain = (next.types & OBJECT) != 0 && next.values == null;
          if (!next.constrained) {
            free = 1;
          } else {
            shapes[++depth] = next;
            seen[depth] = 0;
            counts[depth] = 0;
          }
        }
        case END_OBJECT -> {
          certain = shapes[depth].complete(seen[depth], counts[depth]);
          depth--;
        }
        case START_ARRAY -> {
          certain = (next.types & ARRAY) != 0 && next.values == null;
          free = 1;
        }
        case VALUE_STRING -> certain = (next.types & STRING) != 0 && next.string(parser);
        case VALUE_NUMBER_INT -> certain = (next.types & INTEGER) != 0 && next.values == null && (!next.numeric || next.whole(parser));
        case VALUE_NUMBER_FLOAT -> certain = (next.types & FLOAT) != 0 && next.values == null && !next.numeric;
        case VALUE_TRUE, VALUE_FALSE -> certain = (next.types & BOOLEAN) != 0 && next.values == null;
        case VALUE_NULL -> certain = (next.types & NULL) != 0 && next.values == null;
        default -> certain = false;
      }
    }

    private void name(String name) {
      Shape shape = shapes[depth];
      counts[depth]++;
      Property property = shape.properties.get(name);
      if (property != null) {
        seen[depth] |= property.bit();
      }
      next = property != null && property.shape() != null ? property.shape() : shape.additional;
      certain = next != null && shape.named(name);
    }

    /** Once all tokens were given: the schema certainly accepts the message. */
    boolean certain() {
      return certain && depth < 0;
    }
  }

  private boolean complete(long seen, int count) {
    if ((seen & required) != required || count < minProperties || count > maxProperties) {
      return false;
    }
    for (int i = 0; i < together.length; i += 2) {
      if ((seen & together[i]) != 0 && (seen & together[i + 1]) != together[i + 1]) {
        return false;
      }
    }
    return true;
  }

  private boolean named(String name) {
    if (names == null || known.contains(name)) {
      return true;
    }
    if (!names.matcher(name).find()) {
      return false;
    }
    if (name.length() <= MAX_KNOWN_LENGTH && known.size() < MAX_KNOWN) {
      known.add(name);
    }
    return true;
  }

  private boolean string(JsonParser parser) throws IOException {
    if (minLength == 0 && maxLength == Integer.MAX_VALUE && pattern == null && values == null) {
      return true;
    }
    String text = parser.getText();
    // Characters are at most as many as UTF-16 units, and at least half as many.
    return text.length() <= maxLength && (minLength == 0 || text.codePointCount(0, text.length()) >= minLength)
        && (values == null || values.contains(text)) && (pattern == null || pattern.matcher(text).find());
  }

  private boolean whole(JsonParser parser) throws IOException {
    if (parser.getTextLength() > 18) {
      return false;
    }
    long value = parser.getLongValue();
    return value >= min && value <= max;
  }
}
