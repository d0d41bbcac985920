// SPDX-License-Identifier: Apache-2.0
package io.caravan.wal.internal;

import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.channels.FileChannel;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.sql.Connection;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.Statement;
import java.util.ArrayList;
import java.util.List;

/**
 * Whether a gateway's store is damaged, as far as that can be told without reading it: the header, the length, and the
 * -wal file, which is bounded. What is deeper in shows when it is read.
 */
final class Damage {
    private static final byte[] MAGIC = "SQLite format 3\0".getBytes(StandardCharsets.US_ASCII);
    private static final int APPLICATION_ID = 68;
    private static final int LOOK_BYTES = 64 << 10;
    /** Offset and value of header fields that never differ in a store. */
    private static final int[][] CONSTANT = {{56, 1}, {64, 1}, {72, 0}, {76, 0}, {80, 0}, {84, 0}, {88, 0}};

    private Damage() {}

    /**
     * Before SQLite opens the file: it would take a damaged -wal file for one that a crash tore, and drop what is behind.
     *
     * @param made     whether a store was open here once
     * @param sameBoot whether the system has not been down since
     * @return null: nothing to be seen; also for a file that is not a store of ours, which SQLite or the schema refuse
     */
    static String look(Path file, boolean made, boolean sameBoot) throws IOException {
        Path walFile = file.resolveSibling(file.getFileName() + "-wal");
        long size = Files.exists(file) ? Files.size(file) : -1;
        if (size <= 0) {
            boolean lost = made || Files.exists(walFile) && Files.size(walFile) > 0;
            return !lost ? null : size < 0 ? "the store's file is gone" : "the store's file is empty";
        }
        ByteBuffer head = ByteBuffer.allocate((int) Math.min(size, LOOK_BYTES));
        try (FileChannel channel = FileChannel.open(file, StandardOpenOption.READ)) {
            WalFile.fill(channel, head, 0);
        }
        WalFile wal = WalFile.of(file);
        boolean magic = size >= 100 && head.slice(0, MAGIC.length).equals(ByteBuffer.wrap(MAGIC));
        if (!magic) {
            return made || !wal.pages().isEmpty() || isOurs(head) ? "the store's header is damaged (file is not a database)" : null;
        }
        if (head.getInt(APPLICATION_ID) == Schema.GATEWAY.applicationId()) {
            if (head.getShort(16) != Pages.SIZE || head.getInt(20) != 0x00402020) {
                return "the store's header is damaged (page size)";
            }
            for (int[] field : CONSTANT) {
                if (head.getInt(field[0]) != field[1]) {
                    return "the store's header is damaged (offset " + field[0] + ")";
                }
            }
        }
        if (!wal.damage().isEmpty()) {
            return "the -wal file is damaged: " + wal.damage();
        }
        String missing = wal.missing(sameBoot);
        if (!missing.isEmpty()) {
            return "the -wal file is damaged: " + missing;
        }
        boolean countIsValid = head.getInt(24) == head.getInt(92);
        long pages = wal.takenPageCount() > 0 ? wal.takenPageCount() : countIsValid ? head.getInt(28) & 0xffffffffL : 0;
        for (long page = size / Pages.SIZE + 1; page <= pages; page++) {
            if (!wal.taken().contains((int) page)) {
                return "the store's file is cut: it has " + size / Pages.SIZE + " of " + pages + " pages";
            }
        }
        return null;
    }

    /** Whether what cannot be opened is a gateway's store, as opposed to something that must be left alone. */
    static boolean isOurs(Path file) throws IOException {
        ByteBuffer head = ByteBuffer.allocate((int) Math.min(Files.size(file), LOOK_BYTES));
        try (FileChannel channel = FileChannel.open(file, StandardOpenOption.READ)) {
            WalFile.fill(channel, head, 0);
        }
        return isOurs(head);
    }

    private static boolean isOurs(ByteBuffer head) {
        return head.limit() >= 100 && head.getInt(APPLICATION_ID) == Schema.GATEWAY.applicationId()
                || new String(head.array(), 0, head.limit(), StandardCharsets.ISO_8859_1).contains("CREATE TABLE wal (");
    }

    /** After SQLite opened it: touches each table, first and last row of the log. */
    static void touch(Connection connection) throws SQLException {
        try (Statement statement = connection.createStatement()) {
            List<String> tables = new ArrayList<>();
            try (ResultSet rows = statement.executeQuery("SELECT name FROM sqlite_master WHERE type = 'table'")) {
                while (rows.next()) {
                    tables.add(rows.getString(1));
                }
            }
            for (String table : tables) {
                number(statement, "SELECT 1 FROM " + table + " LIMIT 1");
            }
            if (number(statement, "SELECT count(*) FROM meta WHERE log_id <> ''") != 1) {
                throw new StorageError.Damaged("table meta is empty");
            }
            number(statement, "SELECT min(seq) FROM wal");
            long last = number(statement, "SELECT max(seq) FROM wal");
            long given = number(statement, "SELECT max(seq) FROM sqlite_sequence WHERE name = 'wal'");
            if (given < last) {
                throw new StorageError.Damaged("the log's last row has sequence " + last + ", given were " + given);
            }
        }
    }

    private static long number(Statement statement, String sql) throws SQLException {
        try (ResultSet row = statement.executeQuery(sql)) {
            return row.next() ? row.getLong(1) : 0;
        }
    }
}
