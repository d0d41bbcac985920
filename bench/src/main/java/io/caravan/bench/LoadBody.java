// SPDX-License-Identifier: Apache-2.0
package io.caravan.bench;

import java.io.ByteArrayOutputStream;
import java.nio.charset.StandardCharsets;

/**
 * Telemetry of about 300 bytes (8 metrics) of which only device_seq, observed_at and the temperature change: composing one
 * costs a copy, so that the generator leaves the cores to what it measures. Not thread-safe: one per connection.
 */
final class LoadBody {
    private static final String[] METRICS = {"humidity_pct\":40.27", "pressure_hpa\":1013.21", "acceleration_x_g\":0.012",
        "acceleration_y_g\":-0.034", "acceleration_z_g\":0.998", "distance_mm\":412", "sound_level_db\":38.4",
        "gyroscope_x_dps\":0.35", "gyroscope_y_dps\":-1.05", "gyroscope_z_dps\":0.21", "magnetometer_x_mgauss\":212.5"};

    private final byte[] head;
    private final byte[] time = ",\"observed_at\":".getBytes(StandardCharsets.US_ASCII);
    private final byte[] temperature = ",\"metrics\":{\"temperature_c\":".getBytes(StandardCharsets.US_ASCII);
    private final byte[] tail;
    private final ByteArrayOutputStream out = new ByteArrayOutputStream(512);

    LoadBody(String deviceId, String bootId, int metrics) {
        if (metrics < 1 || metrics > METRICS.length + 1) {
            throw new IllegalArgumentException("--metrics [" + metrics + "] must be 1 to " + (METRICS.length + 1));
        }
        head = ("{\"schema_version\":1,\"device_id\":\"" + deviceId + "\",\"boot_id\":\"" + bootId + "\",\"device_seq\":")
                .getBytes(StandardCharsets.US_ASCII);
        StringBuilder rest = new StringBuilder();
        for (int i = 0; i < metrics - 1; i++) {
            rest.append(",\"").append(METRICS[i]);
        }
        tail = rest.append("}}").toString().getBytes(StandardCharsets.US_ASCII);
    }

    byte[] compose(long deviceSeq, long observedAtMs) {
        out.reset();
        out.writeBytes(head);
        digits(deviceSeq);
        out.writeBytes(time);
        digits(observedAtMs);
        out.writeBytes(temperature);
        // 15.00 to 34.99: changes with each message, so that min, max and sum of a window can be wrong.
        long hundredths = 1500 + (deviceSeq * 37) % 2000;
        digits(hundredths / 100);
        out.write('.');
        out.write((int) ('0' + hundredths / 10 % 10));
        out.write((int) ('0' + hundredths % 10));
        out.writeBytes(tail);
        return out.toByteArray();
    }

    private void digits(long n) {
        if (n >= 10) {
            digits(n / 10);
        }
        out.write((int) ('0' + n % 10));
    }
}
