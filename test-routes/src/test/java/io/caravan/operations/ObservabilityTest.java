// SPDX-License-Identifier: Apache-2.0
package io.caravan.operations;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Collection;
import java.util.LinkedHashMap;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeSet;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** Prometheus' files, checked by promtool; dashboards and rules against the metrics there are; alerts against the handbook. */
class ObservabilityTest {
  private static final Path FOLDER = Repository.ROOT.resolve("observability");
  private static final Path PROMETHEUS = FOLDER.resolve("prometheus");
  private static final Path RULES = PROMETHEUS.resolve("rules/caravan.yaml");
  private static final Path RULE_TESTS = PROMETHEUS.resolve("tests/caravan.test.yaml");
  private static final String SECRETS = "/run/secrets";

  @TempDir
  Path work;

  @Test
  void promtoolTakesTheConfiguration() throws Exception {
    Path config = configuration();
    Ran ran = promtool("check", "config", config.toString());
    assertEquals(0, ran.status(), ran.output());
    // Negative control.
    Files.writeString(config, Files.readString(config).replace("scheme: https", "sheme: https"));
    assertNotEquals(0, promtool("check", "config", config.toString()).status());
  }

  @Test
  void everyAlertFiresWhenItShouldAndOnlyThen() throws Exception {
    Ran ran = promtool("test", "rules", RULE_TESTS.toString());
    assertEquals(0, ran.status(), ran.output());
    // Negative control: an alert that never fires.
    Files.createDirectories(work.resolve("rules"));
    Files.createDirectories(work.resolve("tests"));
    String rules = Files.readString(RULES);
    assertTrue(rules.contains("caravan_wal_state == 2"));
    Files.writeString(work.resolve("rules/caravan.yaml"), rules.replace("caravan_wal_state == 2", "caravan_wal_state == 7"));
    Path tests = Files.copy(RULE_TESTS, work.resolve("tests/caravan.test.yaml"));
    Ran broken = promtool("test", "rules", tests.toString());
    assertNotEquals(0, broken.status());
    assertTrue(broken.output().contains("CaravanWalRefusing"), broken.output());
  }

  @Test
  void everyAlertHasBothCasesAndASection() throws IOException {
    String handbook = Repository.text("docs/operations.md");
    Map<String, Set<Boolean>> cases = new LinkedHashMap<>();
    for (Object test : Repository.list(Repository.yaml(RULE_TESTS).get("tests"))) {
      for (Object alert : Repository.list(Repository.map(test).get("alert_rule_test"))) {
        Map<String, Object> expected = Repository.map(alert);
        cases.computeIfAbsent((String) expected.get("alertname"), n -> new LinkedHashSet<>())
            .add(!Repository.list(expected.get("exp_alerts")).isEmpty());
      }
    }
    List<String> problems = new ArrayList<>();
    Set<String> names = new TreeSet<>();
    for (Map<String, Object> rule : rules()) {
      String name = (String) rule.get("alert");
      if (name == null) {
        continue;
      }
      assertTrue(names.add(name), "twice: " + name);
      Map<String, Object> annotations = Repository.map(rule.get("annotations"));
      if (rule.get("for") == null) {
        problems.add(name + " has no for");
      }
      if (!Set.of("critical", "warning").contains(Repository.map(rule.get("labels")).get("severity"))) {
        problems.add(name + " must have severity critical or warning");
      }
      if (annotations.get("summary") == null || !String.valueOf(annotations.get("description")).contains("$value")) {
        problems.add(name + " must have a summary, and a description with the value");
      }
      String anchor = "alert-" + name.toLowerCase(java.util.Locale.ROOT);
      if (!("docs/operations.md#" + anchor).equals(annotations.get("runbook"))) {
        problems.add(name + " must have the runbook docs/operations.md#" + anchor);
      }
      if (section(handbook, name).map(s -> !s.contains("```sh\n")).orElse(true)) {
        problems.add(name + " has no section in docs/operations.md [### Alert " + name + "] with commands");
      }
      if (!handbook.contains("| [" + name + "](#" + anchor + ") |")) {
        problems.add(name + " is not in the table of docs/operations.md");
      }
      if (!Set.of(true, false).equals(cases.get(name))) {
        problems.add(name + " needs a case where it fires and one where it does not in " + RULE_TESTS.getFileName());
      }
    }
    Matcher heading = Pattern.compile("^### Alert (\\w+)$", Pattern.MULTILINE).matcher(handbook);
    while (heading.find()) {
      if (!names.contains(heading.group(1))) {
        problems.add("docs/operations.md has a section of an alert there is not: " + heading.group(1));
      }
    }
    assertEquals(List.of(), problems);
    assertTrue(names.size() > 40, names.toString());
    assertTrue(section(handbook, "CaravanNoSuchAlert").isEmpty());
  }

  @Test
  void whatIsAskedForIsThere() throws Exception {
    MetricsTable table = new MetricsTable(Repository.text("docs/metrics.md"));
    assertTrue(table.size() > 100, "docs/metrics.md was not understood: " + table.size());
    rules().stream().filter(r -> r.containsKey("record")).forEach(r -> table.record((String) r.get("record"), (String) r.get("expr")));
    List<String> expressions = new ArrayList<>();
    rules().forEach(r -> expressions.add((String) r.get("expr")));
    int ofRules = expressions.size();
    for (Path dashboard : dashboards()) {
      expressions.addAll(expressions(dashboard));
    }
    assertTrue(ofRules > 50 && expressions.size() > ofRules + 100, "expressions: " + ofRules + ", " + expressions.size());
    List<String> problems = new ArrayList<>();
    expressions.forEach(e -> problems.addAll(table.problems(e)));
    assertEquals(List.of(), problems);

    // Negative controls: a wrong name, label, value, and group.
    assertEquals(1, table.problems("rate(caravan_wal_apended_rows_total[5m])").size());
    assertEquals(1, table.problems("caravan_sink_state{snik=\"s3\"} > 0").size());
    assertEquals(1, table.problems("caravan_ingest_messages_total{outcome=~\"durable|lost\"}").size());
    assertEquals(1, table.problems("sum by (instance, colour) (caravan_sink_state)").size());
    assertThrows(IllegalArgumentException.class, () -> table.problems("summ(caravan_sink_state)"));
  }

  /** As rules, so that Prometheus' own parser reads them. */
  @Test
  void whatDashboardsAskIsPromQl() throws Exception {
    List<String> expressions = new ArrayList<>();
    for (Path dashboard : dashboards()) {
      expressions.addAll(expressions(dashboard));
    }
    Ran ran = promtool("check", "rules", asRules(expressions).toString());
    assertEquals(0, ran.status(), ran.output());
    assertNotEquals(0, promtool("check", "rules", asRules(List.of("sum(rate(up))")).toString()).status());
  }

  @Test
  void dashboardsAreProvisioned() throws IOException {
    Map<String, Object> datasources = Repository.yaml(FOLDER.resolve("grafana/provisioning/datasources/caravan.yaml"));
    Set<String> known = new TreeSet<>();
    Repository.list(datasources.get("datasources")).forEach(d -> known.add((String) Repository.map(d).get("uid")));
    Set<String> uids = new TreeSet<>();
    for (Path file : dashboards()) {
      JsonNode dashboard = new ObjectMapper().readTree(file.toFile());
      assertTrue(uids.add(dashboard.path("uid").asText()), "twice: uid of " + file);
      Set<Integer> ids = new TreeSet<>();
      int panels = 0;
      for (JsonNode panel : dashboard.path("panels")) {
        assertTrue(ids.add(panel.path("id").asInt()), file + ": panel id " + panel.path("id") + " is there twice");
        assertFalse(panel.path("title").asText().isEmpty(), file + ": a panel has no title");
        JsonNode at = panel.path("gridPos");
        assertTrue(at.path("x").asInt() + at.path("w").asInt() <= 24, file + ": panel " + panel.path("title") + " is too wide");
        if (!panel.path("type").asText().equals("row")) {
          panels++;
          assertFalse(panel.path("targets").isEmpty(), file + ": panel " + panel.path("title") + " asks nothing");
        }
      }
      assertTrue(panels > 10, file + ": " + panels);
      for (JsonNode source : dashboard.findValues("datasource")) {
        assertTrue(known.contains(source.path("uid").asText()), file + ": there is no datasource " + source);
      }
    }
    assertEquals(Set.of("caravan-cloud", "caravan-fleet", "caravan-gateway"), uids);
  }

  @Test
  void tracesFindTheirWay() throws IOException {
    Map<String, Object> collector = Repository.yaml(FOLDER.resolve("otel/collector.yaml"));
    Map<String, Object> pipeline = Repository.map(Repository.map(Repository.map(collector.get("service")).get("pipelines")).get("traces"));
    for (String kind : List.of("receivers", "processors", "exporters")) {
      Set<String> defined = Repository.map(collector.get(kind)).keySet();
      assertEquals(defined, Set.copyOf(Repository.list(pipeline.get(kind))), kind);
    }
    Map<String, Object> http = Repository.map(Repository.map(Repository.map(Repository.map(Repository.map(
        Repository.yaml(FOLDER.resolve("tempo/tempo.yaml")).get("distributor")).get("receivers")).get("otlp")).get("protocols")).get("http"));
    String endpoint = (String) Repository.map(Repository.map(collector.get("exporters")).get("otlphttp/tempo")).get("endpoint");
    assertEquals("http://tempo:" + String.valueOf(http.get("endpoint")).replaceFirst(".*:", ""), endpoint);
  }

  // ---- what the files say

  private static List<Map<String, Object>> rules() throws IOException {
    List<Map<String, Object>> rules = new ArrayList<>();
    for (Object group : Repository.list(Repository.yaml(RULES).get("groups"))) {
      Repository.list(Repository.map(group).get("rules")).forEach(r -> rules.add(Repository.map(r)));
    }
    return rules;
  }

  private static java.util.Optional<String> section(String handbook, String alert) {
    Matcher m = Pattern.compile("^### Alert " + alert + "$(.*?)(?=^##|\\z)", Pattern.MULTILINE | Pattern.DOTALL).matcher(handbook);
    return m.find() ? java.util.Optional.of(m.group(1)) : java.util.Optional.empty();
  }

  private static List<Path> dashboards() throws IOException {
    try (Stream<Path> files = Files.list(FOLDER.resolve("grafana/dashboards"))) {
      return files.filter(f -> f.toString().endsWith(".json")).sorted().toList();
    }
  }

  /** All of a dashboard's: of panels, annotations, and of variables what they stand for. */
  private static Collection<String> expressions(Path dashboard) throws IOException {
    JsonNode root = new ObjectMapper().readTree(dashboard.toFile());
    List<String> all = new ArrayList<>();
    root.findValues("expr").forEach(e -> all.add(e.asText()));
    for (JsonNode variable : root.path("templating").path("list")) {
      Matcher values = Pattern.compile("label_values\\((.*), (\\w+)\\)").matcher(variable.path("query").path("query").asText());
      assertTrue(values.matches(), dashboard + ": " + variable);
      all.add("sum by (" + values.group(2) + ") (" + values.group(1) + ")");
    }
    return all;
  }

  private Path asRules(List<String> expressions) throws IOException {
    StringBuilder text = new StringBuilder("groups:\n  - name: dashboards\n    rules:\n");
    for (int i = 0; i < expressions.size(); i++) {
      text.append("      - {record: \"d:").append(i).append("\", expr: ").append(new ObjectMapper().writeValueAsString(expressions.get(i))).append("}\n");
    }
    return Files.writeString(work.resolve("dashboards.yaml"), text);
  }

  /** With files where the container has its secrets. */
  private Path configuration() throws IOException {
    String text = Files.readString(PROMETHEUS.resolve("prometheus.yaml"));
    assertTrue(text.contains(SECRETS));
    for (String secret : List.of("ca.crt", "gateway-metrics.password", "cloud-metrics.password")) {
      Files.writeString(work.resolve(secret), "");
    }
    Files.createDirectories(work.resolve("rules"));
    Files.copy(RULES, work.resolve("rules/caravan.yaml"));
    return Files.writeString(work.resolve("prometheus.yaml"), text.replace(SECRETS, work.toString()));
  }

  private record Ran(int status, String output) { }

  private Ran promtool(String... arguments) throws IOException, InterruptedException {
    List<String> command = new ArrayList<>(List.of("promtool"));
    command.addAll(List.of(arguments));
    Path output = work.resolve("promtool.out");
    Process process;
    try {
      process = new ProcessBuilder(command).directory(work.toFile()).redirectErrorStream(true).redirectOutput(output.toFile()).start();
    } catch (IOException e) {
      throw new AssertionError("promtool is not there: bin/install-deps --prometheus", e);
    }
    return new Ran(process.waitFor(), Files.readString(output));
  }
}
