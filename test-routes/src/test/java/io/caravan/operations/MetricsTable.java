// SPDX-License-Identifier: Apache-2.0
package io.caravan.operations;

import java.util.ArrayList;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

/**
 * What {@code docs/metrics.md} says there is; another test holds that against what running containers export, in both directions.
 * Answers what an expression names and what there is not.
 */
final class MetricsTable {
  private static final Pattern ROW = Pattern.compile("^\\| `([a-z_]+)` \\| (\\w+) \\|[^|]*\\|([^|]*)\\|", Pattern.MULTILINE);
  private static final Pattern LABEL = Pattern.compile("([a-z_]+)\\s*(?:\\(([^)]*)\\))?");
  private static final Pattern FAMILY = Pattern.compile("`((?:jvm|process|system)_[a-z0-9_*]+)`");
  /** Of Prometheus itself, and what Micrometer's metrics carry. */
  private static final Set<String> TARGET = Set.of("job", "instance");
  private static final Map<String, Set<String>> OTHERS = Map.of("up", Set.of(), "ALERTS", Set.of("alertname", "alertstate", "severity"));
  private static final Set<String> JVM_LABELS = Set.of("area", "id", "action", "cause", "gc", "state");

  /** Labels of a name, each with the values it may have; none: any. */
  private final Map<String, Map<String, Set<String>>> labels = new HashMap<>();
  private final List<Pattern> families = new ArrayList<>();

  MetricsTable(String markdown) {
    Matcher row = ROW.matcher(markdown);
    while (row.find()) {
      Map<String, Set<String>> own = new LinkedHashMap<>();
      Matcher label = LABEL.matcher(row.group(3));
      while (label.find()) {
        own.put(label.group(1), label.group(2) == null ? Set.of() : Set.of(label.group(2).split(",\\s*")));
      }
      String name = row.group(1);
      switch (row.group(2)) {
        case "histogram", "summary" -> {
          for (String suffix : List.of("_sum", "_count", "_max")) {
            labels.put(name + suffix, own);
          }
          if (row.group(2).equals("histogram")) {
            Map<String, Set<String>> bucket = new LinkedHashMap<>(own);
            bucket.put("le", Set.of());
            labels.put(name + "_bucket", bucket);
          }
        }
        case "gauge", "counter" -> labels.put(name, own);
        default -> throw new IllegalArgumentException("type [" + row.group(2) + "] of [" + name + "] is not known");
      }
    }
    Matcher family = FAMILY.matcher(markdown);
    while (family.find()) {
      families.add(Pattern.compile(family.group(1).replace("*", "[a-z0-9_]+")));
    }
  }

  int size() {
    return labels.size();
  }

  /** A recording rule makes a name too; its labels are those it groups by. */
  void record(String name, String expression) {
    Map<String, Set<String>> own = new LinkedHashMap<>();
    PromQl.read(expression).grouped.stream().filter(l -> !l.equals("le") && !TARGET.contains(l)).forEach(l -> own.put(l, Set.of()));
    labels.put(name, own);
  }

  /** @return what the expression names and what there is not; empty: nothing */
  List<String> problems(String expression) {
    List<String> problems = new ArrayList<>();
    PromQl read = PromQl.read(expression);
    Set<String> groupable = new LinkedHashSet<>(TARGET);
    for (PromQl.Selector selector : read.selectors) {
      Map<String, Set<String>> own = of(selector.metric());
      if (own == null) {
        problems.add("there is no metric [" + selector.metric() + "]: " + expression);
        continue;
      }
      groupable.addAll(own.keySet());
      for (PromQl.Condition condition : selector.conditions()) {
        if (TARGET.contains(condition.label())) {
          continue;
        }
        Set<String> values = own.get(condition.label());
        if (values == null) {
          problems.add("[" + selector.metric() + "] has no label [" + condition.label() + "]: " + expression);
        } else if (!values.isEmpty()) {
          for (String value : condition.value().split("\\|")) {
            if (!values.contains(value)) {
              problems.add("label [" + condition.label() + "] of [" + selector.metric() + "] is never [" + value + "]: " + expression);
            }
          }
        }
      }
    }
    for (String label : read.grouped) {
      if (!groupable.contains(label)) {
        problems.add("no metric has the label [" + label + "] that is grouped by: " + expression);
      }
    }
    return problems;
  }

  private Map<String, Set<String>> of(String metric) {
    if (labels.containsKey(metric)) {
      return labels.get(metric);
    }
    Set<String> names = OTHERS.get(metric);
    if (names == null && families.stream().anyMatch(f -> f.matcher(metric).matches())) {
      names = JVM_LABELS;
    }
    if (names == null) {
      return null;
    }
    Map<String, Set<String>> any = new LinkedHashMap<>();
    names.forEach(n -> any.put(n, Set.of()));
    return any;
  }
}
