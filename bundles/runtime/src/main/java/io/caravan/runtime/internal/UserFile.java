// SPDX-License-Identifier: Apache-2.0
package io.caravan.runtime.internal;

import io.caravan.runtime.Audit;
import io.caravan.runtime.Check;
import io.caravan.runtime.Passwords;
import io.caravan.runtime.UserAdmin;
import java.io.BufferedReader;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.channels.FileChannel;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.nio.file.StandardOpenOption;
import java.nio.file.attribute.PosixFilePermissions;
import java.security.GeneralSecurityException;
import java.security.SecureRandom;
import java.util.ArrayList;
import java.util.HexFormat;
import java.util.LinkedHashMap;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Properties;
import java.util.Set;
import java.util.TreeMap;
import java.util.concurrent.TimeUnit;
import java.util.regex.Pattern;
import javax.crypto.Mac;
import javax.crypto.spec.SecretKeySpec;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/**
 * The users of this container in a file of its own, which only its owner can read, in the form of Karaf's
 * {@code users.properties}: {@code name = {CRYPT}hash{CRYPT},role,...}. The hash is PBKDF2-HMAC-SHA512 with a salt; Karaf's own
 * encryption is a plain digest, and its login modules are not in the distributions. Passwords in clear do not count.
 *
 * <p>The first start makes a user {@value #FIRST} and leaves its password in a file beside. Guessing is slowed down, not locked:
 * one password at a time is tried, a wrong one costs a second, and what waits behind too many others is refused; who has logged
 * in lately is not held up by that. This class is thread-safe.
 */
final class UserFile implements UserAdmin {

    static final String FIRST = "admin";

    private static final Logger LOG = LoggerFactory.getLogger(UserFile.class);
    private static final Pattern NAME = Pattern.compile("[A-Za-z][A-Za-z0-9._-]{0,63}");
    private static final String CRYPT = "{CRYPT}";
    private static final int MAX_REMEMBERED = 100;
    private static final long AUDIT_EVERY_MS = 60_000;

    private record Stored(String hash, String role) { }

    private final Path file;
    private final Path firstPassword;
    private final Audit audit;
    private final Passwords passwords;
    /** Names a presented pair without being worth anything elsewhere. */
    private final byte[] processKey = new byte[32];
    private final Map<String, Boolean> remembered = new LinkedHashMap<>(16, 0.75f, true) {
        @Override
        protected boolean removeEldestEntry(Map.Entry<String, Boolean> eldest) {
            return size() > MAX_REMEMBERED;
        }
    };
    private Map<String, Stored> users = Map.of();
    private Object stamp;
    private boolean made;
    private long failures;
    private long auditedAt;
    private volatile String problem;

    /** @param penaltyMs what a wrong password costs */
    UserFile(Path file, Audit audit, long penaltyMs) {
        this(file, audit, new PasswordHashes(penaltyMs));
    }

    UserFile(Path file, Audit audit, Passwords passwords) {
        this.file = file;
        this.firstPassword = file.resolveSibling("admin.password");
        this.audit = audit;
        this.passwords = passwords;
        new SecureRandom().nextBytes(processKey);
    }

    /** Makes the first user where there is none yet. Slow; tried again by {@link #retry} where the disk does not let it. */
    synchronized void retry() {
        if (made) {
            return;
        }
        try {
            load();
            if (users.isEmpty()) {
                char[] password = randomPassword();
                // The password first: a user nobody knows the password of would be for ever.
                write(firstPassword, new String(password) + "\n");
                save(Map.of(FIRST, new Stored(passwords.hash(password), FIRST)));
                java.util.Arrays.fill(password, '\0');
                audit.record("user.add", FIRST, "ok", Map.of("role", FIRST, "reason", "first start"));
                LOG.info("Made user {} for logins over the network; its password is in [{}], which only its owner can read: log in, give it another one with user:passwd {}, and the file goes away",
                        FIRST, firstPassword, FIRST);
            }
            made = true;
            problem = null;
        } catch (UncheckedIOException | IOException e) {
            String text = "the users' file [" + file + "] cannot be made or read: " + Causes.text(e) + "; nobody can log in over the network until it can";
            if (!text.equals(problem)) {
                LOG.error("{}", text);
            }
            problem = text;
        }
    }

    Check check() {
        String now = problem;
        return new Check("users", now == null ? "UP" : "DOWN", now == null ? "" : now);
    }

    @Override
    public Optional<Set<String>> roles(String user, char[] password) {
        if (user == null || password == null) {
            return Optional.empty();
        }
        String pair = pair(user, password);
        Stored stored;
        synchronized (this) {
            reload();
            stored = users.get(user);
            if (stored != null && remembered.containsKey(pair)) {
                return Optional.of(roles(stored.role));
            }
        }
        Passwords.Verdict verdict = passwords.verify(password, stored == null ? null : stored.hash, () -> failed(user, "wrong user or password"));
        if (verdict == Passwords.Verdict.BUSY) {
            failed(user, "too many at once");
        }
        if (verdict != Passwords.Verdict.RIGHT) {
            return Optional.empty();
        }
        synchronized (this) {
            // Changed or removed meanwhile?
            if (!stored.equals(users.get(user))) {
                return Optional.empty();
            }
            remembered.put(pair, true);
        }
        return Optional.of(roles(stored.role));
    }

    @Override
    public synchronized List<User> list() {
        reload();
        return users.entrySet().stream().map(u -> new User(u.getKey(), u.getValue().role)).toList();
    }

    @Override
    public Set<String> put(String name, char[] password, String role) {
        if (!NAME.matcher(name).matches()) {
            throw new IllegalArgumentException("user [" + name + "] must begin with a letter and have at most 64 letters, digits, dots, - and _");
        }
        if (role != null && !ROLES.contains(role)) {
            throw new IllegalArgumentException("role [" + role + "] must be one of " + String.join(", ", ROLES));
        }
        String hash = password == null ? null : passwords.hash(password);
        synchronized (this) {
            reload();
            Stored old = users.get(name);
            if (old == null && (password == null || role == null)) {
                throw new IllegalArgumentException("there is no user [" + name + "]: user:list tells which there are, user:add makes one");
            }
            if (old != null && role != null && !role.equals(FIRST)) {
                notLast(name);
            }
            Stored next = new Stored(hash == null ? old.hash : hash, role == null ? old.role : role);
            audit.record(old == null ? "user.add" : "user.change", name, "ok",
                    Map.of("role", next.role, "password", password == null ? "kept" : "new"));
            Map<String, Stored> all = new TreeMap<>(users);
            all.put(name, next);
            save(all);
            if (name.equals(FIRST) && password != null) {
                try {
                    Files.deleteIfExists(firstPassword);
                } catch (IOException e) {
                    LOG.warn("[{}] has an old password and could not be deleted: {}", firstPassword, e.getMessage());
                }
            }
            return roles(next.role);
        }
    }

    @Override
    public synchronized String credential(String name) {
        reload();
        Stored stored = users.get(name);
        return stored == null ? null : AuditLog.sha256(stored.hash + " " + stored.role);
    }

    @Override
    public synchronized boolean remove(String name) {
        reload();
        if (!users.containsKey(name)) {
            return false;
        }
        notLast(name);
        Map<String, Stored> all = new TreeMap<>(users);
        all.remove(name);
        save(all);
        try {
            audit.record("user.remove", name, "ok", Map.of());
        } catch (UncheckedIOException e) {
            LOG.debug("Noted later: user {} removed", name, e);
        }
        return true;
    }

    @Override
    public char[] randomPassword() {
        return passwords.random();
    }

    private void notLast(String name) {
        boolean other = users.entrySet().stream().anyMatch(u -> u.getValue().role.equals(FIRST) && !u.getKey().equals(name));
        if (!other && users.get(name).role.equals(FIRST)) {
            throw new IllegalStateException("[" + name + "] is the last user with role admin: make another one first");
        }
    }

    /** One line in the log and one entry a minute, however many they are. */
    private void failed(String user, String why) {
        long count;
        synchronized (this) {
            failures++;
            long now = TimeUnit.NANOSECONDS.toMillis(System.nanoTime());
            if (auditedAt != 0 && now - auditedAt < AUDIT_EVERY_MS) {
                return;
            }
            auditedAt = now;
            count = failures;
            failures = 0;
        }
        String shown = NAME.matcher(user).matches() ? user : "a name that no user can have";
        LOG.warn("Login as [{}] refused, {}; {} refused since the last such line", shown, why, count);
        try {
            audit.record("user.login", shown, "refused: " + why, Map.of("count", count));
        } catch (UncheckedIOException e) {
            LOG.debug("Noted later: login refused", e);
        }
    }

    private static Set<String> roles(String role) {
        return new LinkedHashSet<>(ROLES.subList(0, ROLES.indexOf(role) + 1));
    }

    // ---- the file

    private void reload() {
        try {
            load();
        } catch (IOException e) {
            // Nobody is let in by what cannot be read any more.
            users = Map.of();
            remembered.clear();
            stamp = null;
            LOG.error("Users' file [{}] cannot be read, nobody can log in: {}", file, Causes.text(e));
        }
    }

    private void load() throws IOException {
        Object now = Files.exists(file) ? List.of(Files.getLastModifiedTime(file), Files.size(file), String.valueOf(Files.readAttributes(file, java.nio.file.attribute.BasicFileAttributes.class).fileKey())) : "absent";
        if (now.equals(stamp)) {
            return;
        }
        Map<String, Stored> read = new TreeMap<>();
        if (Files.exists(file)) {
            Properties properties = new Properties();
            try (BufferedReader reader = Files.newBufferedReader(file)) {
                properties.load(reader);
            } catch (IllegalArgumentException e) {
                throw new IOException(e.getMessage(), e);
            }
            List<String> bad = new ArrayList<>();
            for (String name : properties.stringPropertyNames()) {
                List<String> parts = List.of(properties.getProperty(name).split("\\s*,\\s*"));
                Optional<String> role = parts.stream().filter(ROLES::contains).max((a, b) -> Integer.compare(ROLES.indexOf(a), ROLES.indexOf(b)));
                String hash = parts.get(0);
                if (NAME.matcher(name).matches() && role.isPresent() && hash.startsWith(CRYPT) && hash.endsWith(CRYPT) && hash.length() > 2 * CRYPT.length()) {
                    read.put(name, new Stored(hash.substring(CRYPT.length(), hash.length() - CRYPT.length()), role.get()));
                } else {
                    bad.add(name);
                }
            }
            if (!bad.isEmpty()) {
                LOG.warn("Users {} of [{}] do not count: their password is not hashed, or they have none of the roles {}; make them with user:add", bad, file, ROLES);
            }
            OpenFiles.warn(file, "the users");
        }
        users = read;
        remembered.clear();
        stamp = now;
    }

    private void save(Map<String, Stored> all) {
        StringBuilder text = new StringBuilder("# Users of this container, for logins over the network. Changed by user:add, user:passwd, user:role, user:remove.\n");
        new TreeMap<>(all).forEach((name, user) -> text.append(name).append(" = ").append(CRYPT).append(user.hash.replace(":", "\\:")).append(CRYPT)
                .append(',').append(String.join(",", roles(user.role))).append('\n'));
        try {
            write(file, text.toString());
            stamp = null;
            load();
        } catch (IOException e) {
            throw new UncheckedIOException("Users' file [" + file + "] cannot be written, nothing was changed: " + Causes.text(e), e);
        }
    }

    /** Whole or not at all, and only for its owner. */
    private static void write(Path file, String text) throws IOException {
        Files.createDirectories(file.toAbsolutePath().getParent());
        Path draft = file.resolveSibling(file.getFileName() + ".new");
        Files.deleteIfExists(draft);
        try (FileChannel channel = FileChannel.open(draft, Set.of(StandardOpenOption.CREATE_NEW, StandardOpenOption.WRITE),
                PosixFilePermissions.asFileAttribute(PosixFilePermissions.fromString("rw-------")))) {
            channel.write(StandardCharsets.UTF_8.encode(text));
            channel.force(true);
        }
        Files.move(draft, file, StandardCopyOption.ATOMIC_MOVE, StandardCopyOption.REPLACE_EXISTING);
        try (FileChannel folder = FileChannel.open(file.toAbsolutePath().getParent(), StandardOpenOption.READ)) {
            folder.force(true);
        }
    }

    // ---- passwords

    private String pair(String user, char[] password) {
        try {
            Mac mac = Mac.getInstance("HmacSHA256");
            mac.init(new SecretKeySpec(processKey, "HmacSHA256"));
            mac.update(user.getBytes(StandardCharsets.UTF_8));
            mac.update((byte) 0);
            mac.update(StandardCharsets.UTF_8.encode(java.nio.CharBuffer.wrap(password)));
            return HexFormat.of().formatHex(mac.doFinal());
        } catch (GeneralSecurityException e) {
            throw new IllegalStateException(e);
        }
    }
}
