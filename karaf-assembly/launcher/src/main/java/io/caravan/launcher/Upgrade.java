// SPDX-License-Identifier: Apache-2.0
package io.caravan.launcher;

import java.io.IOException;
import java.io.Reader;
import java.nio.file.Files;
import java.nio.file.LinkOption;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.nio.file.attribute.PosixFilePermission;
import java.nio.file.attribute.PosixFilePermissions;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.Set;
import java.util.TreeMap;
import java.util.TreeSet;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import java.util.stream.Collectors;
import java.util.stream.Stream;
import java.util.zip.ZipEntry;
import java.util.zip.ZipFile;

/**
 * {@code caravan upgrade OLD} takes the place of the installation in {@code OLD}: settings, routes that were dropped in, the data folder and,
 * if {@code OLD} is a link, the link. {@code caravan rollback} gives it back. Both only rename and copy, can be repeated after a power
 * cut, and leave the old installation's {@code etc/} and {@code deploy/} as they are. The store is not touched: the version that opens it
 * next brings it to its tables, forth or back.
 */
public final class Upgrade {

    private static final int FAILED = 1;
    private static final int USAGE = 2;
    private static final int DATA_IN_USE = 5;
    private static final int CONFIGURATION = 78;
    /** Of the version, not of the operator. */
    private static final Pattern VERSIONS_OWN = Pattern.compile("keys/.*|schema/.*|startup\\.properties|config\\.properties|system\\.properties"
        + "|jre\\.properties|profile\\.cfg|distribution\\.info|all\\.policy|org\\.apache\\.karaf\\.features.*");
    /** Written anew by Karaf while it runs. */
    private static final Pattern KARAFS_OWN = Pattern.compile("org\\.apache\\.karaf\\.kar\\.cfg|jmx\\.acl\\.org\\.apache\\.karaf\\.bundle\\.cfg");
    private static final Pattern SETTINGS = Pattern.compile("(io\\.caravan\\..*)\\.cfg");
    private static final String USER_PID = "io.caravan.user";
    private static final Pattern KEY = Pattern.compile("(?m)^([a-z][a-z0-9.]*):\\s*\\{type: (\\w+)(.*)$");
    private static final Pattern WAS = Pattern.compile("\\bwas: ([a-z][a-z0-9.]*)");
    private static final String RECORD = "upgrade.from";

    private static final class Failure extends Exception {
        private static final long serialVersionUID = 1L;
        final int status;

        Failure(int status, String message) {
            super(message);
            this.status = status;
        }
    }

    private final Path home;
    /** Null: each installation's own. */
    private final Path data;
    /** What links of the old installation lead to, by their names in it. */
    private final Map<Path, Path> links = new TreeMap<>();
    private final List<String> told = new ArrayList<>();
    private final List<String> problems = new ArrayList<>();

    private Upgrade(Path home, Path data) {
        this.home = home;
        this.data = data;
    }

    public static void main(String[] args) {
        String data = System.getenv("KARAF_DATA");
        try {
            Upgrade upgrade = new Upgrade(Path.of(System.getProperty("karaf.home")).toRealPath(), data == null || data.isEmpty() ? null : Path.of(data));
            List<String> arguments = List.of(args).subList(1, args.length);
            if (args[0].equals("rollback")) {
                if (!arguments.isEmpty()) {
                    throw new Failure(USAGE, "rollback takes no arguments: caravan rollback");
                }
                upgrade.rollback();
            } else {
                upgrade.upgrade(arguments);
            }
        } catch (Failure e) {
            System.err.println("caravan: " + e.getMessage());
            System.exit(e.status);
        } catch (IOException e) {
            System.err.println("caravan: " + e + "; nothing is lost, mend that and give the command again");
            System.exit(FAILED);
        }
    }

    // --- there -----------------------------------------------------------------------------------------------------

    private void upgrade(List<String> args) throws Failure, IOException {
        List<String> options = args.stream().filter(a -> a.startsWith("-")).toList();
        List<String> places = args.stream().filter(a -> !a.startsWith("-")).toList();
        if (places.size() != 1 || !List.of("--check", "--drop-unknown").containsAll(options)) {
            throw new Failure(USAGE, "caravan upgrade OLD [--check] [--drop-unknown], where OLD is the installation that this one takes the place of, or a link to it");
        }
        boolean drop = options.contains("--drop-unknown");
        Path named = Path.of(places.get(0)).toAbsolutePath().normalize();
        Path record = home.resolve(RECORD);
        Map<String, String> before = record(record);
        Path old;
        Path link;
        if (!before.isEmpty() && (named.equals(Path.of(before.get("link"))) || named.equals(Path.of(before.get("home"))))) {
            old = Path.of(before.get("home"));          // again, after a power cut or a rollback
            link = before.get("link").isEmpty() ? null : Path.of(before.get("link"));
        } else {
            old = Files.exists(named) ? named.toRealPath() : named;
            link = Files.isSymbolicLink(named) ? named : null;
        }
        isInstallation(old);
        if (old.equals(home)) {
            throw new Failure(USAGE, "[" + named + "] is this installation: name the old one");
        }
        if (!before.isEmpty() && !old.equals(Path.of(before.get("home")))) {
            throw new Failure(USAGE, "[" + home + "] took the place of [" + before.get("home") + "] before: unpack this version once more, into another folder");
        }
        if (!side(old).equals(side(home))) {
            throw new Failure(USAGE, "[" + old + "] is a " + side(old) + ", this is a " + side(home));
        }
        DataFolder lock = lock(dataOf(old));
        Map<Path, byte[]> files = new TreeMap<>();
        settings(old, drop, files);
        routes(old, files);
        System.out.println(version(old) + " in " + old + " -> " + version(home) + " in " + home);
        told.forEach(t -> System.out.println("  " + t));
        if (!problems.isEmpty()) {
            problems.forEach(p -> System.err.println("caravan: " + p));
            throw new Failure(CONFIGURATION, "nothing was changed. Mend the lines above in " + old.resolve("etc")
                + (drop ? "" : ", or give --drop-unknown: unknown keys become comments"));
        }
        if (options.contains("--check")) {
            System.out.println("Nothing was changed. It would go like this.");
            return;
        }
        Files.writeString(record, "home=" + old + "\nlink=" + (link == null ? "" : link) + "\n");
        for (Map.Entry<Path, byte[]> file : files.entrySet()) {
            put(old, file.getKey(), file.getValue());
        }
        for (Map.Entry<Path, Path> each : links.entrySet()) {
            Files.createDirectories(home.resolve(each.getKey()).getParent());
            replace(home.resolve(each.getKey()), ".upgrade", each.getValue());
        }
        if (data == null) {
            moveData(old, home);
        }
        lead(link, home);
        System.out.println("Done. Start it: " + (link == null ? home : link) + "/bin/caravan run, or the service. Back: " + home + "/bin/caravan rollback");
        if (lock == null) {
            System.out.println("There is no data folder in [" + old + "]: if the service sets KARAF_DATA, that is as it should be; restart the service.");
        }
    }

    /** Files of etc/ that are the operator's, or that the operator has changed. */
    private void settings(Path old, boolean drop, Map<Path, byte[]> files) throws IOException {
        Map<String, String> shipped = sums(old);
        Map<String, String> types = new HashMap<>();
        Map<String, String> pids = new HashMap<>();
        Map<String, String> renamed = new HashMap<>();
        try (Stream<Path> yaml = Files.list(home.resolve("etc/keys"))) {
            for (Path file : yaml.sorted().toList()) {
                Matcher key = KEY.matcher(Files.readString(file));
                while (key.find()) {
                    types.put(key.group(1), key.group(2));
                    pids.put(key.group(1), file.getFileName().toString().replaceFirst("\\.yaml$", ""));
                    Matcher was = WAS.matcher(key.group(3));
                    if (was.find()) {
                        renamed.put(was.group(1), key.group(1));
                    }
                }
            }
        }
        for (String name : files(old.resolve("etc"))) {
            Path file = old.resolve("etc").resolve(name);
            boolean linked = Files.isSymbolicLink(file);
            byte[] text = Files.isRegularFile(file) ? Files.readAllBytes(file) : null;
            Path here = home.resolve("etc").resolve(name);
            byte[] news = Files.isRegularFile(here) ? Files.readAllBytes(here) : null;
            boolean known = shipped.containsKey(name);
            if (KARAFS_OWN.matcher(name).matches() || !linked && (known && shipped.get(name).equals(DataFolder.sha256(text)) || Arrays.equals(text, news))) {
                continue;
            }
            if (VERSIONS_OWN.matcher(name).matches() || shipped.isEmpty() && name.matches("(org|jmx)\\..*")) {
                if (known || shipped.isEmpty() && name.matches("(org|jmx)\\..*")) {
                    told.add("etc/" + name + (known ? " was edited; it" : " differs; it") + " belongs to the version and is not taken over: edit the new one if it must be so");
                }
                continue;
            }
            Matcher settings = SETTINGS.matcher(name);
            if (settings.matches() && text != null) {
                String mended = mended(file, settings.group(1), types, pids, renamed, drop);
                if (mended == null && !linked) {
                    continue;
                }
                byte[] changed = mended == null ? text : mended.getBytes(java.nio.charset.StandardCharsets.ISO_8859_1);
                if (linked && !Arrays.equals(text, changed)) {
                    told.add("etc/" + name + " was a link to " + Files.readSymbolicLink(file) + ", what it leads to stays as it is: now a file of its own");
                    linked = false;
                }
                text = changed;
            }
            if (linked) {
                if (!link(old, old.resolve("etc"), file, Path.of("etc", name))) {
                    continue;
                }
            } else if (!settings.matches()) {
                told.add("etc/" + name + " is taken over" + (known && news != null && !shipped.get(name).equals(DataFolder.sha256(news))
                    ? "; this version ships another one, it lies beside as " + name + ".new: compare" : ""));
            }
            if (news != null && !Files.isSymbolicLink(here) && !Arrays.equals(text, news)) {
                files.put(Path.of("etc", name + ".new"), news);
            }
            if (!linked) {
                files.put(Path.of("etc", name), text);
            }
        }
    }

    /**
     * Links stay links: of a certificate that a program renews behind one, a copy would be renewed by nobody. A relative one that leads out
     * of what the new installation takes over becomes absolute.
     *
     * @param file in the folder or below
     * @param name of the file in an installation
     * @return false: something is in its way
     */
    private boolean link(Path old, Path folder, Path file, Path name) throws IOException {
        Path root = folder.toRealPath();
        Path target = Files.readSymbolicLink(file);
        Path leads = file.getParent().toRealPath().resolve(target).normalize();
        boolean comesAlong = leads.startsWith(root) || Stream.of("etc", "deploy", "data").anyMatch(f -> leads.startsWith(old.resolve(f)));
        if (!target.isAbsolute() && !comesAlong) {
            target = leads;
        }
        if (Files.isDirectory(home.resolve(name), LinkOption.NOFOLLOW_LINKS)) {
            told.add(name + " is a link to " + target + " and is NOT taken over: here is a folder of that name");
            return false;
        }
        links.put(name, target);
        told.add(name + " is taken over as a link to " + target + (Files.exists(file) ? "" : ", where nothing is")
            + (target.isAbsolute() && leads.startsWith(old) ? "; that is in the old installation: lead it elsewhere before you remove that" : ""));
        return true;
    }

    /** A cfg file as this version wants it; null: it sets nothing. */
    private String mended(Path file, String pid, Map<String, String> types, Map<String, String> pids, Map<String, String> renamed, boolean drop)
        throws IOException {
        Properties set = new Properties();
        try (Reader reader = Files.newBufferedReader(file, java.nio.charset.StandardCharsets.ISO_8859_1)) {
            set.load(reader);
        } catch (IllegalArgumentException e) {
            problems.add(file + " cannot be read: " + e.getMessage());
        }
        if (set.isEmpty()) {
            return null;
        }
        String text = Files.readString(file, java.nio.charset.StandardCharsets.ISO_8859_1);
        List<String> taken = new ArrayList<>();
        for (String key : new TreeSet<>(set.stringPropertyNames())) {
            Pattern line = Pattern.compile("(?m)^([ \\t]*)" + Pattern.quote(key) + "(?=[ \\t]*[=:])");
            String now = renamed.getOrDefault(key, key);
            if (pid.equals(USER_PID)) {
                taken.add(key);
            } else if (types.containsKey(now) && pids.get(now).equals(pid)) {
                String value = set.getProperty(key).strip();
                if (!now.equals(key)) {
                    told.add(key + " is called " + now + " in this version: written so");
                    text = line.matcher(text).replaceAll("$1" + now);
                }
                if (types.get(now).equals("path") && !value.isEmpty() && !value.startsWith("/") && !value.matches("(data|etc)(/.*)?")) {
                    problems.add(now + " = " + value + " in " + file + " is a path in the old installation: make it absolute, and move what it names out of there");
                }
                taken.add(now);
            } else if (drop) {
                // Without its value, which may be a secret.
                told.add(key + " is no key of " + pid + " any more: now a comment in etc/" + file.getFileName());
                text = line.matcher(text).replaceAll("$1# not in " + Matcher.quoteReplacement(version(home)) + ": " + Matcher.quoteReplacement(key));
            } else {
                problems.add(key + " in " + file + (types.containsKey(now) ? " belongs into " + pids.get(now) + ".cfg in " : " is no key of ") + version(home));
            }
        }
        told.add("etc/" + file.getFileName() + ": " + (taken.isEmpty() ? "nothing" : String.join(", ", taken)));
        return text;
    }

    /** Routes that were dropped in, compared with those they override. */
    private void routes(Path old, Map<Path, byte[]> files) throws IOException {
        if (!Files.isDirectory(old.resolve("deploy"))) {
            return;
        }
        Map<String, String> before = shippedRoutes(old);
        Map<String, String> now = shippedRoutes(home);
        for (String name : files(old.resolve("deploy"))) {
            if (name.equals("README")) {
                continue;
            }
            Path file = old.resolve("deploy").resolve(name);
            if (Files.isSymbolicLink(file)) {
                if (!link(old, old.resolve("deploy"), file, Path.of("deploy", name)) || !Files.isRegularFile(file)) {
                    continue;
                }
            } else {
                files.put(Path.of("deploy", name), Files.readAllBytes(file));
            }
            String stem = name.replaceFirst("\\.camel\\.(yaml|xml)$", "");
            String was = before.get(stem);
            String is = now.get(stem);
            if (was == null && is == null) {
                told.add("deploy/" + name + " is taken over: a route of your own");
            } else if (was == null) {
                told.add("deploy/" + name + " was a route of your own and OVERRIDES the one of that name that this version brings: rename yours, or compare");
            } else if (is == null) {
                told.add("deploy/" + name + " overrides a route that this version has NO MORE: it runs as a route of your own; delete it if what it did is elsewhere now");
            } else {
                told.add("deploy/" + name + " is taken over" + (is.equals(was) ? "" : "; it overrides a route that this version CHANGED: make your change in the new one, bin/caravan shell 'route:diff " + stem + "' shows them"));
            }
        }
    }

    /** Stem to text. */
    private static Map<String, String> shippedRoutes(Path home) throws IOException {
        Map<String, String> routes = new HashMap<>();
        Path jars = home.resolve("system/io/caravan/caravan-routes");
        if (Files.isDirectory(jars)) {
            for (String jar : files(jars)) {
                if (jar.endsWith(".jar")) {
                    try (ZipFile zip = new ZipFile(jars.resolve(jar).toFile())) {
                        for (ZipEntry entry : zip.stream().filter(e -> e.getName().matches("OSGI-INF/camel/.+\\.camel\\.(yaml|xml)")).toList()) {
                            routes.put(entry.getName().replaceFirst(".*/", "").replaceFirst("\\.camel\\..*", ""),
                                new String(zip.getInputStream(entry).readAllBytes(), java.nio.charset.StandardCharsets.UTF_8));
                        }
                    }
                }
            }
        }
        return routes;
    }

    private void put(Path old, Path name, byte[] content) throws IOException {
        Path target = home.resolve(name);
        Files.createDirectories(target.getParent());
        Path source = old.resolve(name);
        Path beside = target.resolveSibling("." + target.getFileName() + ".upgrade");
        Files.deleteIfExists(beside);
        if (Files.exists(source)) {
            // Owner and mode first: a secret is never readable for others. It may be one that not even its owner may write.
            Files.copy(source, beside, StandardCopyOption.COPY_ATTRIBUTES);
            Set<PosixFilePermission> mode = Files.getPosixFilePermissions(beside);
            Files.setPosixFilePermissions(beside, PosixFilePermissions.fromString("rw-------"));
            Files.write(beside, content);
            Files.setPosixFilePermissions(beside, mode);
        } else {
            Files.write(beside, content);
        }
        Files.move(beside, target, StandardCopyOption.ATOMIC_MOVE, StandardCopyOption.REPLACE_EXISTING);
    }

    // --- and back --------------------------------------------------------------------------------------------------

    private void rollback() throws Failure, IOException {
        Map<String, String> before = record(home.resolve(RECORD));
        if (before.isEmpty()) {
            throw new Failure(USAGE, "[" + home + "] did not take the place of another installation: there is no " + RECORD + " in it");
        }
        Path old = Path.of(before.get("home"));
        isInstallation(old);
        lock(dataOf(home));
        long since = Files.getLastModifiedTime(home.resolve(RECORD)).toMillis();
        for (String name : files(home.resolve("etc"))) {
            if (Files.getLastModifiedTime(home.resolve("etc").resolve(name), LinkOption.NOFOLLOW_LINKS).toMillis() > since + 60_000) {
                told.add("etc/" + name + " was changed here since the upgrade; the old installation has its own, without that");
            }
        }
        System.out.println(version(home) + " in " + home + " -> back to " + version(old) + " in " + old);
        told.forEach(t -> System.out.println("  " + t));
        if (data == null) {
            moveData(home, old);
        }
        // The old one may be too old to see that this registry is not its own.
        new DataFolder(data == null ? old.resolve("data") : data).forgetRegistry(old);
        lead(before.get("link").isEmpty() ? null : Path.of(before.get("link")), old);
        System.out.println("Done. Start it: " + (before.get("link").isEmpty() ? old.toString() : before.get("link")) + "/bin/caravan run, or the service");
    }

    // --- both ------------------------------------------------------------------------------------------------------

    /** The folder itself moves; where it was stays a link to it, so that neither installation can begin an empty store. */
    private static void moveData(Path from, Path to) throws Failure, IOException {
        Path source = from.resolve("data");
        Path target = to.resolve("data");
        if (Files.isDirectory(source, LinkOption.NOFOLLOW_LINKS) && Files.isDirectory(target, LinkOption.NOFOLLOW_LINKS)) {
            lock(target);
        }
        if (Files.isSymbolicLink(target) || Files.isDirectory(target) && !Files.isSymbolicLink(source) && isUnused(target)) {
            delete(target);
        }
        if (Files.isDirectory(source, LinkOption.NOFOLLOW_LINKS)) {
            if (Files.exists(target, LinkOption.NOFOLLOW_LINKS)) {
                throw new Failure(FAILED, "[" + target + "] is there already and is in use or has a store: it is not thrown away. Move it elsewhere and give the command again");
            }
            try {
                Files.move(source, target, StandardCopyOption.ATOMIC_MOVE);
            } catch (IOException e) {
                throw new Failure(FAILED, "[" + source + "] cannot be renamed to [" + target + "] (" + e + "): unpack both on the same file system, or keep the data folder outside (KARAF_DATA)");
            }
        }
        if (Files.isDirectory(target) && !Files.exists(source, LinkOption.NOFOLLOW_LINKS)) {
            Files.createSymbolicLink(source, target);
        }
    }

    /** Nothing but what a start makes before there is a store. */
    private static boolean isUnused(Path data) throws IOException {
        try (Stream<Path> files = Files.list(data)) {
            return files.allMatch(f -> List.of("tmp", "log", "lock", "cache").contains(f.getFileName().toString()));
        }
    }

    private static void delete(Path folder) throws IOException {
        if (Files.isSymbolicLink(folder)) {
            Files.delete(folder);
            return;
        }
        try (Stream<Path> all = Files.walk(folder)) {
            for (Path file : all.sorted(java.util.Comparator.reverseOrder()).toList()) {
                Files.delete(file);
            }
        }
    }

    private static void lead(Path link, Path to) throws IOException {
        if (link != null && !(Files.isSymbolicLink(link) && Files.exists(link) && link.toRealPath().equals(to))) {
            Path target = link.getParent().equals(to.getParent()) ? to.getFileName() : to;
            replace(link, ".new", target);
            System.out.println("  " + link + " leads to " + target);
        }
    }

    private static void replace(Path link, String suffix, Path target) throws IOException {
        Path beside = link.resolveSibling("." + link.getFileName() + suffix);
        Files.deleteIfExists(beside);
        Files.createSymbolicLink(beside, target);
        Files.move(beside, link, StandardCopyOption.ATOMIC_MOVE, StandardCopyOption.REPLACE_EXISTING);
    }

    private Path dataOf(Path installation) {
        return data == null ? installation.resolve("data") : data;
    }

    /** @return null: there is no data folder */
    private static DataFolder lock(Path folder) throws Failure, IOException {
        if (!Files.isDirectory(folder)) {
            return null;
        }
        DataFolder lock = new DataFolder(folder);
        if (!lock.lock()) {
            throw new Failure(DATA_IN_USE, "a process runs on [" + folder + "]: stop it first, for example systemctl stop caravan-gateway");
        }
        return lock;
    }

    private static void isInstallation(Path home) throws Failure {
        if (!Files.isRegularFile(home.resolve("bin/caravan")) || !Files.isDirectory(home.resolve("etc/keys"))) {
            throw new Failure(USAGE, "[" + home + "] is no installation of Caravan: it must have bin/caravan and etc/keys");
        }
    }

    private static String side(Path home) {
        return Files.exists(home.resolve("etc/keys/io.caravan.store.yaml")) ? "cloud" : "gateway";
    }

    private static String version(Path home) throws IOException {
        Path file = home.resolve("VERSION");
        return Files.exists(file) ? Files.readString(file).strip() : "a version without a name";
    }

    private static Map<String, String> record(Path file) throws IOException {
        return !Files.exists(file) ? Map.of() : Files.readAllLines(file).stream().filter(l -> l.contains("="))
            .collect(Collectors.toMap(l -> l.substring(0, l.indexOf('=')), l -> l.substring(l.indexOf('=') + 1)));
    }

    /** What the files of etc/ were when they were shipped; empty: the version is too old to say. */
    private static Map<String, String> sums(Path home) throws IOException {
        Path file = home.resolve("etc.sha256");
        return !Files.exists(file) ? Map.of() : Files.readAllLines(file).stream().filter(l -> l.length() > 70)
            .collect(Collectors.toMap(l -> l.substring(66).replaceFirst("^etc/", ""), l -> l.substring(0, 64)));
    }

    /** Regular files, and links as such, whatever they lead to. */
    private static List<String> files(Path folder) throws IOException {
        Path real = folder.toRealPath();
        try (Stream<Path> tree = Files.walk(real)) {
            return tree.filter(f -> Files.isRegularFile(f) || Files.isSymbolicLink(f)).map(f -> real.relativize(f).toString())
                .filter(f -> !f.endsWith(".new") && !f.endsWith(".upgrade")).sorted().toList();
        }
    }
}
