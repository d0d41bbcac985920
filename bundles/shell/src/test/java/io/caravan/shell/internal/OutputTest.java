// SPDX-License-Identifier: Apache-2.0
package io.caravan.shell.internal;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;

import io.caravan.runtime.Check;
import io.caravan.runtime.RouteFile;
import io.caravan.runtime.RouteFile.RouteStatus;
import java.time.Duration;
import java.util.List;
import org.junit.jupiter.api.Test;

class OutputTest {

    private static final RouteFile TWO = new RouteFile("in", "in.camel.yaml", "feature", 7, "starting",
            List.of(new RouteStatus("in", "Stopped", "broker is away"), new RouteStatus("out", "Started", null)), null);
    private static final RouteFile BROKEN = new RouteFile("bad", "bad.camel.xml", "deploy", 9, "broken", List.of(),
            "deploy/bad.camel.xml, line 4: no");

    @Test
    void eachFileAndEachRouteHasARow() {
        List<Object[]> rows = Output.rows(List.of(BROKEN, TWO));
        assertEquals(3, rows.size());
        assertArrayEquals(new Object[] {"bad", 9L, "deploy", "broken", "", "", "deploy/bad.camel.xml, line 4: no"}, rows.get(0));
        assertArrayEquals(new Object[] {"in", 7L, "feature", "starting", "in", "Stopped", "broker is away"}, rows.get(1));
        assertArrayEquals(new Object[] {"", "", "", "", "out", "Started", ""}, rows.get(2));
    }

    @Test
    void jsonHasTheSame() {
        assertEquals("[{\"stem\":\"in\",\"file\":\"in.camel.yaml\",\"bundle\":7,\"origin\":\"feature\",\"state\":\"starting\",\"routes\":"
                + "[{\"id\":\"in\",\"status\":\"Stopped\",\"error\":\"broker is away\"},{\"id\":\"out\",\"status\":\"Started\",\"error\":null}],"
                + "\"error\":null}]", Output.json(List.of(TWO)));
        assertEquals("{\"role\":\"gateway\",\"version\":\"1\",\"uptime_s\":90,\"ready\":false,\"checks\":"
                + "[{\"name\":\"config\",\"status\":\"DOWN\",\"message\":\"x\",\"todo\":\"\",\"since_ms\":null,\"counts\":true}]}",
                Output.json("gateway", "1", Duration.ofSeconds(90), List.of(new Check("config", "DOWN", "x"))));
    }

    @Test
    void uptimeIsShort() {
        assertEquals("6s", Output.uptime(Duration.ofSeconds(6)));
        assertEquals("1h 0m 1s", Output.uptime(Duration.ofSeconds(3601)));
        assertEquals("2d 0h 0m 0s", Output.uptime(Duration.ofDays(2)));
    }
}
