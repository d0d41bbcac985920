// SPDX-License-Identifier: Apache-2.0
package io.caravan.shell.internal;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNotNull;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.caravan.uplink.Fleet.Member;
import io.caravan.uplink.Fleet.State;
import java.io.ByteArrayOutputStream;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.util.List;
import java.util.Set;
import java.util.TreeSet;
import java.util.stream.Stream;
import org.apache.karaf.shell.api.action.Command;
import org.apache.karaf.shell.api.action.lifecycle.Service;
import org.apache.karaf.shell.support.table.ShellTable;
import org.junit.jupiter.api.Test;

/** What gateway:list and gateway:show print; what they know is FleetTest's. */
class FleetCommandsTest {

    private static final long NOW = 1_790_000_000_000L;
    private static final Member WELL = new Member("gw-1", List.of(), true, NOW - 500, NOW - 60_000, "10.0.0.7", "0.1.0", NOW - 900, 0L, 0L, -12L, 40L, "DURABLE", 1L, 2L, true, null);
    /** All that can be wrong, of a gateway with the longest name. */
    private static final Member WORST = new Member("g".repeat(64), List.of(State.values()), false, 1L, null, null, "1.10.0-SNAPSHOT-20261122", 1L, Long.MAX_VALUE, Long.MAX_VALUE,
            Long.MIN_VALUE + 1, 1L, "REFUSING", 1L, 2L, false, "n".repeat(200));
    private static final Member FRESH = new Member("gw-3", List.of(State.NEW), false, null, null, null, null, null, null, null, null, null, null, null, null, null, null);

    @Test
    void aGatewayIsOneRow() {
        assertArrayEquals(new Object[] {"gw-1", "ok", "now", "0s", "0", "-12ms", "0.1.0"}, FleetCommands.row(WELL, NOW));
        assertArrayEquals(new Object[] {"gw-3", "new", "never", "", "", "", ""}, FleetCommands.row(FRESH, NOW));
        assertEquals(List.of("59s", "59m", "23h", "364d", ">1y"), Stream.of(59_999L, 3_599_999L, 86_399_999L, 31_535_999_999L, 31_536_000_000L).map(FleetCommands::span).toList());
        assertEquals(List.of("999", "1k", "999k", "1M", ">1G"), Stream.of(999L, 1_000L, 999_999L, 1_000_000L, 1_000_000_000L).map(FleetCommands::count).toList());
    }

    @Test
    void theTableIsNotWiderThanAScreen() {
        ByteArrayOutputStream bytes = new ByteArrayOutputStream();
        ShellTable table = new ShellTable();
        FleetCommands.COLUMNS.forEach(table::column);
        Stream.of(WELL, WORST, FRESH).forEach(m -> table.addRow().addContent(FleetCommands.row(m, NOW)));
        table.print(new PrintStream(bytes, true, StandardCharsets.UTF_8));
        String printed = bytes.toString(StandardCharsets.UTF_8);
        assertTrue(printed.lines().allMatch(l -> l.length() <= 100), printed);
        assertTrue(printed.contains("g".repeat(19) + "~"), printed);
    }

    @Test
    void jsonHasAllOfIt() {
        String json = FleetCommands.object(WORST).toJson();
        assertTrue(json.contains("\"gateway_id\":\"" + "g".repeat(64) + "\"") && json.contains("\"states\":[\"new\",\"revoked\",\"late\",\"behind\",\"clock\",\"old_version\",\"store\"]")
                && json.contains("\"lag_ms\":" + Long.MAX_VALUE) && json.contains("\"ready\":false"), json);
    }

    @Test
    void theShellFindsTheCommands() {
        Set<String> names = new TreeSet<>();
        for (Class<?> type : FleetCommands.class.getDeclaredClasses()) {
            assertNotNull(type.getAnnotation(Service.class), type.getName());
            Command command = type.getAnnotation(Command.class);
            assertTrue(names.add(command.scope() + ":" + command.name()));
        }
        assertEquals(Set.of("gateway:list", "gateway:show", "gateway:enrol", "gateway:rotate", "gateway:revoke", "gateway:import"), names);
    }
}
