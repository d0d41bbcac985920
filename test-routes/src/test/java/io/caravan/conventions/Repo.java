// SPDX-License-Identifier: Apache-2.0
package io.caravan.conventions;

import java.io.IOException;
import java.io.StringReader;
import java.io.UncheckedIOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.Set;
import java.util.TreeMap;
import java.util.function.Predicate;
import java.util.stream.Stream;

/** The files of the repository that the conventions speak about. */
final class Repo {
  static final List<String> SIDES = List.of("gateway", "cloud");
  private static final Set<String> SKIPPED = Set.of("target", ".git", "node_modules");

  /** A configuration key as declared in {@code config/<common|gateway|cloud>/keys/<pid>.yaml}. */
  record Key(String name, String type, String defaultValue, String pid, String scope, String file, int line, Tree tree) {
    boolean on(String side) {
      return scope.equals("common") || scope.equals(side);
    }
  }

  final Path root;
  final List<RouteFile> routeFiles = new ArrayList<>();
  final List<Key> keys = new ArrayList<>();
  /** The words {@code {{sql.*}}} of each store's dialect, by the file that has them. */
  final Map<String, Set<String>> sqlWords = new TreeMap<>();
  private final Map<Path, String> texts = new LinkedHashMap<>();

  Repo(Path root) throws IOException {
    this.root = root.toRealPath();
    for (String side : SIDES) {
      for (Path p : files("routes/" + side, p -> p.toString().matches(".*/routes/[a-z]+/[a-z0-9-]+\\.camel\\.(yaml|xml)"))) {
        routeFiles.add(new RouteFile(this.root, p));
      }
    }
    for (Path p : files("bundles", p -> p.toString().matches(".*/src/main/resources/.*/sql-[a-z]+\\.properties"))) {
      Properties words = new Properties();
      words.load(new StringReader(text(p)));
      sqlWords.put(name(p), words.stringPropertyNames());
    }
    for (String scope : List.of("common", "gateway", "cloud")) {
      for (Path p : files("config/" + scope + "/keys", p -> p.toString().endsWith(".yaml"))) {
        readKeys(scope, p);
      }
    }
  }

  private void readKeys(String scope, Path path) {
    Tree tree = Tree.yaml(text(path));
    Tree list = tree.child("keys") == null ? tree : tree.child("keys");
    String pid = path.getFileName().toString().replaceFirst("\\.yaml$", "");
    for (Tree key : list.children()) {
      keys.add(new Key(key.name(), key.text("type"), key.text("default"), pid, scope, name(path), key.line(), key));
    }
  }

  /** Files below a folder, sorted; none where there is no such folder. Build output is left out. */
  List<Path> files(String folder, Predicate<Path> wanted) {
    Path start = root.resolve(folder);
    if (!Files.isDirectory(start)) {
      return List.of();
    }
    List<Path> found = new ArrayList<>();
    try (Stream<Path> list = Files.list(start)) {
      for (Path p : list.sorted().toList()) {
        if (Files.isDirectory(p)) {
          if (!SKIPPED.contains(p.getFileName().toString())) {
            found.addAll(files(name(p), wanted));
          }
        } else if (wanted.test(p)) {
          found.add(p);
        }
      }
    } catch (IOException e) {
      throw new UncheckedIOException(e);
    }
    return found;
  }

  List<Path> java() {
    return files("bundles", p -> p.toString().endsWith(".java") && p.toString().contains("/src/main/"));
  }

  String text(Path path) {
    return texts.computeIfAbsent(path, p -> {
      try {
        return Files.readString(p);
      } catch (IOException e) {
        throw new UncheckedIOException(e);
      }
    });
  }

  List<String> lines(Path path) {
    return text(path).lines().toList();
  }

  String name(Path path) {
    return root.relativize(path).toString();
  }

  /** The declared key for that side, or null. */
  Key key(String side, String key) {
    return keys.stream().filter(k -> k.on(side) && k.name().equals(key)).findFirst().orElse(null);
  }

  /** Keys by name, all sides. */
  Map<String, Key> keysByName() {
    Map<String, Key> byName = new TreeMap<>();
    keys.forEach(k -> byName.put(k.name(), k));
    return byName;
  }
}
