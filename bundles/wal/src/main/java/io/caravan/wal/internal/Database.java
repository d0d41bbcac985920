// SPDX-License-Identifier: Apache-2.0
package io.caravan.wal.internal;

import com.zaxxer.hikari.HikariConfig;
import com.zaxxer.hikari.HikariDataSource;
import com.zaxxer.hikari.SQLExceptionOverride;
import io.caravan.runtime.Config;
import io.caravan.runtime.Tasks;
import java.io.IOException;
import java.nio.file.FileAlreadyExistsException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.attribute.PosixFilePermissions;
import java.sql.Connection;
import java.sql.SQLException;
import java.sql.SQLTransientConnectionException;
import java.sql.Statement;
import java.util.ArrayDeque;
import java.util.Collections;
import java.util.Deque;
import java.util.Locale;
import java.util.Set;
import java.util.WeakHashMap;
import javax.sql.DataSource;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;
import org.sqlite.SQLiteConfig;
import org.sqlite.SQLiteDataSource;
import org.sqlite.SQLiteOpenMode;

/**
 * The store's one file and the ways to it: {@code writer} (one connection, first come first served), {@code reader}
 * (read-only, two connections), in the cloud {@code apiReader} (as many, for who asks over HTTP). Opening creates or migrates the file, keeps a second process out and puts what was in
 * flight when the last process ended back in the queue. A gateway's store that turns out to be damaged is replaced by a
 * salvaged one, then or while it is in use: data sources and gate stay, connections do not. Thread-safe.
 */
final class Database implements AutoCloseable {
    private static final Logger LOG = LoggerFactory.getLogger(Database.class);
    private static final int BUSY_TIMEOUT_MS = 5_000;

    private final Path file;
    private final WriteGate gate;
    private final Deque<AutoCloseable> opened = new ArrayDeque<>();
    private final DataSource writer;
    private final DataSource reader = new ReaderDataSource(() -> pools().reader);
    private final DataSource apiReader = new ReaderDataSource(() -> pools().apiReader);
    private final Incidents incidents = new Incidents(this);
    private final Repair repair; // null: the cloud's store, which is not repaired
    private final Schema schema;
    private final SQLiteConfig base = new SQLiteConfig();
    private final SQLiteConfig write;
    private final String synchronous;
    private final String safetyNet;
    private final boolean dedupeOff;
    private final Set<Connection> others = Collections.newSetFromMap(new WeakHashMap<>());
    private volatile Pools pools;
    private volatile int generation;

    /** @param apiReader null: a gateway's store */
    private record Pools(HikariDataSource writer, HikariDataSource reader, HikariDataSource apiReader) {}

    private Database(Path file, Schema schema, Config config, Tasks tasks) {
        this.file = file;
        this.schema = schema;
        gate = new WriteGate(file.toFile());
        writer = new WriterDataSource(() -> pools().writer, gate);
        repair = schema == Schema.GATEWAY ? new Repair(this, tasks) : null;
        synchronous = config.get("wal.synchronous");
        dedupeOff = "off".equals(config.get("wal.unsafe.dedupe"));
        base.setBusyTimeout(BUSY_TIMEOUT_MS);
        base.enforceForeignKeys(true);
        base.setGetGeneratedKeys(false); // else each INSERT is followed by a SELECT last_insert_rowid()
        base.resetOpenMode(SQLiteOpenMode.CREATE); // who finds the file moved away must not make an empty one
        write = new SQLiteConfig(base.toProperties());
        write.setTransactionMode(SQLiteConfig.TransactionMode.IMMEDIATE);
        write.setSynchronous(SQLiteConfig.SynchronousMode.valueOf(synchronous.toUpperCase(Locale.ROOT)));
        write.setCacheSize(-8_000); // KiB
        // The checkpointer does it; this is the net below it. Pages of 4 KiB.
        safetyNet = "PRAGMA wal_autocheckpoint = " + Math.max(1_000, 4 * config.getLong("wal.checkpoint.bytes") / 4_096);
    }

    /**
     * @throws IOException with path, rule and advice, if the store cannot be opened; nothing stays open then
     */
    static Database open(Schema schema, Config config) throws IOException {
        return open(schema, config, new Tasks());
    }

    /** As above. @param tasks told of a salvage */
    static Database open(Schema schema, Config config, Tasks tasks) throws IOException {
        Path file = config.getPath(schema.pathKey()).toAbsolutePath().normalize();
        Database database = new Database(file, schema, config, tasks);
        try {
            database.open();
            return database;
        } catch (SQLException | IOException | RuntimeException e) {
            database.close();
            throw e instanceof IOException ? (IOException) e : new IOException(StorageError.describe(e, file), e);
        }
    }

    private void open() throws SQLException, IOException {
        makeDirectory();
        LockFile lock = new LockFile(file);
        opened.push(lock);
        opened.push(this::closePools);
        if (repair == null) {
            openFile();
        } else {
            repair.open(lock.made(), lock.sameBoot());
        }
        lock.made(true);
        if (!"full".equals(synchronous)) {
            LOG.warn("wal.synchronous={} : a power cut loses messages that were acknowledged; only for negative controls", synchronous);
        }
    }

    /** Opens the file as it is; it is made if there is none. */
    void openFile() throws SQLException, IOException {
        makeFile();
        Connection connection = null;
        try {
            connection = source(base).getConnection();
            prepare(connection);
        } catch (SQLException e) {
            if (repair != null && StorageError.isCorrupt(e)) {
                repair.aside(e); // before the close, which would fold the -wal file into it
            }
            throw e;
        } finally {
            if (connection != null) {
                connection.close();
            }
        }
        HikariDataSource writing = pool("caravan-writer", write, /* readOnly= */ false, 1, safetyNet);
        HikariDataSource reading = null;
        try {
            reading = readers("caravan-reader");
            pools = new Pools(writing, reading, schema == Schema.CLOUD ? readers("caravan-api-reader") : null);
        } catch (RuntimeException e) {
            if (reading != null) {
                reading.close();
            }
            writing.close();
            throw e;
        }
        generation++;
    }

    private void prepare(Connection connection) throws SQLException {
        schema.apply(connection, file.toString());
        if (repair != null) {
            Damage.touch(connection);
        }
        try (Statement statement = connection.createStatement()) {
            UnsafeSwitches.dedupe(statement, dedupeOff, schema);
            int again = statement.executeUpdate("UPDATE sink_range SET inflight_seq = acked_seq WHERE inflight_seq <> acked_seq");
            if (again > 0) {
                LOG.info("{} ranges were in flight when the last process ended: enqueued again", again);
            }
        }
        if (repair != null) {
            incidents.read(connection);
        }
    }

    /** Also what others have opened. Of a store that was moved nothing is folded or deleted. */
    void closePools() {
        Pools now = pools;
        pools = null;
        synchronized (others) {
            for (Connection connection : others) {
                try {
                    connection.close();
                } catch (SQLException e) {
                    LOG.debug("closing a connection of store {}", file, e);
                }
            }
            others.clear();
        }
        if (now != null) {
            if (now.apiReader != null) {
                now.apiReader.close();
            }
            now.reader.close(); // before the writer: the last connection folds the -wal file into the store
            now.writer.close();
        }
    }

    private Pools pools() throws SQLException {
        String why = trouble();
        Pools now = pools;
        if (why != null || now == null) {
            throw new SQLTransientConnectionException(why != null ? why : "store [" + file + "] is closed");
        }
        gate.checkWritable(); // for readers too: SQLite notes in the mapped -shm file where they read
        return now;
    }

    private void makeDirectory() throws IOException {
        Path directory = file.getParent();
        try {
            if (!Files.isDirectory(directory)) {
                Files.createDirectories(directory, PosixFilePermissions.asFileAttribute(PosixFilePermissions.fromString("rwx------")));
                Quarantine.sync(directory.getParent());
            }
        } catch (IOException | UnsupportedOperationException e) {
            throw cannotBeMade(e);
        }
    }

    private void makeFile() throws IOException {
        Path directory = file.getParent();
        try {
            Files.createFile(file, PosixFilePermissions.asFileAttribute(PosixFilePermissions.fromString("rw-------")));
            Quarantine.sync(directory); // a store whose name is lost in a power cut is a lost store
        } catch (FileAlreadyExistsException e) {
            LOG.debug("store {} is there", file);
        } catch (IOException | UnsupportedOperationException e) {
            throw cannotBeMade(e);
        }
        if (!Files.isWritable(file) || !Files.isWritable(directory)) {
            throw new IOException("store [" + file + "] is not writable; make the file and its directory writable for the gateway's user ("
                    + schema.pathKey() + ")");
        }
    }

    private IOException cannotBeMade(Exception e) {
        return new IOException("store [" + file + "] cannot be made: " + e + "; " + schema.pathKey()
                + " must name a file in a directory that the gateway's user may write and that has free space", e);
    }

    private SQLiteDataSource source(SQLiteConfig config) {
        SQLiteDataSource source = new SQLiteDataSource(config);
        source.setUrl("jdbc:sqlite:" + file);
        return source;
    }

    private HikariDataSource readers(String name) {
        SQLiteConfig read = new SQLiteConfig(base.toProperties());
        read.setReadOnly(true);
        return pool(name, read, /* readOnly= */ true, 2, "PRAGMA query_only = true");
    }

    private HikariDataSource pool(String name, SQLiteConfig config, boolean readOnly, int size, String init) {
        HikariConfig pool = new HikariConfig();
        pool.setPoolName(name);
        pool.setDataSource(source(config));
        pool.setReadOnly(readOnly); // must say what the connection says, sqlite-jdbc cannot change it
        pool.setMaximumPoolSize(size);
        pool.setMinimumIdle(size);
        pool.setMaxLifetime(0); // a file does not time out
        pool.setIdleTimeout(0);
        pool.setConnectionTimeout(10_000);
        pool.setConnectionInitSql(init);
        pool.setExceptionOverride(new DamageNotice());
        return new HikariDataSource(pool);
    }

    /** A connection of its own for the checkpointer; it waits for nobody. */
    Connection checkpointConnection() throws SQLException {
        SQLiteConfig config = new SQLiteConfig();
        config.setBusyTimeout(50); // a reader in the way: give up and come again, the writer waits meanwhile
        config.resetOpenMode(SQLiteOpenMode.CREATE);
        synchronized (others) {
            pools();
            Connection connection = source(config).getConnection();
            others.add(connection);
            return connection;
        }
    }

    /** For the committer: a raw borrow. {@link #gate()} must be held. */
    Connection borrow() throws SQLException {
        return pools().writer.getConnection();
    }

    void discard(Connection borrowed) {
        Pools now = pools;
        if (now != null) { // else it is closed with its pool
            WriterDataSource.discard(now.writer, borrowed);
        }
    }

    /** A quota: above it SQLite says "full", for every write. Now and for connections opened later. */
    void limitPages(int pages) throws SQLException {
        write.setMaxPageCount(pages);
        try (Connection connection = writer.getConnection(); Statement statement = connection.createStatement()) {
            statement.execute("PRAGMA max_page_count = " + pages);
        }
    }

    /** An error of a connection to this store; one that says it is damaged starts its repair. Never blocks. */
    void noticed(Throwable error) {
        if (StorageError.isSyncFailure(error)) {
            gate.distrust("[" + file + "] had a failed fsync (" + error.getMessage() + "): what is acknowledged is on the disk, what would be"
                    + " written now might not be; mend the disk (dmesg), reboot or mount the file system again, then start the gateway");
        }
        if (repair != null && StorageError.isCorrupt(error)) {
            repair.start(error);
        }
    }

    /** Hikari shows it every SQLException of its connections, statements and results. */
    private final class DamageNotice implements SQLExceptionOverride {
        @java.lang.Override
        public Override adjudicate(SQLException error) {
            noticed(error);
            return Override.CONTINUE_EVICT;
        }
    }

    /** Null, or why nobody gets a connection now: the store is being repaired. */
    String trouble() {
        return repair == null ? null : repair.trouble();
    }

    /** Counts the files that were opened: what was remembered of an older one may be wrong. */
    int generation() {
        return generation;
    }

    /** @param listener called after a repair, when connections can be had again */
    AutoCloseable onReopened(Runnable listener) {
        return repair == null ? () -> { } : repair.listen(listener);
    }

    /** The gateway's only. */
    Incidents incidents() {
        return incidents;
    }

    WriteGate gate() {
        return gate;
    }

    DataSource writer() {
        return writer;
    }

    DataSource reader() {
        return reader;
    }

    /** The cloud's only: whoever asks too much over HTTP holds up nobody but others who do. */
    DataSource apiReader() {
        return apiReader;
    }

    Path file() {
        return file;
    }

    Path walFile() {
        return file.resolveSibling(file.getFileName() + "-wal");
    }

    static long size(Path path) {
        try {
            return Files.size(path);
        } catch (IOException e) {
            return 0;
        }
    }

    @Override
    public void close() {
        if (repair != null) {
            repair.close();
        }
        if (pools != null && !gate.isWritable()) {
            // Closing the last connection would fold the -wal file in, and write to the mapped -shm file: see WriteGate.
            LOG.warn("store [{}] cannot be written: its connections stay open until the process ends", file);
            pools = null;
        }
        while (!opened.isEmpty()) {
            try {
                opened.pop().close();
            } catch (Exception e) {
                LOG.warn("store [{}]: closing: {}", file, e.toString());
            }
        }
        gate.close();
    }
}
