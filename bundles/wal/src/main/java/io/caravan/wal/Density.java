// SPDX-License-Identifier: Apache-2.0
package io.caravan.wal;

import java.util.function.LongSupplier;

/**
 * Whether things come densely: from a rate on, measured over 50 ms. Who commits uses it to let more gather then, and never where a
 * lone one would wait for it. Not thread-safe.
 */
public final class Density {
    private static final long SPAN_NS = 50_000_000;

    private final long perSpan;
    private final LongSupplier nanos;
    private long from;
    private long count;
    private boolean dense;

    /** @param perSecond rate from which on it is dense, 20 and more */
    public Density(int perSecond) {
        this(perSecond, System::nanoTime);
    }

    Density(int perSecond, LongSupplier nanos) {
        perSpan = perSecond / 20;
        this.nanos = nanos;
        from = nanos.getAsLong();
    }

    /** So many have come. */
    public void add(int more) {
        count += more;
        long now = nanos.getAsLong();
        long span = now - from;
        if (span >= SPAN_NS) {
            dense = count * SPAN_NS >= perSpan * span;
            count = 0;
            from = now;
        }
    }

    /** @return whether the last span that was measured was dense, and is not long ago */
    public boolean dense() {
        return dense && nanos.getAsLong() - from < 2 * SPAN_NS;
    }
}
