// SPDX-License-Identifier: Apache-2.0
package io.caravan.runtime.internal;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.lang.management.ManagementFactory;
import java.util.Arrays;
import javax.management.ObjectName;
import org.junit.jupiter.api.Test;

class NativeMemoryTest {

    @Test
    void isTrimmedWhereTheJvmCan() throws Exception {
        boolean can = Arrays.stream(ManagementFactory.getPlatformMBeanServer().getMBeanInfo(new ObjectName("com.sun.management:type=DiagnosticCommand")).getOperations())
                .anyMatch(o -> o.getName().equals("systemTrimNativeHeap"));
        String said = NativeMemory.trim();
        assertEquals(can, said != null);
        assertTrue(!can || said.startsWith("Trim native heap") || said.startsWith("Not available"), said);
    }
}
