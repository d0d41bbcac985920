// SPDX-License-Identifier: Apache-2.0
package io.caravan.wal.internal;

import io.caravan.wal.Recovery;
import io.caravan.wal.Recovery.DeadFilter;
import java.lang.management.ManagementFactory;
import java.lang.reflect.RecordComponent;
import java.util.ArrayList;
import java.util.List;
import javax.management.InstanceAlreadyExistsException;
import javax.management.JMException;
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
    private final Recovery recovery;

    private RecoveryJmx(Recovery recovery) {
        this.recovery = recovery;
    }

    /** On the platform's MBean server. @return takes it back */
    static AutoCloseable register(Recovery recovery) throws JMException {
        MBeanServer server = ManagementFactory.getPlatformMBeanServer();
        StandardMBean bean = new StandardMBean(new RecoveryJmx(recovery), RecoveryMBean.class);
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
