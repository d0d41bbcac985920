// SPDX-License-Identifier: Apache-2.0
package io.caravan.runtime.internal;

import java.io.IOException;
import java.io.StringReader;
import java.nio.channels.FileChannel;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.NoSuchFileException;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.nio.file.StandardOpenOption;
import java.nio.file.attribute.PosixFilePermissions;
import java.util.LinkedHashMap;
import java.util.Map;
import java.util.Optional;
import java.util.Properties;
import java.util.Set;
import java.util.TreeMap;
import org.apache.camel.util.json.DeserializationException;
import org.apache.camel.util.json.JsonObject;
import org.apache.camel.util.json.Jsoner;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/**
 * The folder {@code control.dir}: what commands have set, and the journal of a change that is not confirmed yet.
 *
 * <p>A change goes through {@link #begin} (outcome "rolled back" for the case that nothing follows, copies of the file before and
 * after, then the journal), {@link #apply} (one rename), and {@link #confirm} or {@link #rollBack}. Each file is written beside, forced to
 * disk and renamed, and so is the folder. The change is confirmed by the rename of the outcomes, and by nothing else: wherever the
 * process dies, {@link #recover} finds which of the two it was. Rolling back writes nothing, so that a full disk does not
 * prevent it. This class is thread-safe; one change at a time.
 */
final class ControlFolder {

    static final String CONFIG = "config.cfg";
    static final String POLICY = "data-policy.json";
    static final String JOURNAL = "journal.json";
    static final String OUTCOMES = "outcomes.json";
    static final String BEFORE = ".before";
    static final String AFTER = ".after";
    static final String APPLIED = "applied";
    static final String ROLLED_BACK = "rolled_back";

    private static final Logger LOG = LoggerFactory.getLogger(ControlFolder.class);
    private static final int OUTCOMES_KEPT = 256;
    private static final String HEADER = "# Set by the commands config.update and rollup.window; goes before etc/*.cfg. Delete a line, or the file, to undo it.\n";

    /**
     * What became of a change.
     *
     * @param status {@link #APPLIED} or {@link #ROLLED_BACK}
     * @param detail why it was rolled back; the empty string
     * @param result JSON text of an object
     */
    record Outcome(String status, String detail, String result) { }

    /** @param file {@link #CONFIG} or {@link #POLICY}; existed whether it was there before */
    private record Journal(String id, String file, boolean existed) { }

    /** Steps between which a test lets the process die. */
    interface Crash {
        void at(String step) throws IOException;
    }

    private final Path folder;
    private final Crash crash;
    private Journal live;

    ControlFolder(Path folder) {
        this(folder, step -> { });
    }

    ControlFolder(Path folder, Crash crash) {
        this.folder = folder;
        this.crash = crash;
    }

    Path path(String file) {
        return folder.resolve(file);
    }

    /** @return what was set, by key; while a change of a dead process cannot be rolled back on disk, what was set before it */
    synchronized Map<String, String> config() throws IOException {
        String text = inForce(CONFIG);
        Properties properties = new Properties();
        try {
            properties.load(new StringReader(text == null ? "" : text));
        } catch (IllegalArgumentException e) {
            throw new IOException(e.getMessage(), e);
        }
        Map<String, String> answer = new TreeMap<>();
        properties.stringPropertyNames().forEach(name -> answer.put(name, properties.getProperty(name).strip()));
        return answer;
    }

    /** @return the file's text, or null if there is none; while a change of a dead process cannot be rolled back on disk, the one before it */
    synchronized String inForce(String file) throws IOException {
        Journal journal = live == null ? unconfirmed() : null;
        if (journal == null || !journal.file.equals(file)) {
            return read(file);
        }
        return !journal.existed ? null : Files.exists(path(file + BEFORE)) ? read(file + BEFORE) : read(file);
    }

    /** @return the text of {@link #CONFIG} with these values, all of them numbers or words */
    static String text(Map<String, String> values) {
        StringBuilder text = new StringBuilder(HEADER);
        new TreeMap<>(values).forEach((key, value) -> text.append(key).append(" = ").append(value).append('\n'));
        return text.toString();
    }

    /** @return the file's text, or null if there is none */
    synchronized String read(String file) throws IOException {
        try {
            return Files.readString(path(file));
        } catch (NoSuchFileException e) {
            return null;
        }
    }

    /** @return what became of the change that had this id, as far as it is remembered */
    synchronized Optional<Outcome> outcome(String id) throws IOException {
        return Optional.ofNullable(outcomes().get(id)).map(o -> {
            JsonObject json = (JsonObject) o;
            return new Outcome(json.getString("status"), json.getString("detail"), json.getString("result"));
        });
    }

    /**
     * Writes down what is about to be done. After an exception nothing is to be undone.
     *
     * @param rolledBack what became of it if neither {@link #confirm} nor {@link #rollBack} follows
     */
    synchronized void begin(String id, String file, String after, Outcome rolledBack) throws IOException {
        folder();
        String before = read(file);
        remember(id, rolledBack);
        crash.at("outcome");
        if (before != null) {
            write(file + BEFORE, before);
        }
        write(file + AFTER, after);
        crash.at("copies");
        JsonObject json = new JsonObject();
        json.put("id", id);
        json.put("file", file);
        json.put("existed", before != null);
        write(JOURNAL, json.toJson());
        live = new Journal(id, file, before != null);
        crash.at("journal");
    }

    /** Puts the file in place; whoever reads it from now on sees the new one as a whole. */
    synchronized void apply() throws IOException {
        move(live.file + AFTER, live.file);
        crash.at("applied");
    }

    /** It stays. After an exception it must be rolled back. */
    synchronized void confirm(Outcome outcome) throws IOException {
        remember(live.id, outcome);
        crash.at("confirmed");
        forget(live);
        live = null;
    }

    /**
     * The file is again as it was before {@link #begin}.
     *
     * @throws IOException it is not yet, on disk, but {@link #inForce} answers as if it were; {@link #recover} does the rest
     */
    synchronized void rollBack(Outcome outcome) throws IOException {
        Journal journal = live;
        live = null;
        restore(journal);
        crash.at("restored");
        try {
            remember(journal.id, outcome);
        } catch (IOException e) {
            LOG.warn("The outcome of [{}] cannot be written, it is remembered as rolled back without the cause: {}", journal.id, Causes.text(e));
        }
        crash.at("told");
        forget(journal);
    }

    /**
     * Ends what a process before this one did not: before anything reads the files.
     *
     * @return the id of a change that was rolled back; empty: there was none
     * @throws IOException it cannot be done now; {@link #config} answers as if it had been
     */
    synchronized Optional<String> recover() throws IOException {
        if (live != null || !Files.exists(path(JOURNAL))) {
            return Optional.empty();
        }
        Journal open = unconfirmed();
        if (open == null) {
            Files.deleteIfExists(path(JOURNAL));
            sync();
            return Optional.empty();
        }
        restore(open);
        crash.at("recovered");
        forget(open);
        return Optional.of(open.id);
    }

    private Journal unconfirmed() throws IOException {
        String text = read(JOURNAL);
        if (text == null) {
            return null;
        }
        try {
            JsonObject json = (JsonObject) Jsoner.deserialize(text);
            Journal journal = new Journal(json.getString("id"), json.getString("file"), json.getBoolean("existed"));
            if (!Set.of(CONFIG, POLICY).contains(journal.file)) {
                throw new IOException("File [" + path(JOURNAL) + "] names [" + journal.file + "], which no command writes: delete it");
            }
            Optional<Outcome> outcome = outcome(journal.id);
            return outcome.isPresent() && outcome.get().status.equals(APPLIED) ? null : journal;
        } catch (DeserializationException | RuntimeException e) {
            throw new IOException("File [" + path(JOURNAL) + "] is damaged: compare " + CONFIG + " with " + CONFIG + BEFORE
                    + " beside it, then delete it", e);
        }
    }

    private void restore(Journal journal) throws IOException {
        if (!journal.existed) {
            Files.deleteIfExists(path(journal.file));
            sync();
        } else if (Files.exists(path(journal.file + BEFORE))) {
            move(journal.file + BEFORE, journal.file);
        }
    }

    private void forget(Journal journal) throws IOException {
        // First: without it the copies mean nothing, and they are overwritten by the next change.
        Files.deleteIfExists(path(JOURNAL));
        sync();
        Files.deleteIfExists(path(journal.file + BEFORE));
        Files.deleteIfExists(path(journal.file + AFTER));
    }

    private JsonObject outcomes() throws IOException {
        String text = read(OUTCOMES);
        try {
            return text == null ? new JsonObject() : (JsonObject) Jsoner.deserialize(text);
        } catch (DeserializationException | RuntimeException e) {
            throw new IOException("File [" + path(OUTCOMES) + "] is damaged: delete it; then what became of earlier commands is not known", e);
        }
    }

    private void remember(String id, Outcome outcome) throws IOException {
        LinkedHashMap<String, Object> all = new LinkedHashMap<>(outcomes());
        all.remove(id);
        JsonObject json = new JsonObject();
        json.put("status", outcome.status);
        json.put("detail", outcome.detail);
        json.put("result", outcome.result);
        all.put(id, json);
        all.keySet().stream().limit(Math.max(0, all.size() - OUTCOMES_KEPT)).toList().forEach(all::remove);
        write(OUTCOMES, new JsonObject(all).toJson());
    }

    private void folder() throws IOException {
        if (!Files.isDirectory(folder)) {
            Files.createDirectories(folder.toAbsolutePath().getParent());
            Files.createDirectory(folder, PosixFilePermissions.asFileAttribute(PosixFilePermissions.fromString("rwx------")));
        }
    }

    private void write(String file, String text) throws IOException {
        String draft = file + ".new";
        Files.deleteIfExists(path(draft));
        try (FileChannel channel = FileChannel.open(path(draft), Set.of(StandardOpenOption.CREATE_NEW, StandardOpenOption.WRITE),
                PosixFilePermissions.asFileAttribute(PosixFilePermissions.fromString("rw-------")))) {
            java.nio.ByteBuffer bytes = StandardCharsets.UTF_8.encode(text);
            while (bytes.hasRemaining()) {
                channel.write(bytes);
            }
            channel.force(true);
        }
        move(draft, file);
    }

    private void move(String from, String to) throws IOException {
        Files.move(path(from), path(to), StandardCopyOption.ATOMIC_MOVE, StandardCopyOption.REPLACE_EXISTING);
        sync();
    }

    /** Else a rename may be gone after a power cut. */
    private void sync() throws IOException {
        try (FileChannel channel = FileChannel.open(folder, StandardOpenOption.READ)) {
            channel.force(true);
        }
    }
}
