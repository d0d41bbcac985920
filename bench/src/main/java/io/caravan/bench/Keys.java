// SPDX-License-Identifier: Apache-2.0
package io.caravan.bench;

/** The idempotency key of a numbered message, as the gateway stores it (docs/contract.md section 3). */
final class Keys {
    static final int DIGITS = 16;

    private Keys() { }

    static String numbered(String deviceId, String bootId, long deviceSeq) {
        return deviceId + "/" + bootId + "/" + padded(deviceSeq);
    }

    /** Sixteen digits, so that text order is numeric order. */
    static String padded(long deviceSeq) {
        String digits = Long.toString(deviceSeq);
        return "0".repeat(DIGITS - digits.length()) + digits;
    }

    /** A random boot id is what tells two runs of one device apart. */
    static String newBootId() {
        return "b" + Long.toString(System.currentTimeMillis(), 36) + Integer.toString((int) (Math.random() * 36 * 36), 36);
    }
}
