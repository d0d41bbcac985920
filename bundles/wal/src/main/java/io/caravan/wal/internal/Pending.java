// SPDX-License-Identifier: Apache-2.0
package io.caravan.wal.internal;

import io.caravan.wal.AppendResult;
import io.caravan.wal.Record;
import io.caravan.wal.Rejection;
import java.util.concurrent.CompletableFuture;
import org.apache.camel.Exchange;

/** One message in the queue. It is its own stage: one object per message. Owned by the committer once queued. */
final class Pending extends CompletableFuture<AppendResult> {
    private static final AppendResult DURABLE = new AppendResult(AppendResult.DURABLE, null);
    private static final AppendResult DUPLICATE = new AppendResult(AppendResult.DUPLICATE, null);
    private static final String REPLAYED = "replayed";
    /** About what a waiting message costs beside its body: exchange, record, strings. */
    private static final int OVERHEAD_BYTES = 600;

    /** Null: only a rejection. */
    final Record record;
    final String source;
    final long queuedAt = System.nanoTime();
    private final Exchange exchange;
    private final String topic;
    /** Where it goes instead of the log; with a record: decided in this transaction, or for good if {@link #poisoned}. */
    private Rejection rejection;
    private boolean poisoned;
    private AppendResult result;

    Pending(Record record, Rejection rejection, Exchange exchange, String source, String topic) {
        this.record = record;
        this.rejection = rejection;
        this.exchange = exchange;
        this.source = source == null ? "mqtt" : source;
        this.topic = topic == null ? "" : topic;
    }

    int bytes() {
        return OVERHEAD_BYTES + (record != null ? record.body().length : rejection.body().length);
    }

    boolean isHttp() {
        return "http".equals(source);
    }

    /** Whether this goes to {@code rejected} without being looked at: it came so, or the log cannot take it. */
    boolean isRejection() {
        return record == null || poisoned;
    }

    Rejection rejection() {
        return rejection;
    }

    void durable() {
        result = DURABLE;
    }

    void duplicate() {
        result = DUPLICATE;
    }

    void conflict() {
        turnDown("key_conflict", "key [" + record.messageKey() + "] is in the log with another body; "
                + "a new message needs a new key, a repeated one the same bytes");
    }

    /** @param highest number of its boot with a verified signature */
    void replayed(long highest) {
        turnDown(REPLAYED, "signed message [" + record.deviceSeq() + "] of boot [" + record.bootId() + "] must be less than "
                + record.replayWindow() + " (device.signature.window) behind the newest one [" + highest + "], or be known still: an old message"
                + " cannot be told from a replayed one");
    }

    /** The log refused this very record: keep it in {@code rejected} from now on. */
    void poison(String error) {
        poisoned = true;
        turnDown("schema_violation", error);
    }

    private void turnDown(String reason, String error) {
        result = new AppendResult(AppendResult.REJECTED, reason);
        rejection = new Rejection(record.receivedAtMs(), record.correlationId(), source, topic, record.deviceId(),
                record.contentType(), reason, null, error, record.body());
    }

    boolean isDurable() {
        return result == DURABLE;
    }

    boolean isReplayed() {
        return result != null && REPLAYED.equals(result.reason());
    }

    boolean isDuplicate() {
        return result == DUPLICATE;
    }

    /** Only after COMMIT returned. */
    void finish() {
        if (record == null) {
            result = new AppendResult(AppendResult.REJECTED, rejection.reason());
        } else if (exchange != null) {
            exchange.setVariable("outcome", result.outcome());
            if (result.reason() != null) {
                exchange.setVariable("reason", result.reason());
                exchange.setVariable("error", rejection.error());
            }
        }
        complete(result);
    }
}
