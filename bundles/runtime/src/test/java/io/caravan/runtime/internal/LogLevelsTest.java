// SPDX-License-Identifier: Apache-2.0
package io.caravan.runtime.internal;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.caravan.runtime.ControlException;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Map;
import java.util.TreeMap;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicLong;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

class LogLevelsTest {

    @TempDir
    Path temp;
    private final AtomicLong nanos = new AtomicLong(Long.MAX_VALUE - 5);
    private final Map<String, String> inForce = new TreeMap<>();
    private boolean broken;
    private AuditLog audit;
    private LogLevels levels;

    @BeforeEach
    void open() {
        audit = new AuditLog(temp.resolve("audit.log"), 1_000_000);
        levels = new LogLevels(audit, now -> {
            if (broken) {
                throw new IOException("the log is away");
            }
            inForce.clear();
            inForce.putAll(now);
        }, nanos::get);
    }

    @AfterEach
    void close() {
        audit.close();
    }

    @Test
    void goesBackAfterItsTimeAndOnlyThen() throws IOException {
        levels.set("io.caravan.wal", "DEBUG", 1_000L, "ann");
        levels.set("io.caravan", "WARN", null, "ann");
        assertEquals(Map.of("io.caravan", "WARN", "io.caravan.audit", "INFO", "io.caravan.wal", "DEBUG"), inForce, "the audit log is not silenced with its parent");
        nanos.addAndGet(TimeUnit.MILLISECONDS.toNanos(999));
        levels.retry();
        assertEquals(3, inForce.size());
        nanos.addAndGet(TimeUnit.MILLISECONDS.toNanos(1));
        broken = true;
        levels.retry();
        assertEquals(3, inForce.size());
        broken = false;
        levels.retry();
        assertEquals(Map.of("io.caravan", "WARN", "io.caravan.audit", "INFO"), inForce, "tried again");
        levels.set("io.caravan", "DEFAULT", null, "ann");
        assertEquals(Map.of(), inForce);
        String log = Files.readString(temp.resolve("audit.log"));
        assertTrue(log.contains("\"outcome\":\"ended\""), log);
    }

    @Test
    void whatCannotBeSetIsNotRemembered() {
        broken = true;
        assertThrows(ControlException.class, () -> levels.set("io.caravan", "DEBUG", 1_000L, "ann"));
        broken = false;
        levels.set("io.caravan.wal", "DEBUG", null, "ann");
        assertEquals(Map.of("io.caravan.wal", "DEBUG"), inForce);
    }

    @ParameterizedTest
    @CsvSource({"org.apache.http.wire,TRACE", "io.caravanx,DEBUG", "io.caravan.audit,WARN", "io.caravan.a b,DEBUG", "ROOT,DEBUG", "io.caravan,OFF", "io.caravan,ERROR", "io.caravan,debug"})
    void refusesLoggersOfOthersTheAuditLogAndSilence(String logger, String level) {
        ControlException e = assertThrows(ControlException.class, () -> levels.set(logger, level, null, "ann"));
        assertTrue(e.getMessage().contains("["), e.getMessage());
        assertEquals(Map.of(), inForce);
    }
}
