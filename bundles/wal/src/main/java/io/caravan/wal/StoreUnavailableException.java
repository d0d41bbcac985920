// SPDX-License-Identifier: Apache-2.0
package io.caravan.wal;

/** The store cannot take a message now and kept nothing of it: no acknowledgement may be given, HTTP answers 503. */
public class StoreUnavailableException extends RuntimeException {
    private static final long serialVersionUID = 1L;
    private final int retryAfterSeconds;

    /**
     * @param message           what is unavailable and why
     * @param retryAfterSeconds when a caller may try again, seconds, at least 1
     * @param cause             the storage error, or null
     */
    public StoreUnavailableException(String message, int retryAfterSeconds, Throwable cause) {
        // Thrown per message while the store is full: the stack says nothing that the message does not.
        super(message, cause, false, false);
        this.retryAfterSeconds = Math.max(1, retryAfterSeconds);
    }

    /** Seconds after which a caller may try again; HTTP header Retry-After. */
    public int getRetryAfterSeconds() {
        return retryAfterSeconds;
    }
}
