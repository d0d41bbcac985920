// SPDX-License-Identifier: Apache-2.0
package io.caravan.wal;

import java.util.Map;

/**
 * Why a batch was not delivered, said by a deliver route or bean that knows better than the general classification of
 * exceptions. Immutable.
 */
public final class SinkException extends Exception {
    private static final long serialVersionUID = 1L;

    /** What to do about it. */
    public enum Kind {
        /** The sink is away, slow, or asks to wait: the same batch again with capped exponential backoff, for ever. */
        TRANSIENT,
        /** The sink is there and refuses us whatever we send: state {@code failed}, probed until it works. */
        CONFIGURATION,
        /** Something in this batch is refused: halved until the record is found, which becomes a dead letter. */
        RECORD
    }

    private final Kind kind;
    private final String reason;
    private final long retryAfterMs;
    private final transient Map<Long, String> refused;

    /**
     * @param reason       of the closed vocabulary, docs/contract.md section 10
     * @param message      what [value] broke which rule, where, what to do
     * @param retryAfterMs least pause before the next attempt, ms; 0: no wish
     */
    public SinkException(Kind kind, String reason, String message, long retryAfterMs, Throwable cause) {
        super(message, cause);
        this.kind = kind;
        this.reason = reason;
        this.retryAfterMs = retryAfterMs;
        this.refused = Map.of();
    }

    /**
     * The sink has all rows of the batch but these, and will never take these: they become dead letters, the batch is
     * acked.
     *
     * @param refused seq to error
     */
    public SinkException(String reason, Map<Long, String> refused) {
        super(refused.size() + " records refused: " + refused.entrySet().iterator().next());
        this.kind = Kind.RECORD;
        this.reason = reason;
        this.retryAfterMs = 0;
        this.refused = Map.copyOf(refused);
    }

    public Kind kind() {
        return kind;
    }

    public String reason() {
        return reason;
    }

    public long retryAfterMs() {
        return retryAfterMs;
    }

    /** @return seq to error of the rows that were refused while all others were delivered; empty: it is not known which */
    public Map<Long, String> refused() {
        return refused;
    }
}
