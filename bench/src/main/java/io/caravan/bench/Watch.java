// SPDX-License-Identifier: Apache-2.0
package io.caravan.bench;

import java.io.IOException;
import java.io.RandomAccessFile;
import java.io.Writer;
import java.nio.file.Files;
import java.nio.file.Path;
import java.sql.Connection;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.time.Duration;
import java.util.HashMap;
import java.util.Map;
import java.util.TreeMap;
import java.util.concurrent.Callable;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.locks.LockSupport;

import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ObjectNode;
import org.HdrHistogram.Histogram;
import org.HdrHistogram.Recorder;
import picocli.CommandLine.Command;
import picocli.CommandLine.Option;

/**
 * Looks at a gateway from outside while it works: how far each sink is, in its store; CPU, memory and disk of its process,
 * in /proc; commits, in the header of SQLite's -shm file, which counts them. A row's delivery latency runs from when the
 * gateway received it to when a look finds the sink's position behind it: delivered, acknowledged and written down.
 */
@Command(name = "watch", mixinStandardHelpOptions = true, sortOptions = false,
        description = "Samples a gateway's sinks and process until a sink has reached a row, or SIGTERM; one JSON object with the differences.")
final class Watch implements Callable<Integer> {
    /** Rows whose time of arrival is remembered: what a sink acks later than so many rows after is not measured. */
    private static final int REMEMBERED = 1 << 20;
    /** WalIndexHdr.iChange, see walFormat of SQLite: incremented with each commit. */
    private static final int COMMITS_OFFSET = 8;

    @Option(names = "--db", required = true, description = "the gateway's store")
    Path db;

    @Option(names = "--pid", required = true, description = "the gateway's process")
    long pid;

    @Option(names = "--until", paramLabel = "SINK:SEQ", description = "end when this sink has acked up to this row")
    String until;

    @Option(names = "--limit", defaultValue = "10m", description = "give up after (${DEFAULT-VALUE})")
    Duration limit;

    @Option(names = "--interval", defaultValue = "10ms", description = "look so often (${DEFAULT-VALUE})")
    Duration interval;

    @Option(names = "--samples", paramLabel = "FILE", description = "append a JSON line each second")
    Path samples;

    @Option(names = "--latency-log", paramLabel = "FILE", description = "delivery latencies of each sink and second, for quantiles")
    Path latencyLog;

    private final Map<String, Long> acked = new TreeMap<>();
    private final Map<String, Long> claimed = new HashMap<>();
    private final Map<String, Recorder> latencies = new HashMap<>();
    private final long[] receivedMs = new long[REMEMBERED];
    private volatile boolean stopping;
    private long newest = -1;
    private long appended;
    private long lastIdleMs;

    /** All that is known at one moment. */
    private record Sample(long ms, long appended, Map<String, Long> acked, long commits, ProcessUse use) { }

    @Override
    public Integer call() throws Exception {
        CountDownLatch finished = new CountDownLatch(1);
        Stop.onSignal(() -> stopping = true, finished, Duration.ofSeconds(5));
        try (Connection c = Databases.readOnly(db); LatencyLog log = latencyLog == null ? null : new LatencyLog(latencyLog);
                Writer out = samples == null ? Writer.nullWriter() : Files.newBufferedWriter(samples)) {
            return run(c, log, out);
        } finally {
            finished.countDown();
        }
    }

    private int run(Connection c, LatencyLog log, Writer out) throws Exception {
        String sink = until == null ? null : until.substring(0, until.indexOf(':'));
        long target = until == null ? Long.MAX_VALUE : Long.parseLong(until.substring(sink.length() + 1));
        long end = System.nanoTime() + limit.toNanos();
        long nextSample = System.nanoTime();
        Sample first = null;
        long rssMax = 0;
        boolean reached = false;
        try (PreparedStatement positions = c.prepareStatement("SELECT r.sink, min(r.acked_seq), q.seq, max(r.inflight_seq) FROM sink_range r"
                + " JOIN sink s ON s.name = r.sink AND s.log = 'wal' JOIN sqlite_sequence q ON q.name = 'wal' GROUP BY r.sink");
                PreparedStatement rows = c.prepareStatement("SELECT seq, received_at_ms FROM wal WHERE seq > ? ORDER BY seq")) {
            while (!stopping && System.nanoTime() < end) {
                long looked = System.nanoTime();
                look(positions, rows, log);
                reached = sink != null && acked.getOrDefault(sink, -1L) >= target;
                boolean present = sink == null || acked.containsKey(sink);
                if (first == null && present) {
                    first = sample();
                }
                if (first != null && sink != null && claimed.get(sink) <= first.acked.getOrDefault(sink, 0L)) {
                    lastIdleMs = System.currentTimeMillis();
                }
                if (looked >= nextSample) {
                    nextSample += TimeUnit.SECONDS.toNanos(1);
                    Sample now = sample();
                    rssMax = Math.max(rssMax, now.use.rssKb());
                    out.write(json(now) + "\n");
                    out.flush();
                    writeLatencies(log);
                }
                if (reached) {
                    break;
                }
                LockSupport.parkNanos(interval.toNanos() - (System.nanoTime() - looked));
            }
        }
        writeLatencies(log);
        Sample last = sample();
        print(first == null ? last : first, last, Math.max(rssMax, last.use.rssKb()), reached || sink == null);
        return reached || sink == null ? 0 : 1;
    }

    private void look(PreparedStatement positions, PreparedStatement rows, LatencyLog log) throws SQLException {
        Map<String, Long> before = log == null ? Map.of() : new HashMap<>(acked);
        try (ResultSet r = positions.executeQuery()) {
            while (r.next()) {
                acked.put(r.getString(1), r.getLong(2));
                appended = r.getLong(3);
                claimed.put(r.getString(1), r.getLong(4));
            }
        }
        if (log == null) {
            return;
        }
        long now = System.currentTimeMillis();
        if (newest < 0) {
            newest = appended;
        }
        long oldest = newest;
        rows.setLong(1, newest);
        try (ResultSet r = rows.executeQuery()) {
            while (r.next()) {
                newest = r.getLong(1);
                receivedMs[(int) (newest % REMEMBERED)] = r.getLong(2);
            }
        }
        acked.forEach((sink, to) -> {
            Long from = before.get(sink);
            Recorder recorder = latencies.computeIfAbsent(sink, s -> new Recorder(TimeUnit.MINUTES.toNanos(10), 3));
            for (long seq = from == null ? to + 1 : Math.max(from + 1, newest - REMEMBERED + 1); seq <= to; seq++) {
                long received = receivedMs[(int) (seq % REMEMBERED)];
                if (received > 0) {
                    recorder.recordValue(TimeUnit.MILLISECONDS.toNanos(Math.max(0, Math.min(now - received, 600_000))));
                }
            }
        });
    }

    private void writeLatencies(LatencyLog log) {
        if (log != null) {
            latencies.forEach((sink, recorder) -> {
                Histogram h = recorder.getIntervalHistogram();
                log.write(sink, h);
            });
        }
    }

    private Sample sample() throws IOException {
        long commits = 0;
        try (RandomAccessFile shm = new RandomAccessFile(db + "-shm", "r")) {
            shm.seek(COMMITS_OFFSET);
            commits = Integer.toUnsignedLong(Integer.reverseBytes(shm.readInt()));
        }
        return new Sample(System.currentTimeMillis(), appended, new TreeMap<>(acked), commits, ProcessUse.of(pid));
    }

    private static ObjectNode json(Sample s) {
        ObjectNode json = new ObjectMapper().createObjectNode().put("ms", s.ms).put("appended", s.appended).put("commits", s.commits)
                .put("rss_mb", s.use.rssKb() / 1024).put("cpu_ms", s.use.cpuMs()).put("written", s.use.writtenBytes())
                .put("cancelled", s.use.cancelledBytes());
        s.acked.forEach(json.putObject("acked")::put);
        return json;
    }

    private void print(Sample first, Sample last, long rssMaxKb, boolean complete) {
        double seconds = (last.ms - first.ms) / 1e3;
        ObjectNode out = new ObjectMapper().createObjectNode().put("complete", complete).put("from_ms", first.ms).put("to_ms", last.ms)
                .put("seconds", seconds).put("appended", last.appended - first.appended).put("commits", last.commits - first.commits)
                .put("written_bytes", last.use.writtenBytes() - first.use.writtenBytes())
                .put("cancelled_bytes", last.use.cancelledBytes() - first.use.cancelledBytes())
                .put("cpu_seconds", (last.use.cpuMs() - first.use.cpuMs()) / 1e3)
                .put("rss_first_mb", first.use.rssKb() / 1024).put("rss_last_mb", last.use.rssKb() / 1024).put("rss_max_mb", rssMaxKb / 1024);
        if (lastIdleMs > 0) {
            // From the last look before a batch was under way.
            out.put("delivering_seconds", (last.ms - lastIdleMs) / 1e3);
        }
        ObjectNode sinks = out.putObject("sinks");
        last.acked.forEach((sink, to) -> {
            long rows = to - first.acked.getOrDefault(sink, to);
            sinks.putObject(sink).put("rows", rows).put("rate", seconds > 0 ? Math.round(rows / seconds) : 0);
        });
        System.out.println(out);
    }
}
