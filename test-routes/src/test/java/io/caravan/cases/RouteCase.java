// SPDX-License-Identifier: Apache-2.0
package io.caravan.cases;

import java.io.IOException;
import java.io.Reader;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.TreeMap;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import java.util.stream.Collectors;
import java.util.stream.Stream;

/**
 * One folder {@code cases/<stem>/<case>/}, read; the format is in test-routes/README.md.
 */
final class RouteCase {
  private static final Pattern NUMBERED = Pattern.compile("(\\d+)\\.(sql|json|hex|properties|expected\\.properties|expected\\.json|expected\\.csv)");

  /** What is done in one step, in this order: SQL, message, expectations. */
  record Step(int number, String sql, byte[] body, Map<String, String> properties, Map<String, String> expected,
      String expectedJson, Table expectedRows) {
    boolean isMessage() {
      return body != null || properties != null;
    }
  }

  /** An {@code .expected.csv}: a query in comment lines, then its rows. Cell {@code *} stands for any value. */
  record Table(Path file, String query, List<List<String>> rows) { }

  final Path folder;
  final String stem;
  final Map<String, String> settings = new TreeMap<>();
  final List<Step> steps = new ArrayList<>();
  /** Files laid over the side's configuration folder; may not exist. */
  final Path config;

  RouteCase(Path folder) throws IOException {
    this.folder = folder;
    this.stem = folder.getParent().getFileName().toString();
    this.config = folder.resolve("config");
    settings.putAll(properties(folder.resolveSibling("case.properties")));
    settings.putAll(properties(folder.resolve("case.properties")));
    readSteps();
    if (steps.stream().allMatch(s -> s.expected == null && s.expectedJson == null && s.expectedRows == null)) {
      throw new IllegalArgumentException("case [" + folder + "] expects nothing: add <n>.expected.properties, <n>.expected.json or expected.csv");
    }
  }

  private void readSteps() throws IOException {
    Map<Integer, Map<String, Path>> files = new TreeMap<>();
    try (Stream<Path> list = Files.list(folder)) {
      for (Path p : list.sorted().toList()) {
        String name = p.getFileName().toString();
        Matcher m = NUMBERED.matcher(name);
        if (m.matches()) {
          files.computeIfAbsent(Integer.valueOf(m.group(1)), n -> new TreeMap<>()).put(m.group(2), p);
        } else if (name.equals("expected.csv")) {
          files.computeIfAbsent(Integer.MAX_VALUE, n -> new TreeMap<>()).put(name, p);
        } else if (!name.equals("case.properties") && !name.equals("config")) {
          throw new IllegalArgumentException("file [" + p + "] is not one of case.properties, config/, expected.csv or " + NUMBERED);
        }
      }
    }
    for (Map.Entry<Integer, Map<String, Path>> e : files.entrySet()) {
      Map<String, Path> f = e.getValue();
      byte[] body = f.containsKey("json") ? Files.readAllBytes(f.get("json")) : f.containsKey("hex") ? hex(f.get("hex")) : null;
      steps.add(new Step(e.getKey(), text(f.get("sql")), body,
          f.containsKey("properties") ? properties(f.get("properties")) : null,
          f.containsKey("expected.properties") ? properties(f.get("expected.properties")) : null,
          text(f.get("expected.json")), table(f.get("expected.csv"))));
    }
  }

  private static String text(Path file) throws IOException {
    return file == null ? null : Files.readString(file);
  }

  static Map<String, String> properties(Path file) throws IOException {
    Properties properties = new Properties();
    if (Files.exists(file)) {
      try (Reader in = Files.newBufferedReader(file)) {
        properties.load(in);
      }
    }
    Map<String, String> map = new TreeMap<>();
    properties.stringPropertyNames().forEach(k -> map.put(k, properties.getProperty(k)));
    return map;
  }

  /** Hexadecimal digits, blanks, and comment lines with {@code #}. */
  private static byte[] hex(Path file) throws IOException {
    String digits = Files.readAllLines(file).stream().filter(l -> !l.startsWith("#")).collect(Collectors.joining()).replaceAll("\\s", "");
    return java.util.HexFormat.of().parseHex(digits);
  }

  private static Table table(Path file) throws IOException {
    if (file == null) {
      return null;
    }
    List<String> lines = Files.readAllLines(file);
    String query = lines.stream().takeWhile(l -> l.startsWith("--")).map(l -> l.substring(2).strip()).collect(Collectors.joining(" "));
    if (query.isEmpty()) {
      throw new IllegalArgumentException("file [" + file + "] must begin with its query in lines of [-- ]");
    }
    List<List<String>> rows = lines.stream().dropWhile(l -> l.startsWith("--")).filter(l -> !l.isEmpty()).map(RouteCase::cells).toList();
    return new Table(file, query, rows);
  }

  /** A line of comma-separated values; a cell in double quotes may hold commas, and quotes when doubled. */
  private static List<String> cells(String line) {
    List<String> cells = new ArrayList<>();
    Matcher m = Pattern.compile("\\G(?:\"((?:[^\"]|\"\")*)\"|([^,\"]*))(,|$)").matcher(line);
    while (m.find()) {
      cells.add(m.group(1) != null ? m.group(1).replace("\"\"", "\"") : m.group(2));
      if (m.group(3).isEmpty()) {
        return cells;
      }
    }
    throw new IllegalArgumentException("line [" + line + "] is not comma-separated values");
  }

  /** The values of keys that begin with the prefix, without it. */
  static Map<String, String> below(String prefix, Map<String, String> map) {
    Map<String, String> found = new TreeMap<>();
    map.forEach((k, v) -> {
      if (k.startsWith(prefix)) {
        found.put(k.substring(prefix.length()), v);
      }
    });
    return found;
  }
}
