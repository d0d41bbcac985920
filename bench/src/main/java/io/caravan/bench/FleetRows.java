// SPDX-License-Identifier: Apache-2.0
package io.caravan.bench;

import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.OutputStream;
import java.io.UncheckedIOException;
import java.nio.charset.StandardCharsets;
import java.security.MessageDigest;
import java.security.NoSuchAlgorithmException;
import java.util.Base64;
import java.util.HashMap;
import java.util.HexFormat;
import java.util.Map;
import java.util.zip.Deflater;
import java.util.zip.GZIPOutputStream;

/**
 * What a light gateway would have in its outbox, made from the sequence alone: a backlog of any length takes no memory, and what is sent
 * again is the same. The value of window {@code seq} is {@code seq}, so that the cloud's store tells which are there and whose numbers they have.
 */
final class FleetRows {
    /** Start of the first window, 2026-01-01; not now, so that a later run is told from the one before by its log id alone. */
    static final long EPOCH_MS = 1_767_225_600_000L;
    static final int WIDTH_MS = 1_000;
    private static final int METRICS = 5;

    private final int devices;
    private final Map<String, Integer> series = new HashMap<>();

    /** @param devices of one gateway, each with 5 metrics */
    FleetRows(int devices) {
        this.devices = devices;
        for (int i = 0; i < devices * METRICS; i++) {
            series.put(device(i) + "/" + metric(i), i);
        }
    }

    private String device(long series) {
        return "d-" + series % devices;
    }

    private String metric(long series) {
        return "m" + series / devices;
    }

    /** @return the sequence of the window with this key; -1: there is none */
    long seq(String device, String metric, long startMs) {
        Integer of = series.get(device + "/" + metric);
        return of == null || startMs < EPOCH_MS || (startMs - EPOCH_MS) % WIDTH_MS != 0 ? -1 : (startMs - EPOCH_MS) / WIDTH_MS * series.size() + of;
    }

    static String token(String secret, String gateway) {
        return "cvn_" + Base64.getUrlEncoder().withoutPadding().encodeToString(sha256(secret + "/" + gateway));
    }

    /** @return the gateway's line in the cloud's file of gateways */
    static String line(String secret, String gateway) {
        return gateway + " = sha256:" + HexFormat.of().formatHex(sha256(token(secret, gateway)));
    }

    private static byte[] sha256(String text) {
        try {
            return MessageDigest.getInstance("SHA-256").digest(text.getBytes(StandardCharsets.UTF_8));
        } catch (NoSuchAlgorithmException e) {
            throw new IllegalStateException(e);
        }
    }

    /** @return the frame of rows {@code after + 1} to {@code last} of a range */
    byte[] batch(String logId, String lane, long firstSeq, long after, long last) {
        StringBuilder text = new StringBuilder(256 + (int) (last - after) * 340)
                .append("{\"type\":\"batch\",\"log_id\":\"").append(logId).append("\",\"lane\":\"").append(lane)
                .append("\",\"first_seq\":").append(firstSeq).append(",\"after\":").append(after).append(",\"last\":").append(last).append(",\"rows\":[");
        for (long seq = after + 1; seq <= last; seq++) {
            row(text, seq).append(seq == last ? "]}" : ",");
        }
        return gzip(text.toString());
    }

    private StringBuilder row(StringBuilder text, long seq) {
        long of = seq % series.size();
        String device = device(of);
        String metric = metric(of);
        long start = EPOCH_MS + seq / series.size() * WIDTH_MS;
        return text.append("{\"seq\":").append(seq).append(",\"kind\":\"window\",\"device_id\":\"").append(device).append("\",\"message_key\":\"")
                .append(device).append("/w/").append(metric).append('/').append(start).append('/').append(WIDTH_MS).append("/0/1\",\"observed_at_ms\":")
                .append(start + WIDTH_MS - 1).append(",\"body\":{\"device_id\":\"").append(device).append("\",\"metric\":\"").append(metric)
                .append("\",\"start_ms\":").append(start).append(",\"width_ms\":").append(WIDTH_MS)
                .append(",\"part\":0,\"revision\":1,\"count\":10,\"min\":").append(seq - 1).append(".5,\"max\":").append(seq).append(".5,\"sum\":").append(seq * 10)
                .append(",\"mean\":").append(seq).append(",\"last\":").append(seq).append(",\"last_observed_ms\":").append(start + WIDTH_MS - 1)
                .append("},\"trace_context\":null}");
    }

    private static byte[] gzip(String text) {
        ByteArrayOutputStream out = new ByteArrayOutputStream(text.length() / 8);
        try (OutputStream gzip = new GZIPOutputStream(out) {
            {
                // The generator shares the cores with what it drives.
                def.setLevel(Deflater.BEST_SPEED);
            }
        }) {
            gzip.write(text.getBytes(StandardCharsets.UTF_8));
        } catch (IOException e) {
            throw new UncheckedIOException(e);
        }
        return out.toByteArray();
    }
}
