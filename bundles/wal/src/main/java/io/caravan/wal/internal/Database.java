// SPDX-License-Identifier: Apache-2.0
package io.caravan.wal.internal;

import com.zaxxer.hikari.HikariConfig;
import com.zaxxer.hikari.HikariDataSource;
import io.caravan.runtime.Config;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.channels.FileChannel;
import java.nio.channels.OverlappingFileLockException;
import java.nio.charset.StandardCharsets;
import java.nio.file.FileAlreadyExistsException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.nio.file.attribute.PosixFilePermissions;
import java.sql.Connection;
import java.sql.SQLException;
import java.sql.Statement;
import java.util.ArrayDeque;
import java.util.Deque;
import java.util.Locale;
import java.util.Set;
import java.util.concurrent.ConcurrentHashMap;
import javax.sql.DataSource;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;
import org.sqlite.SQLiteConfig;
import org.sqlite.SQLiteDataSource;

/**
 * The store's one file and the ways to it: {@code writer} (one connection, first come first served), {@code reader}
 * (read-only, two connections). Opening creates or migrates the file, keeps a second process out and puts what was in
 * flight when the last process ended back in the queue. Thread-safe.
 */
final class Database implements AutoCloseable {
    private static final Logger LOG = LoggerFactory.getLogger(Database.class);
    private static final int BUSY_TIMEOUT_MS = 5_000;

    private static final Set<Path> OPEN = ConcurrentHashMap.newKeySet();

    private final Path file;
    private final WriteGate gate = new WriteGate();
    private final Deque<AutoCloseable> opened = new ArrayDeque<>();
    private SQLiteConfig write;
    private HikariDataSource writerPool;
    private HikariDataSource reader;
    private DataSource writer;

    private Database(Path file) {
        this.file = file;
    }

    /**
     * @throws IOException with path, rule and advice, if the store cannot be opened; nothing stays open then
     */
    static Database open(Schema schema, Config config) throws IOException {
        Path file = config.getPath(schema.pathKey()).toAbsolutePath().normalize();
        Database database = new Database(file);
        try {
            database.open(schema, config.get("wal.synchronous"), config.getLong("wal.checkpoint.bytes"),
                    "off".equals(config.get("wal.unsafe.dedupe")));
            return database;
        } catch (SQLException | IOException | RuntimeException e) {
            database.close();
            throw e instanceof IOException ? (IOException) e : new IOException(StorageError.describe(e, file), e);
        }
    }

    private void open(Schema schema, String synchronous, long checkpointBytes, boolean dedupeOff) throws SQLException, IOException {
        makeFile(schema);
        lock();
        SQLiteConfig base = new SQLiteConfig();
        base.setBusyTimeout(BUSY_TIMEOUT_MS);
        base.enforceForeignKeys(true);
        base.setGetGeneratedKeys(false); // else each INSERT is followed by a SELECT last_insert_rowid()
        try (Connection connection = source(base).getConnection()) {
            schema.apply(connection, file.toString());
            try (Statement statement = connection.createStatement()) {
                UnsafeSwitches.dedupe(statement, dedupeOff, schema);
                int again = statement.executeUpdate("UPDATE sink_range SET inflight_seq = acked_seq WHERE inflight_seq <> acked_seq");
                if (again > 0) {
                    LOG.info("{} ranges were in flight when the last process ended: enqueued again", again);
                }
            }
        }

        write = new SQLiteConfig(base.toProperties());
        write.setTransactionMode(SQLiteConfig.TransactionMode.IMMEDIATE);
        write.setSynchronous(SQLiteConfig.SynchronousMode.valueOf(synchronous.toUpperCase(Locale.ROOT)));
        write.setCacheSize(-8_000); // KiB
        // The checkpointer does it; this is the net below it. Pages of 4 KiB.
        String safetyNet = "PRAGMA wal_autocheckpoint = " + Math.max(1_000, 4 * checkpointBytes / 4_096);
        writerPool = pool("caravan-writer", write, /* readOnly= */ false, 1, safetyNet);
        opened.push(writerPool);
        writer = new WriterDataSource(writerPool, gate);

        SQLiteConfig read = new SQLiteConfig(base.toProperties());
        read.setReadOnly(true);
        reader = pool("caravan-reader", read, /* readOnly= */ true, 2, "PRAGMA query_only = true");
        opened.push(reader); // closed before the writer: the last connection folds the -wal file into the store

        if (!"full".equals(synchronous)) {
            LOG.warn("wal.synchronous={} : a power cut loses messages that were acknowledged; only for negative controls", synchronous);
        }
    }

    private void makeFile(Schema schema) throws IOException {
        Path directory = file.getParent();
        try {
            if (!Files.isDirectory(directory)) {
                Files.createDirectories(directory, PosixFilePermissions.asFileAttribute(PosixFilePermissions.fromString("rwx------")));
                sync(directory.getParent());
            }
            try {
                Files.createFile(file, PosixFilePermissions.asFileAttribute(PosixFilePermissions.fromString("rw-------")));
                sync(directory); // a store whose name is lost in a power cut is a lost store
            } catch (FileAlreadyExistsException e) {
                LOG.debug("store {} is there", file);
            }
        } catch (IOException | UnsupportedOperationException e) {
            throw new IOException("store [" + file + "] cannot be made: " + e + "; " + schema.pathKey()
                    + " must name a file in a directory that the gateway's user may write and that has free space", e);
        }
        if (!Files.isWritable(file) || !Files.isWritable(directory)) {
            throw new IOException("store [" + file + "] is not writable; make the file and its directory writable for the gateway's user ("
                    + schema.pathKey() + ")");
        }
    }

    private static void sync(Path directory) throws IOException {
        try (FileChannel channel = FileChannel.open(directory, StandardOpenOption.READ)) {
            channel.force(true);
        }
    }

    /** SQLite lets two processes write in turns; two committers would both believe their memory of the log. */
    private void lock() throws IOException {
        Path lockFile = file.resolveSibling(file.getFileName() + ".lock");
        String pid = Long.toString(ProcessHandle.current().pid());
        // Asked before the file is opened: closing any descriptor of it gives up every lock this process has on it (POSIX).
        if (!OPEN.add(lockFile)) {
            throw inUse(pid, lockFile);
        }
        opened.push(() -> OPEN.remove(lockFile));
        FileChannel channel;
        try {
            channel = FileChannel.open(lockFile, StandardOpenOption.CREATE, StandardOpenOption.READ, StandardOpenOption.WRITE);
        } catch (IOException e) {
            throw new IOException("store [" + file + "] cannot be locked: " + e + "; free space, or make " + lockFile + " writable", e);
        }
        try {
            if (channel.tryLock() == null) {
                String other = Files.readString(lockFile).trim();
                channel.close();
                throw inUse(other, lockFile);
            }
        } catch (OverlappingFileLockException e) {
            throw inUse(pid, lockFile); // this class, loaded twice; the channel stays open for the reason above
        }
        opened.push(channel);
        try {
            channel.truncate(0);
            channel.write(ByteBuffer.wrap(pid.getBytes(StandardCharsets.US_ASCII)));
        } catch (IOException e) {
            // Only for the other process' message; a full disk must not keep a store closed that could be drained.
            LOG.debug("{} does not say who holds it", lockFile, e);
        }
    }

    private IOException inUse(String process, Path lockFile) {
        return new IOException("store [" + file + "] is in use by process [" + process + "] (lock " + lockFile
                + "): one process per store; stop the other one, or give this one a store of its own");
    }

    private SQLiteDataSource source(SQLiteConfig config) {
        SQLiteDataSource source = new SQLiteDataSource(config);
        source.setUrl("jdbc:sqlite:" + file);
        return source;
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
        return new HikariDataSource(pool);
    }

    /** A connection of its own for the checkpointer; it waits for nobody. */
    Connection checkpointConnection() throws SQLException {
        SQLiteConfig config = new SQLiteConfig();
        config.setBusyTimeout(50); // a reader in the way: give up and come again, the writer waits meanwhile
        return source(config).getConnection();
    }

    /** For the committer: a raw borrow. {@link #gate()} must be held. */
    Connection borrow() throws SQLException {
        return writerPool.getConnection();
    }

    void discard(Connection borrowed) {
        WriterDataSource.discard(writerPool, borrowed);
    }

    /** A quota: above it SQLite says "full", for every write. Now and for connections opened later. */
    void limitPages(int pages) throws SQLException {
        write.setMaxPageCount(pages);
        try (Connection connection = writer.getConnection(); Statement statement = connection.createStatement()) {
            statement.execute("PRAGMA max_page_count = " + pages);
        }
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
        while (!opened.isEmpty()) {
            try {
                opened.pop().close();
            } catch (Exception e) {
                LOG.warn("store [{}]: closing: {}", file, e.toString());
            }
        }
    }
}
