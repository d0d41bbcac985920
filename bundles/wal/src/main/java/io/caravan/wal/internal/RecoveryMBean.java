// SPDX-License-Identifier: Apache-2.0
package io.caravan.wal.internal;

import javax.management.openmbean.CompositeData;
import javax.management.openmbean.TabularData;

/**
 * MBean {@code io.caravan:type=Recovery}: {@link io.caravan.wal.Recovery} for JMX clients and hawtio, open types only. Not
 * an MXBean, whose framework would take a CompositeData apart. An empty text or 0 in a filter chooses all. Errors come as
 * IllegalArgumentException or IllegalStateException with advice.
 */
public interface RecoveryMBean {
    /** State, sizes and ends of the log. */
    CompositeData getStatus();

    /** All sinks and how they get on. */
    TabularData getSinks();

    /** Per sink: appended = acked + dead + discarded + backlog. */
    TabularData getLedger();

    /** Dead letters by cause. */
    TabularData getDeadCauses();

    /** Damage to the store. */
    TabularData getIncidents();

    /** What is wrong with the log and its sinks. */
    TabularData getDiagnosis();

    void pauseSink(String sink);

    void resumeSink(String sink);

    /** @param to oldest, now or a sequence */
    CompositeData resetSink(String sink, String to, boolean dryRun);

    CompositeData removeSink(String sink, boolean dryRun);

    TabularData deadLetters(String sink, String reason, String cause, String device, long fromMs, long toMs, int limit);

    CompositeData requeueDead(String sink, String reason, String cause, String device, long fromMs, long toMs, boolean dryRun);

    CompositeData discardDead(String sink, String reason, String cause, String device, long fromMs, long toMs, String note, boolean dryRun);

    CompositeData replay(String sink, long firstSeq, long lastSeq, boolean dryRun);

    /** By the time at which the rows were received. */
    CompositeData replayTime(String sink, long fromMs, long toMs, boolean dryRun);

    /** @param what sequence, message key or correlation id */
    CompositeData peek(String what);

    /** Where a message is, per sink. */
    TabularData peekPlaces(String what);

    TabularData discrepancies(boolean deep);

    TabularData verify(boolean whole);

    String compact();

    int acknowledge(String by);
}
