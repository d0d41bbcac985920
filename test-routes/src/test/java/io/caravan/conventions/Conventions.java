// SPDX-License-Identifier: Apache-2.0
package io.caravan.conventions;

import io.caravan.conventions.Repo.Key;
import io.caravan.conventions.RouteFile.Endpoint;
import io.caravan.conventions.RouteFile.Route;
import io.caravan.conventions.RouteFile.Use;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.HashMap;
import java.util.HashSet;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeSet;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import java.util.stream.Collectors;
import java.util.stream.Stream;
import org.apache.camel.support.PatternHelper;

/**
 * The rules of docs/architecture.md "Names", one method each, over the files of a repository.
 *
 * <p>A file exempts itself with a comment line {@code lint: allow <rule> - <reason>}; an exemption that nothing needs is
 * itself a finding.
 */
final class Conventions {
  /** A rule and its method. The name is what a finding and an exemption call it. */
  private final Map<String, Runnable> rules = new LinkedHashMap<>();

  private static final Pattern STEM = Pattern.compile("[a-z0-9]+(-[a-z0-9]+)*");
  private static final List<String> LABELS = List.of("in", "out", "fails", "keys", "tests");
  private static final Pattern STEP_ID = Pattern.compile("to(-[a-z0-9]+){2,}");
  private static final Set<String> OUTSIDE = Set.of("platform-http", "mqtt-server", "paho-mqtt5", "vertx-websocket", "uplink-server",
      "netty-http", "kafka", "uplink");
  private static final Set<String> INTERNAL_QUEUES = Set.of("direct", "seda");
  private static final Pattern ALLOW = Pattern.compile("(?:#|--|//|<!--)\\s*lint: allow (\\S+)(?: - (.*?))?\\s*(?:-->)?$");

  private final Repo repo;
  private final List<Finding> findings = new ArrayList<>();
  private String rule;

  Conventions(Repo repo) {
    this.repo = repo;
    rules.put("stem", this::stem);
    rules.put("route-id", this::routeId);
    rules.put("description", this::description);
    rules.put("header", this::header);
    rules.put("header-keys", this::headerKeys);
    rules.put("header-tests", this::headerTests);
    rules.put("step-id", this::stepId);
    rules.put("one-consumer", this::oneConsumer);
    rules.put("allow-list", this::allowList);
    rules.put("header-name", this::headerName);
    rules.put("literal", this::literal);
    rules.put("order-by", this::orderBy);
    rules.put("key-form", this::keyForm);
    rules.put("key-declared", this::keyDeclared);
    rules.put("sql-word", this::sqlWord);
    rules.put("key-used", this::keyUsed);
    rules.put("pid", this::pid);
    rules.put("cfg-ascii", this::cfgAscii);
    rules.put("cfg-key", this::cfgKey);
    rules.put("cfg-default", this::cfgDefault);
    rules.put("sql-strict", this::sqlStrict);
    rules.put("sql-name", this::sqlName);
    rules.put("sql-unit", this::sqlUnit);
    rules.put("feature", this::feature);
    rules.put("feature-build", this::featureBuild);
    rules.put("reasons", this::reasons);
    rules.put("metric-name", this::metricName);
    rules.put("metric-once", this::metricOnce);
    rules.put("metric-tag", this::metricTag);
  }

  Set<String> ruleNames() {
    return rules.keySet();
  }

  /** @return what breaks the rules and is not exempted, by file and line */
  List<Finding> check() {
    rules.forEach((name, check) -> {
      rule = name;
      check.run();
    });
    List<Finding> left = withoutExempted(findings);
    left.sort(Comparator.comparing(Finding::file).thenComparing(Finding::line).thenComparing(Finding::rule));
    return left;
  }

  // -- route files --------------------------------------------------------------------------------------------------

  private void stem() {
    for (String side : Repo.SIDES) {
      for (Path p : repo.files("routes/" + side, p -> true)) {
        String file = repo.name(p);
        String name = p.getFileName().toString();
        if (!name.matches(STEM + "\\.camel\\.(yaml|xml)")) {
          find(file, 0, "file name [%s] must be a kebab-case stem without a dot and .camel.yaml or .camel.xml: Camel picks the"
              + " loader by all after the first dot; rename it", name);
        } else if (p.getNameCount() != repo.root.getNameCount() + 3) {
          find(file, 0, "route file must lie in routes/%s itself, folders below it are not read; move it up", side);
        }
      }
    }
  }

  private void routeId() {
    Map<String, String> owners = new HashMap<>();
    for (RouteFile f : repo.routeFiles) {
      if (f.entry() == null) {
        find(f.file, 0, "no route has the id [%s]: the entry route is named like its file", f.stem);
      }
      for (Route r : f.routes) {
        if (r.id() == null) {
          continue;
        }
        // The template of all sinks calls direct:deliver-<sink>, and that route is named like its endpoint.
        String deliver = f.stem.replaceFirst("^sink-", "deliver-");
        if (Stream.of(f.stem, deliver).noneMatch(name -> r.id().equals(name) || r.id().startsWith(name + "-"))) {
          find(f.file, r.line(), "route id [%s] must be [%s] or begin with [%s-]", r.id(), f.stem, f.stem);
        }
        String owner = owners.putIfAbsent(f.side + "/" + r.id(), f.file);
        if (owner != null) {
          find(f.file, r.line(), "route id [%s] belongs to %s already: Camel would silently replace that route; rename it",
              r.id(), owner);
        }
      }
    }
  }

  private void description() {
    for (RouteFile f : repo.routeFiles) {
      for (Route r : f.routes) {
        if (r.id() == null) {
          find(f.file, r.line(), "route from [%s] has no id, so it cannot be updated safely: add id: %s-<what>",
              r.from() == null ? "" : r.from().uri(), f.stem);
        }
        // A templatedRoute has no place for one; its file's first line says what it does.
        if ((r.description() == null || r.description().isBlank()) && !r.kind().equals("templatedRoute")) {
          find(f.file, r.line(), "route [%s] has no description: add one sentence, tools print it", r.id());
        }
      }
    }
  }

  private void header() {
    for (RouteFile f : repo.routeFiles) {
      List<String> lines = f.header;
      if (lines.isEmpty()) {
        find(f.file, 1, "file has no header: begin with one sentence, then %s, then the SPDX line", LABELS);
        continue;
      }
      if (lines.size() > 10) {
        find(f.file, 11, "header has [%d] lines, at most 10 are read at 3 am: shorten it", lines.size());
      }
      Route entry = f.entry();
      String sentence = lines.get(0).strip();
      if (entry != null && entry.description() != null && !sentence.equals(unquoted(entry.description()))) {
        find(f.file, 1, "first line [%s] must be the description of route [%s], [%s]: make them the same", sentence, f.stem,
            unquoted(entry.description()));
      }
      List<String> labels = new ArrayList<>();
      boolean spdx = false;
      for (int i = 1; i < lines.size(); i++) {
        Matcher label = Pattern.compile(" ([a-z]+) +\\S.*").matcher(lines.get(i));
        if (label.matches()) {
          labels.add(label.group(1));
        }
        spdx |= lines.get(i).equals(" SPDX-License-Identifier: Apache-2.0");
      }
      if (!labels.equals(LABELS)) {
        find(f.file, 1, "labels %s must be %s, in this order, each with a text", labels, LABELS);
      }
      if (!spdx) {
        find(f.file, lines.size(), "header must have the line [SPDX-License-Identifier: Apache-2.0]");
      }
    }
  }

  private void headerKeys() {
    for (RouteFile f : repo.routeFiles) {
      String listed = label(f, "keys");
      if (listed == null) {
        continue;
      }
      List<String> patterns = words(listed, "[a-z0-9]+(\\.[a-z0-9]+)*\\.(\\*|[a-z0-9]+)");
      Set<String> missing = f.keys.stream().filter(u -> !u.comment() && !isSqlWord(u)).map(Use::key)
          .filter(k -> patterns.stream().noneMatch(p -> p.equals(k) || p.endsWith("*") && k.startsWith(p.substring(0, p.length() - 1))))
          .collect(Collectors.toCollection(TreeSet::new));
      if (!missing.isEmpty()) {
        find(f.file, labelLine(f, "keys"), "label keys [%s] must name %s, which the file uses: add it", listed, missing);
      }
    }
  }

  private void headerTests() {
    Set<String> classes = repo.files(".", p -> p.toString().endsWith(".java") && p.toString().contains("/src/test/")).stream()
        .map(p -> p.getFileName().toString().replace(".java", "")).collect(Collectors.toSet());
    for (RouteFile f : repo.routeFiles) {
      String listed = label(f, "tests");
      if (listed == null) {
        continue;
      }
      List<String> folders = words(listed, "test-routes/cases/[a-z0-9-]+/?");
      List<String> named = words(listed, "[A-Z][A-Za-z0-9]*(Test|IT)");
      if (folders.isEmpty() && named.isEmpty()) {
        find(f.file, labelLine(f, "tests"), "label tests [%s] must name a folder test-routes/cases/<stem>/ or a test class", listed);
      }
      for (String folder : folders) {
        if (repo.files(folder, p -> true).isEmpty()) {
          find(f.file, labelLine(f, "tests"), "folder [%s] has no case: add one, or name the tests that there are", folder);
        }
      }
      for (String test : named) {
        if (!classes.contains(test)) {
          find(f.file, labelLine(f, "tests"), "test class [%s] does not exist: correct the name", test);
        }
      }
    }
  }

  private void stepId() {
    for (RouteFile f : repo.routeFiles) {
      for (Endpoint e : f.endpoints) {
        if ((e.kind().equals("to") || e.kind().equals("toD")) && (e.id() == null || !STEP_ID.matcher(e.id()).matches())) {
          find(f.file, e.line(), "%s [%s] has id [%s], it must be to-<system>-<what>", e.kind(), e.uri(), e.id());
        }
      }
    }
    // Camel refuses a route whose step id another route of the context has; templates get a prefix per instance.
    Map<String, String> owners = new HashMap<>();
    for (RouteFile f : repo.routeFiles) {
      for (Endpoint e : f.endpoints) {
        String owner = e.id() == null ? null : owners.putIfAbsent(f.side + "/" + e.id(), f.file + ":" + e.line());
        if (owner != null) {
          find(f.file, e.line(), "step id [%s] is taken by %s: Camel starts only one of the two routes; rename it", e.id(), owner);
        }
      }
    }
  }

  private void oneConsumer() {
    Map<String, List<String>> consumers = new HashMap<>();
    for (RouteFile f : repo.routeFiles) {
      for (Route r : f.routes) {
        if (r.from() != null && INTERNAL_QUEUES.contains(r.from().scheme())) {
          for (String side : f.sides()) {
            consumers.computeIfAbsent(side + " " + r.from().scheme() + ":" + r.from().name(), k -> new ArrayList<>()).add(f.file + ":" + r.line());
          }
        }
      }
    }
    for (RouteFile f : repo.routeFiles) {
      for (Endpoint e : f.endpoints) {
        if (!INTERNAL_QUEUES.contains(e.scheme()) || e.name().contains("{{") || e.name().contains("${")
            || "false".equals(e.parameters().get("failIfNoConsumers"))) {
          continue;
        }
        String name = e.scheme() + ":" + e.name();
        List<String> found = consumers.getOrDefault(f.side + " " + name, List.of());
        if (found.isEmpty()) {
          find(f.file, e.line(), "no route of the %s consumes from [%s]: correct the name, or say failIfNoConsumers: false", f.side, name);
        } else if (found.size() > 1 && e.kind().equals("from")) {
          find(f.file, e.line(), "[%s] is consumed by %d routes %s: keep one", name, found.size(), found);
        }
      }
    }
  }

  /** What no sender may set; CamelHttpPath and the like are set by the consumer itself. */
  private static final List<String> STEERING = List.of("CamelHttpUri", "CamelHttpQuery", "CamelHttpMethod", "CamelSqlQuery", "CamelSqlParameters",
      "CamelFileName", "CamelOverruleFileName", "CamelAwsS3Key", "CamelAwsS3BucketName", "CamelBeanMethodName", "CamelPahoOverrideTopic",
      "CamelJsonValidatorSchema", "CamelToEndpoint", "CamelVertxWebsocket.sendToAll", "kafka.OVERRIDE_TOPIC", "kafka.KEY", "org.apache.camel.x");

  private void allowList() {
    for (RouteFile f : repo.routeFiles) {
      for (Route r : f.routes) {
        if (r.from() == null || !OUTSIDE.contains(r.from().scheme())) {
          continue;
        }
        List<Tree> steps = steps(r);
        boolean first = !steps.isEmpty() && steps.get(0).name().equals("removeHeaders") && "*".equals(steps.get(0).text("pattern"));
        if (!first) {
          find(f.file, r.line(), "route [%s] takes input from [%s]: its first step must be removeHeaders with pattern \"*\" and the"
              + " headers it may keep as excludePattern", r.id(), r.from().scheme());
          continue;
        }
        String kept = steps.get(0).text("excludePattern");
        List<String> steering = kept == null ? List.of() : STEERING.stream().filter(header -> PatternHelper.matchPattern(header, kept)).toList();
        if (!steering.isEmpty()) {
          find(f.file, r.line(), "route [%s] keeps headers that steer a Camel component, for example [%s], by its excludePattern [%s]: name the"
              + " headers one by one", r.id(), steering.get(0), kept);
        }
      }
    }
  }

  /** The steps of a route: YAML has them in a list below from, XML beside it. */
  private static List<Tree> steps(Route r) {
    Tree from = r.tree().name().equals("from") ? r.tree() : r.tree().child("from");
    Tree steps = from.child("steps") != null ? from.child("steps") : r.tree().child("steps");
    if (steps != null) {
      return steps.children().stream().map(item -> item.children().isEmpty() ? item : item.children().get(0)).toList();
    }
    return r.tree().children().stream()
        .filter(c -> !c.children().isEmpty() && !c.name().equals("from") && !c.name().equals("errorHandler")).toList();
  }

  private void headerName() {
    for (RouteFile f : repo.routeFiles) {
      f.tree.all().forEach(node -> {
        if (node.name().equals("setHeader") || node.name().equals("setHeaders")) {
          node.all().filter(n -> n.name().equals("name")).forEach(name -> {
            if (name.value().toLowerCase().matches("(camel|kafka|org\\.apache\\.camel).*")) {
              find(f.file, name.line(), "header [%s] steers a Camel component: set a parameter of the endpoint, or a Caravan* header",
                  name.value());
            }
          });
        } else if (node.name().equals("setProperty")) {
          find(f.file, node.line(), "setProperty [%s]: properties are Camel's, use setVariable", node.text("name"));
        }
      });
    }
  }

  private static final Pattern ADDRESS = Pattern.compile("\\b\\d{1,3}(\\.\\d{1,3}){3}\\b|\\blocalhost\\b|//[A-Za-z0-9.-]+:\\d+|:\\d{4,5}\\b");
  private static final Set<String> OPERATORS = Set.of("host", "port", "brokerurl", "username", "password", "topic", "brokers",
      "bootstrapservers", "accesskey", "secretkey", "token", "bucket");

  private void literal() {
    for (RouteFile f : repo.routeFiles) {
      for (Endpoint e : f.endpoints) {
        Matcher address = ADDRESS.matcher(e.uri());
        if (address.find()) {
          find(f.file, e.line(), "[%s] holds the address [%s]: an operator may change it, use a {{key}}", e.uri(), address.group());
        }
        if (Set.of("paho-mqtt5", "kafka").contains(e.scheme()) && !e.name().isEmpty() && !e.name().contains("{{")) {
          find(f.file, e.line(), "[%s] holds the topic [%s]: an operator may change it, use a {{key}}", e.uri(), e.name());
        }
        e.parameters().forEach((name, value) -> {
          if (value == null) {
            return;
          }
          boolean operators = OPERATORS.contains(name.toLowerCase());
          if (operators && !value.matches("\\{\\{.*|\\$\\{.*|#.*") || !operators && !name.equals("query") && ADDRESS.matcher(value).find()) {
            find(f.file, e.line(), "parameter %s has the literal [%s]: an operator may change it, use a {{key}}", name, value);
          }
        });
      }
    }
  }

  private static final Pattern ROWS = Pattern.compile("(?is)\\bselect\\b.*\\bfrom\\b");

  private void orderBy() {
    for (RouteFile f : repo.routeFiles) {
      for (Endpoint e : f.endpoints) {
        String query = e.parameters().getOrDefault("query", e.name());
        if (!e.scheme().equals("sql") || "SelectOne".equals(e.parameters().get("outputType"))) {
          continue;
        }
        boolean selects = query.matches("(?is)\\s*(select|with)\\b.*");
        boolean appends = query.matches("(?is)\\s*insert\\b.*") && ROWS.matcher(query).find();
        if ((selects || appends) && ROWS.matcher(query).find() && !query.matches("(?is).*\\border\\s+by\\b[^()]*$")) {
          find(f.file, e.line(), "step [%s] selects several rows without an ORDER BY of its own: SQLite may give them in any order", e.id());
        }
      }
    }
  }

  // -- configuration ------------------------------------------------------------------------------------------------

  private static final Set<String> TYPES = Set.of("string", "int", "long", "bool", "path", "enum", "list", "host", "secret");

  private void keyForm() {
    for (Key k : repo.keys) {
      if (!k.name().matches("[a-z][a-z0-9]*(\\.[a-z0-9]+)+")) {
        find(k.file(), k.line(), "key [%s] must be dotted and lower case, its unit last", k.name());
      }
      if (k.type() == null || !TYPES.contains(k.type())) {
        find(k.file(), k.line(), "key [%s] has type [%s], it must be one of %s", k.name(), k.type(), new TreeSet<>(TYPES));
      }
      if (k.tree().text("doc") == null) {
        find(k.file(), k.line(), "key [%s] has no doc: add one sentence", k.name());
      }
      if (Set.of("int", "long").contains(String.valueOf(k.type())) && (k.tree().text("min") == null || k.tree().text("max") == null)) {
        find(k.file(), k.line(), "key [%s] is a number without min and max: say what is allowed", k.name());
      }
      if ("secret".equals(k.type()) && k.defaultValue() != null && !k.defaultValue().isEmpty()) {
        find(k.file(), k.line(), "key [%s] is a secret with a default: no default password anywhere; remove it", k.name());
      }
    }
    Map<String, Key> seen = new HashMap<>();
    for (Key k : repo.keys) {
      for (String side : Repo.SIDES) {
        Key other = k.on(side) ? seen.putIfAbsent(side + "/" + k.name(), k) : null;
        if (other != null) {
          find(k.file(), k.line(), "key [%s] is declared in %s:%d already: keep one", k.name(), other.file(), other.line());
        }
      }
    }
  }

  private void keyDeclared() {
    for (RouteFile f : repo.routeFiles) {
      Set<String> told = new HashSet<>();
      for (Use use : f.keys) {
        for (String side : f.sides()) {
          if (!isSqlWord(use) && repo.key(side, use.key()) == null && told.add(side + use.key())) {
            find(f.file, use.line(), "key [%s] is not declared for the %s: add it to config/%s/keys/<pid>.yaml or common, or correct it",
                use.key(), side, side);
          }
        }
      }
    }
  }

  private static boolean isSqlWord(Use use) {
    return use.key().startsWith("sql.");
  }

  private void sqlWord() {
    for (RouteFile f : repo.routeFiles) {
      Set<String> told = new HashSet<>();
      for (Use use : f.keys) {
        if (isSqlWord(use) && told.add(use.key())) {
          if (repo.sqlWords.isEmpty()) {
            find(f.file, use.line(), "word [%s]: no store says what it calls it", use.key());
          }
          repo.sqlWords.forEach((dialect, words) -> {
            if (!words.contains(use.key())) {
              find(f.file, use.line(), "word [%s] is not in %s: the words that there are are in docs/route-authors.md", use.key(), dialect);
            }
          });
        }
      }
    }
  }

  private void keyUsed() {
    Set<String> literals = new HashSet<>();
    Pattern literal = Pattern.compile("\"(?:\\{\\{)?([a-z][a-z0-9]*(?:\\.[a-z0-9]+)+)(?:}})?\"");
    for (Path p : repo.java()) {
      Matcher m = literal.matcher(repo.text(p));
      while (m.find()) {
        literals.add(m.group(1));
      }
    }
    // The launcher reads keys of the JVM itself.
    String launcher = repo.files("karaf-assembly", p -> p.toString().contains("/bin/")).stream().map(repo::text)
        .collect(Collectors.joining("\n"));
    for (Key k : repo.keys) {
      boolean inRoutes = repo.routeFiles.stream().filter(f -> f.sides().stream().anyMatch(k::on)).flatMap(f -> f.keys.stream())
          .anyMatch(u -> !u.comment() && u.key().equals(k.name()));
      if (!inRoutes && !literals.contains(k.name()) && !launcher.contains(k.name())) {
        find(k.file(), k.line(), "key [%s] is used by no route and no bundle: use it or remove it", k.name());
      }
    }
  }

  private List<Path> cfgFiles() {
    return repo.files("config", p -> p.toString().endsWith(".cfg"));
  }

  private void pid() {
    Set<Path> files = new TreeSet<>(cfgFiles());
    for (Key k : repo.keys) {
      files.add(repo.root.resolve(k.file()));
    }
    for (Path p : files) {
      String pid = p.getFileName().toString().replaceFirst("\\.(cfg|yaml)$", "");
      if (pid.startsWith("io.caravan") && pid.contains("-")) {
        find(repo.name(p), 0, "PID [%s] has a hyphen: it would be read as factory [%s] and an instance; use a dot", pid,
            pid.substring(0, pid.indexOf('-')));
      }
    }
  }

  private void cfgAscii() {
    for (Path p : cfgFiles()) {
      List<String> lines = repo.lines(p);
      for (int i = 0; i < lines.size(); i++) {
        Matcher m = Pattern.compile("[^\\x00-\\x7f]").matcher(lines.get(i));
        if (m.find()) {
          find(repo.name(p), i + 1, "character [%s] is not ASCII: a .cfg file is read as ISO-8859-1; spell it otherwise", m.group());
        }
      }
    }
  }

  /** A setting in a cfg file, in force or commented out with one {@code #}. */
  private record Setting(String file, int line, boolean comment, String key, String value) { }

  private List<Setting> settings() {
    Pattern form = Pattern.compile("(#?)\\s?([A-Za-z][A-Za-z0-9._-]*)\\s*=\\s*(.*?)\\s*");
    List<Setting> settings = new ArrayList<>();
    for (Path p : cfgFiles()) {
      if (!p.getFileName().toString().startsWith("io.caravan")) {
        continue;
      }
      List<String> lines = repo.lines(p);
      for (int i = 0; i < lines.size(); i++) {
        Matcher m = form.matcher(lines.get(i));
        if (m.matches()) {
          settings.add(new Setting(repo.name(p), i + 1, !m.group(1).isEmpty(), m.group(2), m.group(3)));
        }
      }
    }
    return settings;
  }

  private Key declared(Setting s) {
    String scope = s.file.split("/")[1];
    return repo.keys.stream()
        .filter(k -> k.name().equals(s.key) && (scope.equals("common") || k.on(scope))).findFirst().orElse(null);
  }

  private void cfgKey() {
    for (Setting s : settings()) {
      Key k = declared(s);
      String pid = Path.of(s.file).getFileName().toString().replace(".cfg", "");
      if (k == null) {
        find(s.file, s.line, "key [%s] is not declared: add it to config/*/keys/%s.yaml or correct it", s.key, pid);
      } else if (!k.pid().equals(pid)) {
        find(s.file, s.line, "key [%s] belongs to %s.cfg (declared in %s): move it", s.key, k.pid(), k.file());
      }
    }
  }

  private void cfgDefault() {
    for (Setting s : settings()) {
      Key k = declared(s);
      if (k != null && s.comment && !s.value.equals(k.defaultValue() == null ? "" : k.defaultValue())) {
        find(s.file, s.line, "commented-out value [%s] of [%s] must be the default [%s] of %s:%d", s.value, s.key, k.defaultValue(),
            k.file(), k.line());
      }
    }
  }

  // -- SQL ----------------------------------------------------------------------------------------------------------

  private record Table(String file, int line, String name, String columns, String options) { }

  private List<Table> tables() {
    Pattern form = Pattern.compile("(?is)CREATE TABLE(?: IF NOT EXISTS)?\\s+(\\w+)\\s*\\((.*?)\\n?\\)"
        + "((?:[^();]|(?:WITH|RANGE) \\([^()]*\\))*);");
    List<Table> tables = new ArrayList<>();
    for (Path p : repo.files("bundles", p -> p.toString().endsWith(".sql"))) {
      // Comments blanked, so that positions stay.
      Matcher comment = Pattern.compile("--[^\\n]*").matcher(repo.text(p));
      String text = comment.replaceAll(m -> " ".repeat(m.end() - m.start()));
      Matcher m = form.matcher(text);
      while (m.find()) {
        int line = (int) text.substring(0, m.start()).chars().filter(c -> c == '\n').count() + 1;
        tables.add(new Table(repo.name(p), line, m.group(1), m.group(2), m.group(3)));
      }
    }
    return tables;
  }

  private void sqlStrict() {
    for (Table t : tables()) {
      // PostgreSQL is always strict.
      if (!t.file.startsWith("bundles/postgres/") && !t.options.toUpperCase().contains("STRICT")) {
        find(t.file, t.line, "table [%s] is not STRICT: a device id 0012 would come back as 12; add STRICT after )", t.name);
      }
    }
  }

  private void sqlName() {
    for (Table t : tables()) {
      if (!t.name.matches("[a-z]+(_[a-z]+)*") || t.name.matches(".*[^su]s")) {
        find(t.file, t.line, "table [%s] must be a singular snake_case noun", t.name);
      }
    }
  }

  private void sqlUnit() {
    Pattern column = Pattern.compile("(?m)^\\s*(\\w+)\\s+(INTEGER|REAL|BIGINT)\\b");
    Pattern bare = Pattern.compile("(.*_)?(at|time|since|until|before|after|age|ttl|timeout|duration|interval|start|width|expires|size|length|mono)");
    for (Table t : tables()) {
      Matcher m = column.matcher(t.columns);
      while (m.find()) {
        String name = m.group(1);
        if (!name.equals(name.toLowerCase())) {
          find(t.file, t.line, "column [%s.%s] must be snake_case", t.name, name);
        } else if (bare.matcher(name).matches()) {
          find(t.file, t.line, "column [%s.%s] has no unit: end it in _ms or _bytes", t.name, name);
        }
      }
    }
  }

  // -- names across files -------------------------------------------------------------------------------------------

  private void feature() {
    Set<String> features = new HashSet<>();
    Pattern form = Pattern.compile("<feature\\s[^>]*name=\"([^\"]+)\"");
    for (Path p : repo.files("features", p -> p.toString().endsWith(".xml"))) {
      Matcher m = form.matcher(repo.text(p));
      while (m.find()) {
        features.add(m.group(1));
      }
    }
    for (RouteFile f : repo.routeFiles) {
      String name = (f.side.equals("cloud") ? "caravan-cloud-" : "caravan-") + f.stem;
      if (!features.contains(name)) {
        find(f.file, 0, "there is no feature [%s] that installs this file: add it to features/*/src/main/feature/feature.xml", name);
      }
    }
  }

  /** Maven knows nothing of what a feature file names: without a dependency a parallel build packs an older bundle, or none. */
  private void featureBuild() {
    Pattern form = Pattern.compile("<bundle[^>]*>mvn:io\\.caravan/([a-z0-9-]+)/");
    for (Path p : repo.files("features", p -> p.toString().endsWith("src/main/feature/feature.xml"))) {
      Path pom = p.getParent().getParent().getParent().getParent().resolve("pom.xml");
      String dependencies = Files.exists(pom) ? repo.text(pom) : "";
      Set<String> named = new TreeSet<>();
      Matcher m = form.matcher(repo.text(p));
      while (m.find()) {
        named.add(m.group(1));
      }
      for (String artifact : named) {
        if (!dependencies.contains("<artifactId>" + artifact + "</artifactId>")) {
          find(repo.name(p), 0, "bundle [%s] is no dependency of %s, so the build does not wait for it: add it there, scope provided", artifact, repo.name(pom));
        }
      }
    }
  }

  /** The words of docs/contract.md section 6. */
  static Set<String> vocabulary(String contract) {
    Matcher section = Pattern.compile("(?s)\\n## 6\\. Reasons\\n(.*?)(?=\\n## |\\z)").matcher(contract);
    Set<String> words = new TreeSet<>();
    if (section.find()) {
      Matcher m = Pattern.compile("`([a-z0-9_]+)`").matcher(section.group(1));
      while (m.find()) {
        words.add(m.group(1));
      }
    }
    return words;
  }

  private static final Pattern CONSTANT = Pattern.compile("^\\s+([A-Z][A-Z0-9_]+)\\s*[,;(]");

  /** The constants of every enum Reason. */
  private Set<String> enumerated() {
    Set<String> constants = new HashSet<>();
    repo.java().stream().filter(p -> p.getFileName().toString().equals("Reason.java")).flatMap(p -> repo.lines(p).stream())
        .map(CONSTANT::matcher).filter(Matcher::find).forEach(m -> constants.add(m.group(1).toLowerCase()));
    return constants;
  }

  private void reasons() {
    Path contract = repo.root.resolve("docs/contract.md");
    if (!Files.exists(contract)) {
      return;
    }
    Set<String> vocabulary = vocabulary(repo.text(contract));
    String code = repo.java().stream().map(repo::text).collect(Collectors.joining("\n"));
    String expectations = repo.files("test-routes/cases", p -> p.getFileName().toString().contains("expected")).stream()
        .map(repo::text).collect(Collectors.joining("\n"));
    for (String reason : vocabulary) {
      if (!code.contains("\"" + reason + "\"") && !enumerated().contains(reason)) {
        find("docs/contract.md", 0, "reason [%s] is given by no bundle: remove it or make it real", reason);
      }
      if (!Pattern.compile("\\b" + reason + "\\b").matcher(expectations).find()) {
        find("docs/contract.md", 0, "reason [%s] is expected by no case: add test-routes/cases/ingest/%s/", reason, reason.replace('_', '-'));
      }
    }
    // Whoever names a reason: a constant of enum Reason, .tag("reason", ..), reason=.. in a route or a case.
    List<Pattern> forms = List.of(Pattern.compile("\"reason\"\\s*,\\s*\"([a-z0-9_]+)\""),
        Pattern.compile("(?m)^reason\\s*=\\s*([a-z0-9_]+)\\s*$"), Pattern.compile("\\breason=([a-z0-9_]+)"));
    List<Path> places = new ArrayList<>(repo.java());
    places.addAll(repo.files("test-routes/cases", p -> p.toString().endsWith(".properties")));
    repo.routeFiles.forEach(f -> places.add(f.path));
    for (Path p : places) {
      List<String> lines = repo.lines(p);
      for (int i = 0; i < lines.size(); i++) {
        Set<String> named = new TreeSet<>();
        for (Pattern form : forms) {
          Matcher m = form.matcher(lines.get(i));
          while (m.find()) {
            named.add(m.group(1));
          }
        }
        if (p.getFileName().toString().equals("Reason.java")) {
          Matcher m = CONSTANT.matcher(lines.get(i));
          if (m.find()) {
            named.add(m.group(1).toLowerCase());
          }
        }
        named.removeAll(vocabulary);
        for (String stray : named) {
          find(repo.name(p), i + 1, "reason [%s] is not in the closed vocabulary of docs/contract.md section 6: use one of %s", stray, vocabulary);
        }
      }
    }
  }

  private record Metric(String file, int line, String name, boolean inRoute) { }

  private List<Metric> metrics() {
    Pattern literal = Pattern.compile("\"(caravan[._][A-Za-z0-9._-]*)\"");
    List<Metric> metrics = new ArrayList<>();
    for (Path p : repo.java()) {
      if (!repo.text(p).contains("micrometer")) {
        continue;
      }
      List<String> lines = repo.lines(p);
      for (int i = 0; i < lines.size(); i++) {
        Matcher m = literal.matcher(lines.get(i));
        while (m.find()) {
          if (m.group(1).matches("caravan\\.v\\d+")) {
            continue; // the uplink's protocol
          }
          metrics.add(new Metric(repo.name(p), i + 1, m.group(1), false));
        }
      }
    }
    for (RouteFile f : repo.routeFiles) {
      for (Endpoint e : f.endpoints) {
        if (e.scheme().equals("micrometer")) {
          metrics.add(new Metric(f.file, e.line(), e.name().replaceFirst("^[a-z]+:", ""), true));
        }
      }
    }
    return metrics;
  }

  private void metricName() {
    for (Metric m : metrics()) {
      // Micrometer's dots are underscores on the wire.
      String name = m.name.replace('.', '_');
      if (!name.matches("caravan(_[a-z0-9]+){2,}")) {
        find(m.file, m.line, "metric [%s] must be caravan_<area>_<what>_<unit>", m.name);
      } else if (name.matches(".*_(ms|millis|milliseconds|time|age|duration|latency|size|length)")) {
        find(m.file, m.line, "metric [%s] must end in its base unit, _seconds or _bytes", m.name);
      }
    }
  }

  private void metricOnce() {
    Map<String, Metric> owners = new HashMap<>();
    for (Metric m : metrics()) {
      Metric owner = owners.putIfAbsent(m.name.replace('.', '_'), m);
      if (owner != null && !owner.file.equals(m.file)) {
        find(m.file, m.line, "metric [%s] is counted by %s:%d too, so everything counts twice: keep one", m.name, owner.file, owner.line);
      }
    }
  }

  private void metricTag() {
    Pattern tag = Pattern.compile("(?:\\.tags?|Tags?\\.of)\\s*\\(\\s*\"((?:device|topic|message|correlation|client)[A-Za-z_.]*)\"");
    for (Path p : repo.java()) {
      List<String> lines = repo.lines(p);
      for (int i = 0; i < lines.size(); i++) {
        Matcher m = tag.matcher(lines.get(i));
        while (m.find()) {
          find(repo.name(p), i + 1, "metric tag [%s] has as many values as there are devices or messages: leave it out", m.group(1));
        }
      }
    }
    for (RouteFile f : repo.routeFiles) {
      for (Endpoint e : f.endpoints) {
        String tags = e.scheme().equals("micrometer") ? String.valueOf(e.parameters().get("tags")) : "";
        if (tags.matches("(?i).*\\b(device|topic|message|correlation)\\w*=.*")) {
          find(f.file, e.line(), "metric tags [%s] have as many values as there are devices or messages: leave them out", tags);
        }
      }
    }
  }

  // -- helpers ------------------------------------------------------------------------------------------------------

  private void find(String file, int line, String message, Object... values) {
    findings.add(new Finding(rule, file, line, String.format(message, values)));
  }

  private static String unquoted(String text) {
    return text.strip().replaceAll("^[\"']|[\"']$", "");
  }

  private static String label(RouteFile f, String label) {
    return f.header.stream().filter(l -> l.matches(" " + label + " +\\S.*")).map(l -> l.strip().substring(label.length()).strip())
        .findFirst().orElse(null);
  }

  private static int labelLine(RouteFile f, String label) {
    for (int i = 0; i < f.lines.size(); i++) {
      if (f.lines.get(i).matches("#? *" + label + " +\\S.*")) {
        return i + 1;
      }
    }
    return 0;
  }

  private static List<String> words(String text, String form) {
    Matcher m = Pattern.compile("(?<![\\w./-])" + form).matcher(text);
    List<String> words = new ArrayList<>();
    while (m.find()) {
      words.add(m.group());
    }
    return words;
  }

  private List<Finding> withoutExempted(List<Finding> all) {
    record Allow(String file, int line, String rule) { }
    Map<Allow, Boolean> allows = new LinkedHashMap<>();
    List<Finding> left = new ArrayList<>();
    Set<Path> places = new TreeSet<>(repo.java());
    for (String folder : List.of("routes", "config", "bundles")) {
      places.addAll(repo.files(folder, p -> p.toString().matches(".*\\.(yaml|xml|cfg|sql)")));
    }
    for (Path p : places) {
      List<String> lines = repo.lines(p);
      for (int i = 0; i < lines.size(); i++) {
        Matcher m = ALLOW.matcher(lines.get(i));
        if (!m.find()) {
          continue;
        }
        if (!rules.containsKey(m.group(1))) {
          left.add(new Finding("allow", repo.name(p), i + 1, "rule [" + m.group(1) + "] does not exist, it must be one of " + rules.keySet()));
        } else if (m.group(2) == null || m.group(2).isBlank()) {
          left.add(new Finding("allow", repo.name(p), i + 1, "exemption from [" + m.group(1) + "] gives no reason: add [ - <reason>]"));
        } else {
          allows.put(new Allow(repo.name(p), i + 1, m.group(1)), false);
        }
      }
    }
    for (Finding f : all) {
      Allow allow = allows.keySet().stream().filter(a -> a.file.equals(f.file()) && a.rule.equals(f.rule())).findFirst().orElse(null);
      if (allow == null) {
        left.add(f);
      } else {
        allows.put(allow, true);
      }
    }
    allows.forEach((allow, needed) -> {
      if (!needed) {
        left.add(new Finding("allow", allow.file, allow.line, "exemption from [" + allow.rule + "] is needed no more: remove it"));
      }
    });
    return left;
  }
}
