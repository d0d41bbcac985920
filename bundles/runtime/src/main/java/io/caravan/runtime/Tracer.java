// SPDX-License-Identifier: Apache-2.0
package io.caravan.runtime;

import java.util.Collection;

/** Records spans: what bundle {@code telemetry} puts behind {@link Traces} while tracing is on. Thread-safe; nothing blocks. */
public interface Tracer {

    /** @return whether a trace that begins here and now is to be recorded */
    boolean sample();

    /**
     * Begins a span.
     *
     * @param destination what it goes to or comes from; few different ones
     * @param parent      sampled traceparent; null: a new trace begins
     * @param links       sampled traceparents of what it was made of
     */
    TraceSpan start(Traces.Stage stage, String destination, String parent, Collection<String> links);
}
