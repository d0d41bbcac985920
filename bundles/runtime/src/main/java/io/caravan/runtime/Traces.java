// SPDX-License-Identifier: Apache-2.0
package io.caravan.runtime;

import java.util.Collection;
import java.util.LinkedHashMap;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.atomic.LongAdder;
import org.apache.camel.CamelContext;
import org.apache.camel.Exchange;
import org.apache.camel.support.SynchronizationAdapter;

/**
 * Bean {@code traces}: spans of messages on their way, docs/operations.md section Traces. Always there; while tracing is off,
 * or nothing of a batch is sampled, the methods return null (or nothing), have allocated nothing, and no tracing library is loaded.
 *
 * <p>Not Camel's own tracing: that has a span per exchange, and an exchange here is a signal or a batch of a thousand messages. The
 * context of a message is in its row, column {@code trace_context}. Thread-safe; nothing blocks.
 */
public final class Traces {

    /** Most messages of a batch that get a span each, and most links of a span. */
    public static final int BATCH_MAX = 32;

    private static final String NAME = "traces";
    private static final String SPAN = "caravan.trace.span";

    /** What is done to a message; the word of OpenTelemetry for it; whether somebody else waits for it. */
    public enum Stage {
        /** From the arrival at the gateway to the commit. */
        INGEST("process"),
        /** From handing over to the log to its commit. */
        APPEND("process"),
        /** First attempt to deliver a batch to a sink. */
        PUBLISH("send"),
        /** Further ones. */
        RETRY("send"),
        /** Added up into windows. */
        ROLLUP("process"),
        /** Windows made of messages are put into the outbox. */
        EMIT("create"),
        /** From the gateway's outbox to the cloud's ack. */
        SEND("send"),
        /** From the arrival at the cloud to its commit. */
        RECEIVE("receive"),
        /** Into the tables that the API reads. */
        STORE("process");

        private final String type;

        Stage(String type) {
            this.type = type;
        }

        /** @return {@code messaging.operation.type} */
        public String type() {
            return type;
        }
    }

    private final LongAdder ignored = new LongAdder();
    private volatile Tracer tracer;

    private Traces() {
    }

    /** @return the one of this context; made, and bound, when there is none yet */
    public static Traces of(CamelContext context) {
        synchronized (Traces.class) {
            Traces found = context.getRegistry().lookupByNameAndType(NAME, Traces.class);
            if (found == null) {
                found = new Traces();
                context.getRegistry().bind(NAME, found);
            }
            return found;
        }
    }

    /** @param now records from here on; null: off */
    public void use(Tracer now) {
        tracer = now;
    }

    /** Whether spans are recorded. */
    public boolean on() {
        return tracer != null;
    }

    /** @return how many values were no traceparent, and not stored */
    public long ignored() {
        return ignored.sum();
    }

    /**
     * @param given what a stranger sent as traceparent; null: nothing
     * @return {@link Traceparent#valid}; what is none is counted
     */
    public String received(Object given) {
        if (given == null) {
            return null;
        }
        String valid = Traceparent.valid(given.toString());
        if (valid == null) {
            ignored.increment();
        }
        return valid;
    }

    /**
     * Begins the span of one message.
     *
     * @param destination what it goes to or comes from; few different ones
     * @param parent      valid traceparent; null: a new trace begins, of as many messages as {@code traces.sample.ratio} says
     * @return null: off, or not sampled
     */
    public TraceSpan start(Stage stage, String destination, String parent) {
        Tracer now = tracer;
        if (now == null || (parent == null ? !now.sample() : !Traceparent.sampled(parent))) {
            return null;
        }
        return now.start(stage, destination, parent, List.of());
    }

    /**
     * Begins the span of a message that has been on its way.
     *
     * @param context what is in its row
     * @return null: off, or the message is not sampled
     */
    public TraceSpan child(Stage stage, String destination, String context) {
        return Traceparent.sampled(context) ? start(stage, destination, context) : null;
    }

    /**
     * Begins a span for each of these messages, in its own trace; at most {@value #BATCH_MAX}. Of those with the same context, which are parts
     * of one message, the first has it for all.
     *
     * @param contexts of their rows; null for one that has none
     * @return all of them as one; null: off, or none is sampled
     */
    public TraceSpan each(Stage stage, String destination, Iterable<String> contexts) {
        Tracer now = tracer;
        if (now == null) {
            return null;
        }
        Map<String, TraceSpan> spans = null;
        for (String context : contexts) {
            if (Traceparent.sampled(context)) {
                spans = spans == null ? new LinkedHashMap<>() : spans;
                spans.computeIfAbsent(context, parent -> now.start(stage, destination, parent, List.of()));
                if (spans.size() == BATCH_MAX) {
                    break;
                }
            }
        }
        return spans == null ? null : spans.size() == 1 ? spans.values().iterator().next() : new Spans(List.copyOf(spans.values()));
    }

    /**
     * For routes that stay on one thread: begins {@link #each} and ends it with the exchange, or with {@link #end}; a failure of the exchange
     * is its failure. Until then the thread's log lines have its ids.
     *
     * @param rows what SELECT trace_context gave: a list of maps; or null
     */
    public void begin(Exchange exchange, Stage stage, String destination, Collection<?> rows) {
        Set<String> contexts = contexts(rows);
        TraceSpan span = contexts.isEmpty() ? null : each(stage, destination, contexts);
        if (span != null) {
            attach(exchange, span, span.enter());
        }
    }

    /**
     * For routes: begins a new trace of something that was made of these messages, with links to them, as {@link #begin}. Sets the variable
     * {@code traceparent} to what belongs into the row of what is made; without any sampled message it is removed.
     *
     * @param rows what SELECT trace_context gave: a list of maps; or null
     */
    public void link(Exchange exchange, Stage stage, String destination, Collection<?> rows) {
        Set<String> contexts = contexts(rows);
        Tracer now = tracer;
        exchange.removeVariable("traceparent");
        if (now != null && !contexts.isEmpty()) {
            TraceSpan span = now.start(stage, destination, null, contexts).set("messaging.batch.message_count", contexts.size());
            exchange.setVariable("traceparent", span.traceparent());
            attach(exchange, span, span.enter());
        }
    }

    /** For routes: ends what was begun, if anything was. */
    public void end(Exchange exchange) {
        if (exchange.removeProperty(SPAN) instanceof Attached attached) {
            attached.end(exchange);
        }
    }

    /** Ends the span when the exchange is done, which may be on another thread, unless {@link #end} came before. */
    public void attach(Exchange exchange, TraceSpan span) {
        attach(exchange, span, () -> { });
    }

    private void attach(Exchange exchange, TraceSpan span, TraceSpan.Scope scope) {
        end(exchange);
        Attached attached = new Attached(span, scope);
        exchange.setProperty(SPAN, attached);
        exchange.getExchangeExtension().addOnCompletion(attached);
    }

    private static Set<String> contexts(Collection<?> rows) {
        Set<String> contexts = new LinkedHashSet<>();
        if (rows != null) {
            for (Object row : rows) {
                Object context = row instanceof Map<?, ?> map ? map.get("trace_context") : row;
                if (context != null && Traceparent.sampled(context.toString()) && contexts.size() < BATCH_MAX) {
                    contexts.add(context.toString());
                }
            }
        }
        return contexts;
    }

    private static final class Attached extends SynchronizationAdapter {
        private final TraceSpan span;
        private final TraceSpan.Scope scope;
        private final Thread thread = Thread.currentThread();
        private boolean ended;

        Attached(TraceSpan span, TraceSpan.Scope scope) {
            this.span = span;
            this.scope = scope;
        }

        @Override
        public boolean allowHandover() {
            // A seda: step would take it along, and lose it with a signal that is discarded because the queue is full.
            return false;
        }

        @Override
        public void onDone(Exchange exchange) {
            end(exchange);
        }

        synchronized void end(Exchange exchange) {
            if (ended) {
                return;
            }
            ended = true;
            Exception failure = exchange.getException() != null ? exchange.getException()
                    : exchange.getProperty(Exchange.EXCEPTION_CAUGHT, Exception.class);
            if (failure != null) {
                span.fail(failure.getClass().getName(), failure.getMessage());
            }
            span.end();
            if (Thread.currentThread() == thread) {
                scope.close();
            }
        }
    }

    /** Those of several messages. */
    private record Spans(List<TraceSpan> all) implements TraceSpan {
        @Override
        public String traceparent() {
            return all.get(0).traceparent();
        }

        @Override
        public TraceSpan set(String key, String value) {
            all.forEach(span -> span.set(key, value));
            return this;
        }

        @Override
        public TraceSpan set(String key, long value) {
            all.forEach(span -> span.set(key, value));
            return this;
        }

        @Override
        public TraceSpan fail(String type, String message) {
            all.forEach(span -> span.fail(type, message));
            return this;
        }

        @Override
        public void end() {
            all.forEach(TraceSpan::end);
        }
    }
}
