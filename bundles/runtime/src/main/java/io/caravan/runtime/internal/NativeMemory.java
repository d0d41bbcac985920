// SPDX-License-Identifier: Apache-2.0
package io.caravan.runtime.internal;

import java.lang.management.ManagementFactory;
import javax.management.JMException;
import javax.management.ObjectName;
import javax.management.RuntimeOperationsException;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/**
 * Memory outside the heap. A start frees some tens of MB of it (the JIT's, class files that were read), and glibc keeps them: on a box of
 * 512 MB that is a tenth of what others could have.
 */
final class NativeMemory {

    private static final Logger LOG = LoggerFactory.getLogger(NativeMemory.class);

    private NativeMemory() {
    }

    /**
     * Gives what was freed back to the system, as {@code jcmd PID System.trim_native_heap} does; takes some milliseconds, without a safepoint.
     *
     * @return what the JVM says of it; null: this one cannot (before 17.0.9, not Linux, not HotSpot, not glibc)
     */
    static String trim() {
        try {
            return String.valueOf(ManagementFactory.getPlatformMBeanServer().invoke(new ObjectName("com.sun.management:type=DiagnosticCommand"),
                    "systemTrimNativeHeap", null, null)).strip();
        } catch (JMException | RuntimeOperationsException e) {
            LOG.debug("What was freed outside the heap stays with the process", e);
            return null;
        }
    }
}
