// SPDX-License-Identifier: Apache-2.0
package io.caravan.wal;

import java.util.concurrent.CompletionStage;
import org.apache.camel.Exchange;

/**
 * The gateway's log; bean {@code wal}. Every stage returned here completes normally only after COMMIT returned with
 * synchronous=FULL: whoever acknowledges then, acknowledges what is on disk. Thread-safe.
 *
 * <p>Calls never block. Appends of all callers are committed in groups by one thread, in the order of the calls; stages
 * complete on that thread, so a continuation must be short and must never wait for another append. A storage error completes nothing: the group is tried again
 * until it succeeds ({@link #state()}). A stage completes with {@link StoreUnavailableException}, and nothing of the
 * message is kept, when the queue is full ({@code wal.queue.max}, {@code wal.queue.max.bytes}), when the log is
 * {@link WalState#REFUSING} and the message came over HTTP (its client can be told to come again), or when the log
 * stops first.
 */
public interface Wal {
    /**
     * Appends variable {@code record} ({@link Record}) and sets variables {@code outcome} and, if rejected,
     * {@code reason} and {@code error}. Headers CaravanSource and CaravanTopic go into the rejection of a record whose
     * key is in the log with another body.
     *
     * @return completes after COMMIT; with IllegalArgumentException if there is no record, IllegalStateException if
     *     called inside a transaction of this thread on {@code writer} (it would wait for itself)
     */
    CompletionStage<AppendResult> append(Exchange exchange);

    /** Keeps variable {@code rejection} ({@link Rejection}) in table {@code rejected}; otherwise as {@link #append}. */
    CompletionStage<Void> reject(Exchange exchange);

    /**
     * {@link #append} without an exchange.
     *
     * @param source mqtt-server, mqtt or http
     * @param topic  topic or path as received
     */
    CompletionStage<AppendResult> submit(Record record, String source, String topic);

    /** A device asks for its receipts (it subscribed): the present ones go out through {@code wal:receipts}. */
    void receiptRequested(String deviceId);

    /** Whether the store takes messages. */
    WalState state();

    /** Why the state is not {@link WalState#DURABLE}, with advice; empty while it is. */
    String reason();

    /** Messages that wait for their commit. */
    int queued();
}
