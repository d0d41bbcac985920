// SPDX-License-Identifier: Apache-2.0
package io.caravan.bench;

import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.file.Path;
import java.sql.Connection;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.Statement;
import java.time.DateTimeException;
import java.time.Duration;
import java.time.Instant;
import java.util.ArrayList;
import java.util.BitSet;
import java.util.HashMap;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeSet;
import java.util.concurrent.Callable;
import java.util.concurrent.locks.LockSupport;
import java.util.zip.CRC32C;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import io.caravan.bench.Verdict.Fault;
import picocli.CommandLine.Command;
import picocli.CommandLine.Option;

/**
 * Judges from outside whether a gateway kept its word, from what the devices noted and what the two databases hold, with
 * nothing of the gateway's own code:
 *
 * <ul>
 * <li>promised (acknowledged, receipted) is a subset of stored, and stored a subset of sent, each message once and
 *     unaltered; a bad message that was acknowledged is in {@code rejected} under its reason;</li>
 * <li>the cloud's windows (count, min, max, sum, last) are what the stored telemetry adds up to, and there is no window
 *     more; sums are compared to 1e-9 of the sum of magnitudes, since the order of addition is not promised;</li>
 * <li>messages of the kinds that the policy lets through are in the cloud once, others are not;</li>
 * <li>a device carried out a command at most once, and none that the gateway calls rejected, expired or cancelled; DELIVERED is
 *     said of none that the device did not get, SUCCEEDED and FAILED of none that it did not say so of; every command has
 *     ended; the cloud says of each what the gateway says;</li>
 * <li>per sink, appended = acked + dead + discarded + backlog, nothing dead, and no backlog after the wait.</li>
 * </ul>
 *
 * A message that is stored but was not promised is no fault: the acknowledgement was cut off. It counts in the windows.
 */
@Command(name = "oracle", mixinStandardHelpOptions = true, sortOptions = false,
        description = "Judges whether what was acknowledged is stored, and whether the cloud has it once. Exit 0: yes, 1: no, 2: could not judge.")
public final class Oracle implements Callable<Integer> {
    private static final long PLAUSIBLE_FROM_MS = Instant.parse("2020-01-01T00:00:00Z").toEpochMilli();

    @Option(names = "--ledger", paramLabel = "FILE", description = "a simulator's ledger; may be given more than once")
    private List<Path> ledgers = new ArrayList<>();

    @Option(names = "--ack-log", paramLabel = "FILE", description = "a load generator's ack log; may be given more than once")
    private List<Path> ackLogs = new ArrayList<>();

    @Option(names = "--gateway-db", paramLabel = "FILE", required = true, description = "the gateway's database")
    private Path gatewayDb;

    @Option(names = "--cloud-db", paramLabel = "FILE", description = "the cloud's database; left out: only the gateway is judged")
    private Path cloudDb;

    @Option(names = "--gateway-id", description = "which of the cloud's gateways; may be left out when there is one")
    private String gatewayId;

    @Option(names = "--passthrough", split = ",", paramLabel = "KIND", defaultValue = "event,capabilities,command-status",
            description = "kinds that the data policy lets through (${DEFAULT-VALUE})")
    private Set<String> passthrough = Set.of("event", "capabilities", "command-status");

    @Option(names = "--wait", defaultValue = "0s", description = "wait so long for everything to be delivered (${DEFAULT-VALUE})")
    private Duration wait = Duration.ZERO;

    @Option(names = "--json", description = "one line of JSON instead of the report")
    private boolean asJson;

    private final ObjectMapper json = new ObjectMapper();

    /** For the command line; programs use {@link #of}. */
    Oracle() { }

    /**
     * @param gatewayDb the gateway's database file
     * @param cloudDb the cloud's, or null: then only the gateway is judged
     * @return an oracle that has no evidence yet; not thread-safe
     */
    public static Oracle of(Path gatewayDb, Path cloudDb) {
        Oracle oracle = new Oracle();
        oracle.gatewayDb = gatewayDb;
        oracle.cloudDb = cloudDb;
        return oracle;
    }

    /**
     * @param file a simulator's ledger
     * @return this
     */
    public Oracle ledger(Path file) {
        ledgers.add(file);
        return this;
    }

    /**
     * @param file a load generator's ack log
     * @return this
     */
    public Oracle ackLog(Path file) {
        ackLogs.add(file);
        return this;
    }

    /**
     * @param kinds the kinds of message that the data policy lets through as they are
     * @return this
     */
    public Oracle passthrough(Set<String> kinds) {
        passthrough = Set.copyOf(kinds);
        return this;
    }

    /**
     * @param time how long to wait until everything is delivered
     * @return this
     */
    public Oracle waiting(Duration time) {
        wait = time;
        return this;
    }

    @Override
    public Integer call() throws Exception {
        Verdict verdict = judge();
        System.out.print(asJson ? verdict.json() + "\n" : verdict.toString());
        return verdict.ok() ? 0 : 1;
    }

    /**
     * Waits until everything is delivered, or the time is over, and judges.
     *
     * @return what was found
     * @throws IOException evidence that cannot be read
     * @throws SQLException a database that cannot be read
     */
    public Verdict judge() throws IOException, SQLException {
        Evidence evidence = new Evidence();
        for (Path p : ledgers) {
            evidence.readLedger(p);
        }
        for (Path p : ackLogs) {
            evidence.readAckLog(p);
        }
        long deadline = System.nanoTime() + wait.toNanos();
        while (System.nanoTime() < deadline && !drained()) {
            LockSupport.parkNanos(500_000_000L);
        }
        Verdict verdict = judge(evidence);
        // Books that balance for a moment while rows are between two of them: look again as long as there is time.
        while (verdict.pending() && System.nanoTime() < deadline) {
            LockSupport.parkNanos(500_000_000L);
            verdict = judge(evidence);
        }
        return verdict;
    }

    private Verdict judge(Evidence evidence) throws SQLException, IOException {
        Verdict verdict = new Verdict();
        Stored stored;
        Map<String, Ended> commands;
        try (Connection gateway = Databases.readOnly(gatewayDb)) {
            gateway.setAutoCommit(false);   // one snapshot for all that follows
            stored = checkStored(gateway, evidence, verdict);
            checkRejected(gateway, evidence, verdict);
            checkLedger(gateway, verdict);
            commands = checkCommands(gateway, evidence, verdict);
            gateway.rollback();
        }
        if (cloudDb != null) {
            try (Connection cloud = Databases.readOnly(cloudDb)) {
                cloud.setAutoCommit(false);
                String id = gatewayId(cloud);
                checkWindows(cloud, id, stored, verdict);
                checkMessages(cloud, id, stored, verdict);
                checkSinks(cloud, "cloud", CLOUD_BACKLOG, verdict);
                compareCommands(cloud, id, commands, verdict);
                cloud.rollback();
            }
        }
        return verdict;
    }

    // --- the gateway -------------------------------------------------------------------------------------------------

    /** What is in the gateway's log, as far as the cloud has to agree with it. */
    private static final class Stored {
        final Map<WindowKey, Window> windows = new HashMap<>();
        final Map<String, JsonNode> passed = new HashMap<>();
        final Set<Long> widths = new TreeSet<>();
        final Map<WindowKey, Window> gatewayWindows = new HashMap<>();
    }

    private record WindowKey(String deviceId, String metric, long startMs, long widthMs) {
        @Override
        public String toString() {
            return deviceId + " " + metric + " " + Instant.ofEpochMilli(startMs) + " + " + widthMs + " ms";
        }
    }

    /** Sums with the error kept (Neumaier), so that the oracle's own rounding is out of the question. */
    private static final class Window {
        long count;
        double min = Double.POSITIVE_INFINITY;
        double max = Double.NEGATIVE_INFINITY;
        double sum;
        double lost;
        double magnitude;
        double last;
        long lastObservedMs = Long.MIN_VALUE;

        void add(double v, long observedMs) {
            count++;
            min = Math.min(min, v);
            max = Math.max(max, v);
            addToSum(v);
            magnitude += Math.abs(v);
            if (observedMs >= lastObservedMs) {
                last = v;
                lastObservedMs = observedMs;
            }
        }

        void addPart(long n, double partMin, double partMax, double partSum, double partLast, long partLastObservedMs) {
            count += n;
            min = Math.min(min, partMin);
            max = Math.max(max, partMax);
            addToSum(partSum);
            if (partLastObservedMs >= lastObservedMs) {
                last = partLast;
                lastObservedMs = partLastObservedMs;
            }
        }

        private void addToSum(double v) {
            double t = sum + v;
            lost += Math.abs(sum) >= Math.abs(v) ? sum - t + v : v - t + sum;
            sum = t;
        }

        double total() {
            return sum + lost;
        }

        @Override
        public String toString() {
            return "count " + count + " sum " + total() + " min " + min + " max " + max + " last " + last;
        }
    }

    private Stored checkStored(Connection gateway, Evidence evidence, Verdict verdict) throws SQLException, IOException {
        Stored stored = new Stored();
        readGatewayWindows(gateway, stored);
        Map<String, BitSet> seen = new HashMap<>();
        Set<String> seenOther = new HashSet<>();
        long rows = 0;
        long unpromised = 0;
        long maxSeq = 0;
        CRC32C crc = new CRC32C();
        try (Statement s = gateway.createStatement(); ResultSet r = s.executeQuery(
                "SELECT seq, message_key, device_id, kind, observed_at_ms, body, crc FROM wal ORDER BY seq")) {
            while (r.next()) {
                rows++;
                maxSeq = r.getLong(1);
                String key = r.getString(2);
                String kind = r.getString(4);
                long observedMs = r.getLong(5);
                byte[] body = r.getBytes(6);
                crc.reset();
                crc.update(body);
                if (crc.getValue() != r.getLong(7)) {
                    verdict.fault(Fault.ALTERED, key + ": crc of row " + maxSeq + " must be " + r.getLong(7) + ", is " + crc.getValue());
                }
                int cut = Evidence.cut(key);
                boolean first = cut < 0 ? seenOther.add(key) : set(seen.computeIfAbsent(key.substring(0, cut), p -> new BitSet()), Evidence.seq(key));
                if (!first) {
                    verdict.fault(Fault.DOUBLED, key + " is in the log more than once (again as row " + maxSeq + ")");
                }
                JsonNode node = json.readTree(body);
                if (!evidence.isEmpty()) {
                    Evidence.Boot boot = cut < 0 ? null : evidence.boots.get(key.substring(0, cut));
                    if (boot == null || !boot.sent.get(Evidence.seq(key))) {
                        verdict.fault(Fault.INVENTED, key + " is in the log (row " + maxSeq + "), nobody sent it");
                    } else if (!boot.promised.get(Evidence.seq(key))) {
                        unpromised++;
                    }
                    compareBody(key, kind, observedMs, node, evidence.bodies.get(key), verdict);
                }
                if ("telemetry".equals(kind)) {
                    addToWindows(stored, r.getString(3), observedMs, node);
                }
                if (passthrough.contains(kind)) {
                    stored.passed.put(key, node);
                }
            }
        }
        checkPromised(gateway, evidence, seen, verdict);
        verdict.count("stored", rows);
        verdict.count("stored, promise not seen", unpromised);
        long appended = number(gateway, "SELECT coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'wal'), 0)");
        if (appended != rows) {
            verdict.fault(Fault.LEDGER, "log: last sequence " + appended + ", rows " + rows
                    + ": sequences were spent without a row, or rows were pruned (the oracle needs them all)");
        }
        return stored;
    }

    private static boolean set(BitSet bits, int n) {
        boolean first = !bits.get(n);
        bits.set(n);
        return first;
    }

    private void checkPromised(Connection gateway, Evidence evidence, Map<String, BitSet> seen, Verdict verdict) throws SQLException {
        long sent = 0;
        long promised = 0;
        for (Map.Entry<String, Evidence.Boot> e : evidence.boots.entrySet()) {
            sent += e.getValue().sent.cardinality();
            promised += e.getValue().promised.cardinality();
            BitSet missing = (BitSet) e.getValue().promised.clone();
            BitSet have = seen.get(e.getKey());
            if (have != null) {
                missing.andNot(have);
            }
            for (int n = missing.nextSetBit(0); n >= 0; n = missing.nextSetBit(n + 1)) {
                verdict.fault(Fault.LOST, e.getKey() + Keys.padded(n) + " was promised, it is not in the log");
            }
        }
        if (!evidence.isEmpty()) {
            verdict.count("sent (the load generator: at most)", sent);
            verdict.count("promised (acked or receipted)", promised);
        }
        evidence.refused.forEach(k -> verdict.fault(Fault.REFUSED, k + " was refused, it is a good message"));
    }

    private void compareBody(String key, String kind, long observedMs, JsonNode stored, Evidence.Sent sent, Verdict verdict) throws IOException {
        if (sent == null) {
            return;   // the load generator's: not kept
        }
        JsonNode original = json.readTree(sent.body());
        if (!kind.equals(sent.kind()) || !same(stored.path("metrics"), original.path("metrics")) || !same(stored.path("data"), original.path("data"))
                || !same(stored.path("event"), original.path("event")) || !same(stored.path("severity"), original.path("severity"))) {
            verdict.fault(Fault.ALTERED, key + ": sent " + sent.kind() + " " + sent.body() + ", stored " + kind + " " + stored);
        }
        long clock = millis(original.path("observed_at"));
        if (clock >= PLAUSIBLE_FROM_MS && clock != observedMs) {
            verdict.fault(Fault.ALTERED, key + ": observed at " + Instant.ofEpochMilli(clock) + ", stored as " + Instant.ofEpochMilli(observedMs));
        }
    }

    private static long millis(JsonNode observedAt) {
        if (observedAt.isNumber()) {
            return observedAt.asLong();
        }
        try {
            return Instant.parse(observedAt.asText()).toEpochMilli();
        } catch (DateTimeException e) {
            return 0;
        }
    }

    /** JSON equality with 21.5 = 21.50 = 2.15e1. */
    private static boolean same(JsonNode a, JsonNode b) {
        return a.equals((x, y) -> x.isNumber() && y.isNumber() && x.doubleValue() == y.doubleValue() ? 0 : x.equals(y) ? 0 : 1, b);
    }

    private static void addToWindows(Stored stored, String deviceId, long observedMs, JsonNode body) {
        for (Map.Entry<String, JsonNode> m : body.path("metrics").properties()) {
            for (long width : stored.widths) {
                WindowKey key = new WindowKey(deviceId, m.getKey(), Math.floorDiv(observedMs, width) * width, width);
                stored.windows.computeIfAbsent(key, k -> new Window()).add(m.getValue().doubleValue(), observedMs);
            }
        }
    }

    /** Also tells the widths: they are configuration. */
    private void readGatewayWindows(Connection gateway, Stored stored) throws SQLException {
        readWindows(gateway, "SELECT device_id, metric, start_ms, width_ms, count, min, max, sum, last, last_observed_ms FROM rollup_window", null,
                stored.gatewayWindows);
        stored.gatewayWindows.keySet().forEach(k -> stored.widths.add(k.widthMs));
        if (cloudDb != null) {
            try (Connection cloud = Databases.readOnly(cloudDb); Statement s = cloud.createStatement();
                    ResultSet r = s.executeQuery("SELECT DISTINCT width_ms FROM rollup_window")) {
                while (r.next()) {
                    stored.widths.add(r.getLong(1));
                }
            }
        }
        if (stored.widths.isEmpty()) {
            stored.widths.add(10_000L);   // no window anywhere: any width shows it
        }
    }

    private static void readWindows(Connection c, String sql, String parameter, Map<WindowKey, Window> into) throws SQLException {
        try (PreparedStatement s = c.prepareStatement(sql)) {
            if (parameter != null) {
                s.setString(1, parameter);
            }
            try (ResultSet r = s.executeQuery()) {
                while (r.next()) {
                    into.computeIfAbsent(new WindowKey(r.getString(1), r.getString(2), r.getLong(3), r.getLong(4)), k -> new Window())
                            .addPart(r.getLong(5), r.getDouble(6), r.getDouble(7), r.getDouble(8), r.getDouble(9), r.getLong(10));
                }
            }
        }
    }

    private void checkRejected(Connection gateway, Evidence evidence, Verdict verdict) throws SQLException {
        Map<ByteBuffer, String> kept = new HashMap<>();
        Set<ByteBuffer> badOnPurpose = new HashSet<>();
        evidence.bad.values().forEach(b -> badOnPurpose.add(b.body()));
        long rows = 0;
        try (Statement s = gateway.createStatement();
                ResultSet r = s.executeQuery("SELECT device_id, reason, field, error, body FROM rejected ORDER BY id")) {
            while (r.next()) {
                rows++;
                ByteBuffer body = ByteBuffer.wrap(r.getBytes(5));
                kept.put(body, r.getString(2));
                if (!evidence.isEmpty() && !badOnPurpose.contains(body)) {
                    verdict.fault(Fault.REFUSED, "rejected as " + r.getString(2) + " at " + r.getString(3) + " (" + r.getString(4)
                            + "), sent as a good message by " + r.getString(1));
                }
            }
        }
        verdict.count("rejected", rows);
        if (!evidence.isEmpty()) {
            verdict.count("bad messages acknowledged", evidence.badAcked.size());
        }
        for (String id : evidence.badAcked) {
            Evidence.Bad bad = evidence.bad.get(id);
            String reason = kept.get(bad.body());
            if (reason == null) {
                verdict.fault(Fault.LOST, id + " (bad on purpose: " + bad.reason() + ") was acknowledged, it is not in rejected");
            } else if (!reason.equals(bad.reason())) {
                verdict.fault(Fault.REFUSED, id + " must be rejected as " + bad.reason() + ", was as " + reason);
            }
        }
    }

    // --- commands ----------------------------------------------------------------------------------------------------

    /** As the gateway has it. */
    private record Ended(String status, String reason, long revision) { }

    private static boolean hasCommands(Connection c) throws SQLException {
        return number(c, "SELECT count(*) FROM sqlite_master WHERE type = 'table' AND name = 'command'") > 0;
    }

    private static Map<String, Ended> checkCommands(Connection gateway, Evidence evidence, Verdict verdict) throws SQLException {
        Map<String, Ended> all = new HashMap<>();
        if (!hasCommands(gateway)) {
            return all;   // a store of before there were commands
        }
        Set<String> watched = evidence.devices();
        try (Statement s = gateway.createStatement(); ResultSet r = s.executeQuery("""
                SELECT command_id, device_id, status, reason, revision, final_at_ms,
                  EXISTS (SELECT 1 FROM command_event e WHERE e.command_seq = c.seq AND e.status = 'DELIVERED') FROM command c ORDER BY seq""")) {
            while (r.next()) {
                String id = r.getString(1);
                String status = r.getString(3);
                all.put(id, new Ended(status, r.getString(4), r.getLong(5)));
                if (r.getString(6) == null) {
                    verdict.fault(Fault.BACKLOG, "command " + id + " is " + status + ", it has not ended");
                }
                if (watched.contains(r.getString(2))) {
                    compare(id, status, r.getString(4), r.getBoolean(7), evidence.commands.getOrDefault(id, new Evidence.Told()), verdict);
                }
            }
        }
        long executed = 0;
        for (Map.Entry<String, Evidence.Told> e : evidence.commands.entrySet()) {
            executed += e.getValue().ran;
            if (e.getValue().ran > 1) {
                verdict.fault(Fault.DOUBLED, "command " + e.getKey() + " was carried out " + e.getValue().ran + " times by " + e.getValue().device);
            }
            if (e.getValue().got > 0 && !all.containsKey(e.getKey())) {
                verdict.fault(Fault.INVENTED, "command " + e.getKey() + " came to " + e.getValue().device + ", the gateway does not know it");
            }
        }
        verdict.count("commands", all.size());
        verdict.count("commands carried out", executed);
        return all;
    }

    private static void compare(String id, String status, String reason, boolean delivered, Evidence.Told told, Verdict verdict) {
        String said = "command " + id + " is " + status + (reason == null ? "" : " " + reason);
        if (told.got > 0 && Set.of("REJECTED", "EXPIRED", "CANCELLED", "ACCEPTED").contains(status)) {
            verdict.fault(Fault.COMMAND, said + ", but its device got it" + (told.ran > 0 ? " and carried it out" : ""));
        }
        if (delivered && told.got == 0) {
            verdict.fault(Fault.COMMAND, said + " and was called DELIVERED, its device never got it");
        }
        String answer = status.equals("SUCCEEDED") ? "succeeded" : "device_failed".equals(reason) ? "failed" : "device_rejected".equals(reason) ? "rejected" : null;
        if (answer != null && !told.answers.contains(answer)) {
            verdict.fault(Fault.COMMAND, said + ", its device never answered " + answer + " but " + told.answers);
        }
    }

    private static void compareCommands(Connection cloud, String id, Map<String, Ended> gateway, Verdict verdict) throws SQLException {
        if (!hasCommands(cloud)) {
            return;
        }
        Map<String, Ended> missing = new HashMap<>(gateway);
        try (PreparedStatement s = cloud.prepareStatement("SELECT command_id, status, reason, gateway_revision, final_at_ms FROM command WHERE gateway_id = ?")) {
            s.setString(1, id);
            try (ResultSet r = s.executeQuery()) {
                while (r.next()) {
                    Ended there = missing.remove(r.getString(1));
                    String cloudSays = "command " + r.getString(1) + " is " + r.getString(2) + (r.getString(3) == null ? "" : " " + r.getString(3)) + " in the cloud";
                    if (there == null) {
                        if (r.getString(5) == null) {
                            verdict.fault(Fault.BACKLOG, cloudSays + ", the gateway does not have it");
                        }
                    } else if (there.revision != r.getLong(4)) {
                        verdict.fault(Fault.BACKLOG, cloudSays + " (revision " + r.getLong(4) + "), " + there + " at the gateway");
                    } else if (!there.status.equals(r.getString(2)) || !java.util.Objects.equals(there.reason, r.getString(3))) {
                        verdict.fault(Fault.COMMAND, cloudSays + ", " + there + " at the gateway");
                    }
                }
            }
        }
        missing.forEach((command, at) -> verdict.fault(Fault.BACKLOG, "command " + command + " is not in the cloud, at the gateway it is " + at));
    }

    // --- the books ---------------------------------------------------------------------------------------------------

    private static final String GATEWAY_BACKLOG = "SELECT sink, backlog, dead FROM ledger";
    private static final String CLOUD_BACKLOG = """
            SELECT s.name, (SELECT count(*) FROM inbox i JOIN sink_range r ON r.sink = s.name AND i.seq > r.acked_seq
              AND i.seq <= coalesce(r.last_seq, i.seq)), s.dead FROM sink s""";
    private static final String NOT_EMITTED = "SELECT count(*) FROM rollup_window WHERE dirty = 1";

    private void checkLedger(Connection gateway, Verdict verdict) throws SQLException {
        try (Statement s = gateway.createStatement();
                ResultSet r = s.executeQuery("SELECT sink, appended, acked, dead, discarded, backlog FROM ledger ORDER BY sink")) {
            while (r.next()) {
                if (r.getLong(2) != r.getLong(3) + r.getLong(4) + r.getLong(5) + r.getLong(6) || r.getLong(3) < 0 || r.getLong(6) < 0) {
                    verdict.fault(Fault.LEDGER, "sink " + r.getString(1) + ": appended " + r.getLong(2) + " must be acked " + r.getLong(3)
                            + " + dead " + r.getLong(4) + " + discarded " + r.getLong(5) + " + backlog " + r.getLong(6));
                }
            }
        }
        if (cloudDb != null) {
            checkSinks(gateway, "gateway", GATEWAY_BACKLOG, verdict);
            long dirty = number(gateway, NOT_EMITTED);
            if (dirty > 0) {
                verdict.fault(Fault.BACKLOG, "gateway: " + dirty + " windows changed and not emitted");
            }
        }
    }

    private static void checkSinks(Connection c, String where, String sql, Verdict verdict) throws SQLException {
        try (Statement s = c.createStatement(); ResultSet r = s.executeQuery(sql)) {
            while (r.next()) {
                if (r.getLong(2) != 0) {
                    verdict.fault(Fault.BACKLOG, where + " sink " + r.getString(1) + ": " + r.getLong(2) + " rows not delivered");
                }
                if (r.getLong(3) != 0) {
                    verdict.fault(Fault.LEDGER, where + " sink " + r.getString(1) + ": " + r.getLong(3) + " dead letters");
                }
            }
        }
    }

    private boolean drained() throws SQLException {
        if (cloudDb == null) {
            return true;
        }
        Verdict books = new Verdict();
        try (Connection gateway = Databases.readOnly(gatewayDb); Connection cloud = Databases.readOnly(cloudDb)) {
            checkSinks(gateway, "gateway", GATEWAY_BACKLOG, books);
            checkSinks(cloud, "cloud", CLOUD_BACKLOG, books);
            return books.faults(Fault.BACKLOG) == 0 && number(gateway, NOT_EMITTED) == 0;
        }
    }

    private static long number(Connection c, String sql) throws SQLException {
        try (Statement s = c.createStatement(); ResultSet r = s.executeQuery(sql)) {
            return r.getLong(1);
        }
    }

    // --- the cloud ---------------------------------------------------------------------------------------------------

    private String gatewayId(Connection cloud) throws SQLException {
        if (gatewayId != null) {
            return gatewayId;
        }
        List<String> ids = new ArrayList<>();
        try (Statement s = cloud.createStatement(); ResultSet r = s.executeQuery("SELECT gateway_id FROM gateway ORDER BY gateway_id")) {
            while (r.next()) {
                ids.add(r.getString(1));
            }
        }
        if (ids.size() > 1) {
            throw new IllegalArgumentException("the cloud knows " + ids + ": name one with --gateway-id");
        }
        return ids.isEmpty() ? "" : ids.get(0);
    }

    private void checkWindows(Connection cloud, String id, Stored stored, Verdict verdict) throws SQLException {
        Map<WindowKey, Window> there = new HashMap<>();
        readWindows(cloud, "SELECT device_id, metric, start_ms, width_ms, count, min, max, sum, last, last_observed_ms FROM rollup_window"
                + " WHERE gateway_id = ? ORDER BY part", id, there);
        verdict.count("windows in the cloud", there.size());
        verdict.count("windows expected", stored.windows.size());
        stored.windows.forEach((key, expected) -> {
            Window got = there.remove(key);
            if (got == null) {
                verdict.fault(Fault.WINDOW, key + ": expected " + expected + ", the cloud has none; " + gatewayHas(stored, key));
            } else if (got.count != expected.count || got.min != expected.min || got.max != expected.max
                    || Math.abs(got.total() - expected.total()) > 1e-9 * Math.max(expected.magnitude, Double.MIN_NORMAL)
                    || got.lastObservedMs != expected.lastObservedMs || got.last != expected.last) {
                verdict.fault(Fault.WINDOW, key + ": expected " + expected + ", the cloud has " + got + "; " + gatewayHas(stored, key));
            }
        });
        there.forEach((key, got) -> verdict.fault(Fault.INVENTED, "window " + key + ": the cloud has " + got + ", no stored message is in it; "
                + gatewayHas(stored, key)));
    }

    /** Tells on which side of the uplink a window went wrong. */
    private static String gatewayHas(Stored stored, WindowKey key) {
        Window w = stored.gatewayWindows.get(key);
        return w == null ? "the gateway has none" : "the gateway has " + w;
    }

    private void checkMessages(Connection cloud, String id, Stored stored, Verdict verdict) throws SQLException, IOException {
        Set<String> there = new HashSet<>();
        try (PreparedStatement s = cloud.prepareStatement("SELECT message_key, kind, body FROM message WHERE gateway_id = ? ORDER BY id")) {
            s.setString(1, id);
            try (ResultSet r = s.executeQuery()) {
                while (r.next()) {
                    String key = r.getString(1);
                    JsonNode original = stored.passed.get(key);
                    if (original == null) {
                        verdict.fault(Fault.INVENTED, "message " + key + " (" + r.getString(2) + ") is in the cloud: not in the log, or of a kind that must not leave");
                    } else if (!there.add(key)) {
                        verdict.fault(Fault.DOUBLED, "message " + key + " is in the cloud more than once");
                    } else if (!same(json.readTree(r.getString(3)), original)) {
                        verdict.fault(Fault.ALTERED, "message " + key + ": in the log " + original + ", in the cloud " + r.getString(3));
                    }
                }
            }
        }
        verdict.count("messages in the cloud", there.size());
        for (String key : stored.passed.keySet()) {
            if (!there.contains(key)) {
                verdict.fault(Fault.LOST, "message " + key + " is in the log, it is not in the cloud");
            }
        }
    }
}
