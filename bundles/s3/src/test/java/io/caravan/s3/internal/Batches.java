// SPDX-License-Identifier: Apache-2.0
package io.caravan.s3.internal;

import io.caravan.wal.Batch;
import io.caravan.wal.Row;
import java.nio.charset.StandardCharsets;
import java.time.Instant;
import java.util.ArrayList;
import java.util.Base64;
import java.util.List;
import java.util.Random;

/** Batches as the log gives them. */
final class Batches {
    private Batches() {
    }

    static Batch of(String gateway, long first, int rows, Instant received) {
        Random random = new Random(first);
        List<Row> list = new ArrayList<>(rows);
        for (int i = 0; i < rows; i++) {
            long seq = first + i;
            String device = "dev" + seq % 50;
            StringBuilder body = new StringBuilder(320).append("{\"schema_version\":1,\"device_id\":\"").append(device)
                    .append("\",\"boot_id\":\"b1\",\"device_seq\":").append(seq / 50 + 1).append(",\"observed_at\":")
                    .append(received.toEpochMilli()).append(",\"metrics\":{");
            for (int m = 0; m < 8; m++) {
                body.append(m == 0 ? "" : ",").append("\"metric_").append(m).append("\":").append(random.nextInt(100_000) / 100.0);
            }
            body.append("},\"pad\":\"").append("x".repeat(Math.max(0, 297 - body.length()))).append("\"}");
            list.add(new Row(seq, gateway, device + "/b1/" + (seq / 50 + 1), String.format("01939b5e-%04x-7000-8000-%012x", random.nextInt(65536), seq),
                    device, "telemetry", "live", "b1", seq / 50 + 1, received.toEpochMilli() - 7, received.toEpochMilli() + i / 100, 1,
                    "application/json", null, body.toString().getBytes(StandardCharsets.UTF_8)));
        }
        return new Batch("s3", first, first + rows - 1, list);
    }

    /** Rows that gzip makes hardly smaller. */
    static Batch noise(String gateway, long first, int rows, int bytes, Instant received) {
        Random random = new Random(first);
        List<Row> list = new ArrayList<>(rows);
        for (long seq = first; seq < first + rows; seq++) {
            byte[] noise = new byte[bytes * 3 / 4];
            random.nextBytes(noise);
            String body = "{\"text\":\"" + Base64.getEncoder().encodeToString(noise) + "\"}";
            list.add(new Row(seq, gateway, "d//k/" + seq, "c" + seq, "d", "event", "live", null, 0, received.toEpochMilli(), received.toEpochMilli(), 1,
                    "application/json", null, body.getBytes(StandardCharsets.UTF_8)));
        }
        return new Batch("s3", first, first + rows - 1, list);
    }
}
