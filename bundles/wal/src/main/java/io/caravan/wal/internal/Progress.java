// SPDX-License-Identifier: Apache-2.0
package io.caravan.wal.internal;

/**
 * How far the log has one boot of one device: every number up to {@code contiguous} is, or was, in the log; none above
 * {@code highest} is; between the two the index says. {@code signed} is the highest number whose signature was verified: the
 * row of a boot that has one is kept for ever, for it is what tells a replay from a new message. The row of {@code device_progress}, changed in the transaction of
 * the rows it counts, hence as exact after a crash as before. Owned by the committer.
 */
final class Progress {
    final String deviceId;
    final String bootId;
    long contiguous;
    long highest;
    /** 0: none. */
    long signed;
    /** Contiguous as of the last commit. */
    long told;
    boolean touched;
    boolean changed;
    /** A duplicate came: the device does not know how far we are. */
    boolean asked;

    Progress(String deviceId, String bootId, long contiguous, long highest, long signed) {
        this.deviceId = deviceId;
        this.bootId = bootId;
        this.contiguous = contiguous;
        this.highest = highest;
        this.signed = signed;
        this.told = contiguous;
    }

    record Key(String deviceId, String bootId) {}
}
