// SPDX-License-Identifier: Apache-2.0
package io.caravan.bench;

import java.io.IOException;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import java.util.Random;
import java.util.concurrent.Callable;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicLong;
import java.util.concurrent.locks.LockSupport;
import java.util.function.BooleanSupplier;

import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ObjectNode;
import io.vertx.core.Future;
import io.vertx.core.Vertx;
import io.vertx.core.VertxOptions;
import io.vertx.core.http.WebSocketClient;
import io.vertx.core.http.WebSocketClientOptions;
import io.vertx.core.net.PemTrustOptions;
import org.HdrHistogram.Histogram;
import picocli.CommandLine.Command;
import picocli.CommandLine.Option;

/**
 * Hundreds of {@link LightGateway}s in one process against a cloud, and the comparison of what it acked with what its store has.
 */
@Command(name = "fleet", mixinStandardHelpOptions = true, sortOptions = false,
        description = "Many light gateways that speak caravan.v1 to a cloud, each with a backlog and live rows at a rate. All connect at once. Prints one JSON "
                + "object. Exit 0; 1: rows were lost, were never made, are altered, or were not all acked in time.")
final class Fleet implements Callable<Integer> {
    private static final ObjectMapper JSON = new ObjectMapper();

    @Option(names = "--url", defaultValue = "wss://localhost:8443", split = ",", description = "addresses of the cloud, without path; a gateway tries the next one after each failure")
    List<URI> urls;

    @Option(names = "--ca", description = "PEM file with the authority of the cloud's certificate")
    Path ca;

    @Option(names = "--gateways", defaultValue = "200", description = "how many (${DEFAULT-VALUE})")
    int gateways;

    @Option(names = "--prefix", defaultValue = "light-", description = "ids are this and a number (${DEFAULT-VALUE})")
    String prefix;

    @Option(names = "--secret", defaultValue = "fleet", description = "tokens are made from this and the id (${DEFAULT-VALUE})")
    String secret;

    @Option(names = "--write-gateways", paramLabel = "FILE", description = "only write the cloud's file of gateways (uplink.gateways.file)")
    Path file;

    @Option(names = "--backlog", defaultValue = "0", description = "rows each has at the beginning (${DEFAULT-VALUE})")
    long backlog;

    @Option(names = "--rate", defaultValue = "10", description = "windows per second of each (${DEFAULT-VALUE})")
    double rate;

    @Option(names = "--devices", defaultValue = "10", description = "devices of each, with 5 metrics (${DEFAULT-VALUE})")
    int devices;

    @Option(names = "--batch-rows", defaultValue = "500", description = "as uplink.batch.rows of a gateway (${DEFAULT-VALUE})")
    int batchRows;

    @Option(names = "--flush", defaultValue = "200ms", description = "as uplink.flush.ms (${DEFAULT-VALUE})")
    Duration flush;

    @Option(names = "--no-credit", description = "as older gateways, which send a backlog as fast as they can")
    boolean noCredit;

    @Option(names = "--reconnect-min", defaultValue = "1s", description = "as uplink.reconnect.min.ms (${DEFAULT-VALUE})")
    Duration reconnectMin;

    @Option(names = "--reconnect-max", defaultValue = "60s", description = "as uplink.reconnect.max.ms (${DEFAULT-VALUE})")
    Duration reconnectMax;

    @Option(names = "--ack-timeout", defaultValue = "30s", description = "as uplink.ack.timeout.ms (${DEFAULT-VALUE})")
    Duration ackTimeout;

    @Option(names = "--warmup", defaultValue = "0s", description = "latencies count after this (${DEFAULT-VALUE})")
    Duration warmup;

    @Option(names = "--seconds", defaultValue = "10s", description = "measure this long (${DEFAULT-VALUE})")
    Duration seconds;

    @Option(names = "--storm", description = "after the warm-up all lose their connection at once")
    boolean storm;

    @Option(names = "--cuts", defaultValue = "0", description = "connections that are lost while it measures, one by one (${DEFAULT-VALUE})")
    int cuts;

    @Option(names = "--drain", defaultValue = "120s", description = "wait for the last acks, and for the store (${DEFAULT-VALUE})")
    Duration drain;

    @Option(names = "--store", paramLabel = "JDBC", description = "the cloud's store, jdbc:sqlite: or jdbc:postgresql:; compared at the end")
    String store;

    @Option(names = "--metrics", paramLabel = "URL", description = "the cloud's /metrics, read while it goes: the most sessions and granted rows there were")
    URI metrics;

    private final AtomicLong mostCredit = new AtomicLong();
    private final AtomicLong mostSessions = new AtomicLong();

    @Override
    public Integer call() throws Exception {
        if (file != null) {
            write();
            return 0;
        }
        Vertx vertx = Vertx.vertx(new VertxOptions().setEventLoopPoolSize(2));
        Counts counts = new Counts();
        try {
            WebSocketClientOptions client = new WebSocketClientOptions().setMaxConnections(gateways + 10).setMaxMessageSize(1 << 20).setConnectTimeout(10_000);
            if (ca != null) {
                client.setTrustOptions(new PemTrustOptions().addCertPath(ca.toString()));
            }
            WebSocketClient sockets = vertx.createWebSocketClient(client);
            List<LightGateway.Address> addresses = urls.stream().map(u -> new LightGateway.Address(u.getHost(), u.getPort() < 0 ? 443 : u.getPort())).toList();
            LightGateway.Options options = new LightGateway.Options(secret, backlog, rate, batchRows, flush.toMillis(), !noCredit, ackTimeout.toMillis(),
                    reconnectMin.toMillis(), reconnectMax.toMillis());
            long begun = System.nanoTime();
            List<LightGateway> fleet = new ArrayList<>();
            for (int i = 1; i <= gateways; i++) {
                // Each begins elsewhere, so that they do not all speak to the first address.
                List<LightGateway.Address> turned = new ArrayList<>(addresses);
                Collections.rotate(turned, i);
                fleet.add(new LightGateway(prefix + i, options, new FleetRows(devices), turned, sockets, counts, begun));
            }
            Future.all(fleet.stream().map(vertx::deployVerticle).toList()).toCompletionStage().toCompletableFuture().get(2, TimeUnit.MINUTES);
            Thread watch = new Thread(this::watch, "metrics");
            watch.setDaemon(true);
            if (metrics != null) {
                watch.start();
            }
            ObjectNode out = run(fleet, counts, begun);
            watch.interrupt();
            if (metrics != null) {
                out.put("most_credit", mostCredit.get()).put("most_sessions", mostSessions.get());
            }
            boolean good = out.path("unacked").asLong() == 0;
            if (store != null) {
                ObjectNode stored = FleetOracle.compare(store, prefix, new FleetRows(devices),
                        fleet.stream().map(g -> new FleetOracle.Made(g.id(), backlog, g.progress())).toList(), drain);
                out.set("store", stored);
                good &= stored.path("lost").asLong() == 0 && stored.path("extra").asLong() == 0 && stored.path("altered").asLong() == 0;
            }
            System.out.println(JSON.writeValueAsString(out));
            return good ? 0 : 1;
        } finally {
            vertx.close().toCompletionStage().toCompletableFuture().get(30, TimeUnit.SECONDS);
        }
    }

    private void watch() {
        HttpClient client = HttpClient.newHttpClient();
        try {
            while (true) {
                try {
                    client.send(HttpRequest.newBuilder(metrics).timeout(Duration.ofSeconds(10)).build(), HttpResponse.BodyHandlers.ofLines()).body().forEach(line -> {
                        AtomicLong most = line.startsWith("caravan_sessions_credit_rows ") ? mostCredit : line.startsWith("caravan_sessions_open ") ? mostSessions : null;
                        if (most != null) {
                            most.accumulateAndGet((long) Double.parseDouble(line.substring(line.indexOf(' ') + 1)), Math::max);
                        }
                    });
                } catch (IOException e) {
                    // It has more to do than that: the next one.
                }
                Thread.sleep(250);
            }
        } catch (InterruptedException e) {
            // The run is over.
        }
    }

    private void write() throws IOException {
        StringBuilder lines = new StringBuilder();
        for (int i = 1; i <= gateways; i++) {
            lines.append(FleetRows.line(secret, prefix + i)).append('\n');
        }
        Files.writeString(file, lines, StandardCharsets.UTF_8);
    }

    private ObjectNode run(List<LightGateway> fleet, Counts counts, long begun) {
        long end = begun + warmup.toNanos();
        await(end, () -> false);
        counts.resetLatencies();
        if (storm) {
            fleet.forEach(LightGateway::cut);
        }
        long from = System.nanoTime();
        long before = acked(fleet);
        Random random = new Random(1);
        for (int cut = 1; cut <= cuts; cut++) {
            await(from + seconds.toNanos() * cut / (cuts + 1), () -> false);
            fleet.get(random.nextInt(fleet.size())).cut();
        }
        await(from + seconds.toNanos(), () -> false);
        double measured = (System.nanoTime() - from) / 1e9;
        long live = acked(fleet) - before;
        long due = (long) (measured * rate * gateways);
        long behind = fleet.stream().mapToLong(g -> g.progress().produced() - g.progress().liveAcked()).sum();
        fleet.forEach(LightGateway::finish);
        ObjectNode out = JSON.createObjectNode().put("gateways", gateways).put("seconds", measured).put("live_due", due).put("live_acked", live)
                .put("live_rate", Math.round(live / measured)).put("live_behind", behind);
        long deadline = System.nanoTime() + drain.toNanos();
        // finish() runs on their event loops: nothing is produced behind the last tick, so what is behind is looked at until it is nothing.
        await(deadline, () -> fleet.stream().allMatch(g -> g.progress().backlogAcked() == backlog));
        out.put("backlog_rows", backlog * gateways).put("backlog_seconds", Math.round((System.nanoTime() - begun) / 1e8) / 10.0);
        await(deadline, () -> fleet.stream().allMatch(g -> g.progress().liveAcked() == g.progress().produced()));
        out.put("unacked", fleet.stream().mapToLong(g -> backlog + g.progress().produced() - g.progress().backlogAcked() - g.progress().liveAcked()).sum());
        out.put("most_connected", counts.mostOpened()).put("rows_sent", counts.rowsSent()).put("bytes_sent", counts.bytesSent()).put("credited", counts.creditedRows());
        quantiles(out, "live", counts.liveNanos(), 1e6);
        quantiles(out, "live_batch", counts.liveBatchNanos(), 1e6);
        quantiles(out, "backlog_batch", counts.backlogNanos(), 1e6);
        quantiles(out, "welcome", counts.welcomeMs(), 1);
        out.put("passed_p50_rows", counts.passedRows().getValueAtPercentile(50)).put("passed_p99_rows", counts.passedRows().getValueAtPercentile(99))
                .put("passed_max_rows", counts.passedRows().getMaxValue());
        out.set("refused", JSON.valueToTree(counts.refusedBy()));
        out.set("lost_connections", JSON.valueToTree(counts.lostBy()));
        return out;
    }

    private static long acked(List<LightGateway> fleet) {
        return fleet.stream().mapToLong(g -> g.progress().liveAcked()).sum();
    }

    private static void await(long until, BooleanSupplier done) {
        for (long left; (left = until - System.nanoTime()) > 0 && !done.getAsBoolean();) {
            LockSupport.parkNanos(Math.min(left, 20_000_000));
        }
    }

    private static void quantiles(ObjectNode out, String name, Histogram h, double unit) {
        out.put(name + "_p50_ms", Math.round(h.getValueAtPercentile(50) / unit * 10) / 10.0).put(name + "_p99_ms", Math.round(h.getValueAtPercentile(99) / unit * 10) / 10.0)
                .put(name + "_max_ms", Math.round(h.getMaxValue() / unit * 10) / 10.0);
    }
}
