// SPDX-License-Identifier: Apache-2.0
package io.caravan.runtime.internal;

import io.caravan.runtime.AuditTrail;
import io.caravan.runtime.Check;
import java.io.BufferedInputStream;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.InputStream;
import java.io.UncheckedIOException;
import java.nio.ByteBuffer;
import java.nio.channels.FileChannel;
import java.nio.channels.OverlappingFileLockException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.nio.file.attribute.PosixFilePermissions;
import java.security.MessageDigest;
import java.security.NoSuchAlgorithmException;
import java.time.Instant;
import java.time.temporal.ChronoUnit;
import java.util.ArrayDeque;
import java.util.ArrayList;
import java.util.Deque;
import java.util.HexFormat;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Queue;
import java.util.Set;
import java.util.TreeMap;
import java.util.concurrent.ConcurrentLinkedQueue;
import java.util.concurrent.TimeUnit;
import java.util.function.Consumer;
import java.util.function.LongSupplier;
import java.util.function.Predicate;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import java.util.stream.Stream;
import org.apache.camel.util.json.DeserializationException;
import org.apache.camel.util.json.JsonObject;
import org.apache.camel.util.json.Jsoner;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/**
 * The audit log: a file of JSON lines that is only appended to, each naming the SHA-256 of the line before, so that a line that
 * was altered, put in or taken out shows. A full file is renamed to {@code audit.<n>.log} and kept; the chain goes on in the next.
 *
 * <p>Lines are hashed as bytes. One that was cut off by a crash or a full disk is thus part of the chain like any other: it is
 * ended with a line feed, never removed.
 *
 * <p>The file cannot be had at the start, or a write fails: the container works on, {@link #check} is down, and what could not be
 * written is kept in memory to be noted as {@code audit.missed} as soon as it can be. This class is thread-safe.
 */
final class AuditLog implements AuditTrail, AutoCloseable {

    static final String NO_PREVIOUS = "0".repeat(64);

    /** Apart from the log of the classes: it goes where an operator sends it, with the hash that anchors the file elsewhere. */
    private static final Logger LOG = LoggerFactory.getLogger("io.caravan.audit");
    private static final int MAX_TEXT = 4_096;
    private static final int MAX_LINE_BYTES = 1_048_576;
    private static final int MAX_MISSED = 1_000;
    private static final int MAX_TOGETHER = 200;
    private static final int MANY_FILES = 50;
    /** In the log of the classes, each with a line of its own; what comes beyond is anchored by the last one's hash. */
    private static final int COPIES_PER_SECOND = 20;

    private record Missed(String time, String actor, String action, String subject, String error) { }

    /** An entry whose caller waits for it. */
    private static final class Waiting {
        final String time;
        final String actor;
        final String action;
        final String subject;
        final String outcome;
        final Map<String, ?> details;
        boolean done;
        IOException failure;

        Waiting(String time, String actor, String action, String subject, String outcome, Map<String, ?> details) {
            this.time = time;
            this.actor = actor;
            this.action = action;
            this.subject = subject;
            this.outcome = outcome;
            // Here, on the caller's thread: what fails is its own business.
            Map<String, String> texts = new TreeMap<>();
            details.forEach((name, value) -> texts.put(name, cut(String.valueOf(value))));
            this.details = texts;
        }
    }

    private record Folder(List<Path> rotated, Path current) { }

    private final Path file;
    private final long maxBytes;
    private final Pattern rotatedName;
    private final Deque<Missed> missed = new ArrayDeque<>();
    private final Queue<Waiting> waiting = new ConcurrentLinkedQueue<>();
    private final Consumer<String> copies;
    private final LongSupplier nanoTime;
    private long secondBegan;
    private int copied;
    private int uncopied;
    private String lastUncopied;
    private long forgotten;
    private FileChannel channel;
    private long seq;
    private String head = NO_PREVIOUS;
    private boolean wrote;
    private boolean closed;
    private volatile String problem;

    /** @param file made at once, its folder with mode 0700, itself with 0600 */
    AuditLog(Path file, long maxBytes) {
        this(file, maxBytes, LOG::info, System::nanoTime);
    }

    AuditLog(Path file, long maxBytes, Consumer<String> copies, LongSupplier nanoTime) {
        this.copies = copies;
        this.nanoTime = nanoTime;
        this.secondBegan = nanoTime.getAsLong();
        this.file = file.toAbsolutePath().normalize();
        this.maxBytes = maxBytes;
        String name = this.file.getFileName().toString();
        int dot = name.lastIndexOf('.');
        rotatedName = Pattern.compile(Pattern.quote(dot < 0 ? name : name.substring(0, dot)) + "\\.(\\d{6,})"
                + Pattern.quote(dot < 0 ? "" : name.substring(dot)));
        retry();
    }

    @Override
    public void record(String action, String subject, String outcome, Map<String, ?> details) {
        recordAs(actor(), action, subject, outcome, details);
    }

    /** Those who come while another one writes are written together after it, with one fsync. */
    @Override
    public void recordAs(String actor, String action, String subject, String outcome, Map<String, ?> details) {
        Waiting mine = new Waiting(Instant.now().truncatedTo(ChronoUnit.MILLIS).toString(), actor, action, subject, outcome, details);
        waiting.add(mine);
        synchronized (this) {
            while (!mine.done) {
                writeWaiting();
            }
        }
        if (mine.failure != null) {
            throw new UncheckedIOException("Audit log [" + file + "] cannot be written (" + Causes.text(mine.failure) + "), so that [" + action
                    + "] must not be done: make the file's disk writable again, then repeat it", mine.failure);
        }
    }

    private void writeWaiting() {
        List<Waiting> batch = new ArrayList<>();
        for (Waiting w = waiting.poll(); w != null; w = batch.size() < MAX_TOGETHER ? waiting.poll() : null) {
            batch.add(w);
        }
        IOException failure = null;
        try {
            catchUp();
            List<String> lines = new ArrayList<>();
            for (Waiting w : batch) {
                lines.add(write(w.time, w.actor, w.action, w.subject, w.outcome, w.details));
            }
            channel.force(false);
            lines.forEach(this::copy);
            problem = null;
        } catch (IOException | RuntimeException e) {
            failure = e instanceof IOException io ? io : new IOException(e);
            failed(failure);
        }
        for (Waiting w : batch) {
            w.done = true;
            w.failure = failure;
            if (failure != null && missed.size() < MAX_MISSED) {
                missed.add(new Missed(w.time, w.actor, w.action, cut(w.subject), Causes.text(failure)));
            } else if (failure != null) {
                forgotten++;
            }
        }
    }

    /** As {@link #record}, for what has happened already or must happen anyway. */
    void note(String action, String subject, String outcome, Map<String, ?> details) {
        try {
            record(action, subject, outcome, details);
        } catch (UncheckedIOException e) {
            LOG.debug("Noted later: {} {}", action, subject, e);
        }
    }

    /** Opens the file and writes what is missing, as long as something is wrong, and tells what was not copied; called every now and then. */
    synchronized void retry() {
        copyRest();
        if (closed || channel != null && missed.isEmpty() && forgotten == 0 && problem == null) {
            return;
        }
        try {
            catchUp();
            problem = null;
        } catch (IOException e) {
            failed(e);
        }
    }

    Check check() {
        String now = problem;
        return new Check("audit", now == null ? "UP" : "DOWN", now == null ? "" : now);
    }

    /** @return the user whose shell session or request this thread works for */
    static String actor() {
        String user = Subjects.user();
        return user == null ? "container" : user;
    }

    @Override
    public synchronized void close() {
        closed = true;
        tellUncopied();
        release();
    }

    // ---- writing

    void failed(IOException e) {
        release();
        String text = "the audit log [" + file + "] cannot be written: " + Causes.text(e)
                + "; what grants rights is refused until it can: free space, or look after the folder's owner and mode";
        if (!text.equals(problem)) {
            LOG.error("{}", text);
        }
        problem = text;
    }

    private void release() {
        if (channel != null) {
            try {
                channel.close();
            } catch (IOException e) {
                LOG.debug("Closing [{}]", file, e);
            }
            channel = null;
        }
    }

    private void catchUp() throws IOException {
        if (closed) {
            throw new IOException("the container has stopped");
        }
        if (channel == null) {
            open();
        }
        while (!missed.isEmpty()) {
            Missed m = missed.peek();
            append(now(), m.actor, "audit.missed", m.subject, "not written in time: what grants rights was refused then, what takes them away was done",
                    Map.of("action", m.action, "time", m.time, "error", m.error));
            missed.remove();
        }
        if (forgotten > 0) {
            append(now(), "container", "audit.missed", forgotten + " entries", "not written, more than " + MAX_MISSED + " waited", Map.of());
            forgotten = 0;
        }
    }

    private void open() throws IOException {
        Path folder = file.getParent();
        if (!Files.isDirectory(folder)) {
            Files.createDirectories(folder.getParent());
            Files.createDirectory(folder, PosixFilePermissions.asFileAttribute(PosixFilePermissions.fromString("rwx------")));
        }
        // O_APPEND: two writers could not overwrite each other, and an operator may make the file append-only (chattr +a).
        FileChannel opened = FileChannel.open(file, Set.of(StandardOpenOption.CREATE, StandardOpenOption.WRITE, StandardOpenOption.APPEND),
                PosixFilePermissions.asFileAttribute(PosixFilePermissions.fromString("rw-------")));
        try {
            if (opened.tryLock() == null) {
                throw new IOException("another process writes it; give this container an audit.file of its own");
            }
            Tail tail = tail();
            if (tail.unfinished) {
                opened.write(ByteBuffer.wrap(new byte[] {'\n'}));
            }
            force(opened, folder);
            channel = opened;
            if (!wrote || !tail.torn.isEmpty() || tail.prev.equals(head)) {
                // Also the line of this process that was written whole although the write, or its fsync, was said to have failed.
                seq = Math.max(seq, tail.seq);
                head = tail.head;
            } else if (!head.equals(tail.head)) {
                // What this process has written is not the end any more; the chain goes on from its own head, so that it shows.
                LOG.error("Audit log [{}] was altered while it could not be written: audit:verify says where", file);
            }
            for (String torn : tail.torn) {
                append(now(), "container", "audit.torn", torn, "cut off by a crash or a full disk, kept", Map.of());
            }
        } catch (OverlappingFileLockException e) {
            opened.close();
            throw new IOException("another container of this process writes it; give this container an audit.file of its own", e);
        } catch (IOException e) {
            opened.close();
            channel = null;
            throw e;
        }
    }

    private static void force(FileChannel opened, Path folder) throws IOException {
        opened.force(true);
        try (FileChannel directory = FileChannel.open(folder, StandardOpenOption.READ)) {
            directory.force(true);
        }
    }

    private void append(String time, String actor, String action, String subject, String outcome, Map<String, ?> details) throws IOException {
        String text = write(time, actor, action, subject, outcome, details);
        channel.force(false);
        copy(text);
    }

    /** Hundreds of entries a second, as of commands through the API, must not push everything else out of the log of the classes. */
    private void copy(String text) {
        copyRest();
        if (copied < COPIES_PER_SECOND) {
            copied++;
            copies.accept(text);
        } else {
            uncopied++;
            lastUncopied = text;
        }
    }

    /** What was left out of the second that is over: how many, and the last one, whose hash stands for all before it. */
    private void copyRest() {
        if (nanoTime.getAsLong() - secondBegan < TimeUnit.SECONDS.toNanos(1)) {
            return;
        }
        tellUncopied();
        secondBegan = nanoTime.getAsLong();
        copied = 0;
    }

    private void tellUncopied() {
        if (uncopied > 0) {
            copies.accept(uncopied + " entries more, the last one: " + lastUncopied);
            uncopied = 0;
        }
    }

    /** Not on the disk before it is forced. @return what goes into the log of the classes */
    private String write(String time, String actor, String action, String subject, String outcome, Map<String, ?> details) throws IOException {
        if (channel.size() >= maxBytes) {
            rotate();
        }
        JsonObject line = new JsonObject();
        line.put("seq", seq + 1);
        line.put("time", time);
        line.put("actor", cut(actor));
        line.put("action", cut(action));
        line.put("subject", cut(subject));
        line.put("outcome", cut(outcome));
        JsonObject values = new JsonObject();
        new TreeMap<>(details).forEach((name, value) -> values.put(name, cut(String.valueOf(value))));
        line.put("details", values);
        line.put("prev", head);
        byte[] bytes = (line.toJson() + "\n").getBytes(StandardCharsets.UTF_8);
        ByteBuffer buffer = ByteBuffer.wrap(bytes);
        while (buffer.hasRemaining()) {
            channel.write(buffer);
        }
        seq++;
        head = hash(bytes, bytes.length - 1);
        wrote = true;
        return seq + " " + line.get("actor") + " " + line.get("action") + " [" + line.get("subject") + "] " + line.get("outcome") + " " + head;
    }

    private void rotate() throws IOException {
        channel.force(false);
        List<Path> rotated = files().rotated;
        long number = rotated.isEmpty() ? 1 : number(rotated.get(rotated.size() - 1)) + 1;
        String name = file.getFileName().toString();
        int dot = name.lastIndexOf('.');
        String numbered = (dot < 0 ? name : name.substring(0, dot)) + String.format(".%06d", number) + (dot < 0 ? "" : name.substring(dot));
        release();
        Files.move(file, file.resolveSibling(numbered));
        if (number >= MANY_FILES) {
            LOG.warn("There are {} full audit logs beside [{}]; none is ever deleted by itself: verify (audit:verify) and archive the older ones", rotated.size() + 1, file);
        }
        open();
    }

    private static String now() {
        return Instant.now().truncatedTo(ChronoUnit.MILLIS).toString();
    }

    private static String cut(String text) {
        return text == null ? "" : text.length() <= MAX_TEXT ? text : text.substring(0, MAX_TEXT) + "...";
    }

    // ---- reading

    private record Tail(long seq, String prev, String head, boolean unfinished, List<String> torn) { }

    /** One line as it stands in a file. */
    private interface Line {
        /** @param ended whether a line feed follows */
        void at(Path file, long number, byte[] bytes, boolean ended) throws IOException;
    }

    /** The end of the chain: in the current file, or, where that is new, in the newest of the full ones. */
    private Tail tail() throws IOException {
        List<Path> all = new ArrayList<>(files().rotated);
        if (Files.size(file) > 0) {
            all.add(file);
        }
        if (all.isEmpty()) {
            return new Tail(0, "", NO_PREVIOUS, false, List.of());
        }
        Path last = all.get(all.size() - 1);
        Entry[] found = {null};
        String[] hash = {NO_PREVIOUS};
        boolean[] unfinished = {false};
        List<String> torn = new ArrayList<>();
        for (int i = all.size() - 1; i >= 0 && found[0] == null; i--) {
            Path path = all.get(i);
            try (InputStream in = Files.newInputStream(path)) {
                lines(path, in, (p, number, bytes, ended) -> {
                    Entry entry = parse(bytes);
                    found[0] = entry == null ? found[0] : entry;
                    if (p == last) {
                        torn.clear();
                        if (entry == null) {
                            torn.add(p.getFileName() + " line " + number);
                        }
                        hash[0] = hash(bytes, bytes.length);
                        unfinished[0] = !ended;
                    }
                });
            }
        }
        return new Tail(found[0] == null ? 0 : found[0].seq(), found[0] == null || !torn.isEmpty() ? "" : found[0].prev(), hash[0],
                unfinished[0] && last.equals(file), List.copyOf(torn));
    }

    @Override
    public void read(Predicate<Entry> wanted, Consumer<Entry> consumer) {
        walk((path, number, bytes, ended) -> {
            Entry entry = parse(bytes);
            if (entry != null && wanted.test(entry)) {
                consumer.accept(entry);
            }
        });
    }

    @Override
    public Verification verify() {
        String[] previous = {null};
        long[] last = {0, 0, 0, 0};   // last seq, entries, first seq, bytes
        List<String> torn = new ArrayList<>();
        List<String> problems = new ArrayList<>();
        Snapshot snapshot = walk((path, number, bytes, ended) -> {
            String place = path.getFileName() + " line " + number;
            last[3] += bytes.length + 1L;
            Entry entry = parse(bytes);
            if (entry == null) {
                torn.add(place);
            } else {
                if (last[1] == 0) {
                    last[2] = entry.seq();
                }
                if (previous[0] == null ? entry.seq() == 1 && !entry.prev().equals(NO_PREVIOUS) : !entry.prev().equals(previous[0])) {
                    problems.add(place + " (entry " + entry.seq() + "): names " + entry.prev() + " as the hash of the line before, which has "
                            + (previous[0] == null ? NO_PREVIOUS : previous[0]) + ": that line was altered, or lines were put in or taken out between the two");
                }
                if (last[1] > 0 && entry.seq() != last[0] + 1) {
                    problems.add(place + ": entry " + entry.seq() + " stands behind entry " + last[0]
                            + (entry.seq() > last[0] ? ": those between were taken out" : ": it was put in or moved"));
                }
                last[0] = entry.seq();
                last[1]++;
            }
            previous[0] = hash(bytes, bytes.length);
        });
        String end = previous[0] == null ? NO_PREVIOUS : previous[0];
        if (snapshot.wrote && !end.equals(snapshot.head)) {
            problems.add(file.getFileName() + ": the last line has the hash " + end + ", but this process has written entry " + snapshot.seq
                    + " with the hash " + snapshot.head + " as the last: that one was altered or taken out");
        }
        for (int i = 1; i < snapshot.rotated.size(); i++) {
            if (number(snapshot.rotated.get(i)) != number(snapshot.rotated.get(i - 1)) + 1) {
                problems.add("file between " + snapshot.rotated.get(i - 1).getFileName() + " and " + snapshot.rotated.get(i).getFileName() + " is missing");
            }
        }
        return new Verification(snapshot.rotated.size() + 1, last[3], last[1], last[2], last[0], end, List.copyOf(torn), List.copyOf(problems));
    }

    private record Snapshot(List<Path> rotated, boolean wrote, long seq, String head) { }

    /** All lines there are now. Held up is nobody: the current file is opened, and its end noted, under the lock, and read outside. */
    private Snapshot walk(Line line) {
        Snapshot snapshot;
        InputStream current = null;
        try {
            long size = 0;
            synchronized (this) {
                snapshot = new Snapshot(files().rotated, wrote, seq, head);
                if (Files.exists(file)) {
                    current = Files.newInputStream(file);
                    size = Files.size(file);
                }
            }
            for (Path path : snapshot.rotated) {
                try (InputStream in = Files.newInputStream(path)) {
                    lines(path, in, line);
                }
            }
            if (current != null) {
                lines(file, new Limited(current, size), line);
            }
            return snapshot;
        } catch (IOException e) {
            throw new UncheckedIOException("Audit log [" + file + "] cannot be read: " + Causes.text(e), e);
        } finally {
            if (current != null) {
                try {
                    current.close();
                } catch (IOException e) {
                    LOG.debug("Closing [{}]", file, e);
                }
            }
        }
    }

    private Folder files() throws IOException {
        Path folder = file.getParent();
        if (!Files.isDirectory(folder)) {
            return new Folder(List.of(), file);
        }
        try (Stream<Path> all = Files.list(folder)) {
            return new Folder(all.filter(p -> rotatedName.matcher(p.getFileName().toString()).matches())
                    .sorted((a, b) -> Long.compare(number(a), number(b))).toList(), file);
        }
    }

    private long number(Path path) {
        Matcher matcher = rotatedName.matcher(path.getFileName().toString());
        return matcher.matches() ? Long.parseLong(matcher.group(1)) : 0;
    }

    private static void lines(Path path, InputStream source, Line line) throws IOException {
        InputStream in = new BufferedInputStream(source, 65_536);
        ByteArrayOutputStream bytes = new ByteArrayOutputStream(512);
        long number = 1;
        for (int b = in.read(); b >= 0; b = in.read()) {
            if (b == '\n') {
                line.at(path, number++, bytes.toByteArray(), true);
                bytes.reset();
            } else if (bytes.size() >= MAX_LINE_BYTES) {
                throw new IOException(path.getFileName() + " line " + number + " is longer than " + MAX_LINE_BYTES + " bytes, this is no audit log");
            } else {
                bytes.write(b);
            }
        }
        if (bytes.size() > 0) {
            line.at(path, number, bytes.toByteArray(), false);
        }
    }

    /** @return null: no complete entry */
    private static Entry parse(byte[] bytes) {
        try {
            Object root = Jsoner.deserialize(new String(bytes, StandardCharsets.UTF_8));
            if (!(root instanceof Map<?, ?> map) || !(map.get("seq") instanceof Number number) || map.get("prev") == null) {
                return null;
            }
            Map<String, String> details = new LinkedHashMap<>();
            if (map.get("details") instanceof Map<?, ?> values) {
                values.forEach((name, value) -> details.put(String.valueOf(name), String.valueOf(value)));
            }
            return new Entry(number.longValue(), text(map, "time"), text(map, "actor"), text(map, "action"), text(map, "subject"), text(map, "outcome"),
                    details, text(map, "prev"));
        } catch (DeserializationException | RuntimeException e) {
            return null;
        }
    }

    private static String text(Map<?, ?> map, String name) {
        return map.get(name) == null ? "" : String.valueOf(map.get(name));
    }

    /** @return of the text's UTF-8, in hex */
    static String sha256(String text) {
        byte[] bytes = text.getBytes(StandardCharsets.UTF_8);
        return hash(bytes, bytes.length);
    }

    private static String hash(byte[] bytes, int length) {
        try {
            MessageDigest digest = MessageDigest.getInstance("SHA-256");
            digest.update(bytes, 0, length);
            return HexFormat.of().formatHex(digest.digest());
        } catch (NoSuchAlgorithmException e) {
            throw new IllegalStateException(e);
        }
    }

    /** The first bytes of a stream; what is appended meanwhile is not read. */
    private static final class Limited extends InputStream {
        private final InputStream in;
        private long left;

        Limited(InputStream in, long left) {
            this.in = in;
            this.left = left;
        }

        @Override
        public int read() throws IOException {
            return left-- > 0 ? in.read() : -1;
        }

        @Override
        public int read(byte[] bytes, int offset, int length) throws IOException {
            if (left <= 0) {
                return -1;
            }
            int count = in.read(bytes, offset, (int) Math.min(length, left));
            left -= Math.max(count, 0);
            return count;
        }
    }
}
