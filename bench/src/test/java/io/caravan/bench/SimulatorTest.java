// SPDX-License-Identifier: Apache-2.0
package io.caravan.bench;

import static java.util.concurrent.TimeUnit.SECONDS;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNotNull;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.net.ServerSocket;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;
import java.util.function.Predicate;
import java.util.stream.Stream;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.hivemq.client.mqtt.datatypes.MqttQos;
import com.hivemq.client.mqtt.mqtt5.Mqtt5AsyncClient;
import com.hivemq.client.mqtt.mqtt5.Mqtt5Client;
import com.hivemq.client.mqtt.mqtt5.message.publish.Mqtt5Publish;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.io.TempDir;

/** Simulated devices at a mosquitto, and somebody who tells them what to do as a gateway would. */
class SimulatorTest {
    private static final ObjectMapper JSON = new ObjectMapper();
    private static final long WAIT_S = 30;

    @TempDir Path dir;
    private Process mosquitto;
    private int port;
    private Mqtt5AsyncClient gateway;
    private final CountDownLatch stop = new CountDownLatch(1);
    private CompletableFuture<Integer> running;
    private final BlockingQueue<JsonNode> said = new LinkedBlockingQueue<>();
    private final List<JsonNode> before = new ArrayList<>();

    @BeforeEach
    void broker() throws Exception {
        try (ServerSocket free = new ServerSocket(0)) {
            port = free.getLocalPort();
        }
        Path conf = Files.writeString(dir.resolve("mosquitto.conf"), "listener " + port + " 127.0.0.1\nallow_anonymous true\nuser " + System.getProperty("user.name") + "\n");
        Path binary = Stream.of("/usr/sbin/mosquitto", "/usr/local/sbin/mosquitto", "/usr/bin/mosquitto").map(Path::of).filter(Files::isExecutable).findFirst()
                .orElseThrow(() -> new AssertionError("mosquitto is not installed: apt-get install -y mosquitto"));
        mosquitto = new ProcessBuilder(binary.toString(), "-c", conf.toString()).redirectErrorStream(true).redirectOutput(dir.resolve("mosquitto.log").toFile()).start();
        gateway = Mqtt5Client.builder().identifier("gateway").serverHost("127.0.0.1").serverPort(port).automaticReconnectWithDefaultConfig().buildAsync();
        // The library tries again until the broker listens.
        gateway.connectWith().send();
        for (String kind : List.of("capabilities", "reported", "command-status", "telemetry")) {
            subscribe(kind);
        }
    }

    private void subscribe(String kind) throws Exception {
        for (int attempt = 0;; attempt++) {
            try {
                gateway.subscribeWith().topicFilter("devices/+/" + kind).qos(MqttQos.AT_LEAST_ONCE).callback(p -> said.add(parse(kind, p))).send().get(WAIT_S, SECONDS);
                return;
            } catch (java.util.concurrent.ExecutionException e) {
                if (attempt > 200) {
                    throw e;
                }
                TimeUnit.MILLISECONDS.sleep(50);
            }
        }
    }

    private static JsonNode parse(String kind, Mqtt5Publish publish) {
        try {
            return JSON.createObjectNode().put("kind", kind).put("retained", publish.isRetain()).set("body", JSON.readTree(publish.getPayloadAsBytes()));
        } catch (IOException e) {
            throw new AssertionError(e);
        }
    }

    @AfterEach
    void end() throws Exception {
        stop.countDown();
        if (running != null) {
            running.get(WAIT_S, SECONDS);
        }
        gateway.disconnect().exceptionally(e -> null).get(WAIT_S, SECONDS);
        mosquitto.destroy();
        mosquitto.waitFor();
    }

    private void simulate(Map<CommandFault, Double> faults) throws Exception {
        Simulator simulator = new Simulator();
        new picocli.CommandLine(simulator).registerConverter(java.time.Duration.class, new Durations()).parseArgs("--port", "" + port, "--devices", "1", "--interval", "500ms", "--events", "0",
                "--ledger", dir.resolve("ledger").toString(), "--late", "300ms", "--offline", "300ms", "--drain", "10s", "--report", "0s");
        simulator.commandFaults = faults;
        running = CompletableFuture.supplyAsync(() -> {
            try (Ledger ledger = new Ledger(dir.resolve("ledger"))) {
                return simulator.run(ledger, stop);
            } catch (IOException | InterruptedException e) {
                throw new IllegalStateException(e);
            }
        });
        assertNotNull(awaitSaid(s -> s.path("kind").asText().equals("telemetry")));
    }

    /** @return the first such message that was not looked at before; null: none within the time */
    private JsonNode awaitSaid(Predicate<JsonNode> wanted) throws InterruptedException {
        for (int i = 0; i < before.size(); i++) {
            if (wanted.test(before.get(i))) {
                return before.remove(i);
            }
        }
        long end = System.nanoTime() + SECONDS.toNanos(WAIT_S);
        while (System.nanoTime() < end) {
            JsonNode next = said.poll(100, TimeUnit.MILLISECONDS);
            if (next != null && wanted.test(next)) {
                return next;
            }
            if (next != null) {
                before.add(next);
            }
        }
        return null;
    }

    private JsonNode answer(String commandId) throws InterruptedException {
        JsonNode said = awaitSaid(s -> s.path("kind").asText().equals("command-status") && s.path("body").path("command_id").asText().equals(commandId));
        assertNotNull(said, "no answer for " + commandId);
        return said.path("body");
    }

    private void command(String id, String name, String arguments, long ttlMs) throws Exception {
        String body = "{\"command_id\":\"" + id + "\",\"name\":\"" + name + "\",\"arguments\":" + arguments + ",\"expires_at_ms\":" + (System.currentTimeMillis() + ttlMs) + "}";
        gateway.publishWith().topic("devices/sim-1/commands").qos(MqttQos.AT_LEAST_ONCE).payload(body.getBytes(StandardCharsets.UTF_8)).send().get(WAIT_S, SECONDS);
    }

    private long ran(String id) throws IOException {
        try (Stream<String> lines = Files.lines(dir.resolve("ledger"))) {
            return lines.filter(l -> l.contains("\"what\":\"ran\"") && l.contains("\"id\":\"" + id + "\"")).count();
        }
    }

    @Test
    @Timeout(value = 120)
    void announcesReportsAndDoesWhatItIsTold() throws Exception {
        simulate(Map.of());
        assertTrue(awaitSaid(s -> s.path("kind").asText().equals("capabilities")).path("body").path("commands").has("relay"));
        assertEquals(500, awaitSaid(s -> s.path("kind").asText().equals("reported")).path("body").path("interval_ms").asInt());
        command("c-1", "relay", "{\"on\":true}", 10_000);
        assertEquals("succeeded", answer("c-1").path("status").asText());
        assertTrue(awaitSaid(s -> s.path("kind").asText().equals("reported")).path("body").path("relay").asBoolean());
        command("c-1", "relay", "{\"on\":true}", 10_000);
        assertEquals(1, answer("c-1").path("result").path("switched").asInt(), "answered again");
        command("c-2", "relay", "{\"on\":false}", -1_000);
        assertEquals("expired", answer("c-2").path("message").asText());
        command("c-3", "sampling", "{\"interval_ms\":100}", 10_000);
        assertEquals("succeeded", answer("c-3").path("status").asText());
        gateway.publishWith().topic("devices/sim-1/desired").payload("{\"desired\":{\"led\":true},\"version\":1,\"delta\":{\"led\":true}}".getBytes(StandardCharsets.UTF_8)).send().get(WAIT_S, SECONDS);
        assertNotNull(awaitSaid(s -> s.path("kind").asText().equals("reported") && s.path("body").path("led").asBoolean()));
        assertEquals(List.of(1L, 0L, 1L), List.of(ran("c-1"), ran("c-2"), ran("c-3")));
    }

    @Test
    @Timeout(value = 120)
    void answersBadlyWhenAsked() throws Exception {
        Map<CommandFault, Double> faults = new java.util.EnumMap<>(CommandFault.class);
        simulate(faults);
        for (CommandFault fault : CommandFault.values()) {
            faults.clear();
            faults.put(fault, 1.0);
            String id = "c-" + fault;
            command(id, "led", "{\"on\":true}", 10_000);
            switch (fault) {
                case LATE, OFFLINE -> {
                    JsonNode first = answer(id);
                    assertEquals("succeeded", first.path("status").asText().equals("received") ? answer(id).path("status").asText() : first.path("status").asText());
                }
                case TWICE -> assertEquals(answer(id).path("status"), answer(id).path("status"));
                case CONTRADICT -> assertEquals(List.of("succeeded", "failed"), List.of(answer(id).path("status").asText(), answer(id).path("status").asText()));
                case OTHER_ID -> assertEquals("succeeded", answer("none-" + id).path("status").asText());
                case GARBAGE -> assertNotNull(awaitSaid(s -> s.path("body").path("done").asText().equals(id) || s.path("body").path("status").asText().equals("perhaps")));
                default -> {
                    // The faults must not change before it was carried out; who answers nothing says so only in the ledger.
                    while (ran(id) == 0) {
                        TimeUnit.MILLISECONDS.sleep(20);
                    }
                }
            }
        }
        faults.clear();
        command("c-end", "led", "{\"on\":true}", 10_000);
        assertEquals("succeeded", answer("c-end").path("status").asText());
        assertNull(before.stream().filter(s -> s.path("body").path("command_id").asText().equals("c-never")).findFirst().orElse(null), "and it is still silent");
        for (CommandFault fault : CommandFault.values()) {
            assertEquals(1, ran("c-" + fault), fault.toString());
        }
    }
}
