// SPDX-License-Identifier: Apache-2.0
package io.caravan.runtime;

/**
 * The rest of an answer that goes on, see {@link HttpFeed}. A client that does not read what was written within
 * {@code http.request.timeout.ms} is cut. Thread-safe; no method blocks.
 */
public interface HttpStream {

    /** @return whether all that was written is on the client's socket, and it is still there */
    boolean isReady();

    /** Writes; to be called when {@link #isReady}, else it is kept in memory. Has no effect after the end. */
    void write(byte[] bytes);

    /** @param listener called each time it becomes ready again, on an event loop: must not block */
    void onReady(Runnable listener);

    /** @param listener called once when the connection has ended, whoever ended it; at once if it has already */
    void onClose(Runnable listener);

    /** Ends the answer. */
    void close();
}
