// SPDX-License-Identifier: Apache-2.0
package io.caravan.runtime.internal;

import io.caravan.runtime.Config;
import io.caravan.runtime.ConfigException;
import java.io.IOException;
import java.io.InputStream;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Objects;
import java.util.Properties;
import java.util.Set;
import java.util.TreeMap;
import java.util.TreeSet;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.CopyOnWriteArrayList;
import java.util.function.Consumer;
import java.util.stream.Stream;
import org.apache.camel.spi.PropertiesSource;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/**
 * Defaults, then cfg files, then environment, then arguments; all checked together, so that one start tells all problems.
 *
 * <p>The values in force are one immutable map that is replaced as a whole; readers never see half a change. This class is
 * thread-safe; {@link #reload} is called by one thread.
 */
public final class LayeredConfig implements Config, PropertiesSource {

    /** Variables the launcher reads itself; as an argument the same names in dotted lower case. */
    static final Set<String> LAUNCHER = Set.of("CARAVAN_HOME", "CARAVAN_ETC", "CARAVAN_DATA", "CARAVAN_LOG",
            "CARAVAN_JAVA_OPTS", "CARAVAN_DEBUG", "CARAVAN_USER", "CARAVAN_SOURCES");

    private static final Logger LOG = LoggerFactory.getLogger(LayeredConfig.class);
    private static final String ENV_PREFIX = "CARAVAN_";
    private static final String PROPERTY_PREFIX = "caravan.";
    private static final String FILE = "file:";
    private static final String ABSENT = "absent";
    private static final Path DATA = Path.of("data");

    /** Where a value was found, so that a message can send the operator there; above: it goes before what commands have set. */
    private record Found(String value, String where, Path file, boolean above) {
        Found(String value, String where) {
            this(value, where, null, false);
        }
    }

    /** What commands have set, and how strictly it is taken: as a proposal, or as what is there and must not prevent a start. */
    private record Layer(Map<String, String> values, boolean proposal) { }

    private final Keys keys;
    private final Path etc;
    private final Path home;
    private final Path data;
    private final boolean commandLine;
    /** What the log has told already. */
    private final Set<String> told = ConcurrentHashMap.newKeySet();
    private final Map<String, String> environment;
    private final Map<String, String> arguments;
    private final List<Consumer<Set<String>>> listeners = new CopyOnWriteArrayList<>();
    private ControlFolder control;
    private volatile List<String> passedOver = List.of();
    private volatile String recovered;
    private volatile Map<String, String> values;
    private volatile Map<String, String> places = Map.of();
    /** Files that values are read from, each as it was just before the last reading, whether that was good or not. */
    private volatile Map<Path, String> valueFiles = Map.of();

    /**
     * @param etc         folder of the cfg files, may be null
     * @param home        what relative paths are relative to
     * @param environment only {@code CARAVAN_*} is looked at
     * @param arguments   system properties; only {@code caravan.*} is looked at
     * @throws ConfigException something is unknown or breaks its rule
     */
    public LayeredConfig(List<Path> keyFiles, Path etc, Path home, Map<String, String> environment,
            Map<String, String> arguments) {
        this(keyFiles, etc, home, home.resolve(DATA), environment, arguments, false);
    }

    /**
     * @param data        where relative paths that begin with {@code data/} lead to
     * @param commandLine whether the arguments are a process's, which every user of the machine can read: no secret among them
     */
    public LayeredConfig(List<Path> keyFiles, Path etc, Path home, Path data, Map<String, String> environment,
            Map<String, String> arguments, boolean commandLine) {
        this.commandLine = commandLine;
        this.data = data.toAbsolutePath().normalize();
        this.keys = Keys.read(keyFiles);
        this.etc = etc;
        this.home = home.toAbsolutePath().normalize();
        this.environment = Map.copyOf(environment);
        this.arguments = Map.copyOf(arguments);
        this.control = controlFolder();
        if (control != null) {
            try {
                // Before it is read: perhaps it is why the process before this one died.
                control.recover().ifPresent(id -> recovered = id);
            } catch (IOException e) {
                LOG.error("What a command was changing cannot be undone on disk yet; it is not in force, and tried again", e);
            }
        }
        this.values = load(commands());
    }

    /** @return the folder of what commands have set; null: commands set nothing in this container */
    ControlFolder control() {
        return control;
    }

    /** @return the id of the command whose change was rolled back when this was made, or null */
    String recovered() {
        return recovered;
    }

    /** @return why what commands have set is not in force, one sentence each */
    List<String> passedOver() {
        return passedOver;
    }

    /** @return the globs of keys that commands may set */
    List<String> controllable() {
        return control == null ? List.of() : getList(ControlRules.KEYS);
    }

    /** @return why a command must not set the key; null: it may */
    String refusal(String name) {
        Key key = keys.find(name);
        return key == null ? unknown(name) : ControlRules.refusal(key, controllable());
    }

    /**
     * Reads all layers, with these values in place of what commands have set, and changes nothing.
     *
     * @return what would be in force
     * @throws ConfigException a rule would be broken
     */
    Map<String, String> propose(Map<String, String> commands) {
        return load(new Layer(commands, true));
    }

    /**
     * @return what to check against what for a change of the configuration: the bytes of the cfg files, and of the files that values
     *         are read from their times and sizes. One of these that is gone is no change: who takes it away after the start, or to put
     *         another one there, has the value that was read
     */
    Map<String, String> fingerprint() throws IOException {
        Map<String, String> answer = new TreeMap<>();
        for (Path file : cfgFiles()) {
            answer.put(file.getFileName().toString(), Files.readString(file, java.nio.charset.StandardCharsets.ISO_8859_1));
        }
        if (control != null) {
            answer.put("/" + ControlFolder.CONFIG, String.valueOf(control.config()));
        }
        valueFiles.forEach((file, read) -> {
            String now = stamp(file);
            answer.put(FILE + file, now.equals(ABSENT) ? read : now);
        });
        return answer;
    }

    /** @return the fingerprint with the files that values are read from as the last reading found them */
    Map<String, String> asRead(Map<String, String> fingerprint) {
        Map<String, String> answer = new TreeMap<>(fingerprint);
        answer.keySet().removeIf(k -> k.startsWith(FILE));
        valueFiles.forEach((file, read) -> answer.put(FILE + file, read));
        return answer;
    }

    /**
     * Reads all layers again and puts them in force, or leaves everything as it is.
     *
     * @return the keys whose value changed now
     * @throws ConfigException the old values stay in force
     */
    Set<String> reload() {
        Map<String, String> next = load(commands());
        Map<String, String> old = values;
        Set<String> changed = new TreeSet<>();
        Set<String> names = new TreeSet<>(old.keySet());
        names.addAll(next.keySet());
        for (String name : names) {
            if (Objects.equals(old.get(name), next.get(name))) {
                continue;
            }
            if (keys.find(name).hot()) {
                changed.add(name);
            } else {
                LOG.warn("{} was changed; it takes effect at the next start", name);
                next.put(name, old.get(name));
            }
        }
        values = next;
        for (Consumer<Set<String>> listener : changed.isEmpty() ? List.<Consumer<Set<String>>>of() : listeners) {
            try {
                listener.accept(changed);
            } catch (RuntimeException e) {
                LOG.error("A listener failed on the change of {}", changed, e);
            }
        }
        return changed;
    }

    @Override
    public String get(String key) {
        return value(key);
    }

    @Override
    public long getLong(String key) {
        return Long.parseLong(value(key));
    }

    @Override
    public boolean getBoolean(String key) {
        return Boolean.parseBoolean(value(key));
    }

    @Override
    public Path getPath(String key) {
        return Path.of(value(key));
    }

    @Override
    public List<String> getList(String key) {
        return Key.elements(value(key));
    }

    @Override
    public AutoCloseable onChange(Consumer<Set<String>> listener) {
        listeners.add(listener);
        return () -> listeners.remove(listener);
    }

    @Override
    public String getName() {
        return "caravan";
    }

    /** Camel's view: a key that is not set is absent, so that {@code {{?key}}} drops the option it stands for. */
    @Override
    public String getProperty(String name) {
        String value = values.get(name);
        return value == null || value.isEmpty() ? null : value;
    }

    /** @return all keys that have a value, for people to read: never a secret */
    public Map<String, String> settings() {
        Map<String, String> answer = new TreeMap<>();
        values.forEach((name, value) -> {
            if (!value.isEmpty()) {
                answer.put(name, isSecret(name) ? Redaction.MASK : redaction().of(value));
            }
        });
        return answer;
    }

    /** @return where each key's value was read, in words: a file, a variable, an argument, the default */
    public Map<String, String> places() {
        return places;
    }

    /** @return what takes this configuration's secrets, and what looks like one, out of a text */
    public Redaction redaction() {
        Redaction redaction = new Redaction();
        values.forEach((name, value) -> {
            if (isSecret(name)) {
                redaction.add(value);
            } else if (keys.find(name).type() == Key.Type.PATH && Redaction.isSecretName(name)) {
                redaction.addFile(Path.of(value));
            }
        });
        return redaction;
    }

    private boolean isSecret(String name) {
        Key key = keys.find(name);
        return key.type() == Key.Type.SECRET || key.pid().equals(Keys.USER_PID) && Redaction.isSecretName(name);
    }

    /** Never the values: secrets are among them. */
    @Override
    public String toString() {
        return "Config[" + values.size() + " keys]";
    }

    private String value(String key) {
        String value = values.get(key);
        if (value == null && keys.find(key) == null) {
            String nearest = keys.nearest(key);
            throw new IllegalArgumentException("Configuration key [" + key + "] is not declared"
                    + (nearest == null ? "" : ", did you mean " + nearest + "?"));
        }
        return value == null ? "" : value;
    }

    private Layer commands() {
        try {
            return new Layer(control == null ? Map.of() : control.config(), false);
        } catch (IOException e) {
            // Not a reason not to start: etc/ is what the operator wants in any case.
            return new Layer(Map.of("", String.valueOf(e.getMessage())), false);
        }
    }

    private ControlFolder controlFolder() {
        if (keys.find(ControlRules.DIR) == null) {
            return null;
        }
        return new ControlFolder(Path.of(load(new Layer(Map.of(), false)).get(ControlRules.DIR)));
    }

    private Map<String, String> load(Layer commands) {
        List<String> problems = new ArrayList<>();
        Map<String, Found> found = below(problems);
        put(commands, found, problems);
        if (!commands.proposal) {
            Map<Path, String> files = new TreeMap<>();
            found.forEach((name, f) -> {
                if (isInFile(keys.find(name), f.value) && keys.find(name).broken(f.value) == null) {
                    files.computeIfAbsent(resolve(f.value.substring(FILE.length())), LayeredConfig::stamp);
                }
            });
            valueFiles = files;
        }
        Map<String, String> answer = new TreeMap<>();
        found.forEach((name, f) -> answer.put(name, checked(keys.find(name), f, problems)));
        openFiles(found, answer, problems);
        if (!problems.isEmpty()) {
            throw new ConfigException(problems);
        }
        if (!commands.proposal) {
            Map<String, String> where = new TreeMap<>();
            found.forEach((name, f) -> where.put(name, f.where));
            places = where;
        }
        return answer;
    }

    /** What commands have set, over the cfg files and below environment and arguments. */
    private void put(Layer commands, Map<String, Found> found, List<String> problems) {
        List<String> passed = new ArrayList<>();
        List<String> globs = control == null ? List.of() : Key.elements(found.get(ControlRules.KEYS).value);
        commands.values.forEach((name, value) -> {
            Key key = keys.find(name);
            Found other = found.get(name);
            String refusal = name.isEmpty() ? value : key == null ? unknown(name) : ControlRules.refusal(key, globs);
            if (refusal == null && key.broken(value) != null) {
                refusal = "[" + value + "] must " + key.broken(value);
            } else if (refusal == null && commands.proposal && other != null && other.above) {
                refusal = "is set by the " + other.where + ", which goes before what commands set";
            }
            if (refusal == null && (other == null || !other.above)) {
                found.put(name, new Found(value, control.path(ControlFolder.CONFIG).toString()));
            } else if (refusal != null) {
                (commands.proposal ? problems : passed).add(name + " " + refusal);
            }
        });
        if (!commands.proposal) {
            passed.stream().filter(told::add).forEach(p -> LOG.warn("Of what commands have set, this is not in force: {}", p));
            passedOver = List.copyOf(passed);
        }
    }

    private String unknown(String name) {
        String nearest = keys.nearest(name);
        return "is not a configuration key" + (nearest == null ? "" : ", did you mean " + nearest + "?");
    }

    private Map<String, Found> below(List<String> problems) {
        Map<String, Found> found = new LinkedHashMap<>();
        keys.all().forEach(k -> found.put(k.name(), new Found(k.def(), "the default in keys/" + k.pid() + ".yaml")));
        try {
            for (Path file : cfgFiles()) {
                readCfg(file, found, problems);
            }
        } catch (IOException e) {
            problems.add("Configuration folder " + etc + " cannot be read: " + e.getMessage());
        }
        new TreeMap<>(environment).forEach((variable, value) -> {
            if (variable.startsWith(ENV_PREFIX) && !LAUNCHER.contains(variable)) {
                String key = variable.substring(ENV_PREFIX.length()).toLowerCase(Locale.ROOT).replace('_', '.');
                put(key, value, "environment variable " + variable, k -> ENV_PREFIX + k.toUpperCase(Locale.ROOT)
                        .replace('.', '_'), found, problems);
                found.computeIfPresent(key, (n, f) -> new Found(f.value, f.where, null, true));
            }
        });
        new TreeMap<>(arguments).forEach((property, value) -> {
            if (property.startsWith(PROPERTY_PREFIX)) {
                String key = property.substring(PROPERTY_PREFIX.length());
                if (commandLine && isSecretInClear(key, value)) {
                    problems.add(key + " must not stand on the command line, where every user of this machine can read it: put it into a file of mode 0600 and give --"
                            + key + "=file:<path>, or set the environment variable " + ENV_PREFIX + key.toUpperCase(Locale.ROOT).replace('.', '_'));
                } else if (!LAUNCHER.contains(ENV_PREFIX + key.toUpperCase(Locale.ROOT).replace('.', '_'))) {
                    put(key, value, "argument --" + key, k -> "--" + k, found, problems);
                    found.computeIfPresent(key, (n, f) -> new Found(f.value, f.where, null, true));
                }
            }
        });
        return found;
    }

    private List<Path> cfgFiles() throws IOException {
        if (etc == null || !Files.isDirectory(etc)) {
            return List.of();
        }
        try (Stream<Path> files = Files.list(etc)) {
            return files.filter(f -> f.getFileName().toString().matches("io\\.caravan\\..*\\.cfg")).sorted().toList();
        }
    }

    private void readCfg(Path file, Map<String, Found> found, List<String> problems) {
        String pid = file.getFileName().toString().replaceFirst("\\.cfg$", "");
        if (!keys.hasPid(pid)) {
            String nearest = Nearest.of(pid, keys.pids());
            problems.add("File " + file + " configures nothing: there is no " + pid
                    + (nearest == null ? "; known are " + String.join(", ", keys.pids()) : ", did you mean " + nearest + ".cfg?"));
            return;
        }
        Properties properties = new Properties() {
            @Override
            public synchronized Object put(Object key, Object value) {
                if (containsKey(key)) {
                    problems.add(key + " stands twice in " + file + ": remove one");
                }
                return super.put(key, value);
            }
        };
        try (InputStream in = Files.newInputStream(file)) {
            properties.load(in);
        } catch (IOException | IllegalArgumentException e) {
            problems.add("File " + file + " cannot be read: " + e.getMessage());
        }
        for (String name : new TreeSet<>(properties.stringPropertyNames())) {
            Key key = keys.find(name);
            if (key != null && !key.pid().equals(pid)) {
                problems.add(name + " stands in " + file + " but belongs into " + key.pid() + ".cfg: move it there");
            } else if (key == null && pid.equals(Keys.USER_PID)) {
                problems.add(name + " in " + file + " must start with \"" + Keys.USER_PREFIX + "\" (dotted lower case)");
            } else {
                put(name, properties.getProperty(name), file.toString(), k -> k, found, problems);
                found.computeIfPresent(name, (n, f) -> new Found(f.value, f.where, file, false));
            }
        }
    }

    private void put(String name, String value, String where, java.util.function.UnaryOperator<String> spelling,
            Map<String, Found> found, List<String> problems) {
        if (keys.find(name) != null) {
            found.put(name, new Found(value.strip(), where));
            return;
        }
        String nearest = keys.nearest(name);
        problems.add("Unknown configuration key [" + name + "] in " + where
                + (nearest == null ? ": remove it" : ", did you mean " + spelling.apply(nearest) + "?"));
    }

    private boolean isSecretInClear(String name, String value) {
        return keys.find(name) != null && isSecret(name) && !value.isBlank()
                && !isInFile(keys.find(name), value.strip());
    }

    /** Warns of files with secrets that others can read, or refuses them. */
    private void openFiles(Map<String, Found> found, Map<String, String> answer, List<String> problems) {
        Map<Path, String> files = new TreeMap<>();
        found.forEach((name, f) -> {
            Key key = keys.find(name);
            if (f.value.isEmpty() || key.broken(f.value) != null) {
                return;
            }
            if (isInFile(key, f.value)) {
                files.put(resolve(f.value.substring(FILE.length())), name);
            } else if (key.type() == Key.Type.PATH && Redaction.isSecretFile(name)) {
                files.put(Path.of(answer.get(name)), name);
            } else if (isSecret(name) && f.file != null) {
                files.put(f.file, name);
            }
        });
        boolean refuse = "refuse".equals(answer.get("secret.file.check"));
        files.forEach((file, name) -> {
            String problem = OpenFiles.problem(file, name);
            if (problem != null && refuse) {
                problems.add(problem + " (secret.file.check is refuse)");
            } else if (problem != null && told.add(problem)) {
                LOG.warn("{}", problem);
            }
        });
    }

    private static boolean isInFile(Key key, String value) {
        return key.type() == Key.Type.SECRET && value.startsWith(FILE);
    }

    /** Changes with each change of the file, of its owner and mode too: whoever could not read it perhaps can now. */
    private static String stamp(Path file) {
        try {
            if (!Files.exists(file)) {
                return ABSENT;
            }
            return file.getFileSystem().supportedFileAttributeViews().contains("unix")
                    ? new TreeMap<>(Files.readAttributes(file, "unix:ino,size,lastModifiedTime,ctime")).toString()
                    : new TreeMap<>(Files.readAttributes(file, "size,lastModifiedTime")).toString();
        } catch (IOException e) {
            return String.valueOf(e);
        }
    }

    private Path resolve(String value) {
        Path path = Path.of(value).normalize();
        // KARAF_DATA moves all that is written, so that an installation can belong to somebody who does not run it.
        boolean inData = path.startsWith(DATA) && path.getNameCount() > 1;
        return (inData ? data.resolve(DATA.relativize(path)) : home.resolve(path)).normalize();
    }

    private String checked(Key key, Found found, List<String> problems) {
        String value = found.value();
        String broken = key.broken(value);
        if (broken != null) {
            problems.add(key.name() + " [" + value + "] must " + broken + ": change it in " + found.where());
            return "";
        }
        if (key.type() == Key.Type.PATH && !value.isEmpty()) {
            return resolve(value).toString();
        }
        if (isInFile(key, value)) {
            Path file = resolve(value.substring(FILE.length()));
            try {
                return Files.readString(file).strip();
            } catch (IOException e) {
                problems.add(key.name() + " must be a readable file [" + file + "]: create it or change "
                        + found.where() + " (" + e.getClass().getSimpleName() + ")");
            }
        }
        return value;
    }
}
