// SPDX-License-Identifier: Apache-2.0
package io.caravan.wal.internal;

import java.util.ArrayList;
import java.util.HashMap;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.atomic.LongAdder;

/**
 * Receipts that are due: the latest contiguous number per device and boot, and the devices that asked. Bounded by the
 * number of devices that were active since the last sending. Thread-safe; nothing here waits.
 */
final class Receipts {
    /** Above this a receipt is dropped and counted: the device gets it with its next message, duplicate or subscription. */
    private static final int MAX_DUE = 50_000;

    private final Map<Progress.Key, Long> due = new HashMap<>();
    private final Set<String> asked = new LinkedHashSet<>();
    private volatile ReceiptsConsumer consumer;
    private long dropped;
    final LongAdder sent = new LongAdder();
    final LongAdder failed = new LongAdder();

    /** After a commit, for all boots it touched. Costs nothing while no route sends receipts. */
    void committed(List<Progress> boots) {
        ReceiptsConsumer sender = consumer;
        if (sender == null || boots.isEmpty()) {
            return;
        }
        boolean news = false;
        synchronized (this) {
            for (int i = 0; i < boots.size(); i++) {
                Progress boot = boots.get(i);
                if (boot.contiguous > 0 && (boot.contiguous > boot.told || boot.asked)) {
                    Progress.Key key = new Progress.Key(boot.deviceId, boot.bootId);
                    if (due.size() < MAX_DUE || due.containsKey(key)) {
                        due.put(key, boot.contiguous);
                        news = true;
                    } else {
                        dropped++;
                    }
                }
            }
        }
        if (news) {
            sender.wake();
        }
    }

    /** Kept while no route sends receipts yet: a device may be quicker than a route. */
    void asked(String deviceId) {
        synchronized (this) {
            if (asked.size() < MAX_DUE) {
                asked.add(deviceId);
            } else {
                dropped++;
            }
        }
        ReceiptsConsumer sender = consumer;
        if (sender != null) {
            sender.wake();
        }
    }

    synchronized Map<Progress.Key, Long> takeDue() {
        Map<Progress.Key, Long> taken = new HashMap<>(due);
        due.clear();
        return taken;
    }

    synchronized List<String> takeAsked() {
        List<String> taken = new ArrayList<>(asked);
        asked.clear();
        return taken;
    }

    synchronized boolean isEmpty() {
        return due.isEmpty() && asked.isEmpty();
    }

    synchronized long dropped() {
        return dropped;
    }

    void attach(ReceiptsConsumer sender) {
        consumer = sender;
    }

    void detach(ReceiptsConsumer sender) {
        if (consumer == sender) {
            consumer = null;
            synchronized (this) {
                due.clear();
            }
        }
    }
}
