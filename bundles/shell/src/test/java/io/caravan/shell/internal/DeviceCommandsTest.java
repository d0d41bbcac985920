// SPDX-License-Identifier: Apache-2.0
package io.caravan.shell.internal;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNotNull;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.caravan.devices.Devices.Device;
import io.caravan.devices.Devices.Enrolment;
import io.caravan.devices.Devices.Signing;
import io.caravan.devices.Devices.Status;
import io.caravan.devices.Devices.Token;
import io.caravan.devices.Gate.Transport;
import java.lang.reflect.Field;
import java.net.URL;
import java.net.URLClassLoader;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeSet;
import java.util.stream.Stream;
import org.apache.karaf.shell.api.action.Argument;
import org.apache.karaf.shell.api.action.Command;
import org.apache.karaf.shell.api.action.Completion;
import org.apache.karaf.shell.api.action.Option;
import org.apache.karaf.shell.api.action.lifecycle.Service;
import org.junit.jupiter.api.Test;

/** What the device commands understand and print; DevicesIT gives them to a running gateway. */
class DeviceCommandsTest {
    private static final long NOW = 1_790_000_000_000L;
    private static final List<Class<?>> ALL = Stream.of(DeviceCommands.class.getDeclaredClasses()).filter(c -> c.isAnnotationPresent(Command.class)).toList();

    private static Device device(Signing signing, List<String> allow) {
        return new Device("dev-1", Status.ACTIVE, List.of(new Token("0a1b2c3d", NOW - 1, 0, NOW + 60_000, null), new Token("ffffffff", NOW - 9, 0, NOW - 5, null),
                new Token("eeeeeeee", NOW - 99, 0, null, NOW - 9)), allow, "{\"a\":1}", signing, 5, null, "in the cellar", NOW - 99, null, NOW, "10.0.0.7", Transport.MQTT, false);
    }

    private static String card(Signing signing, String... settings) {
        Map<String, String> map = new java.util.HashMap<>();
        for (int i = 0; i < settings.length; i += 2) {
            map.put(settings[i], settings[i + 1]);
        }
        return DeviceCard.of(map, new Enrolment(device(signing, List.of("10.0.0.0/8")), "0a1b2c3d", "cvn_secret", "c2lnbg"));
    }

    @Test
    void theCardSaysAllABoardNeeds() {
        String card = card(Signing.REQUIRE, "ingest.direct.enabled", "true", "mqtt.server.bind.host", "127.0.0.1", "mqtt.server.port", "1883", "mqtt.server.tls.enabled", "true",
                "mqtt.server.tls.port", "8883", "mqtt.server.tls.client.ca.file", "etc/tls/ca.crt", "http.bind.host", "192.168.1.1", "http.port", "8080");
        for (String part : List.of("cvn_secret", "c2lnbg", "signatures are required", "10.0.0.0/8", "1883", "8883", "CN=dev-1", "mosquitto/certs client DIR dev-1",
                "user name    dev-1", "devices/dev-1/telemetry", ".../reported", "devices/dev-1/commands, .../desired", "this machine only: mqtt.server.bind.host opens it", "until 2026-09-21",
                "curl http://192.168.1.1:8080/ingest/dev-1 -H 'Authorization: Bearer cvn_secret' -H 'Content-Type: application/json'")) {
            assertTrue(card.contains(part), part + " is not in\n" + card);
        }
        assertFalse(card.contains("by the broker") || card.contains("/control"), card);
        Device d = device(Signing.OFF, List.of());
        String controller = DeviceCard.of(Map.of("ingest.direct.enabled", "true", "mqtt.server.bind.host", "10.0.0.1", "gateway.id", "gw-1"), new Enrolment(new Device(d.id(), d.status(), d.tokens(), d.allow(),
                null, d.signing(), null, null, null, NOW, null, null, null, null, true), "0a1b2c3d", "cvn_secret", "c2lnbg"));
        assertTrue(controller.contains("publish gateways/gw-1/control/dev-1, subscribe gateways/gw-1/control-status/dev-1"), controller);
    }

    @Test
    void theCardLeavesOutWhatIsNotThere() {
        String card = card(Signing.OFF, "ingest.mqtt.enabled", "true", "mqtt.client.url", "ssl://broker:8883", "http.bind.host", "0.0.0.0", "http.port", "443", "http.tls.enabled", "true");
        assertTrue(card.contains("ssl://broker:8883") && card.contains("curl --cacert ca.crt https://") && card.contains(":443/ingest/dev-1"), card);
        assertFalse(card.contains("c2lnbg") || card.contains("//0.0.0.0") || card.contains("MQTT 3.1.1") || card.contains("certificate") || card.contains("null"), card);
    }

    @Test
    void rowsAndJsonHaveNoSecret() {
        assertArrayEquals(new Object[] {"dev-1", "active", 1L, "any", "off", "2026-09-21T14:13:20Z", "10.0.0.7", "mqtt", "in the cellar"},
                DeviceCommands.Listing.row(device(Signing.OFF, List.of()), NOW));
        assertArrayEquals(new Object[] {"ffffffff", "expired", "2026-09-21T14:13:19Z", "", "2026-09-21T14:13:19Z", ""},
                DeviceCommands.Show.row(device(Signing.OFF, List.of()), device(Signing.OFF, List.of()).tokens().get(1), NOW));
        Device one = device(Signing.OFF, List.of());
        assertEquals("valid", DeviceCommands.state(one, one.tokens().get(0), NOW));
        assertEquals("revoked", DeviceCommands.state(one, one.tokens().get(2), NOW));
        assertEquals("not yet valid", DeviceCommands.state(one, new Token("x", 0, NOW + 1, null, null), NOW));
        Device gone = new Device("dev-2", Status.REVOKED, one.tokens(), List.of(), null, Signing.OFF, null, null, null, NOW, NOW, null, null, null, false);
        assertEquals("revoked", DeviceCommands.state(gone, gone.tokens().get(0), NOW));
        String json = DeviceCommands.json(device(Signing.ACCEPT, List.of("10.0.0.0/8"))).toJson();
        assertTrue(json.contains("\"device_id\":\"dev-1\",\"status\":\"active\"") && json.contains("\"allow\":[\"10.0.0.0\\/8\"]") && json.contains("\"signing\":\"accept\"")
                && json.contains("\"last_transport\":\"mqtt\"") && json.contains("\"bytes_per_s\":null"), json);
        assertFalse(json.contains("cvn_") || json.contains("hash") || json.contains("key"), json);
    }

    @Test
    void timesAheadCountFromNow() {
        assertEquals(86_400_000L, Times.duration("--overlap", "24h"));
        assertEquals(0, Times.duration("--overlap", "0"));
        assertEquals(NOW + 90 * 86_400_000L, Times.ahead("--not-after", "90d", NOW));
        assertEquals(1_795_255_200_000L, Times.ahead("--not-after", "2026-11-21T10:00:00Z", NOW));
        for (String bad : List.of("", "1", "-1h", "1w", "soon")) {
            String message = assertThrows(IllegalArgumentException.class, () -> Times.duration("--overlap", bad)).getMessage();
            assertTrue(message.startsWith("--overlap [" + bad + "] must be"), message);
        }
    }

    @Test
    void valuesAreChecked() {
        assertEquals(List.of("10.0.0.0/8", "fd00::/8"), DeviceCommands.addresses("10.0.0.0/8, fd00::/8"));
        assertEquals(List.of(), DeviceCommands.addresses(null));
        assertEquals(Signing.REQUIRE, DeviceCommands.signingOf("require"));
        assertTrue(assertThrows(IllegalArgumentException.class, () -> DeviceCommands.signingOf("REQUIRE")).getMessage().contains("off, accept or require"));
    }

    @Test
    void optionsMayStandBehindArguments() throws Exception {
        DeviceCommands.AllowIp command = new DeviceCommands.AllowIp();
        command.addresses = List.of("10.0.0.0/8", "--json", "fd00::/8", "--nonsense");
        assertTrue(assertThrows(IllegalArgumentException.class, command::execute).getMessage().contains("[--nonsense]"));
        assertTrue(command.json);
        assertEquals(List.of("--json", "--nonsense"), command.trailing());
    }

    @Test
    void everyCommandIsComplete() throws Exception {
        Set<String> names = new TreeSet<>();
        for (Class<?> type : ALL) {
            Command command = type.getAnnotation(Command.class);
            assertTrue(names.add(command.scope() + ":" + command.name()));
            assertNotNull(type.getAnnotation(Service.class), type.getName());
            assertNotNull(type.getConstructor().newInstance());
            Set<String> options = new TreeSet<>();
            for (Class<?> c = type; c != Object.class; c = c.getSuperclass()) {
                for (Field field : c.getDeclaredFields()) {
                    if (field.isAnnotationPresent(Option.class)) {
                        assertTrue(options.add(field.getAnnotation(Option.class).name()), type + " " + field);
                        assertFalse(field.getAnnotation(Option.class).description().isBlank());
                    }
                    if (field.isAnnotationPresent(Argument.class)) {
                        assertFalse(field.getAnnotation(Argument.class).description().isBlank(), type + " " + field);
                    }
                    if (field.getName().equals("id")) {
                        assertEquals(DeviceCompleter.class, field.getAnnotation(Completion.class).value(), type + " " + field);
                    }
                }
            }
            assertTrue(options.contains("--json"), type.getName());
            assertEquals(Set.of("device:revoke", "device:remove").contains(command.scope() + ":" + command.name()), options.contains("--yes"), type.getName());
        }
        assertEquals(Set.of("device:add", "device:list", "device:show", "device:rotate", "device:revoke", "device:restore", "device:remove", "device:allow-ip",
                "device:signing", "device:limit", "device:import", "device:controller"), names);
    }

    /** The cloud has this bundle without the registry's: the shell must still be able to look at every class, as it does at its start. */
    @Test
    void theClassesCanBeLookedAtWithoutTheRegistry() throws Exception {
        List<URL> path = new ArrayList<>();
        for (String entry : System.getProperty("java.class.path").split(java.io.File.pathSeparator)) {
            path.add(Path.of(entry).toUri().toURL());
        }
        try (URLClassLoader cloud = new URLClassLoader(path.toArray(URL[]::new), ClassLoader.getPlatformClassLoader()) {
            @Override
            protected Class<?> loadClass(String name, boolean resolve) throws ClassNotFoundException {
                if (name.startsWith("io.caravan.devices.")) {
                    throw new ClassNotFoundException(name);
                }
                return super.loadClass(name, resolve);
            }
        }) {
            for (Class<?> type : Stream.concat(ALL.stream(), Stream.of(DeviceCompleter.class, DeviceCommands.class)).toList()) {
                Class<?> there = cloud.loadClass(type.getName());
                for (Class<?> c = there; c != Object.class && c != null; c = c.getSuperclass()) {
                    c.getDeclaredFields();
                }
                if (type.isAnnotationPresent(Command.class)) {
                    there.getConstructor().newInstance();
                }
            }
            assertThrows(ClassNotFoundException.class, () -> cloud.loadClass("io.caravan.devices.Devices"), "else this test proves nothing");
        }
    }
}
