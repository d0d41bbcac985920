// SPDX-License-Identifier: Apache-2.0
package io.caravan.wal.internal;

import io.caravan.runtime.Task;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.channels.FileChannel;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.nio.file.attribute.PosixFilePermissions;
import java.sql.Connection;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.Statement;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.BitSet;
import java.util.HashMap;
import java.util.HashSet;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.UUID;
import java.util.function.BooleanSupplier;
import java.util.stream.Collectors;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;
import org.sqlite.SQLiteConfig;

/**
 * Makes a new store out of what is intact in a damaged one, without SQLite's help for reading: a damaged header, schema or
 * interior page makes SQLite refuse pages that are in order. Rows of the log are looked for in every page and believed
 * only with both checksums right; the small tables are walked from their roots, and a page of theirs that contradicts
 * itself is dropped whole. Memory: a few bits per row.
 */
final class Salvage {
    private static final Logger LOG = LoggerFactory.getLogger(Salvage.class);
    private static final int ROWS_PER_COMMIT = 5_000;
    private static final int PAGES_PER_LOOK = 256;
    private static final long SLACK_BYTES = 16 << 20;
    /** No page holds more rows of any kind: bounds what a damaged number can claim. */
    private static final long ROWS_PER_PAGE = 512;
    private static final int USER_VERSION = 60;
    private static final int FIRST_WITH_COMMANDS = 4;
    private static final Set<String> KINDS = Set.of("telemetry", "event", "capabilities", "command-status");
    private static final Set<String> SCANNED = Set.of("wal", "outbox", "rejected");

    /** Only for the negative control: believe rows without their checksums. */
    static volatile boolean unsafeTrustRows;

    /**
     * What was saved.
     *
     * @param rows  of the log
     * @param lost  sequences of the log that are lost
     * @param detail one line for the operator
     */
    record Result(long rows, long lost, String detail) {}

    private record Column(String name, String type, boolean required, boolean rowid) {}

    private static final class Table {
        final String name;
        final boolean withoutRowid;
        final int root;
        final List<Column> columns = new ArrayList<>();
        final Map<Integer, PreparedStatement> inserts = new HashMap<>();
        int rootFound;
        int broken;
        long rows;

        Table(String name, boolean withoutRowid, int root) {
            this.name = name;
            this.withoutRowid = withoutRowid;
            this.root = root;
        }
    }

    private final Pages pages;
    private final Path target;
    private final Quarantine quarantine;
    private final BooleanSupplier stop;
    private final Task task;
    private final Map<String, Table> tables = new LinkedHashMap<>();
    private final Map<String, Long> sequences = new HashMap<>();
    private final SeqSet saved = new SeqSet();
    private final SeqSet indexed = new SeqSet();
    private final RowCheck check = new RowCheck();
    private final List<String> notes = new ArrayList<>();
    private Connection connection;
    private long damagedRows;
    private long uncommitted;
    private boolean versionOne;
    /** Of a version that had no commands yet; false also where the version cannot be read. */
    private boolean beforeCommands;

    private Salvage(Pages pages, Quarantine quarantine, BooleanSupplier stop, Task task) {
        this.task = task;
        this.pages = pages;
        this.quarantine = quarantine;
        this.target = quarantine.salvaged();
        this.stop = stop;
    }

    /**
     * Reads {@link Quarantine#damaged()}, writes {@link Quarantine#salvaged()} and syncs it. Begins anew if it is there.
     *
     * @param stop    asked now and then; true ends it with an IOException
     * @throws IOException with advice if there is no room; nothing of the damaged store is changed whatever happens
     */
    static Result run(Quarantine quarantine, BooleanSupplier stop) throws IOException, SQLException {
        return run(quarantine, stop, Task.NONE);
    }

    /** As above, and tells how many pages are read. */
    static Result run(Quarantine quarantine, BooleanSupplier stop, Task task) throws IOException, SQLException {
        Path damaged = quarantine.damaged();
        try (Pages pages = new Pages(damaged)) {
            String missing = pages.wal().gone();
            return new Salvage(pages, quarantine, stop, task).run(missing);
        }
    }

    private Result run(String missing) throws IOException, SQLException {
        for (String suffix : new String[] {"", "-wal", "-shm", "-journal"}) {
            Files.deleteIfExists(target.resolveSibling(target.getFileName() + suffix));
        }
        long needed = (long) pages.count() * Pages.SIZE / 100 * 115 + SLACK_BYTES;
        long free = Files.getFileStore(target.getParent()).getUsableSpace();
        if (free < needed) {
            throw new IOException("no room to salvage the store: " + target.getParent() + " has " + free + " bytes free, the new file beside ["
                    + quarantine.directory() + "] may need " + needed + "; free space, or move that folder's older neighbours away; tried again");
        }
        Files.createFile(target, PosixFilePermissions.asFileAttribute(PosixFilePermissions.fromString("rw-------")));
        SQLiteConfig config = new SQLiteConfig();
        config.setSynchronous(SQLiteConfig.SynchronousMode.OFF); // made durable as a whole at the end
        config.setCacheSize(-32_000);
        config.setGetGeneratedKeys(false);
        Result result;
        try (Connection made = config.createConnection("jdbc:sqlite:" + target)) {
            connection = made;
            Schema.GATEWAY.apply(connection, target.toString());
            execute("PRAGMA journal_mode = DELETE");
            execute("PRAGMA journal_mode = MEMORY");
            readSchema();
            connection.setAutoCommit(false);
            execute("DELETE FROM sink_range", "DELETE FROM sink", "DELETE FROM meta", "DELETE FROM sqlite_sequence");
            smallTables();
            scan();
            if (!pages.wal().missing(true).isEmpty() || !pages.wal().damage().isEmpty()) {
                scanOlderImages();
            }
            result = settle(missing);
            connection.commit();
            connection.setAutoCommit(true);
            execute("PRAGMA journal_mode = WAL");
        }
        try (FileChannel file = FileChannel.open(target, StandardOpenOption.WRITE)) {
            file.force(true);
        }
        return result;
    }

    // ---- what there should be

    private void readSchema() throws IOException, SQLException {
        try (Statement statement = connection.createStatement();
                ResultSet rows = statement.executeQuery("SELECT m.name, m.rootpage, l.wr FROM sqlite_master m"
                        + " JOIN pragma_table_list l ON l.name = m.name AND l.schema = 'main' WHERE m.type = 'table' ORDER BY m.rootpage")) {
            while (rows.next()) {
                tables.put(rows.getString(1), new Table(rows.getString(1), rows.getInt(3) == 1, rows.getInt(2)));
            }
        }
        for (Table table : tables.values()) {
            try (PreparedStatement query = connection.prepareStatement("SELECT name, type, \"notnull\", pk FROM pragma_table_info(?) ORDER BY cid")) {
                query.setString(1, table.name);
                try (ResultSet rows = query.executeQuery()) {
                    while (rows.next()) {
                        boolean rowid = !table.withoutRowid && rows.getInt(4) == 1 && rows.getString(2).equals("INTEGER");
                        table.columns.add(new Column(rows.getString(1), rows.getString(2), rows.getInt(3) == 1, rowid));
                    }
                }
            }
        }
        // The roots as the damaged file names them; in a file of our making they are the same as here.
        Set<String> named = new HashSet<>();
        pages.walk(1, true, (rowid, values) -> {
            if (values.length == 5 && "table".equals(values[0]) && values[3] instanceof Long && (Long) values[3] > 1
                    && (Long) values[3] <= pages.count()) {
                named.add((String) values[1]);
                Table table = tables.get(values[1]);
                if (table != null) {
                    table.rootFound = ((Long) values[3]).intValue();
                }
            }
        });
        versionOne = named.contains("wal") && named.contains("sink_range") && !named.contains("incident");
        ByteBuffer header = ByteBuffer.allocate(Pages.SIZE);
        pages.page(1, header);
        int version = header.getInt(USER_VERSION);
        beforeCommands = named.contains("wal") && !named.contains("command") && version > 0 && version < FIRST_WITH_COMMANDS;
    }

    private boolean fits(Table table, Object[] values, int first) {
        if (values.length > table.columns.size()) {
            return false;
        }
        for (int i = first; i < values.length; i++) {
            Column column = table.columns.get(i);
            Object value = values[i];
            boolean fits;
            if (value == null) {
                fits = column.rowid || !column.required;
            } else if (column.rowid) {
                fits = false; // its place is the cell's key
            } else {
                switch (column.type) {
                    case "INTEGER":
                        fits = value instanceof Long;
                        break;
                    case "REAL":
                        fits = value instanceof Number;
                        break;
                    case "BLOB":
                        fits = value instanceof byte[];
                        break;
                    default:
                        fits = value instanceof String;
                }
            }
            if (!fits) {
                return false;
            }
        }
        return true;
    }

    private boolean insert(Table table, long rowid, Object[] values) throws SQLException {
        PreparedStatement insert = table.inserts.get(values.length);
        if (insert == null) {
            String names = table.columns.subList(0, values.length).stream().map(Column::name).collect(Collectors.joining(", "));
            insert = connection.prepareStatement("INSERT OR IGNORE INTO " + table.name + " (" + names + ") VALUES ("
                    + "?, ".repeat(values.length - 1) + "?)");
            table.inserts.put(values.length, insert);
        }
        for (int i = 0; i < values.length; i++) {
            insert.setObject(i + 1, table.columns.get(i).rowid ? (Object) rowid : values[i]);
        }
        int inserted = insert.executeUpdate();
        table.rows += inserted;
        if (++uncommitted >= ROWS_PER_COMMIT) {
            connection.commit();
            uncommitted = 0;
        }
        return inserted == 1;
    }

    // ---- reading

    private void smallTables() throws IOException, SQLException {
        for (Table table : tables.values()) {
            if (SCANNED.contains(table.name) || (versionOne || beforeCommands) && table.rootFound == 0) {
                continue;
            }
            table.broken = walk(table, table.rootFound > 0 ? table.rootFound : table.root);
            if (table.broken > 0 && table.rootFound > 0 && table.rootFound != table.root && table.rows == 0) {
                table.broken = walk(table, table.root);
            }
            if (table.broken > 0) {
                notes.add("table " + table.name + " is damaged, " + table.rows + " rows of it are left");
            }
        }
    }

    private int walk(Table table, int root) throws IOException, SQLException {
        int[] misfits = new int[1];
        try {
            return misfits[0] + pages.walk(root, !table.withoutRowid, (rowid, values) -> {
                if (table.name.equals("sqlite_sequence")) {
                    if (values.length == 2 && values[0] instanceof String && values[1] instanceof Long && (Long) values[1] >= 0) {
                        sequences.merge((String) values[0], (Long) values[1], Math::max);
                        return;
                    }
                } else if (fits(table, values, 0)) {
                    try {
                        if (versionOne && table.name.equals("sink")) {
                            sinkOfVersionOne(table, values);
                        } else {
                            insert(table, rowid, values);
                        }
                        return;
                    } catch (SQLException e) {
                        LOG.debug("table {} does not take a row", table.name, e);
                    }
                }
                misfits[0]++;
            }) + misfits[0];
        } finally {
            connection.commit();
        }
    }

    /** Its last column was the number of discarded rows. */
    private void sinkOfVersionOne(Table table, Object[] values) throws SQLException {
        insert(table, 0, Arrays.copyOf(values, Math.min(values.length, 9)));
        if (values.length == 10 && values[9] instanceof Long && (Long) values[9] > 0) {
            insert(tables.get("discarded"), 0, new Object[] {values[0], "operator", values[9]});
        }
    }

    /** Every page that holds rows, wherever it hangs. */
    private void scan() throws IOException, SQLException {
        BitSet free = freePages();
        Table wal = tables.get("wal");
        Table outbox = tables.get("outbox");
        Table rejected = tables.get("rejected");
        ByteBuffer page = ByteBuffer.allocate(Pages.SIZE);
        List<Object[]> found = new ArrayList<>();
        int[] broken = new int[1];
        task.total(pages.count());
        for (int number = 1; number <= pages.count(); number++) {
            task.progress(number);
            if (number % PAGES_PER_LOOK == 0 && stop.getAsBoolean()) {
                throw new IOException("the salvage was interrupted; it begins anew at the next start");
            }
            if (free.get(number)) {
                continue; // rows that were deleted
            }
            pages.page(number, page);
            int type = Pages.type(number, page);
            found.clear();
            broken[0] = 0;
            if (type == Pages.INDEX_LEAF || type == Pages.INDEX_INTERIOR) {
                pages.cells(number, page, (rowid, values) -> {
                    if (values.length == 2 && values[0] instanceof String && ((String) values[0]).indexOf('/') > 0 && values[1] instanceof Long) {
                        found.add(values);
                    }
                }, broken);
                long bound = found.isEmpty() || broken[0] > 0 ? 0
                        : Math.max(sequences.getOrDefault("wal", 0L), saved.last()) + pages.count() * ROWS_PER_PAGE;
                for (Object[] key : found) {
                    if ((Long) key[1] > 0 && (Long) key[1] <= bound) { // above it are the times in key_memory
                        indexed.add((Long) key[1]);
                    }
                }
            } else if (type == Pages.TABLE_LEAF) {
                pages.cells(number, page, (rowid, values) -> {
                    Object[] row = Arrays.copyOf(values, values.length + 1);
                    row[values.length] = rowid;
                    found.add(row);
                }, broken);
                for (Object[] row : found) {
                    int columns = row.length - 1;
                    long rowid = (Long) row[columns];
                    Object[] values = Arrays.copyOf(row, columns);
                    if (columns == wal.columns.size() || columns == wal.columns.size() - 1) {
                        logRow(wal, rowid, values, broken[0] == 0);
                    } else if (broken[0] == 0 && rowid > 0 && columns == outbox.columns.size() && fits(outbox, values, 0)) {
                        insert(outbox, rowid, values);
                    } else if (broken[0] == 0 && rowid > 0 && columns == rejected.columns.size() && fits(rejected, values, 0)) {
                        insert(rejected, rowid, values);
                    }
                }
                damagedRows += broken[0];
            }
        }
    }

    /** The newest image of a page may be damaged: rows do not change, so older ones are as good where they have them. */
    private void scanOlderImages() throws IOException, SQLException {
        ByteBuffer page = ByteBuffer.allocate(Pages.SIZE);
        for (long position : pages.wal().images()) {
            pages.image(position, page);
            logRows(page);
        }
        for (int number : pages.wal().pages().keySet()) {
            pages.pageInStore(number, page);
            logRows(page);
        }
    }

    private void logRows(ByteBuffer page) throws IOException, SQLException {
        Table wal = tables.get("wal");
        if (Pages.type(2, page) != Pages.TABLE_LEAF) {
            return;
        }
        List<Map.Entry<Long, Object[]>> found = new ArrayList<>();
        pages.cells(2, page, (rowid, values) -> found.add(Map.entry(rowid, values)), new int[1]);
        for (Map.Entry<Long, Object[]> row : found) {
            if (row.getValue().length == wal.columns.size() && !saved.contains(row.getKey())) {
                logRow(wal, row.getKey(), row.getValue(), false);
            }
        }
    }

    private void logRow(Table wal, long rowid, Object[] v, boolean pageIsSound) throws SQLException {
        boolean sane = rowid > 0 && fits(wal, v, 0);
        if (sane && !unsafeTrustRows) {
            Long rest = v.length > 16 ? (Long) v[16] : null;
            if (rest == null) { // of version 1: nothing vouches for more than the body, so look twice
                sane = pageIsSound && KINDS.contains(v[4]) && ("live".equals(v[5]) || "historical".equals(v[5]));
            }
            sane = sane && check.fault(rowid, (byte[]) v[14], (Long) v[15], rest, Arrays.copyOfRange(v, 1, 14)) == null;
        }
        if (!sane) {
            damagedRows++;
        } else if (insert(wal, rowid, v)) {
            saved.add(rowid);
        }
    }

    /** Pages that both the list of free pages and the pointer map call free: one that is damaged is not believed. */
    private BitSet freePages() throws IOException {
        BitSet listed = new BitSet();
        ByteBuffer page = ByteBuffer.allocate(Pages.SIZE);
        pages.page(1, page);
        int trunk = page.getInt(32);
        while (trunk > 1 && trunk <= pages.count() && !listed.get(trunk)) {
            listed.set(trunk);
            pages.page(trunk, page);
            int leaves = page.getInt(4);
            if (leaves < 0 || leaves > Pages.SIZE / 4 - 2) {
                break;
            }
            for (int i = 0; i < leaves; i++) {
                int leaf = page.getInt(8 + 4 * i);
                if (leaf > 2 && leaf <= pages.count()) {
                    listed.set(leaf);
                }
            }
            trunk = page.getInt(0);
        }
        BitSet free = new BitSet();
        int perMap = Pages.SIZE / 5;
        int loaded = 0;
        for (int number = listed.nextSetBit(3); number > 0; number = listed.nextSetBit(number + 1)) {
            int map = 2 + (number - 2) / (perMap + 1) * (perMap + 1);
            if (map == number) {
                continue;
            }
            if (map != loaded) {
                pages.page(map, page);
                loaded = map;
            }
            if (page.get(5 * (number - map - 1)) == 2) {
                free.set(number);
            }
        }
        return free;
    }

    // ---- making sense of it

    private Result settle(String missing) throws SQLException {
        long known = sequences.getOrDefault("wal", 0L);
        long seen = Math.max(saved.last(), lastIndexed(Math.max(known, saved.last())));
        // A number far above anything that is there is a damaged one.
        long high = known > seen + pages.count() * ROWS_PER_PAGE + ROWS_PER_COMMIT && !saved.ranges().isEmpty() ? seen : Math.max(known, seen);
        long outboxHigh = Math.max(sequences.getOrDefault("outbox", 0L), number("SELECT coalesce(max(seq), 0) FROM outbox"));
        Table given = tables.get("sqlite_sequence");
        boolean outboxKnown = sequences.containsKey("wal") && known >= seen && missing.isEmpty() && given.broken == 0
                && !pages.wal().isStale(given.rootFound > 0 ? given.rootFound : given.root)
                && outboxHigh == sequences.getOrDefault("outbox", 0L);
        sequence("wal", high);
        sequence("outbox", outboxHigh);
        sequence("rejected", Math.max(sequences.getOrDefault("rejected", 0L), number("SELECT coalesce(max(id), 0) FROM rejected")));
        sequence("command", Math.max(sequences.getOrDefault("command", 0L),
                number("SELECT max(coalesce((SELECT max(seq) FROM command), 0), coalesce((SELECT max(command_seq) FROM command_event), 0))")));
        sequence("incident", Math.max(sequences.getOrDefault("incident", 0L), number("SELECT coalesce(max(id), 0) FROM incident")));

        long retained = meta(high, outboxKnown);
        SeqSet lost = lost(retained, high);
        sinks(high, outboxHigh, lost);
        commands(missing);
        outbox();
        progress();

        StringBuilder detail = new StringBuilder(quarantine.cause());
        detail.append("; ").append(saved.size()).append(" rows of the log salvaged, ").append(lost.size()).append(" lost");
        if (damagedRows > 0) {
            detail.append(" (").append(damagedRows).append(" damaged rows seen)");
        }
        if (!missing.isEmpty()) {
            detail.append("; transactions behind sequence ").append(high).append(" are gone from the -wal file without a trace (").append(missing)
                    .append("), how many rows they had cannot be known");
        }
        notes.forEach(note -> detail.append("; ").append(note));
        long incident = incident(saved.size(), lost.size(), detail.toString());
        try (PreparedStatement insert = connection.prepareStatement("INSERT INTO lost_range (first_seq, last_seq, incident) VALUES (?, ?, ?)")) {
            for (long[] range : lost.ranges()) {
                insert.setLong(1, range[0]);
                insert.setLong(2, range[1]);
                insert.setLong(3, incident);
                insert.executeUpdate();
            }
        }
        return new Result(saved.size(), lost.size(), detail.toString());
    }

    /** The highest number in the unique index; one that stands alone above all others is a damaged one. */
    private long lastIndexed(long certain) {
        for (long seq = indexed.last(); seq > certain; seq = indexed.last()) {
            for (long before = seq - 1; before >= seq - 16; before--) {
                if (before == certain || indexed.contains(before)) {
                    return seq;
                }
            }
            indexed.remove(seq);
        }
        return certain;
    }

    private void sequence(String table, long value) throws SQLException {
        try (PreparedStatement insert = connection.prepareStatement("INSERT INTO sqlite_sequence (name, seq) SELECT ?1, ?2 WHERE ?2 > 0")) {
            execute("DELETE FROM sqlite_sequence WHERE name = '" + table + "'");
            insert.setString(1, table);
            insert.setLong(2, value);
            insert.executeUpdate();
        }
    }

    /** @return from where on every row should be there */
    private long meta(long high, boolean outboxKnown) throws SQLException {
        String logId = null;
        long created = quarantine.atMs();
        long retained = 0;
        // Where it is lost, all windows that are over count as pruned: what comes late for one makes a part of its own, and the parts add up.
        long pruned = quarantine.atMs();
        try (Statement statement = connection.createStatement();
                ResultSet row = statement.executeQuery("SELECT log_id, created_at_ms, retained_from_seq, rollup_pruned_before_ms FROM meta")) {
            if (row.next()) {
                logId = row.getString(1);
                created = row.getLong(2);
                retained = row.getLong(3);
                pruned = Math.max(0, row.getLong(4));
            }
        }
        if (retained < 1 || retained > high + 1) {
            // What lies before the first row that is there and is needed by nobody: retention deleted it, or it is lost.
            long pending = number("SELECT coalesce(min(acked_seq) + 1, 0) FROM sink_range WHERE sink IN (SELECT name FROM sink WHERE log = 'wal')");
            retained = Math.max(1, Math.min(saved.first() == 0 ? high + 1 : saved.first(), pending > 0 ? pending : Long.MAX_VALUE));
        }
        if (logId == null || !logId.matches("[0-9a-f-]{32,36}") || !outboxKnown) {
            // Sequences of the outbox could be given twice: the cloud must not take them for those it has.
            notes.add("the outbox has a new log id");
            logId = UUID.randomUUID().toString();
        }
        execute("DELETE FROM meta");
        try (PreparedStatement insert = connection.prepareStatement(
                "INSERT INTO meta (one, log_id, created_at_ms, retained_from_seq, rollup_pruned_before_ms) VALUES (1, ?, ?, ?, ?)")) {
            insert.setString(1, logId);
            insert.setLong(2, created);
            insert.setLong(3, retained);
            insert.setLong(4, pruned);
            insert.executeUpdate();
        }
        return retained;
    }

    private SeqSet lost(long retained, long high) throws SQLException {
        SeqSet lost = new SeqSet();
        lost.addAll(retained, high);
        try (Statement statement = connection.createStatement()) {
            try (ResultSet dead = statement.executeQuery("SELECT seq FROM dead_letter WHERE state = 'dead' AND seq BETWEEN 1 AND " + high)) {
                while (dead.next()) {
                    lost.add(dead.getLong(1));
                }
            }
            execute("DELETE FROM lost_range WHERE first_seq < 1 OR last_seq < first_seq OR last_seq > " + high);
            SeqSet before = new SeqSet();
            try (ResultSet ranges = statement.executeQuery("SELECT first_seq, last_seq FROM lost_range")) {
                while (ranges.next()) {
                    before.addAll(ranges.getLong(1), ranges.getLong(2));
                }
            }
            lost.removeAll(before);
        }
        lost.removeAll(saved);
        return lost;
    }

    /** Cursors that the ledger vouches for stay; a sink whose cursor is not certain begins again at the oldest row. */
    private void sinks(long high, long outboxHigh, SeqSet lost) throws SQLException {
        if (beforeCommands) { // as the new version would have made it: nothing in this log is an answer to a command
            execute("INSERT OR REPLACE INTO sink (name, log, internal, start_seq) VALUES ('answers', 'wal', 1, " + (high + 1) + ")",
                    "INSERT OR REPLACE INTO sink_range (sink, first_seq, acked_seq, inflight_seq) VALUES ('answers', " + (high + 1) + ", " + high + ", " + high
                            + ")");
        }
        boolean counted = tables.get("sink").broken == 0 && tables.get("discarded").broken == 0
                && number("SELECT count(*) FROM sink WHERE name = 'rollup'") == 1;
        execute("INSERT OR IGNORE INTO sink (name, log, internal) VALUES ('rollup', 'wal', 1), ('passthrough', 'wal', 1), ('answers', 'wal', 1),"
                        + " ('uplink', 'outbox', 1)",
                // A sink whose row is gone and whose work is known.
                "INSERT OR IGNORE INTO sink (name) SELECT sink FROM sink_range UNION SELECT sink FROM dead_letter",
                "UPDATE sink SET internal = name IN ('rollup', 'passthrough', 'answers', 'uplink')",
                "UPDATE sink SET log = iif(name = 'uplink', 'outbox', 'wal')",
                "UPDATE sink SET state = 'running' WHERE state NOT IN ('running', 'paused', 'failed')",
                "DELETE FROM dead_letter WHERE seq < 1 OR state NOT IN ('dead', 'requeued', 'discarded')");
        long ledger = counted ? number("SELECT start_seq - 1 + delivered + dead + (SELECT coalesce(sum(row_count), 0) FROM discarded WHERE sink = 'rollup')"
                + " FROM sink WHERE name = 'rollup'") : -1;
        long newest = number("SELECT coalesce(max(last_seq), 0) FROM rollup_window WHERE last_seq <= " + high);
        long added = addedUp(newest, high, ledger);
        boolean windows = tables.get("rollup_window").broken == 0;
        if (!windows) {
            execute("DELETE FROM sink_range WHERE sink = 'rollup'");
        }
        Map<String, Long> again = new LinkedHashMap<>();
        try (Statement statement = connection.createStatement();
                ResultSet rows = statement.executeQuery("SELECT s.name, s.log, s.start_seq FROM sink s WHERE"
                        + " (SELECT count(*) FROM sink_range r WHERE r.sink = s.name AND r.last_seq IS NULL) <> 1"
                        + " OR EXISTS (SELECT 1 FROM sink_range r WHERE r.sink = s.name AND (r.first_seq < 1 OR r.acked_seq < r.first_seq - 1"
                        + "   OR r.inflight_seq < r.acked_seq OR r.acked_seq > iif(s.log = 'wal', " + high + ", " + outboxHigh + ")"
                        + "   OR r.last_seq < r.acked_seq OR EXISTS (SELECT 1 FROM sink_range o WHERE o.sink = r.sink AND o.first_seq > r.first_seq"
                        + "     AND (r.last_seq IS NULL OR r.last_seq >= o.first_seq))))"
                        // What leaves the ledger of the uplink as it is: its claims do not go over numbers, so it is not as exact.
                        + " OR s.log = 'wal' AND EXISTS (SELECT 1 FROM ledger l WHERE l.sink = s.name AND l.unaccounted <> 0)")) {
            while (rows.next()) {
                long oldest = number("SELECT coalesce(min(seq), 0) FROM " + rows.getString(2));
                long top = rows.getString(2).equals("wal") ? high : outboxHigh;
                if (rows.getString(2).equals("wal") && lost.first() > 0 && (oldest == 0 || lost.first() < oldest)) {
                    oldest = lost.first();
                }
                long start = rows.getLong(3);
                again.put(rows.getString(1), Math.max(oldest == 0 ? top + 1 : oldest, start > top + 1 ? 1 : start));
            }
        }
        if (windows && added > 0 && again.containsKey("rollup")) {
            again.remove("rollup");
            goOn(added, ledger, newest);
        }
        for (Map.Entry<String, Long> sink : again.entrySet()) {
            restart(sink.getKey(), sink.getValue());
        }
        if (!again.isEmpty()) {
            notes.add("the cursors of " + again.keySet() + " were damaged: they begin again at the oldest row, and send some rows once more");
        }
        deadLetters();
        execute("UPDATE sink_range SET inflight_seq = acked_seq, planned_seq = iif(planned_seq > " + high + ", 0, planned_seq)");
        if (again.containsKey("rollup")) {
            // The parts that the cloud has of a pruned window have the rows that are left already: these make it anew, as a lower revision of it.
            execute("UPDATE meta SET rollup_pruned_before_ms = 0");
            takeOut(added);
        }
    }

    /**
     * Up to where roll-up has surely added up, by what stands in three tables: its cursor, its counts (nobody can replay to it, so they are
     * the cursor's) and its windows, which name the newest row they have: no true one is before that.
     *
     * @param newest that row
     * @param ledger the cursor by the counts; -1: they are lost
     * @return 0: nothing says it
     */
    private long addedUp(long newest, long high, long ledger) throws SQLException {
        long range = number("SELECT iif(count(*) = 1 AND max(last_seq) IS NULL, max(acked_seq), -1) FROM sink_range WHERE sink = 'rollup'");
        if (range == ledger && range > high) {
            return high; // it had added up all, and what it is ahead of are rows that are lost
        }
        long found = Long.MAX_VALUE;
        for (long cursor : new long[] {range, ledger}) {
            if (cursor >= newest && cursor <= high) {
                found = Math.min(found, cursor); // where both can be true: rather twice than not at all
            }
        }
        return found == Long.MAX_VALUE ? newest : found;
    }

    /** Windows that are whole stay, and the cursor that was lost is made again. */
    private void goOn(long added, long ledger, long newest) throws SQLException {
        if (added == ledger) {
            execute("DELETE FROM sink_range WHERE sink = 'rollup'", "INSERT INTO sink_range (sink, first_seq, acked_seq, inflight_seq)"
                    + " SELECT name, start_seq, " + added + ", " + added + " FROM sink WHERE name = 'rollup'");
        } else {
            restart("rollup", added + 1);
        }
        notes.add("the cursor of rollup was damaged: it goes on behind sequence " + added
                + (added == newest ? ", the newest one that its windows name; values behind it that came late for theirs may count twice" : ""));
    }

    /**
     * What the rows that are left will be added to must not have them already. A window that has rows besides, of those that are deleted or
     * lost, keeps those.
     *
     * @param added the rows up to here are in the windows
     */
    private void takeOut(long added) throws SQLException {
        List<Long> widths = new ArrayList<>();
        try (Statement statement = connection.createStatement();
                ResultSet rows = statement.executeQuery("SELECT DISTINCT width_ms FROM rollup_window WHERE width_ms > 0")) {
            while (rows.next()) {
                widths.add(rows.getLong(1));
            }
        }
        for (long width : widths) {
            try (PreparedStatement out = connection.prepareStatement("UPDATE rollup_window SET count = count - 1, sum = sum - ?, dirty = 0"
                            + " WHERE device_id = ? AND metric = ? AND start_ms = ? AND width_ms = ? AND part = 0");
                    Statement statement = connection.createStatement();
                    ResultSet rows = statement.executeQuery("SELECT w.device_id, m.key, w.observed_at_ms / " + width + " * " + width + ", m.value FROM wal w,"
                            + " json_each(iif(json_valid(CAST(w.body AS TEXT)), CAST(w.body AS TEXT), '{}'), '$.metrics') m"
                            + " WHERE w.kind = 'telemetry' AND w.seq <= " + added)) {
                while (rows.next()) {
                    out.setDouble(1, rows.getDouble(4));
                    out.setString(2, rows.getString(1));
                    out.setString(3, rows.getString(2));
                    out.setLong(4, rows.getLong(3));
                    out.setLong(5, width);
                    out.executeUpdate();
                }
            }
        }
        execute("UPDATE rollup_window SET count = 0, sum = 0, min = 9e999, max = -9e999, last_observed_ms = -1, last_seq = 0, dirty = 0 WHERE count <= 0");
    }

    private void restart(String sink, long from) throws SQLException {
        for (String sql : new String[] {"DELETE FROM sink_range WHERE sink = ?1", "DELETE FROM dead_letter WHERE sink = ?1 AND seq >= ?2",
                "DELETE FROM discarded WHERE sink = ?1", "DELETE FROM discarded_range WHERE sink = ?1",
                "UPDATE sink SET start_seq = iif(start_seq > ?2 OR start_seq < 1, ?2, start_seq) WHERE name = ?1",
                "UPDATE sink SET attempts = 0, dead = (SELECT count(*) FROM dead_letter d WHERE d.sink = ?1 AND d.state = 'dead' AND d.seq < ?2)"
                        + " WHERE name = ?1",
                "UPDATE sink SET delivered = max(0, ?2 - start_seq - dead) WHERE name = ?1",
                "INSERT INTO sink_range (sink, first_seq, acked_seq, inflight_seq) VALUES (?1, ?2, ?2 - 1, ?2 - 1)"}) {
            try (PreparedStatement statement = connection.prepareStatement(sql)) {
                statement.setString(1, sink);
                if (sql.contains("?2")) {
                    statement.setLong(2, from);
                }
                statement.executeUpdate();
            }
        }
    }

    /** Dead letters that are gone: counted as lost, so that the ledger stays exact. */
    private void deadLetters() throws SQLException {
        String open = "(SELECT count(*) FROM dead_letter d WHERE d.sink = sink.name AND d.state = 'dead')";
        execute("INSERT INTO discarded (sink, reason, row_count) SELECT name, 'lost', dead - " + open + " FROM sink WHERE dead > " + open
                        + " ON CONFLICT (sink, reason) DO UPDATE SET row_count = row_count + excluded.row_count",
                "UPDATE sink SET dead = " + open + " WHERE dead > " + open);
    }

    /**
     * What says that a command was published may be among what is gone: where that can be, an open one counts as published, for nothing
     * may be carried out twice. A command whose row is gone and whose history still waits for the cloud is known to it alone by that: it
     * would be sent again, so it is made known here again, as published. The history of others is of no use.
     */
    private void commands(String missing) throws SQLException {
        Table command = tables.get("command");
        execute("DELETE FROM command_event WHERE command_seq NOT IN (SELECT seq FROM command)");
        if (command.broken == 0 && missing.isEmpty() && pages.wal().missing(true).isEmpty() && pages.wal().damage().isEmpty()) {
            return;
        }
        long again = number("SELECT coalesce(max(seq), 0) FROM command");
        execute("INSERT OR IGNORE INTO command (command_id, device_id, name, arguments, content_hash, origin, issued_by, status, reason, revision,"
                + " accepted_at_ms, expires_at_ms, os_boot_id, deadline_mono_ms, answer_until_mono_ms, attempts, attempted_at_ms, attempted_mono_ms,"
                + " final_at_ms)"
                + " SELECT id, device_id, coalesce(name, 'unknown'), '{}', x'', 'cloud', 'salvage', status, reason, max(revision), at_ms, at_ms, '', 0, 0, 1,"
                + " at_ms, 0, iif(status IN ('ACCEPTED', 'QUEUED', 'SENT', 'DELIVERED'), NULL, at_ms)"
                + " FROM (SELECT coalesce(json_extract(b, '$.device_id'), of) AS device_id, json_extract(b, '$.command_id') AS id, CAST(json_extract(b, '$.revision') AS INTEGER) AS revision,"
                + "   json_extract(b, '$.status') AS status, json_extract(b, '$.reason') AS reason, CAST(json_extract(b, '$.at_ms') AS INTEGER) AS at_ms,"
                + "   max(json_extract(b, '$.name')) OVER (PARTITION BY json_extract(b, '$.command_id')) AS name"
                + "   FROM (SELECT o.of, e.value AS b FROM (SELECT device_id AS of, iif(json_valid(body), body, '{}') AS b FROM outbox WHERE kind = 'command') o,"
                + "     json_each(coalesce(o.b -> '$.events', json_array(json(o.b)))) e WHERE e.type = 'object'))"
                + " WHERE typeof(id) = 'text' AND revision > 0 AND typeof(status) = 'text' AND at_ms IS NOT NULL GROUP BY id");
        long madeKnown = number("SELECT count(*) FROM command WHERE seq > " + again);
        if (madeKnown > 0) {
            notes.add(madeKnown + " commands are known by their history only");
        }
        long open = number("SELECT count(*) FROM command WHERE final_at_ms IS NULL AND attempts = 0 AND idempotent = 0");
        if (open > 0) {
            notes.add(open + " commands may have been published or not and are not published again");
            execute("UPDATE command SET attempts = 1, attempted_at_ms = accepted_at_ms, attempted_mono_ms = 0, answer_until_mono_ms = 0"
                    + " WHERE final_at_ms IS NULL AND attempts = 0 AND idempotent = 0");
        }
    }

    /** Windows whose last revision may be among the lost rows of the outbox are emitted again; the cloud keeps the highest one. */
    private void outbox() throws SQLException {
        long lost = number("SELECT coalesce(sum(coalesce(r.last_seq, coalesce((SELECT q.seq FROM sqlite_sequence q WHERE q.name = 'outbox'), 0)) - r.acked_seq"
                + " - (SELECT count(*) FROM outbox o WHERE o.seq > r.acked_seq AND (r.last_seq IS NULL OR o.seq <= r.last_seq))), 0)"
                + " FROM sink_range r WHERE r.sink = 'uplink'");
        if (lost > 0) {
            notes.add(lost + " rows of the outbox are lost, all windows are emitted again");
            execute("UPDATE rollup_window SET dirty = 1 WHERE dirty = 0 AND count > 0");
        }
    }

    /**
     * The log's memory of numbers must not be behind its rows. Where it was lost it begins anew from the rows that are
     * left: a message whose row is lost, or deleted, is then taken again; better twice than not at all. Numbers whose rows are
     * deleted are not taken for known: a message that never came would be refused as one that is, and covered by a receipt.
     */
    private void progress() throws SQLException {
        List<Object[]> behind = new ArrayList<>();
        try (Statement statement = connection.createStatement();
                ResultSet rows = statement.executeQuery("SELECT w.device_id, w.boot_id, coalesce(p.contiguous_seq, -1), max(w.device_seq)"
                        + " FROM wal w LEFT JOIN device_progress p ON p.device_id = w.device_id AND p.boot_id = w.boot_id"
                        + " WHERE w.boot_id IS NOT NULL AND w.device_seq IS NOT NULL"
                        + " GROUP BY w.device_id, w.boot_id HAVING max(w.device_seq) > coalesce(max(p.highest_seq), -1)")) {
            while (rows.next()) {
                behind.add(new Object[] {rows.getString(1), rows.getString(2), rows.getLong(3), rows.getLong(4)});
            }
        }
        long unsure = 0;
        try (PreparedStatement next = connection.prepareStatement("SELECT 1 FROM wal WHERE message_key = ?");
                PreparedStatement save = connection.prepareStatement("INSERT INTO device_progress (device_id, boot_id, contiguous_seq, highest_seq,"
                        + " updated_at_ms) VALUES (?1, ?2, ?3, ?4, ?5) ON CONFLICT (device_id, boot_id) DO UPDATE SET contiguous_seq = ?3, highest_seq = ?4")) {
            for (Object[] boot : behind) {
                boolean anew = (Long) boot[2] < 0;
                long contiguous = Math.max(0, (Long) boot[2]);
                while (contiguous < (Long) boot[3]) {
                    next.setString(1, io.caravan.wal.Record.numberedKey((String) boot[0], (String) boot[1], contiguous + 1));
                    try (ResultSet row = next.executeQuery()) {
                        if (!row.next()) {
                            break;
                        }
                    }
                    contiguous++;
                }
                unsure += anew && contiguous == 0 ? 1 : 0;
                save.setString(1, (String) boot[0]);
                save.setString(2, (String) boot[1]);
                save.setLong(3, contiguous);
                save.setLong(4, (Long) boot[3]);
                save.setLong(5, quarantine.atMs());
                save.executeUpdate();
            }
        }
        if (unsure > 0) {
            notes.add("the numbers of " + unsure + " boots of devices are not known: no receipts for them until their devices start anew");
        }
    }

    private long incident(long rows, long lost, String detail) throws SQLException {
        try (PreparedStatement insert = connection.prepareStatement("INSERT INTO incident (kind, at_ms, file, salvaged_rows, lost_rows, detail)"
                + " VALUES ('corrupt_file', ?, ?, ?, ?, ?)")) {
            insert.setLong(1, quarantine.atMs());
            insert.setString(2, quarantine.damaged().toString());
            insert.setLong(3, rows);
            insert.setLong(4, lost);
            insert.setString(5, detail);
            insert.executeUpdate();
        }
        return number("SELECT max(id) FROM incident");
    }

    private long number(String sql) throws SQLException {
        try (Statement statement = connection.createStatement(); ResultSet row = statement.executeQuery(sql)) {
            return row.next() ? row.getLong(1) : 0;
        }
    }

    private void execute(String... statements) throws SQLException {
        try (Statement statement = connection.createStatement()) {
            for (String sql : statements) {
                statement.execute(sql);
            }
        }
    }
}
