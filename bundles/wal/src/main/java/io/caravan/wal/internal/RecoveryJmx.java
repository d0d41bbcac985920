// SPDX-License-Identifier: Apache-2.0
package io.caravan.wal.internal;

import io.caravan.wal.Recovery;
import io.caravan.wal.Recovery.DeadFilter;
import java.lang.management.ManagementFactory;
import java.lang.reflect.RecordComponent;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import javax.management.InstanceAlreadyExistsException;
import javax.management.JMException;
import javax.management.MBeanOperationInfo;
import javax.management.MBeanParameterInfo;
import javax.management.MBeanServer;
import javax.management.ObjectName;
import javax.management.StandardMBean;
import javax.management.openmbean.CompositeData;
import javax.management.openmbean.CompositeDataSupport;
import javax.management.openmbean.CompositeType;
import javax.management.openmbean.OpenDataException;
import javax.management.openmbean.OpenType;
import javax.management.openmbean.SimpleType;
import javax.management.openmbean.TabularData;
import javax.management.openmbean.TabularDataSupport;
import javax.management.openmbean.TabularType;

/** {@link RecoveryMBean} over the bean. Records become CompositeData with the records' own names. */
final class RecoveryJmx implements RecoveryMBean {
    private static final List<String> FILTER = List.of("sink reason cause device fromMs toMs".split(" "));
    /** What a console shows; the interface's comments are not there at run time. */
    private static final Map<String, String> SAYS = Map.ofEntries(
            Map.entry("pauseSink", "The sink gets nothing until it is resumed; a batch on its way is finished."),
            Map.entry("resumeSink", "The sink goes on now, also where it is failed or waits."),
            Map.entry("resetSink", "Moves the sink's cursor: to oldest, now, or a sequence. dryRun only counts."),
            Map.entry("removeSink", "Forgets a sink whose route is not there, with backlog and dead letters. dryRun only counts."),
            Map.entry("deadLetters", "Dead letters. Empty texts and 0 choose all."),
            Map.entry("requeueDead", "Delivers dead letters again. Empty texts and 0 choose all; dryRun only counts."),
            Map.entry("discardDead", "Gives dead letters up, for good. Empty texts and 0 choose all; dryRun only counts."),
            Map.entry("replay", "Delivers these sequences again to one sink. dryRun only counts."),
            Map.entry("replayTime", "Delivers what was received from fromMs to before toMs again to one sink; milliseconds since 1970. dryRun only counts."),
            Map.entry("peek", "Finds a message by sequence, message key or correlation id."),
            Map.entry("peekPlaces", "Where a message is, per sink."),
            Map.entry("discrepancies", "Sequences that are not counted as they should be. deep looks at every row."),
            Map.entry("verify", "Checks every row's checksums, cursors and ledger; reads all of the log. whole: SQLite's structure too."),
            Map.entry("compact", "Deletes what nobody needs any more, and gives the room back to the file system."),
            Map.entry("acknowledge", "Says that all incidents so far are known; readiness is green again."));
    private static final Map<String, List<String>> NAMES = Map.ofEntries(Map.entry("pauseSink", List.of("sink")), Map.entry("resumeSink", List.of("sink")),
            Map.entry("resetSink", List.of("sink", "to", "dryRun")), Map.entry("removeSink", List.of("sink", "dryRun")), Map.entry("deadLetters", with("limit")),
            Map.entry("requeueDead", with("dryRun")), Map.entry("discardDead", with("note", "dryRun")), Map.entry("replay", List.of("sink", "firstSeq", "lastSeq", "dryRun")),
            Map.entry("replayTime", List.of("sink", "fromMs", "toMs", "dryRun")), Map.entry("peek", List.of("what")), Map.entry("peekPlaces", List.of("what")),
            Map.entry("discrepancies", List.of("deep")), Map.entry("verify", List.of("whole")), Map.entry("acknowledge", List.of("by")));

    private final Recovery recovery;

    private RecoveryJmx(Recovery recovery) {
        this.recovery = recovery;
    }

    /** On the platform's MBean server. @return takes it back */
    static AutoCloseable register(Recovery recovery) throws JMException {
        MBeanServer server = ManagementFactory.getPlatformMBeanServer();
        StandardMBean bean = new StandardMBean(new RecoveryJmx(recovery), RecoveryMBean.class) {
            @Override
            protected String getDescription(MBeanOperationInfo operation) {
                return SAYS.getOrDefault(operation.getName(), operation.getName());
            }

            @Override
            protected String getDescription(MBeanOperationInfo operation, MBeanParameterInfo parameter, int sequence) {
                return getParameterName(operation, parameter, sequence);
            }

            @Override
            protected String getParameterName(MBeanOperationInfo operation, MBeanParameterInfo parameter, int sequence) {
                List<String> names = NAMES.getOrDefault(operation.getName(), List.of());
                return sequence < names.size() ? names.get(sequence) : "p" + (sequence + 1);
            }
        };
        ObjectName name = new ObjectName("io.caravan:type=Recovery");
        // Several stores in one process are a matter of tests.
        for (int i = 2;; i++) {
            try {
                server.registerMBean(bean, name);
                break;
            } catch (InstanceAlreadyExistsException e) {
                name = new ObjectName("io.caravan:type=Recovery,instance=" + i);
            }
        }
        ObjectName registered = name;
        return () -> server.unregisterMBean(registered);
    }

    @Override
    public CompositeData getStatus() {
        return composite(recovery.status());
    }

    @Override
    public TabularData getSinks() {
        return table(Recovery.SinkStatus.class, recovery.sinks(), "name");
    }

    @Override
    public TabularData getLedger() {
        return table(Recovery.LedgerRow.class, recovery.ledger(), "sink");
    }

    @Override
    public TabularData getDeadCauses() {
        return table(Recovery.DeadCause.class, recovery.deadCauses(DeadFilter.ALL), "id");
    }

    @Override
    public TabularData getIncidents() {
        return table(Recovery.Incident.class, recovery.incidents(), "id");
    }

    @Override
    public TabularData getDiagnosis() {
        return table(Recovery.Finding.class, recovery.diagnose(), "subject", "what");
    }

    @Override
    public void pauseSink(String sink) {
        recovery.pause(sink);
    }

    @Override
    public void resumeSink(String sink) {
        recovery.resume(sink);
    }

    @Override
    public CompositeData resetSink(String sink, String to, boolean dryRun) {
        return composite(recovery.reset(sink, to, dryRun));
    }

    @Override
    public CompositeData removeSink(String sink, boolean dryRun) {
        return composite(recovery.remove(sink, dryRun));
    }

    @Override
    public TabularData deadLetters(String sink, String reason, String cause, String device, long fromMs, long toMs, int limit) {
        return table(Recovery.DeadLetter.class, recovery.deadLetters(filter(sink, reason, cause, device, fromMs, toMs), Math.min(limit, 10_000)), "sink", "seq");
    }

    @Override
    public CompositeData requeueDead(String sink, String reason, String cause, String device, long fromMs, long toMs, boolean dryRun) {
        return composite(recovery.requeue(filter(sink, reason, cause, device, fromMs, toMs), dryRun));
    }

    @Override
    public CompositeData discardDead(String sink, String reason, String cause, String device, long fromMs, long toMs, String note, boolean dryRun) {
        return composite(recovery.discard(filter(sink, reason, cause, device, fromMs, toMs), note, dryRun));
    }

    @Override
    public CompositeData replay(String sink, long firstSeq, long lastSeq, boolean dryRun) {
        return composite(recovery.replay(sink, firstSeq, lastSeq, dryRun));
    }

    @Override
    public CompositeData replayTime(String sink, long fromMs, long toMs, boolean dryRun) {
        return composite(recovery.replayTime(sink, fromMs, toMs, dryRun));
    }

    @Override
    public CompositeData peek(String what) {
        return composite(recovery.peek(what, false));
    }

    @Override
    public TabularData peekPlaces(String what) {
        return table(Recovery.Place.class, recovery.peek(what, false).places(), "sink");
    }

    @Override
    public TabularData discrepancies(boolean deep) {
        return table(Recovery.Discrepancy.class, recovery.discrepancies(deep), "sink", "firstSeq", "what");
    }

    @Override
    public TabularData verify(boolean whole) {
        return table(Recovery.Finding.class, recovery.verify(whole).findings(), "subject", "what");
    }

    @Override
    public String compact() {
        return recovery.compact();
    }

    @Override
    public int acknowledge(String by) {
        return recovery.acknowledge(by);
    }

    private static List<String> with(String... more) {
        List<String> names = new ArrayList<>(FILTER);
        names.addAll(List.of(more));
        return List.copyOf(names);
    }

    private static DeadFilter filter(String sink, String reason, String cause, String device, long fromMs, long toMs) {
        return new DeadFilter(orNull(sink), orNull(reason), orNull(cause), orNull(device), fromMs, toMs, 0);
    }

    private static String orNull(String text) {
        return text == null || text.isEmpty() ? null : text;
    }

    // ---- records as open types; a component that is a list has an operation of its own

    private static CompositeType type(Class<?> record) throws OpenDataException {
        List<String> names = new ArrayList<>();
        List<OpenType<?>> types = new ArrayList<>();
        for (RecordComponent component : record.getRecordComponents()) {
            OpenType<?> type = simple(component.getType());
            if (type != null) {
                names.add(component.getName());
                types.add(type);
            }
        }
        String[] all = names.toArray(String[]::new);
        return new CompositeType(record.getSimpleName(), record.getSimpleName(), all, all, types.toArray(OpenType[]::new));
    }

    private static OpenType<?> simple(Class<?> type) {
        return type == String.class ? SimpleType.STRING : type == long.class ? SimpleType.LONG : type == int.class ? SimpleType.INTEGER
                : type == boolean.class ? SimpleType.BOOLEAN : null;
    }

    private static CompositeData composite(Object record) {
        try {
            List<Object> values = new ArrayList<>();
            for (RecordComponent component : record.getClass().getRecordComponents()) {
                if (simple(component.getType()) != null) {
                    values.add(component.getAccessor().invoke(record));
                }
            }
            CompositeType type = type(record.getClass());
            return new CompositeDataSupport(type, names(record.getClass()), values.toArray());
        } catch (OpenDataException | ReflectiveOperationException e) {
            throw new IllegalStateException(e.toString(), e);
        }
    }

    /** In the order of the components; the type's own set is sorted. */
    private static String[] names(Class<?> record) {
        List<String> names = new ArrayList<>();
        for (RecordComponent component : record.getRecordComponents()) {
            if (simple(component.getType()) != null) {
                names.add(component.getName());
            }
        }
        return names.toArray(String[]::new);
    }

    private static TabularData table(Class<?> record, List<?> rows, String... index) {
        try {
            TabularDataSupport table = new TabularDataSupport(new TabularType(record.getSimpleName() + "s", record.getSimpleName(), type(record), index));
            for (Object row : rows) {
                CompositeData data = composite(row);
                if (!table.containsKey(table.calculateIndex(data))) {
                    table.put(data);
                }
            }
            return table;
        } catch (OpenDataException e) {
            throw new IllegalStateException(e.toString(), e);
        }
    }
}
