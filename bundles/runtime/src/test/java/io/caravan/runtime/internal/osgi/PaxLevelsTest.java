// SPDX-License-Identifier: Apache-2.0
package io.caravan.runtime.internal.osgi;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNull;

import java.util.Dictionary;
import java.util.Hashtable;
import java.util.Map;
import org.junit.jupiter.api.Test;

class PaxLevelsTest {

    @Test
    void changesTheEntryThatALoggerHasAndAddsOthers() {
        Dictionary<String, Object> configured = new Hashtable<>();
        configured.put("log4j2.rootLogger.level", "INFO");
        configured.put("log4j2.logger.mine.name", "io.caravan.wal");
        configured.put("log4j2.logger.mine.level", "WARN");
        Dictionary<String, Object> changed = PaxLevels.with(configured, Map.of("io.caravan.wal", "TRACE", "io.caravan.shell", "DEBUG"));
        assertEquals("TRACE", changed.get("log4j2.logger.mine.level"));
        assertEquals("io.caravan.shell", changed.get("log4j2.logger.caravanioxcaravanxshell.name"));
        assertEquals("DEBUG", changed.get("log4j2.logger.caravanioxcaravanxshell.level"));
        assertEquals("INFO", changed.get("log4j2.rootLogger.level"));
        assertEquals("WARN", configured.get("log4j2.logger.mine.level"), "what is configured stays");
        assertNull(PaxLevels.with(configured, Map.of()).get("log4j2.logger.caravanioxcaravanxshell.level"));
    }
}
