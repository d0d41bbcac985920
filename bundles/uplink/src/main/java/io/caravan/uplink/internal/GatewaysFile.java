// SPDX-License-Identifier: Apache-2.0
package io.caravan.uplink.internal;

import io.caravan.uplink.Gateways.Certificate;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.ByteBuffer;
import java.nio.channels.FileChannel;
import java.nio.charset.StandardCharsets;
import java.nio.file.AtomicMoveNotSupportedException;
import java.nio.file.Files;
import java.nio.file.NoSuchFileException;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.nio.file.StandardOpenOption;
import java.nio.file.attribute.BasicFileAttributes;
import java.nio.file.attribute.PosixFilePermission;
import java.nio.file.attribute.PosixFilePermissions;
import java.security.MessageDigest;
import java.security.NoSuchAlgorithmException;
import java.time.DateTimeException;
import java.time.Instant;
import java.time.OffsetDateTime;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashMap;
import java.util.HashSet;
import java.util.HexFormat;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.ConcurrentHashMap;
import java.util.function.UnaryOperator;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/**
 * Which gateways may connect. A line is {@code id = credential [credential ...] [# note]}; a credential is
 * {@code sha256:<hex of sha256(token)>}, with {@code ,from=TIME} and {@code ,until=TIME} behind it where it is limited,
 * {@code certificate:accepted} or {@code certificate:required}; {@code revoked} refuses the gateway whatever else is there.
 *
 * <p>Fail closed: a line that breaks a rule, or a second line of the same gateway, refuses that gateway and no other; a file that
 * is missing, unreadable or larger than 4 MiB refuses all. Only hashes are stored. A decision never reads the disk, compares in
 * constant time and does the same work for an id that is not there. This class is thread-safe.
 */
public final class GatewaysFile {

    /** Longest time between the change of a file and {@link #look} that may see it with the same stamp, and then some. */
    private static final long RACY_MS = 2_000;
    static final int TOKENS_MAX = 4;

    private static final Logger LOG = LoggerFactory.getLogger(GatewaysFile.class);
    private static final Pattern LINE = Pattern.compile("([^=\\s]+)\\s*=\\s*(.*?)(?:(?:^|\\s)#\\s*(.*))?");
    private static final Pattern TOKEN = Pattern.compile("sha256:([0-9a-fA-F]{64})(?:,from=([^,]+))?(?:,until=([^,]+))?");
    private static final long MAX_BYTES = 4 << 20;
    /** Compared with where there is no token, so that all cases take the same time. */
    private static final byte[] NOBODY = new byte[32];

    /** A token's hash and when it is valid; null: no limit. */
    public record Token(String hash, Instant from, Instant until) {

        public String id() {
            return hash.substring(0, 8);
        }

        private boolean valid(Instant now) {
            return (from == null || !now.isBefore(from)) && (until == null || now.isBefore(until));
        }

        private String text() {
            return "sha256:" + hash + (from == null ? "" : ",from=" + from) + (until == null ? "" : ",until=" + until);
        }
    }

    /** One gateway's line. {@code problem}: the rule it breaks; null: none. */
    public record Entry(String id, List<Token> tokens, Certificate certificate, boolean revoked, String note, String problem) {

        public String line() {
            StringBuilder text = new StringBuilder(id).append(" =");
            tokens.forEach(t -> text.append(' ').append(t.text()));
            if (certificate != Certificate.NO) {
                text.append(certificate == Certificate.ACCEPTED ? " certificate:accepted" : " certificate:required");
            }
            return text.append(revoked ? " revoked" : "").append(note == null ? "" : "  # " + note).toString();
        }
    }

    /** What a gateway showed: SHA-256 of the token in hex, CN and serial number of a certificate that TLS verified; or null. */
    public record Shown(String tokenHash, String certificateName, String certificateSerial) {

        public static Shown of(String token, String certificateName, String certificateSerial) {
            return new Shown(token == null ? null : sha256(token), certificateName, certificateSerial);
        }

        /** Leaves the hash out, but for its beginning. */
        @Override
        public String toString() {
            String token = tokenHash == null ? "" : "token " + tokenHash.substring(0, 8);
            return certificateName == null ? token : (token.isEmpty() ? "" : token + ", ") + "certificate " + certificateSerial;
        }
    }

    /** {@code refusal}: null means accepted, else the reason for metrics and logs; {@code used}: what was accepted. */
    public record Decision(String refusal, Shown used) { }

    private final Path file;
    /** Revoked by command and perhaps not yet, or not at all, on disk. */
    private final Set<String> denied = ConcurrentHashMap.newKeySet();
    private volatile Map<String, Entry> entries = Map.of();
    private volatile List<String> problems = List.of();
    private String stamp = "";
    private byte[] content;

    public GatewaysFile(Path file) {
        this.file = file;
        look();
    }

    /** Reads the file if it changed. @return whether anything did */
    public synchronized boolean look() {
        String now;
        byte[] bytes = null;
        String problem = null;
        boolean missing = false;
        try {
            BasicFileAttributes a = Files.readAttributes(file, BasicFileAttributes.class);
            now = a.lastModifiedTime() + "/" + a.size() + "/" + a.fileKey();
            // A file system's clock is coarse: what was written just now may be written again under the same stamp.
            if (now.equals(stamp) && Math.abs(System.currentTimeMillis() - a.lastModifiedTime().toMillis()) > RACY_MS) {
                return false;
            }
            if (a.size() > MAX_BYTES) {
                problem = "of [" + a.size() + "] bytes must not exceed " + MAX_BYTES;
            } else {
                bytes = Files.readAllBytes(file);
            }
        } catch (IOException e) {
            now = e.toString();
            missing = e instanceof NoSuchFileException;
            problem = missing ? "does not exist" : "cannot be read (" + e + ")";
        }
        boolean same = bytes == null ? now.equals(stamp) : content != null && Arrays.equals(bytes, content);
        stamp = now;
        content = bytes;
        if (same) {
            return false;
        }
        if (bytes == null) {
            entries = Map.of();
            String said = "gateways file [" + file + "] " + problem + ": no gateway may connect; uplink:add makes an entry (uplink.gateways.file)";
            // A cloud without gateways is new, not ill.
            problems = missing ? List.of() : List.of(said);
            if (missing) {
                LOG.warn(said);
            }
        } else {
            parse(new String(bytes, StandardCharsets.UTF_8));
        }
        problems.forEach(LOG::error);
        LOG.info("gateways file [{}] read: {} gateways, {} of them may not connect", file, entries.size(),
            entries.values().stream().filter(e -> e.revoked || e.problem != null).count());
        return true;
    }

    /** @return what is wrong with the file now, one sentence each */
    public List<String> problems() {
        return problems;
    }

    public Map<String, Entry> entries() {
        return entries;
    }

    /** @return whether the gateway was revoked by command, also if that is not on disk */
    public boolean isDenied(String id) {
        return denied.contains(id);
    }

    /** Decides whether who shows this may be that gateway. */
    public Decision decide(String id, Shown shown) {
        return decide(id, shown, Instant.now());
    }

    Decision decide(String id, Shown shown, Instant now) {
        return decide(id, entries.get(id), denied.contains(id), shown, now);
    }

    /**
     * @param entry  null: there is no such gateway
     * @param denied whether it is refused whatever the entry says
     */
    static Decision decide(String id, Entry entry, boolean denied, Shown shown, Instant now) {
        byte[] hash = shown.tokenHash == null ? new byte[32] : HexFormat.of().parseHex(shown.tokenHash);
        Token match = null;
        for (int i = 0; i < TOKENS_MAX; i++) {
            Token token = entry != null && i < entry.tokens.size() ? entry.tokens.get(i) : null;
            if (MessageDigest.isEqual(hash, token == null ? NOBODY : HexFormat.of().parseHex(token.hash)) && token != null) {
                match = token;
            }
        }
        if (entry == null) {
            return refused("unknown_gateway");
        }
        if (entry.problem != null) {
            return refused("invalid_entry");
        }
        boolean named = entry.certificate != Certificate.NO && id.equals(shown.certificateName);
        String token = shown.tokenHash == null ? "no_credential" : match == null ? "wrong_token"
            : match.valid(now) ? null : match.until != null && !now.isBefore(match.until) ? "expired" : "not_yet_valid";
        if (shown.tokenHash == null && !named) {
            return refused(shown.certificateName == null ? "no_credential" : "wrong_certificate");
        }
        if (entry.revoked || denied) {
            return refused("revoked");
        }
        if (entry.certificate == Certificate.REQUIRED) {
            if (!named) {
                return refused(shown.certificateName == null ? "no_certificate" : "wrong_certificate");
            }
            if (!entry.tokens.isEmpty() && token != null) {
                return refused(token);
            }
        } else if (!named && token != null) {
            return refused(token);
        }
        return new Decision(null, new Shown(token == null ? shown.tokenHash : null, named ? shown.certificateName : null,
            named ? shown.certificateSerial : null));
    }

    private static Decision refused(String reason) {
        return new Decision(reason, null);
    }

    /** From now on refused, whatever the file says. Undone by {@link #allow}. */
    public void deny(String id) {
        denied.add(id);
    }

    public void allow(String id) {
        denied.remove(id);
    }

    /**
     * Changes one gateway's line; all other lines stay as they are. On disk when it returns.
     *
     * @param edit gets the entry, null if there is none; returns the new one, null to delete every line of the gateway
     * @throws IOException it could not be written, or somebody else went on changing the file
     */
    public synchronized Entry edit(String id, UnaryOperator<Entry> edit) throws IOException {
        checkId(id);
        Path real = Files.exists(file) ? file.toRealPath() : file.toAbsolutePath();
        for (int attempt = 0; attempt < 5; attempt++) {
            byte[] before = Files.exists(real) ? Files.readAllBytes(real) : null;
            String text = before == null ? "" : new String(before, StandardCharsets.UTF_8);
            parse(text);
            content = before;
            Entry entry = edit.apply(entries.get(id));
            write(real, before, changed(text, id, entry));
            if (Arrays.equals(before, content)) {
                stamp = "";
                look();
                return entry;
            }
        }
        throw new IOException("gateways file [" + file + "] is being changed by somebody else: give the command again");
    }

    /** @throws IllegalArgumentException it is no id */
    public static void checkId(String id) {
        if (!Frames.isId(id)) {
            throw new IllegalArgumentException("gateway id [" + id + "] must be 1 to 64 characters out of A-Z a-z 0-9 . _ -, begin"
                + " with a letter or digit and have no ..");
        }
    }

    private static String changed(String text, String id, Entry entry) {
        List<String> lines = new ArrayList<>(List.of(text.split("\n", -1)));
        if (lines.get(lines.size() - 1).isEmpty()) {
            lines.remove(lines.size() - 1);
        }
        List<Integer> own = new ArrayList<>();
        for (int i = 0; i < lines.size(); i++) {
            Matcher line = LINE.matcher(lines.get(i).strip());
            if (!lines.get(i).strip().startsWith("#") && line.matches() && line.group(1).equals(id)) {
                own.add(i);
            }
        }
        if (entry != null && own.isEmpty()) {
            lines.add(entry.line());
        } else if (entry != null) {
            lines.set(own.remove(0), entry.line());
        }
        for (int i = own.size() - 1; i >= 0; i--) {
            lines.remove((int) own.get(i));
        }
        return lines.isEmpty() ? "" : String.join("\n", lines) + "\n";
    }

    /** Beside the file, fsync, rename, fsync of the folder: after a power cut it is the old file or the new one. */
    private void write(Path real, byte[] before, String text) throws IOException {
        Path folder = real.toAbsolutePath().getParent();
        Files.createDirectories(folder);
        Set<PosixFilePermission> permissions = before == null ? PosixFilePermissions.fromString("rw-------")
            : Files.getPosixFilePermissions(real);
        Path made = Files.createTempFile(folder, ".gateways", ".new");
        try {
            try (FileChannel out = FileChannel.open(made, StandardOpenOption.WRITE)) {
                ByteBuffer bytes = ByteBuffer.wrap(text.getBytes(StandardCharsets.UTF_8));
                while (bytes.hasRemaining()) {
                    out.write(bytes);
                }
                out.force(true);
            }
            Files.setPosixFilePermissions(made, permissions);
            // An editor may have saved in between: then nothing is written and the caller begins again with that.
            byte[] now = Files.exists(real) ? Files.readAllBytes(real) : null;
            if (!Arrays.equals(before, now)) {
                content = now;
                return;
            }
            Files.move(made, real, StandardCopyOption.ATOMIC_MOVE, StandardCopyOption.REPLACE_EXISTING);
        } catch (AtomicMoveNotSupportedException e) {
            throw new IOException("gateways file [" + file + "] cannot be replaced in one step on this file system", e);
        } finally {
            Files.deleteIfExists(made);
        }
        try (FileChannel opened = FileChannel.open(folder, StandardOpenOption.READ)) {
            opened.force(true);
        }
    }

    private void parse(String text) {
        Map<String, Entry> found = new HashMap<>();
        List<String> wrong = new ArrayList<>();
        Map<String, Integer> lines = new HashMap<>();
        int number = 0;
        for (String raw : text.split("\n", -1)) {
            number++;
            String line = raw.strip();
            if (line.isEmpty() || line.startsWith("#")) {
                continue;
            }
            Matcher m = LINE.matcher(line);
            if (!m.matches() || !Frames.isId(m.group(1))) {
                // Not the line itself: somebody may have put a token there.
                wrong.add("gateways file [" + file + "] line " + number + " must be 'gateway_id = sha256:<64 hex digits>': it lets nobody in");
                continue;
            }
            String id = m.group(1);
            Entry entry;
            try {
                entry = entry(id, m.group(2).strip(), m.group(3));
            } catch (IllegalArgumentException e) {
                entry = new Entry(id, List.of(), Certificate.NO, false, null, "line " + number + ": " + e.getMessage());
            }
            Integer first = lines.putIfAbsent(id, number);
            if (first != null) {
                entry = new Entry(id, List.of(), Certificate.NO, false, null, "line " + number + " names it a second time, after line " + first);
            }
            if (entry.problem != null) {
                wrong.add("gateways file [" + file + "] gateway [" + id + "] may not connect: " + entry.problem);
            }
            found.put(id, entry);
        }
        entries = Map.copyOf(found);
        problems = List.copyOf(wrong);
    }

    private static Entry entry(String id, String credentials, String note) {
        List<Token> tokens = new ArrayList<>();
        Set<String> seen = new HashSet<>();
        Certificate certificate = Certificate.NO;
        boolean revoked = false;
        int number = 0;
        for (String word : credentials.isEmpty() ? new String[0] : credentials.split("\\s+")) {
            number++;
            Matcher token = TOKEN.matcher(word);
            if (token.matches()) {
                Token made = new Token(token.group(1).toLowerCase(java.util.Locale.ROOT), time("from", token.group(2)), time("until", token.group(3)));
                if (made.from != null && made.until != null && !made.from.isBefore(made.until)) {
                    throw new IllegalArgumentException("token " + made.id() + " must be valid from before until");
                }
                if (!seen.add(made.hash)) {
                    throw new IllegalArgumentException("token " + made.id() + " is there twice");
                }
                tokens.add(made);
            } else if (word.startsWith("certificate:") && certificate == Certificate.NO && word.matches("certificate:(accepted|required)")) {
                certificate = word.endsWith("accepted") ? Certificate.ACCEPTED : Certificate.REQUIRED;
            } else if (word.equals("revoked") && !revoked) {
                revoked = true;
            } else {
                throw new IllegalArgumentException("word " + number + " behind = must be sha256:<64 hex digits>[,from=TIME][,until=TIME],"
                    + " certificate:accepted, certificate:required or revoked, each once; a note begins with #");
            }
        }
        if (tokens.size() > TOKENS_MAX) {
            throw new IllegalArgumentException("has [" + tokens.size() + "] tokens, at most " + TOKENS_MAX + " are allowed");
        }
        if (tokens.isEmpty() && certificate == Certificate.NO && !revoked) {
            throw new IllegalArgumentException("must have a token (sha256:...) or certificate:accepted");
        }
        return new Entry(id, List.copyOf(tokens), certificate, revoked, note == null || note.isBlank() ? null : note.strip(), null);
    }

    private static Instant time(String name, String text) {
        try {
            return text == null ? null : OffsetDateTime.parse(text).toInstant();
        } catch (DateTimeException e) {
            throw new IllegalArgumentException(name + " [" + text + "] must be a time like 2026-11-21T10:00:00Z", e);
        }
    }

    /** @return hex */
    public static String sha256(String text) {
        try {
            return HexFormat.of().formatHex(MessageDigest.getInstance("SHA-256").digest(text.getBytes(StandardCharsets.UTF_8)));
        } catch (NoSuchAlgorithmException e) {
            throw new UncheckedIOException(new IOException(e));
        }
    }
}
