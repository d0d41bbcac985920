// SPDX-License-Identifier: Apache-2.0
package io.caravan.operations;

import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

/**
 * The metrics and labels that a PromQL expression names. Not a parser: that the expression is one is promtool's to say; what is
 * in it is found by its tokens, and a word that is in no known place is refused.
 */
final class PromQl {
  private static final Pattern TOKEN = Pattern.compile(
      "\\s+|(?<string>\"(?:[^\"\\\\]|\\\\.)*\"|'(?:[^'\\\\]|\\\\.)*')|(?<duration>\\[[^\\]]*\\]|\\d+(?:ms|[smhdwy])\\b)"
          + "|(?<number>(?:\\d+\\.?\\d*|\\.\\d+)(?:[eE][+-]?\\d+)?)|(?<word>[a-zA-Z_:][a-zA-Z0-9_:]*)|(?<op>=~|!~|!=|==|>=|<=|[-+*/%^=<>(){},])");
  private static final Set<String> OPERATORS = Set.of("and", "or", "unless", "bool", "offset");
  private static final Set<String> GROUPING = Set.of("by", "without", "on", "ignoring", "group_left", "group_right");
  private static final Set<String> FUNCTIONS = Set.of("rate", "increase", "changes", "predict_linear", "histogram_quantile", "sum", "min",
      "max", "avg", "count", "topk", "bottomk", "vector", "min_over_time", "max_over_time", "avg_over_time");

  /** One condition of a selector. */
  record Condition(String label, String operator, String value) { }

  /** Each metric with the conditions it is selected by, one per occurrence. */
  record Selector(String metric, List<Condition> conditions) { }

  final List<Selector> selectors = new ArrayList<>();
  /** Labels after by, on and so on. */
  final Set<String> grouped = new LinkedHashSet<>();

  private PromQl() { }

  /** @throws IllegalArgumentException naming what is not understood */
  static PromQl read(String expression) {
    PromQl result = new PromQl();
    List<Map.Entry<String, String>> tokens = new ArrayList<>();
    Matcher m = TOKEN.matcher(expression);
    int at = 0;
    while (at < expression.length()) {
      if (!m.find(at) || m.start() != at) {
        throw new IllegalArgumentException("[" + expression.substring(at) + "] is not understood in " + expression);
      }
      at = m.end();
      for (String kind : List.of("string", "duration", "number", "word", "op")) {
        if (m.group(kind) != null) {
          tokens.add(Map.entry(kind, m.group(kind)));
        }
      }
    }
    for (int i = 0; i < tokens.size(); i++) {
      if (!tokens.get(i).getKey().equals("word")) {
        continue;
      }
      String word = tokens.get(i).getValue();
      String next = i + 1 < tokens.size() ? tokens.get(i + 1).getValue() : "";
      if (GROUPING.contains(word)) {
        i = result.labels(tokens, i + 1);
      } else if (OPERATORS.contains(word)) {
        continue;
      } else if (next.equals("(") || Set.of("by", "without").contains(next)) {
        if (!FUNCTIONS.contains(word)) {
          throw new IllegalArgumentException("function [" + word + "] is not known in " + expression);
        }
      } else if (next.equals("{")) {
        i = result.selector(word, tokens, i + 2, expression);
      } else {
        result.selectors.add(new Selector(word, List.of()));
      }
    }
    return result;
  }

  private int labels(List<Map.Entry<String, String>> tokens, int i) {
    if (i >= tokens.size() || !tokens.get(i).getValue().equals("(")) {
      return i - 1; // group_left without labels
    }
    for (i++; !tokens.get(i).getValue().equals(")"); i++) {
      if (tokens.get(i).getKey().equals("word")) {
        grouped.add(tokens.get(i).getValue());
      }
    }
    return i;
  }

  private int selector(String metric, List<Map.Entry<String, String>> tokens, int i, String expression) {
    List<Condition> conditions = new ArrayList<>();
    while (!tokens.get(i).getValue().equals("}")) {
      if (tokens.get(i).getValue().equals(",")) {
        i++;
        continue;
      }
      if (i + 2 >= tokens.size() || !tokens.get(i).getKey().equals("word") || !tokens.get(i + 2).getKey().equals("string")) {
        throw new IllegalArgumentException("selector of [" + metric + "] is not understood in " + expression);
      }
      String value = tokens.get(i + 2).getValue();
      conditions.add(new Condition(tokens.get(i).getValue(), tokens.get(i + 1).getValue(), value.substring(1, value.length() - 1)));
      i += 3;
    }
    selectors.add(new Selector(metric, conditions));
    return i;
  }

  Map<String, Integer> metrics() {
    Map<String, Integer> names = new LinkedHashMap<>();
    selectors.forEach(s -> names.merge(s.metric, 1, Integer::sum));
    return names;
  }
}
