// SPDX-License-Identifier: Apache-2.0
package io.caravan.bench;

import java.util.Random;

/**
 * The sensors of a B-L475E-IOT01A1 discovery board: HTS221 (temperature, humidity), LPS22HB (pressure), LSM6DSL
 * (acceleration, gyroscope), LIS3MDL (magnetometer), VL53L0X (distance), MP34DT01 (microphone). Each value walks at random
 * around its mean, in steps of the sensor's resolution. Same seed, same values. Not thread-safe.
 */
final class Board {
    /** Decimals are the sensor's resolution, rounded; pull is how fast a value returns to its mean. */
    private record Sensor(String metric, double mean, double step, double pull, int decimals, double min, double max) { }

    private static final Sensor[] SENSORS = {
        new Sensor("temperature_c", 21.5, 0.05, 0.01, 2, -40, 120),
        new Sensor("humidity_pct", 42, 0.15, 0.01, 1, 0, 100),
        new Sensor("pressure_hpa", 1013.2, 0.03, 0.005, 2, 260, 1260),
        new Sensor("acceleration_x_g", 0, 0.004, 0.2, 3, -16, 16),
        new Sensor("acceleration_y_g", 0, 0.004, 0.2, 3, -16, 16),
        new Sensor("acceleration_z_g", 1, 0.004, 0.2, 3, -16, 16),
        new Sensor("gyroscope_x_dps", 0.2, 0.3, 0.3, 2, -2000, 2000),
        new Sensor("gyroscope_y_dps", -0.9, 0.3, 0.3, 2, -2000, 2000),
        new Sensor("gyroscope_z_dps", 0.1, 0.3, 0.3, 2, -2000, 2000),
        new Sensor("magnetometer_x_mgauss", 210, 1.5, 0.1, 1, -16_000, 16_000),
        new Sensor("magnetometer_y_mgauss", -85, 1.5, 0.1, 1, -16_000, 16_000),
        new Sensor("magnetometer_z_mgauss", 430, 1.5, 0.1, 1, -16_000, 16_000),
        new Sensor("distance_mm", 640, 15, 0.02, 0, 30, 2000),
        new Sensor("sound_level_db", 38, 1.2, 0.1, 1, 25, 120),
    };

    private final Random random;
    private final double[] values = new double[SENSORS.length];

    Board(long seed) {
        random = new Random(seed);
        for (int i = 0; i < values.length; i++) {
            values[i] = SENSORS[i].mean + random.nextGaussian() * SENSORS[i].step * 10;
        }
    }

    /** Measures once: {@code {"temperature_c":21.53,...}}. */
    String metrics() {
        StringBuilder out = new StringBuilder(400).append('{');
        for (int i = 0; i < SENSORS.length; i++) {
            Sensor s = SENSORS[i];
            values[i] += (s.mean - values[i]) * s.pull + random.nextGaussian() * s.step;
            values[i] = Math.max(s.min, Math.min(s.max, values[i]));
            out.append(i == 0 ? "\"" : ",\"").append(s.metric).append("\":");
            double scale = Math.pow(10, s.decimals);
            double rounded = Math.rint(values[i] * scale) / scale + 0.0;   // + 0.0: no "-0.0"
            if (s.decimals == 0) {
                out.append((long) rounded);
            } else {
                out.append(rounded);
            }
        }
        return out.append('}').toString();
    }

    /** Something that happens now and then: {@code {"event":...}} without the outer fields, or null. */
    String event(double probability) {
        if (random.nextDouble() >= probability) {
            return null;
        }
        return switch (random.nextInt(4)) {
            case 0 -> "\"event\":\"door_open\",\"severity\":\"warning\"";
            case 1 -> "\"event\":\"door_closed\",\"severity\":\"info\"";
            case 2 -> "\"event\":\"sound_alarm\",\"severity\":\"alarm\",\"data\":{\"sound_level_db\":" + (85 + random.nextInt(20)) + "}";
            default -> "\"event\":\"button_pressed\",\"severity\":\"info\",\"data\":{\"button\":\"B2\"}";
        };
    }

    boolean chance(double probability) {
        return probability > 0 && random.nextDouble() < probability;
    }

    int pick(int n) {
        return random.nextInt(n);
    }
}
