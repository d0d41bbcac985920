// SPDX-License-Identifier: Apache-2.0
package io.caravan.shell.internal;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNotNull;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.caravan.uplink.Gateways;
import io.caravan.uplink.Gateways.Certificate;
import io.caravan.uplink.Gateways.Gateway;
import io.caravan.uplink.Gateways.Status;
import io.caravan.uplink.Gateways.Token;
import java.lang.reflect.Field;
import java.lang.reflect.Modifier;
import java.util.List;
import java.util.Set;
import java.util.TreeSet;
import java.util.stream.Stream;
import org.apache.karaf.shell.api.action.Command;
import org.apache.karaf.shell.api.action.Completion;
import org.apache.karaf.shell.api.action.Option;
import org.apache.karaf.shell.api.action.lifecycle.Service;
import org.junit.jupiter.api.Test;

/** What the uplink commands understand and print; what they do is GatewayRegistryTest's. */
class UplinkCommandsTest {

    private static final long NOW = 1_790_000_000_000L;

    @Test
    void spansAndEnds() {
        assertEquals(86_400_000, UplinkCommands.span("--overlap", "24h"));
        assertEquals(500, UplinkCommands.span("--overlap", "500ms"));
        assertEquals(0, UplinkCommands.span("--overlap", "0"));
        for (String bad : List.of("", "24", "-1h", "1w", "h")) {
            assertTrue(assertThrows(IllegalArgumentException.class, () -> UplinkCommands.span("--overlap", bad)).getMessage().startsWith("--overlap [" + bad + "] must be"));
        }
        assertNull(UplinkCommands.end(null, NOW));
        assertEquals(NOW + 90 * 86_400_000L, UplinkCommands.end("90d", NOW));
        assertEquals(1_795_255_200_000L, UplinkCommands.end("2026-11-21T10:00:00Z", NOW));
        assertThrows(IllegalArgumentException.class, () -> UplinkCommands.end("tomorrow", NOW));
    }

    @Test
    void aGatewayIsOneRowAndOneObjectWithoutSecrets() {
        Gateway on = new Gateway("gw-1", Status.ACTIVE, List.of(new Token("0a1b2c3d", null, null), new Token("99999999", null, NOW + 1_000),
                new Token("88888888", null, NOW - 1), new Token("77777777", NOW + 1_000, null)), Certificate.ACCEPTED, "hall 3", null, NOW, "10.0.0.7",
                "token 0a1b2c3d", "0.1.0");
        assertArrayEquals(new Object[] {"gw-1", "active", "since 2026-09-21T14:13:20Z", "10.0.0.7", "token 0a1b2c3d", "0.1.0",
            "0a1b2c3d, 99999999 (until 2026-09-21T14:13:21Z), 88888888 (expired), 77777777 (from 2026-09-21T14:13:21Z)", "accepted", "hall 3"},
                UplinkCommands.row(on, NOW));
        Gateway off = new Gateway("gw-2", Status.INVALID, List.of(), Certificate.NO, null, "line 4: no", null, null, null, null);
        assertArrayEquals(new Object[] {"gw-2", "invalid: line 4: no", "no", "", "", "", "", "no", ""}, UplinkCommands.row(off, NOW));
        String json = UplinkCommands.object(on).toJson();
        assertTrue(json.contains("\"connected_since_ms\":" + NOW) && json.contains("\"tokens\":[{\"id\":\"0a1b2c3d\",\"not_before_ms\":null,\"not_after_ms\":null}")
                && json.contains("\"status\":\"active\""), json);
        assertFalse(new Gateways.Enrolment(on, "cvn_secret").toString().contains("secret"));
    }

    /** The shell finds a command by its annotations alone. */
    @Test
    void everyCommandIsComplete() throws Exception {
        Set<String> names = new TreeSet<>();
        for (Class<?> type : Stream.of(UplinkCommands.class.getDeclaredClasses()).filter(c -> !Modifier.isAbstract(c.getModifiers())).toList()) {
            Command command = type.getAnnotation(Command.class);
            assertTrue(names.add(command.scope() + ":" + command.name()));
            assertNotNull(type.getAnnotation(Service.class), type.getName());
            assertNotNull(type.getConstructor().newInstance());
            Set<String> options = new TreeSet<>();
            for (Class<?> c = type; c != Object.class; c = c.getSuperclass()) {
                for (Field field : c.getDeclaredFields()) {
                    if (field.isAnnotationPresent(Option.class)) {
                        options.add(field.getAnnotation(Option.class).name());
                    }
                    if (field.getName().equals("gateway") && !command.name().equals("add")) {
                        assertNotNull(field.getAnnotation(Completion.class), type + " " + field);
                    }
                }
            }
            assertTrue(options.contains("--json"), type.getName());
            assertEquals(Set.of("revoke", "remove").contains(command.name()), options.contains("--yes"), type.getName());
        }
        assertEquals(Set.of("uplink:list", "uplink:add", "uplink:rotate", "uplink:revoke", "uplink:restore", "uplink:remove"), names);
    }
}
