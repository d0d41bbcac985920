// SPDX-License-Identifier: Apache-2.0
package io.caravan.bench;

import java.util.List;
import java.util.concurrent.ThreadLocalRandom;

import io.vertx.core.AbstractVerticle;
import io.vertx.core.buffer.Buffer;
import io.vertx.core.http.UpgradeRejectedException;
import io.vertx.core.http.WebSocket;
import io.vertx.core.http.WebSocketClient;
import io.vertx.core.http.WebSocketConnectOptions;
import io.vertx.core.json.JsonObject;

/**
 * One gateway as the cloud sees it, by docs/contract.md section 7 alone: two ranges (a backlog, and live rows at a rate), one batch at a
 * time, live rows first, backlog as far as credit goes, everything unacked again on the next connection, pauses that double, with jitter.
 * Everything happens on one event loop; {@link #progress} and what {@link Counts} has may be read from anywhere.
 */
final class LightGateway extends AbstractVerticle {

    /**
     * @param rate     live rows per second; what is due is counted from {@code startedAt}
     * @param flushMs  how long live rows wait for more
     * @param credit   whether it says that it knows credit; else the backlog goes as it can, as of an older gateway
     * @param ackMs    time for an ack, then the connection is made anew
     */
    record Options(String secret, long backlog, double rate, int batchRows, long flushMs, boolean credit, long ackMs, long reconnectMinMs,
            long reconnectMaxMs) { }

    /** Where a gateway connects; the next one after each failure. */
    record Address(String host, int port) { }

    /** Rows that were acked, and all there are so far. */
    record Progress(long backlogAcked, long liveAcked, long produced) { }

    private final String id;
    private final String logId;
    private final Options options;
    private final FleetRows rows;
    private final List<Address> addresses;
    private final WebSocketClient client;
    private final Counts counts;
    private final long startedAt;

    private volatile Progress progress;
    private long backlogAcked;
    private long liveAcked;
    private long produced;
    private long stopAt = Long.MAX_VALUE;
    private boolean live;
    private boolean over;

    private WebSocket socket;
    private int generation;
    private int failures;
    private int tries;
    private boolean welcomed;
    private boolean limited;
    private long credit;
    private boolean flush;
    private boolean toldNone;
    private Sent sent;

    private record Sent(boolean live, long last, long at, long backlogThen, long timer) { }

    /** @param startedAt nanoseconds: since then live rows are due */
    LightGateway(String id, Options options, FleetRows rows, List<Address> addresses, WebSocketClient client, Counts counts, long startedAt) {
        this.id = id;
        this.logId = Long.toHexString(ThreadLocalRandom.current().nextLong()) + "-" + id;
        this.options = options;
        this.rows = rows;
        this.addresses = addresses;
        this.client = client;
        this.counts = counts;
        this.startedAt = startedAt;
        this.progress = new Progress(0, 0, 0);
        this.live = options.rate > 0;
    }

    @Override
    public void start() {
        // Not all in the same millisecond: they are different machines.
        vertx.setPeriodic(1 + ThreadLocalRandom.current().nextLong(options.flushMs), options.flushMs, tick -> tick());
        vertx.setPeriodic(15_000, ping -> {
            if (welcomed) {
                socket.writePing(Buffer.buffer("c"));
            }
        });
        connect();
    }

    @Override
    public void stop() {
        over = true;
        if (socket != null) {
            socket.close();
        }
    }

    String id() {
        return id;
    }

    Progress progress() {
        return progress;
    }

    /** No rows after those that are due now. Any thread. */
    void finish() {
        context.runOnContext(go -> {
            tick();
            stopAt = produced;
            tell();
        });
    }

    /** Loses the connection, and every ack that is on its way. Any thread. */
    void cut() {
        context.runOnContext(go -> lost("cut"));
    }

    private void tick() {
        if (live && produced < stopAt) {
            produced = Math.min(stopAt, (long) ((System.nanoTime() - startedAt) / 1e9 * options.rate));
            tell();
        }
        flush = true;
        pump();
    }

    private void tell() {
        progress = new Progress(backlogAcked, liveAcked, Math.min(produced, stopAt));
    }

    private void connect() {
        if (over) {
            return;
        }
        int mine = ++generation;
        Address to = addresses.get(tries++ % addresses.size());
        WebSocketConnectOptions options = new WebSocketConnectOptions().setHost(to.host).setPort(to.port).setSsl(true).setURI("/uplink/" + id)
                .addHeader("Authorization", "Bearer " + FleetRows.token(this.options.secret, id)).addSubProtocol("caravan.v1").setTimeout(10_000);
        client.connect(options).onComplete(made -> {
            if (mine != generation) {
                if (made.succeeded()) {
                    made.result().close();
                }
                return;
            }
            if (made.failed()) {
                counts.refused(made.cause() instanceof UpgradeRejectedException answer ? "status " + answer.getStatus() : "no connection");
                again();
                return;
            }
            socket = made.result();
            socket.textMessageHandler(text -> {
                if (mine == generation) {
                    frame(new JsonObject(text));
                }
            });
            socket.closeHandler(closed -> {
                if (mine == generation) {
                    lost("closed");
                }
            });
            socket.exceptionHandler(error -> { });
            StringBuilder ranges = new StringBuilder();
            if (this.options.backlog > 0 && backlogAcked < this.options.backlog) {
                ranges.append("{\"first_seq\":1,\"acked_seq\":").append(backlogAcked).append("},");
            }
            long first = this.options.backlog + 1;
            ranges.append("{\"first_seq\":").append(first).append(",\"acked_seq\":").append(first - 1 + liveAcked).append('}');
            socket.writeTextMessage("{\"type\":\"hello\",\"protocol\":\"caravan.v1\",\"gateway_id\":\"" + id + "\",\"log_id\":\"" + logId
                    + "\",\"version\":\"light\",\"time_ms\":" + System.currentTimeMillis() + ",\"features\":["
                    + (this.options.credit ? "\"credit\"" : "") + "],\"ranges\":[" + ranges + "]}");
        });
    }

    private void lost(String why) {
        generation++;
        counts.lost(why);
        if (welcomed) {
            counts.open(-1);
        }
        welcomed = false;
        if (sent != null) {
            vertx.cancelTimer(sent.timer);
        }
        sent = null;
        if (socket != null) {
            socket.close();
        }
        again();
    }

    private void again() {
        if (over) {
            return;
        }
        long most = Math.min(options.reconnectMaxMs, options.reconnectMinMs << Math.min(failures++, 16));
        vertx.setTimer(Math.max(1, most / 2 + ThreadLocalRandom.current().nextLong(most / 2 + 1)), go -> connect());
    }

    private void frame(JsonObject frame) {
        switch (frame.getString("type", "")) {
            case "welcome" -> welcome(frame);
            case "ack" -> ack(frame);
            case "credit" -> {
                credit += frame.getLong("rows");
                counts.credited(frame.getLong("rows"));
                pump();
            }
            case "error" -> counts.refused(frame.getString("reason", "?"));
            default -> { }
        }
    }

    private void welcome(JsonObject welcome) {
        long first = options.backlog + 1;
        for (Object one : welcome.getJsonArray("ranges")) {
            JsonObject range = (JsonObject) one;
            if (range.getLong("first_seq") == first) {
                liveAcked = Math.max(liveAcked, range.getLong("acked_seq") - first + 1);
            } else if (range.getLong("first_seq") == 1) {
                backlogAcked = Math.max(backlogAcked, range.getLong("acked_seq"));
            }
        }
        tell();
        welcomed = true;
        limited = options.credit && welcome.getJsonArray("features").contains("credit");
        credit = 0;
        toldNone = false;
        counts.welcomed((System.nanoTime() - startedAt) / 1_000_000);
        counts.open(1);
        if (limited && backlogAcked < options.backlog) {
            socket.writeTextMessage("{\"type\":\"backlog\",\"rows\":" + (options.backlog - backlogAcked) + "}");
        }
        flush = true;
        pump();
    }

    private void ack(JsonObject ack) {
        if (sent == null || ack.getLong("last") != sent.last) {
            return;
        }
        failures = 0;
        vertx.cancelTimer(sent.timer);
        long now = System.nanoTime();
        if (sent.live) {
            long before = liveAcked;
            liveAcked = sent.last - options.backlog;
            for (long n = before + 1; n <= liveAcked; n++) {
                counts.live(now - startedAt - (long) (n / options.rate * 1e9));
            }
            counts.liveBatch(now - sent.at);
            counts.passed(counts.backlogAcked() - sent.backlogThen);
        } else {
            counts.backlog(sent.last - backlogAcked, now - sent.at);
            backlogAcked = sent.last;
        }
        tell();
        sent = null;
        if (limited && backlogAcked == options.backlog && !toldNone) {
            toldNone = true;
            socket.writeTextMessage("{\"type\":\"backlog\",\"rows\":0}");
        }
        pump();
    }

    private void pump() {
        if (!welcomed || sent != null) {
            return;
        }
        long first = options.backlog + 1;
        long waiting = Math.min(produced, stopAt) - liveAcked;
        if (waiting > 0 && (flush || waiting >= options.batchRows)) {
            long after = first - 1 + liveAcked;
            send(true, "live", first, after, after + Math.min(waiting, options.batchRows));
        } else if (backlogAcked < options.backlog && (!limited || credit > 0)) {
            long most = Math.min(options.batchRows, limited ? credit : Long.MAX_VALUE);
            long last = Math.min(options.backlog, backlogAcked + most);
            credit -= limited ? last - backlogAcked : 0;
            send(false, "historical", 1, backlogAcked, last);
        }
        flush = false;
    }

    private void send(boolean isLive, String lane, long first, long after, long last) {
        int mine = generation;
        long timer = vertx.setTimer(options.ackMs, late -> {
            if (mine == generation) {
                lost("no ack");
            }
        });
        sent = new Sent(isLive, last, System.nanoTime(), counts.backlogAcked(), timer);
        byte[] frame = rows.batch(logId, lane, first, after, last);
        counts.sent(last - after, frame.length);
        socket.writeBinaryMessage(Buffer.buffer(frame));
    }
}
