// SPDX-License-Identifier: Apache-2.0
package io.caravan.conventions;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.HashSet;
import java.util.List;
import java.util.Locale;
import java.util.Set;
import java.util.TreeSet;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import java.util.stream.Collectors;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** What the documentation names is there: files and headings that it links to, shell commands, configuration keys, its own example of a sink. */
class DocsTest {
  private static final Path REPO = Path.of(System.getProperty("repo.dir", "..")).toAbsolutePath().normalize();
  private static final Pattern LINK = Pattern.compile("(?<!!)\\[[^\\]\\n]*\\]\\(([^)\\s]+)\\)");
  private static final Pattern CODE = Pattern.compile("`([^`\\n]+)`");
  private static final Pattern HEADING = Pattern.compile("(?m)^#{1,6} +(.+?) *$");
  private static final Pattern COMMAND = Pattern.compile("(?<![\\w:./{-])([a-z]+):([a-z][a-z-]*[a-z])(?![\\w:/{(.])");
  /** Of that form, and something else: endpoints, checks of readiness, a user of an account. */
  private static final Set<String> NO_COMMANDS = Set.of("wal:committed", "wal:receipts", "uplink:cloud", "sink:uplink", "token:name");
  private static final Pattern DECLARED = Pattern.compile("(?m)^([a-z][a-z0-9.]*):\\s*\\{");

  @Test
  void linksLeadSomewhere() throws IOException {
    assertEquals(List.of(), brokenLinks(REPO));
  }

  @Test
  void aLinkThatLeadsNowhereIsFound(@TempDir Path folder) throws IOException {
    Files.writeString(folder.resolve("a.md"), "# A b, `c`!\n[x](b.md) [y](#a-b-c) [z](#a) [v](a.md#nope) [w](https://example.org/#q)\n```\n[n](gone.md)\n```\n");
    assertEquals(List.of("a.md: [b.md] is no file", "a.md: [#a] is no heading of it", "a.md: [a.md#nope] is no heading of it"), brokenLinks(folder));
  }

  @Test
  void shellCommandsExist() throws IOException {
    Set<String> commands = commands();
    assertTrue(commands.contains("device:add") && commands.contains("wal:replay"), commands::toString);
    Set<String> scopes = commands.stream().map(c -> c.substring(0, c.indexOf(':'))).collect(Collectors.toSet());
    List<String> wrong = new ArrayList<>();
    for (Path file : documents(REPO)) {
      if (!file.endsWith("CHANGELOG.md")) {
        wrong.addAll(unknownCommands(REPO.relativize(file).toString(), Files.readString(file), commands, scopes));
      }
    }
    assertEquals(List.of(), wrong);
    assertEquals(List.of("x: [device:ad] is no command"), unknownCommands("x", "`device:add a`, `device:ad b`, `other:thing`", commands, scopes));
  }

  @Test
  void keysExist() throws IOException {
    Set<String> keys = keys();
    assertTrue(keys.contains("wal.max.bytes") && keys.contains("store.type"), keys::toString);
    List<String> wrong = new ArrayList<>();
    for (Path file : documents(REPO)) {
      if (!file.endsWith("CHANGELOG.md")) {
        wrong.addAll(unknownKeys(REPO.relativize(file).toString(), Files.readString(file), keys));
      }
    }
    assertEquals(List.of(), wrong);
    assertEquals(List.of("x: [wal.max.byte] is no key"), unknownKeys("x", "`wal.max.bytes`, `wal.max.byte`, `wal.db`", keys));
  }

  /** Each document of docs/ can be found from the README, and each decision from the list of them. */
  @Test
  void everyDocumentIsLinked() throws IOException {
    String readme = Files.readString(REPO.resolve("README.md"));
    String decisions = Files.readString(REPO.resolve("docs/adr/README.md"));
    List<String> wrong = new ArrayList<>();
    for (Path file : documents(REPO.resolve("docs"))) {
      String name = REPO.resolve("docs").relativize(file).toString();
      if (name.startsWith("adr/") ? !name.equals("adr/README.md") && !decisions.contains("(" + name.substring(4) + ")") : !readme.contains("docs/" + name)) {
        wrong.add(name);
      }
    }
    assertEquals(List.of(), wrong);
  }

  private static List<String> unknownCommands(String name, String text, Set<String> commands, Set<String> scopes) {
    List<String> wrong = new ArrayList<>();
    for (String code : code(text)) {
      Matcher command = COMMAND.matcher(code);
      while (command.find()) {
        if (scopes.contains(command.group(1)) && !NO_COMMANDS.contains(command.group()) && !commands.contains(command.group())) {
          wrong.add(name + ": [" + command.group() + "] is no command");
        }
      }
    }
    return wrong;
  }

  /** Only what stands alone in backticks and could be nothing else: its first two words begin a key that there is. */
  private static List<String> unknownKeys(String name, String text, Set<String> keys) {
    Set<String> beginnings = new HashSet<>();
    keys.forEach(k -> beginnings.add(k.replaceFirst("^([a-z0-9]+\\.[a-z0-9]+).*", "$1")));
    List<String> wrong = new ArrayList<>();
    Matcher code = CODE.matcher(text.replaceAll("(?ms)^```.*?^```", ""));
    while (code.find()) {
      String key = code.group(1).replaceFirst("\\s*=.*$", "");
      if (key.matches("[a-z][a-z0-9]*(\\.[a-z0-9]+){2,}") && beginnings.contains(key.replaceFirst("^([a-z0-9]+\\.[a-z0-9]+).*", "$1"))
          && !keys.contains(key) && !key.matches(".*\\.(db|json|cfg|yaml|log|md|bak|sql)")) {
        wrong.add(name + ": [" + key + "] is no key");
      }
    }
    return wrong;
  }

  /** In backticks and in fences. */
  private static List<String> code(String text) {
    List<String> found = new ArrayList<>();
    Matcher fence = Pattern.compile("(?ms)^ *```[a-z]*\\n(.*?)^ *```").matcher(text);
    while (fence.find()) {
      found.add(fence.group(1));
    }
    Matcher code = CODE.matcher(text.replaceAll("(?ms)^ *```.*?^ *```", ""));
    while (code.find()) {
      found.add(code.group(1));
    }
    return found;
  }

  private static Set<String> commands() throws IOException {
    // What of Karaf's own is in the distributions and in the documentation.
    Set<String> commands = new TreeSet<>(List.of("feature:install", "feature:uninstall", "feature:list", "feature:info", "log:set", "log:get", "log:display",
        "log:tail", "bundle:list", "bundle:start", "bundle:stop", "bundle:diag", "config:list", "config:property-set"));
    Pattern annotation = Pattern.compile("@Command\\(\\s*scope = \"([a-z]+)\",\\s*name = \"([a-z-]+)\"");
    Pattern constant = Pattern.compile("@Command\\(([^;{]*?)\\)\\s*(?:@|static|public|final|class)", Pattern.DOTALL);
    for (Path file : files(REPO.resolve("bundles"), ".java")) {
      String text = Files.readString(file);
      if (text.contains("@Command(")) {
        Matcher command = annotation.matcher(text);
        while (command.find()) {
          commands.add(command.group(1) + ":" + command.group(2));
        }
        // scope by a constant of the class
        Matcher other = constant.matcher(text);
        while (other.find()) {
          Matcher scope = Pattern.compile("scope = ([A-Za-z_.]+)\\b").matcher(other.group(1));
          Matcher name = Pattern.compile("name = \"([a-z-]+)\"").matcher(other.group(1));
          if (scope.find() && name.find()) {
            Matcher value = Pattern.compile("String " + scope.group(1).replaceFirst(".*\\.", "") + " = \"([a-z]+)\"").matcher(text);
            if (value.find()) {
              commands.add(value.group(1) + ":" + name.group(1));
            }
          }
        }
      }
    }
    return commands;
  }

  private static Set<String> keys() throws IOException {
    Set<String> keys = new TreeSet<>();
    for (String side : List.of("gateway", "cloud")) {
      for (Path file : files(REPO.resolve("config/" + side + "/keys"), ".yaml")) {
        Matcher key = DECLARED.matcher(Files.readString(file));
        while (key.find()) {
          keys.add(key.group(1));
        }
      }
    }
    return keys;
  }

  private static List<String> brokenLinks(Path root) throws IOException {
    List<String> wrong = new ArrayList<>();
    for (Path file : documents(root)) {
      String name = root.relativize(file).toString();
      Matcher link = LINK.matcher(Files.readString(file).replaceAll("(?ms)^ *```.*?^ *```", "").replaceAll("`[^`\\n]*`", "c"));
      while (link.find()) {
        String target = link.group(1);
        if (target.matches("[a-z]+:.*")) {
          continue;
        }
        int hash = target.indexOf('#');
        Path to = hash == 0 ? file : file.resolveSibling(hash < 0 ? target : target.substring(0, hash)).normalize();
        if (!Files.exists(to)) {
          wrong.add(name + ": [" + target + "] is no file");
        } else if (hash >= 0 && !anchors(Files.readString(to)).contains(target.substring(hash + 1))) {
          wrong.add(name + ": [" + target + "] is no heading of it");
        }
      }
    }
    return wrong;
  }

  /** As GitHub makes them. */
  private static Set<String> anchors(String text) {
    Set<String> anchors = new HashSet<>();
    Matcher heading = HEADING.matcher(text.replaceAll("(?ms)^ *```.*?^ *```", ""));
    while (heading.find()) {
      String plain = heading.group(1).replaceAll("\\[([^\\]]*)\\]\\([^)]*\\)", "$1").toLowerCase(Locale.ROOT).replaceAll("[^\\p{L}\\p{N} _-]", "").replace(' ', '-');
      for (int i = 0; !anchors.add(i == 0 ? plain : plain + "-" + i); i++) {
        // the next of that name
      }
    }
    return anchors;
  }

  private static List<Path> documents(Path root) throws IOException {
    return files(root, ".md");
  }

  private static List<Path> files(Path root, String ending) throws IOException {
    try (Stream<Path> tree = Files.walk(root)) {
      return tree.filter(p -> p.toString().endsWith(ending)).filter(p -> !root.relativize(p).toString().matches("(.*/)?(target|node_modules|\\.git|\\.mvn)/.*|demo/.*"))
          .sorted().toList();
    }
  }
}
