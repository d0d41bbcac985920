// SPDX-License-Identifier: Apache-2.0
package io.caravan.uplink.internal;

import io.caravan.uplink.Gateways.Certificate;
import io.caravan.uplink.internal.GatewaysFile.Entry;
import io.caravan.uplink.internal.GatewaysFile.Token;
import java.io.IOException;
import java.sql.Connection;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.Types;
import java.time.Instant;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.TreeMap;
import java.util.function.UnaryOperator;
import javax.sql.DataSource;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/**
 * The gateways in the store: tables {@code gateway_registration}, {@code gateway_credential}, {@code gateway_enrolment}; kept in memory, because
 * every handshake and every frame asks.
 *
 * <p>A change counts {@code gateway_revision} up in its own transaction, which so also is the lock under which all replicas change the
 * registry one after the other; {@link #look} sees the new number and reads everything again. A store that does not answer changes
 * nothing in what is known; after {@value #BLIND_MS} ms of that {@link #problem} says so. This class is thread-safe.
 */
public final class GatewaysTable {

    static final long BLIND_MS = 30_000;
    /** A used enrolment token is known for so long, so that a repeated request gets the same answer; an expired one too. */
    private static final long REMEMBER_MS = 86_400_000;

    private static final Logger LOG = LoggerFactory.getLogger(GatewaysTable.class);

    /** What became of an enrolment token; {@code repeated}: the same request was answered before. */
    public record Enrolled(String gatewayId, Entry entry, boolean repeated) { }

    /** An enrolment token that nobody has used yet. */
    public record Open(String gatewayId, String tokenId, long notAfterMs) { }

    private final DataSource writer;
    private final DataSource reader;
    private volatile Map<String, Entry> entries = Map.of();
    private volatile long revision = -1;
    private volatile long readAtNanos = System.nanoTime();
    private volatile String failure;

    /** @throws SQLException the store cannot be read: nobody could be told from a stranger */
    public GatewaysTable(DataSource writer, DataSource reader) throws SQLException {
        this.writer = writer;
        this.reader = reader;
        read();
    }

    public Map<String, Entry> entries() {
        return entries;
    }

    /** Reads the registry if another replica, or this one, changed it. @return whether anything did */
    public boolean look() {
        try {
            return read();
        } catch (SQLException e) {
            if (failure == null) {
                LOG.warn("the registry of gateways cannot be read from the store, what is known stays in force: {}", e.getMessage());
            }
            failure = e.getMessage();
            return false;
        }
    }

    /** @return null: none */
    public String problem() {
        long blindMs = (System.nanoTime() - readAtNanos) / 1_000_000;
        return failure == null || blindMs < BLIND_MS ? null : "the registry of gateways could not be read from the store for " + blindMs / 1000
            + " s (" + failure + "): what other replicas revoked since then is not in force here";
    }

    private synchronized boolean read() throws SQLException {
        try (Connection connection = reader.getConnection()) {
            long now = revision(connection);
            boolean changed = now != revision;
            if (changed) {
                Map<String, Entry> all = new HashMap<>();
                Map<String, List<Token>> tokens = tokens(connection, null);
                try (PreparedStatement select = connection.prepareStatement(
                        "SELECT gateway_id, certificate, revoked_at_ms, note FROM gateway_registration ORDER BY gateway_id");
                        ResultSet row = select.executeQuery()) {
                    while (row.next()) {
                        all.put(row.getString(1), entry(row, tokens));
                    }
                }
                entries = Map.copyOf(all);
                // What was read may be newer than that: then the next look reads once more.
                revision = now;
                LOG.info("registry of gateways read from the store: {} gateways, revision {}", all.size(), now);
            }
            readAtNanos = System.nanoTime();
            failure = null;
            return changed;
        }
    }

    /**
     * Changes one gateway. Committed, and in force here, when it returns.
     *
     * @param edit gets the entry, null if there is none; returns the new one, null to delete it with all its tokens
     */
    public Entry edit(String id, UnaryOperator<Entry> edit) throws IOException {
        GatewaysFile.checkId(id);
        return change(connection -> write(connection, id, edit));
    }

    /** As {@link #edit}, and makes an enrolment token of which this is the hash; an open one of that gateway ends. */
    public Entry invite(String id, UnaryOperator<Entry> edit, String tokenHash, long notAfterMs) throws IOException {
        GatewaysFile.checkId(id);
        return change(connection -> {
            Entry made = write(connection, id, edit);
            long now = System.currentTimeMillis();
            run(connection, "DELETE FROM gateway_enrolment WHERE gateway_id = ? AND used_at_ms IS NULL OR not_after_ms < ?", id, now - REMEMBER_MS);
            run(connection, "INSERT INTO gateway_enrolment (token_hash, gateway_id, not_after_ms, created_at_ms) VALUES (?, ?, ?, ?)",
                tokenHash, id, notAfterMs, now);
            return made;
        });
    }

    /**
     * Takes an enrolment token, once: the gateway's token is from now on the one of that hash, and no other.
     *
     * @return null: there is no such token, it is over, it was used for another hash, or its gateway is revoked
     */
    public Enrolled enrol(String tokenHash, String credentialHash) throws IOException {
        // Anybody may ask: without a token that waits nothing is written, and no lock taken.
        try (Connection connection = reader.getConnection()) {
            Waiting waiting = waiting(connection, tokenHash);
            if (waiting == null || waiting.usedFor != null) {
                return repeated(connection, waiting, credentialHash);
            }
        } catch (SQLException e) {
            throw new IOException("the registry of gateways cannot be read from the store: " + e.getMessage(), e);
        }
        return change(connection -> {
            Waiting waiting = waiting(connection, tokenHash);
            Entry known = waiting == null ? null : entry(connection, waiting.gateway);
            if (waiting == null || waiting.usedFor != null || known == null || known.revoked()) {
                return repeated(connection, waiting, credentialHash);
            }
            run(connection, "UPDATE gateway_enrolment SET used_at_ms = ?, credential_hash = ? WHERE token_hash = ?", System.currentTimeMillis(), credentialHash, tokenHash);
            return new Enrolled(waiting.gateway, write(connection, waiting.gateway, old -> new Entry(waiting.gateway, List.of(new Token(credentialHash, null, null)),
                old.certificate(), false, old.note(), null)), false);
        });
    }

    /** An enrolment token that is not over; {@code usedFor}: null: not used. */
    private record Waiting(String gateway, String usedFor) { }

    private static Waiting waiting(Connection connection, String tokenHash) throws SQLException {
        try (PreparedStatement select = connection.prepareStatement("SELECT gateway_id, credential_hash FROM gateway_enrolment"
                + " WHERE token_hash = ? AND not_after_ms > ?")) {
            set(select, tokenHash, System.currentTimeMillis());
            try (ResultSet row = select.executeQuery()) {
                return row.next() ? new Waiting(row.getString(1), row.getString(2)) : null;
            }
        }
    }

    /** The answer was lost: the same request gets it again, as long as that token still is one. */
    private static Enrolled repeated(Connection connection, Waiting waiting, String credentialHash) throws SQLException {
        Entry known = waiting == null ? null : entry(connection, waiting.gateway);
        return known != null && !known.revoked() && credentialHash.equals(waiting.usedFor)
            && known.tokens().stream().anyMatch(t -> t.hash().equals(credentialHash)) ? new Enrolled(waiting.gateway, known, true) : null;
    }

    /** @return the gateways of these that the store did not have and now has */
    public List<String> take(List<Entry> filed) throws IOException {
        return change(connection -> {
            List<String> taken = new ArrayList<>();
            for (Entry entry : filed) {
                if (entry(connection, entry.id()) == null) {
                    write(connection, entry.id(), none -> entry);
                    taken.add(entry.id());
                }
            }
            return taken;
        });
    }

    /** @return gateway id to its enrolment token that waits; not those that are over */
    public Map<String, Open> open() throws IOException {
        try (Connection connection = reader.getConnection(); PreparedStatement select = connection.prepareStatement(
                "SELECT gateway_id, token_hash, not_after_ms FROM gateway_enrolment WHERE used_at_ms IS NULL AND not_after_ms > ? ORDER BY gateway_id")) {
            set(select, System.currentTimeMillis());
            Map<String, Open> all = new TreeMap<>();
            try (ResultSet row = select.executeQuery()) {
                while (row.next()) {
                    all.put(row.getString(1), new Open(row.getString(1), row.getString(2).substring(0, 8), row.getLong(3)));
                }
            }
            return all;
        } catch (SQLException e) {
            throw new IOException("the registry of gateways cannot be read from the store: " + e.getMessage(), e);
        }
    }

    private interface Work<T> {
        T in(Connection connection) throws SQLException;
    }

    private <T> T change(Work<T> work) throws IOException {
        T done;
        try (Connection connection = writer.getConnection()) {
            connection.setAutoCommit(false);
            try {
                // First of all: its row is the lock, on every replica.
                run(connection, "UPDATE gateway_revision SET revision = revision + 1 WHERE one = 1");
                done = work.in(connection);
                connection.commit();
            } catch (SQLException | RuntimeException e) {
                connection.rollback();
                throw e;
            }
        } catch (SQLException e) {
            throw new IOException("the registry of gateways could not be written to the store: " + e.getMessage(), e);
        }
        look();
        return done;
    }

    private Entry write(Connection connection, String id, UnaryOperator<Entry> edit) throws SQLException {
        Entry entry = edit.apply(entry(connection, id));
        long now = System.currentTimeMillis();
        run(connection, "DELETE FROM gateway_credential WHERE gateway_id = ?", id);
        if (entry == null || entry.revoked()) {
            run(connection, "DELETE FROM gateway_enrolment WHERE gateway_id = ?", id);
        }
        if (entry == null) {
            run(connection, "DELETE FROM gateway_registration WHERE gateway_id = ?", id);
            return null;
        }
        run(connection, "INSERT INTO gateway_registration (gateway_id, certificate, revoked_at_ms, note, created_at_ms, updated_at_ms) VALUES (?, ?, ?, ?, ?, ?)"
            + " ON CONFLICT (gateway_id) DO UPDATE SET certificate = excluded.certificate, note = excluded.note, updated_at_ms = excluded.updated_at_ms,"
            + " revoked_at_ms = CASE WHEN excluded.revoked_at_ms IS NULL THEN NULL ELSE coalesce(gateway_registration.revoked_at_ms, excluded.revoked_at_ms) END",
            id, entry.certificate().name().toLowerCase(Locale.ROOT), entry.revoked() ? now : null, entry.note(), now, now);
        int position = 0;
        for (Token token : entry.tokens()) {
            run(connection, "INSERT INTO gateway_credential (gateway_id, token_hash, position, not_before_ms, not_after_ms) VALUES (?, ?, ?, ?, ?)",
                id, token.hash(), position++, ms(token.from()), ms(token.until()));
        }
        return entry;
    }

    private static Entry entry(Connection connection, String id) throws SQLException {
        try (PreparedStatement select = connection.prepareStatement(
                "SELECT gateway_id, certificate, revoked_at_ms, note FROM gateway_registration WHERE gateway_id = ?")) {
            set(select, id);
            try (ResultSet row = select.executeQuery()) {
                return row.next() ? entry(row, tokens(connection, id)) : null;
            }
        }
    }

    private static Entry entry(ResultSet row, Map<String, List<Token>> tokens) throws SQLException {
        String id = row.getString(1);
        return new Entry(id, List.copyOf(tokens.getOrDefault(id, List.of())), Certificate.valueOf(row.getString(2).toUpperCase(Locale.ROOT)),
            row.getObject(3) != null, row.getString(4), null);
    }

    private static Map<String, List<Token>> tokens(Connection connection, String id) throws SQLException {
        Map<String, List<Token>> all = new HashMap<>();
        try (PreparedStatement select = connection.prepareStatement("SELECT gateway_id, token_hash, not_before_ms, not_after_ms FROM gateway_credential"
                + (id == null ? "" : " WHERE gateway_id = ?") + " ORDER BY gateway_id, position")) {
            if (id != null) {
                set(select, id);
            }
            try (ResultSet row = select.executeQuery()) {
                while (row.next()) {
                    all.computeIfAbsent(row.getString(1), k -> new ArrayList<>()).add(new Token(row.getString(2), time(row, 3), time(row, 4)));
                }
            }
        }
        return all;
    }

    private static long revision(Connection connection) throws SQLException {
        try (PreparedStatement select = connection.prepareStatement("SELECT revision FROM gateway_revision WHERE one = 1"); ResultSet row = select.executeQuery()) {
            row.next();
            return row.getLong(1);
        }
    }

    private static void run(Connection connection, String sql, Object... values) throws SQLException {
        try (PreparedStatement statement = connection.prepareStatement(sql)) {
            set(statement, values);
            statement.executeUpdate();
        }
    }

    private static void set(PreparedStatement statement, Object... values) throws SQLException {
        for (int i = 0; i < values.length; i++) {
            if (values[i] instanceof Long number) {
                statement.setLong(i + 1, number);
            } else if (values[i] instanceof Integer number) {
                statement.setInt(i + 1, number);
            } else if (values[i] == null) {
                statement.setNull(i + 1, Types.NULL);
            } else {
                statement.setString(i + 1, (String) values[i]);
            }
        }
    }

    private static Long ms(Instant time) {
        return time == null ? null : time.toEpochMilli();
    }

    private static Instant time(ResultSet row, int column) throws SQLException {
        long ms = row.getLong(column);
        return row.wasNull() ? null : Instant.ofEpochMilli(ms);
    }
}
