// SPDX-License-Identifier: Apache-2.0
package io.caravan.wal;

/**
 * What became of an appended record. Given out after COMMIT returned only; the same words as variable {@code outcome}.
 *
 * @param outcome {@link #DURABLE}, {@link #DUPLICATE} or {@link #REJECTED}
 * @param reason  why it was rejected (docs/contract.md section 6), else null
 */
public record AppendResult(String outcome, String reason) {
    /** The record is on disk. */
    public static final String DURABLE = "durable";
    /** The same record was on disk already, or is by now. */
    public static final String DUPLICATE = "duplicate";
    /** The record is on disk in table {@code rejected}, not in the log. */
    public static final String REJECTED = "rejected";
}
