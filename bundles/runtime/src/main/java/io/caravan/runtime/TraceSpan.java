// SPDX-License-Identifier: Apache-2.0
package io.caravan.runtime;

import org.slf4j.MDC;

/**
 * What one message, or each of some messages, went through: begun when it was made, recorded when it is ended. One that is not ended
 * leaves nothing behind. Methods may be called from any thread, one at a time; none blocks or throws.
 */
public interface TraceSpan {

    /** Takes effect until it is closed, on the thread that made it. */
    interface Scope extends AutoCloseable {
        @Override
        void close();
    }

    /** @return what to hand on to those who continue the trace; of several messages that of the first */
    String traceparent();

    /** Adds a fact; after the end it has no effect. */
    TraceSpan set(String key, String value);

    /** Adds a fact; after the end it has no effect. */
    TraceSpan set(String key, long value);

    /**
     * It did not work; of several failures the first counts.
     *
     * @param type    a reason of the closed vocabulary, or the class of an exception: few different ones
     * @param message for people; may be null
     */
    TraceSpan fail(String type, String message);

    /** The time is now. */
    void end();

    /** Log lines of this thread have its ids. */
    default Scope enter() {
        return mdc(traceparent());
    }

    /**
     * Gives the log lines of this thread {@code trace_id} and {@code span_id} (MDC).
     *
     * @param traceparent of a row; null, or none: nothing changes
     */
    static Scope mdc(String traceparent) {
        if (Traceparent.valid(traceparent) == null) {
            return () -> { };
        }
        String trace = MDC.get("trace_id");
        String span = MDC.get("span_id");
        MDC.put("trace_id", Traceparent.traceId(traceparent));
        MDC.put("span_id", Traceparent.spanId(traceparent));
        return () -> {
            restore("trace_id", trace);
            restore("span_id", span);
        };
    }

    private static void restore(String key, String before) {
        if (before == null) {
            MDC.remove(key);
        } else {
            MDC.put(key, before);
        }
    }
}
