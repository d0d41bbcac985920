// SPDX-License-Identifier: Apache-2.0
package io.caravan.api.internal;

import com.fasterxml.jackson.core.JsonProcessingException;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.IOException;
import java.io.InputStream;
import java.io.UncheckedIOException;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.regex.Pattern;
import org.snakeyaml.engine.v2.api.Load;
import org.snakeyaml.engine.v2.api.LoadSettings;

/**
 * The API's document, {@code openapi.yaml}: what clients read is what parameters are checked with, so that the two cannot differ.
 * An operation has the id of its route. Immutable.
 */
final class Document {
  /** @param path the template; @param parameters of path and query */
  record Operation(String id, String method, String path, List<Parameter> parameters) {
    /** @return by which parameter the next page is asked for */
    String cursor() {
      return parameters.stream().map(Parameter::name).filter(n -> n.equals("before") || n.equals("after")).findFirst().orElse("after");
    }
  }

  /** @param several a list, separated by commas, of whose elements the rules are; @param elements so many; 0: any number;
   *     @param whole of all of it; @param otherwise what stands for one that is not given: the default that clients read, or an
   *     end of the list, {@code x-absent} */
  record Parameter(String name, boolean path, boolean required, boolean number, boolean several, int elements, Pattern whole, long min, long max, Pattern pattern,
      List<String> values, int longest, Object otherwise, String rule) {}

  private final Map<String, Object> root;
  private final Map<String, Operation> operations = new HashMap<>();

  Document() {
    try (InputStream in = Document.class.getResourceAsStream("/io/caravan/api/openapi.yaml")) {
      root = map(new Load(LoadSettings.builder().setMaxAliasesForCollections(100).build()).loadFromInputStream(in));
    } catch (IOException e) {
      throw new UncheckedIOException(e);
    }
    map(root.get("paths")).forEach((path, item) -> {
      Map<String, Object> methods = map(item);
      methods.forEach((method, operation) -> {
        if (!method.equals("parameters")) {
          Operation made = operation(path, method, map(operation), list(methods.get("parameters")));
          operations.put(made.id(), made);
        }
      });
    });
  }

  /** @throws IllegalStateException there is none of that id */
  Operation operation(String id) {
    Operation operation = operations.get(id);
    if (operation == null) {
      throw new IllegalStateException("route [" + id + "] has no operation of its id in openapi.yaml: add it");
    }
    return operation;
  }

  byte[] json() {
    try {
      return new ObjectMapper().writeValueAsBytes(root);
    } catch (JsonProcessingException e) {
      throw new IllegalStateException(e);
    }
  }

  private Operation operation(String path, String method, Map<String, Object> operation, List<Object> common) {
    List<Parameter> parameters = new ArrayList<>();
    List<Object> all = new ArrayList<>(common);
    all.addAll(list(operation.get("parameters")));
    for (Object each : all) {
      Map<String, Object> parameter = resolved(map(each));
      if (!parameter.get("in").equals("header")) {
        parameters.add(parameter(parameter));
      }
    }
    return new Operation((String) operation.get("operationId"), method, path, List.copyOf(parameters));
  }

  private Parameter parameter(Map<String, Object> p) {
    Map<String, Object> schema = resolved(map(p.get("schema")));
    boolean several = "array".equals(schema.get("type"));
    Map<String, Object> one = several ? resolved(map(schema.get("items"))) : schema;
    return new Parameter((String) p.get("name"), p.get("in").equals("path"), Boolean.TRUE.equals(p.get("required")), "integer".equals(one.get("type")),
        several, (int) number(schema.get("maxItems"), 0), pattern(schema.get("x-pattern")), number(one.get("minimum"), Long.MIN_VALUE), number(one.get("maximum"), Long.MAX_VALUE),
        pattern(one.get("pattern")), list(one.get("enum")).stream().map(String::valueOf).toList(),
        (int) number(one.get("maxLength"), Integer.MAX_VALUE), schema.getOrDefault("default", schema.get("x-absent")), String.valueOf(p.get("description")));
  }

  private Map<String, Object> resolved(Map<String, Object> object) {
    Object ref = object.get("$ref");
    if (ref == null) {
      return object;
    }
    Object at = root;
    for (String step : ref.toString().substring(2).split("/")) {
      at = map(at).get(step);
    }
    return map(at);
  }

  private static Pattern pattern(Object value) {
    return value == null ? null : Pattern.compile((String) value);
  }

  private static long number(Object value, long otherwise) {
    return value == null ? otherwise : ((Number) value).longValue();
  }

  @SuppressWarnings("unchecked")
  private static Map<String, Object> map(Object value) {
    return (Map<String, Object>) value;
  }

  @SuppressWarnings("unchecked")
  private static List<Object> list(Object value) {
    return value == null ? List.of() : (List<Object>) value;
  }
}
