// SPDX-License-Identifier: Apache-2.0
package io.caravan.runtime.internal;

import io.caravan.runtime.ConfigException;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Collection;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Set;
import java.util.TreeMap;
import java.util.stream.Stream;
import org.snakeyaml.engine.v2.api.Load;
import org.snakeyaml.engine.v2.api.LoadSettings;
import org.snakeyaml.engine.v2.exceptions.YamlEngineException;

/**
 * The declared keys, read from {@code <pid>.yaml} files: key to {type, default, min, max, values, hot, was, doc}. {@code was} is the name
 * before; {@code caravan upgrade} writes the new one.
 */
final class Keys {

    /** Operators' own keys for their own routes: any {@code user.} key, all strings, none declared. */
    static final String USER_PID = "io.caravan.user";
    static final String USER_PREFIX = "user.";

    private static final Set<String> ATTRIBUTES = Set.of("type", "default", "min", "max", "values", "hot", "was", "doc");

    private final Map<String, Key> byName = new TreeMap<>();
    private final Map<String, String> renamed = new TreeMap<>();
    private final List<String> problems = new ArrayList<>();

    /** @param places files, or folders of {@code *.yaml} files */
    static Keys read(Collection<Path> places) {
        Keys keys = new Keys();
        for (Path place : places) {
            keys.readPlace(place);
        }
        if (!keys.problems.isEmpty()) {
            throw new ConfigException(keys.problems);
        }
        return keys;
    }

    /** @return the declaration, also for an operator's {@code user.} key; null: unknown */
    Key find(String name) {
        Key key = byName.get(name);
        return key == null && name.startsWith(USER_PREFIX) && Key.NAME.matcher(name).matches()
                ? new Key(name, USER_PID, Key.Type.STRING, "", 0, 0, List.of(), true) : key;
    }

    Collection<Key> all() {
        return byName.values();
    }

    boolean hasPid(String pid) {
        return pid.equals(USER_PID) || byName.values().stream().anyMatch(k -> k.pid().equals(pid));
    }

    List<String> pids() {
        return Stream.concat(byName.values().stream().map(Key::pid), Stream.of(USER_PID)).distinct().sorted().toList();
    }

    /** @return what the key is called now, or the declared one that is fewest edits away, or null when none resembles it */
    String nearest(String name) {
        return renamed.containsKey(name) ? renamed.get(name) : Nearest.of(name, byName.keySet());
    }

    private void readPlace(Path place) {
        try {
            if (Files.isDirectory(place)) {
                try (Stream<Path> files = Files.list(place)) {
                    files.filter(f -> f.toString().endsWith(".yaml")).sorted().forEach(this::readFile);
                }
            } else {
                readFile(place);
            }
        } catch (IOException e) {
            throw new UncheckedIOException(e);
        }
    }

    private void readFile(Path file) {
        Object root;
        try {
            LoadSettings settings = LoadSettings.builder().setLabel(file.toString()).build();
            root = new Load(settings).loadFromString(Files.readString(file));
        } catch (YamlEngineException | IOException e) {
            problems.add("Key declarations " + file + " cannot be read: " + e.getMessage());
            return;
        }
        String pid = file.getFileName().toString().replaceFirst("\\.yaml$", "");
        if (!(root instanceof Map<?, ?> map)) {
            problems.add("Key declarations " + file + " must be a map of key to {type, default, ..., doc}");
            return;
        }
        map.forEach((name, spec) -> {
            try {
                Key key = key(String.valueOf(name), pid, (Map<?, ?>) spec);
                Key other = byName.putIfAbsent(key.name(), key);
                if (((Map<?, ?>) spec).get("was") instanceof String was) {
                    renamed.put(was, key.name());
                }
                if (other != null) {
                    throw new IllegalArgumentException("is declared in " + other.pid() + " too");
                }
            } catch (IllegalArgumentException | ClassCastException e) {
                problems.add("Key declaration " + name + " in " + file + ": " + e.getMessage());
            }
        });
    }

    private static Key key(String name, String pid, Map<?, ?> spec) {
        if (!Key.NAME.matcher(name).matches()) {
            throw new IllegalArgumentException("a key must be dotted lower case");
        }
        for (Object attribute : spec.keySet()) {
            if (!ATTRIBUTES.contains(attribute)) {
                throw new IllegalArgumentException("unknown attribute [" + attribute + "]");
            }
        }
        Key.Type type = Key.Type.valueOf(String.valueOf(spec.get("type")).toUpperCase(Locale.ROOT));
        boolean isInt = type == Key.Type.INT;
        List<String> values = spec.get("values") instanceof List<?> l ? l.stream().map(String::valueOf).toList() : List.of();
        Key key = new Key(name, pid, type, text(spec.get("default")),
                number(spec.get("min"), isInt ? Integer.MIN_VALUE : Long.MIN_VALUE),
                number(spec.get("max"), isInt ? Integer.MAX_VALUE : Long.MAX_VALUE),
                values, Boolean.TRUE.equals(spec.get("hot")));
        boolean mustHaveDefault = Set.of(Key.Type.INT, Key.Type.LONG, Key.Type.BOOL).contains(type);
        if (mustHaveDefault && key.def().isEmpty()) {
            throw new IllegalArgumentException("a " + type.name().toLowerCase(Locale.ROOT) + " must have a default");
        }
        String broken = key.broken(key.def());
        if (broken != null) {
            throw new IllegalArgumentException("default [" + key.def() + "] must " + broken);
        }
        return key;
    }

    private static String text(Object value) {
        if (value instanceof List<?> l) {
            return String.join(",", l.stream().map(String::valueOf).toList());
        }
        return value == null ? "" : String.valueOf(value);
    }

    private static long number(Object value, long otherwise) {
        return value instanceof Number n ? n.longValue() : otherwise;
    }
}
