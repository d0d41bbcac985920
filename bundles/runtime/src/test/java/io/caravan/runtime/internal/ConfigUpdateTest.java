// SPDX-License-Identifier: Apache-2.0
package io.caravan.runtime.internal;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.caravan.runtime.AuditTrail;
import io.caravan.runtime.Caravan;
import io.caravan.runtime.ControlException;
import io.caravan.runtime.Module;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.attribute.PosixFilePermissions;
import java.time.Duration;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.TimeUnit;
import java.util.function.BooleanSupplier;
import org.apache.camel.Exchange;
import org.apache.camel.health.HealthCheckRegistry;
import org.apache.camel.health.HealthCheckResultBuilder;
import org.apache.camel.impl.health.AbstractHealthCheck;
import org.apache.camel.support.DefaultExchange;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.ValueSource;

/** Changes by commands, in a real container. */
class ConfigUpdateTest {

    private static final Path[] KEYS = {Path.of("src/test/resources/keys"), Path.of("src/test/resources/control-keys")};
    private static final String ROUTE = """
            - route: {id: speed, from: {uri: "direct:speed", steps: [{setBody: {constant: "{{speed.fast.ms}} {{speed.mode}} {{other.rate}}"}}]}}
            """;

    @TempDir
    Path temp;
    private Path etc;
    private Path folder;

    @BeforeEach
    void folders() throws IOException {
        etc = Files.createDirectories(temp.resolve("etc"));
        folder = temp.resolve("data/control");
    }

    private Caravan start(String... settings) throws Exception {
        Path route = Files.writeString(temp.resolve("speed.camel.yaml"), ROUTE);
        Caravan.Builder builder = Caravan.builder().keys(KEYS).environment(Map.of()).withoutDiscovery().home(temp).cfg(etc).routes(route)
                .module("limit", limit());
        for (int i = 0; i < settings.length; i += 2) {
            builder.set(settings[i], settings[i + 1]);
        }
        Caravan caravan = builder.start();
        return caravan;
    }

    /** Not ready with a speed above 500: what no rule of a key could have said before. */
    private static Module limit() {
        return (context, config) -> {
            HealthCheckRegistry.get(context).register(new AbstractHealthCheck("caravan", "limit") {
                @Override
                protected void doCall(HealthCheckResultBuilder builder, Map<String, Object> options) {
                    if (config.getLong("speed.fast.ms") > 500) {
                        builder.message("too fast").down();
                    } else {
                        builder.up();
                    }
                }
            });
            return () -> HealthCheckRegistry.get(context).unregister(HealthCheckRegistry.get(context).getCheck("limit").orElseThrow());
        };
    }

    private interface Call {
        void on(ConfigUpdate update, Exchange exchange);
    }

    private static String call(Caravan caravan, String id, Map<String, ?> arguments, Call call) {
        Exchange exchange = new DefaultExchange(caravan.context());
        exchange.setVariable("commandId", id);
        exchange.setVariable("commandOrigin", "cloud");
        exchange.setVariable("commandBy", "ann");
        exchange.getMessage().setBody(new HashMap<>(arguments));
        call.on(caravan.bean("configUpdate", ConfigUpdate.class).orElseThrow(), exchange);
        return exchange.getMessage().getBody() instanceof Map<?, ?> map ? Control.json(map) : exchange.getMessage().getBody(String.class);
    }

    private static String update(Caravan caravan, String id, Map<String, ?> changes) {
        return call(caravan, id, Map.of("changes", changes, "ready_within_ms", 10_000), ConfigUpdate::update);
    }

    private static String ask(Caravan caravan) {
        return caravan.context().createProducerTemplate().requestBody("direct:speed", "", String.class);
    }

    private static List<String> audit(Caravan caravan) {
        List<String> entries = new ArrayList<>();
        caravan.bean("audit", AuditTrail.class).orElseThrow().read(e -> e.action().startsWith("control."), e -> entries.add(e.action() + " " + e.subject() + " " + e.outcome()));
        return entries;
    }

    @Test
    void changesOfSeveralFilesAreInForceTogetherAndSurvive() throws Exception {
        Files.writeString(etc.resolve("io.caravan.other.cfg"), "other.rate = 7\n");
        try (Caravan caravan = start()) {
            assertEquals("10 calm 7", ask(caravan));
            String result = update(caravan, "c-1", Map.of("speed.fast.ms", 50, "speed.mode", "wild", "other.rate", 9));
            assertTrue(result.startsWith("{\"changed\":{\"other.rate\":{\"from\":\"7\",\"to\":\"9\"},\"speed.fast.ms\":{\"from\":\"10\",\"to\":\"50\"},\"speed.mode\":"), result);
            assertEquals("50 wild 9", ask(caravan));
            assertEquals("other.rate = 7\n", Files.readString(etc.resolve("io.caravan.other.cfg")), "etc is the operator's");
            assertFalse(Files.exists(folder.resolve(ControlFolder.JOURNAL)));
            assertEquals(List.of("control.change c-1 begun", "control.change c-1 ok"), audit(caravan));
            assertEquals(result, update(caravan, "c-1", Map.of("speed.fast.ms", 51)), "the same id is the same command");
            assertEquals("50 wild 9", ask(caravan));
        }
        try (Caravan caravan = start()) {
            assertEquals("50 wild 9", ask(caravan));
            Map<String, Object> back = new HashMap<>();
            back.put("other.rate", null);
            update(caravan, "c-2", back);
            assertEquals("50 wild 7", ask(caravan), "null: as it is without commands");
            assertEquals("{\"changed\":{}}", update(caravan, "c-3", back));
            Files.delete(folder.resolve(ControlFolder.CONFIG));
            await(() -> caravan.config().get("speed.fast.ms").equals("10"));
        }
    }

    @Test
    void whatDoesNotGetReadyIsUndone() throws Exception {
        try (Caravan caravan = start()) {
            update(caravan, "c-1", Map.of("speed.fast.ms", 50));
            ControlException e = assertThrows(ControlException.class, () -> call(caravan, "c-2",
                    Map.of("changes", Map.of("speed.fast.ms", 900, "other.rate", 5), "ready_within_ms", 300), ConfigUpdate::update));
            assertEquals(ControlException.ROLLED_BACK, e.reason());
            assertEquals("Everything is as it was before, because the gateway was not ready again within 300 ms: limit: too fast", e.getMessage());
            assertEquals("50 calm 1", ask(caravan));
            assertTrue(caravan.ready(), () -> String.valueOf(caravan.checks()));
            assertFalse(Files.exists(folder.resolve(ControlFolder.JOURNAL)));
            assertEquals(e.getMessage(), assertThrows(ControlException.class, () -> update(caravan, "c-2", Map.of("other.rate", 5))).getMessage());
            assertTrue(audit(caravan).contains("control.change c-2 rolled back"), () -> String.valueOf(audit(caravan)));
        }
        try (Caravan caravan = start()) {
            assertEquals("50 calm 1", ask(caravan));
        }
    }

    /** Negative control of the watching: as it is down already, the same change stays. */
    @Test
    void whatWasNotReadyBeforeIsNoReasonToUndo() throws Exception {
        Files.writeString(etc.resolve("io.caravan.speed.cfg"), "speed.fast.ms = 800\n");
        try (Caravan caravan = start()) {
            assertFalse(caravan.ready());
            update(caravan, "c-1", Map.of("other.rate", 5));
            assertEquals("800 calm 5", ask(caravan));
            update(caravan, "c-2", Map.of("speed.fast.ms", 100));
            assertTrue(caravan.awaitReady(Duration.ofSeconds(10)), "and it can mend");
        }
    }

    @ParameterizedTest
    @CsvSource(delimiter = '|', value = {
        "speed.fastt.ms | 5 | is not a configuration key, did you mean speed.fast.ms?",
        "speed.fast.ms | 5000 | must be a whole number from 1 to 1000",
        "speed.fast.ms | many | must be a whole number from 1 to 1000",
        "speed.mode | tame | must be one of calm, wild",
        "speed.cold.ms | 5 | needs_restart",
        "speed.text | y | only numbers, switches and words",
        "speed.file | y | only numbers, switches and words",
        "speed.hidden | y | only numbers, switches and words",
        "speed.tls.enabled | false | is never set by a command",
        "apart.rate | 5 | is not among those of control.config.keys",
        "http.max.bytes | 5 | is never set by a command",
        "http.requests.per.s | 0 | is never set by a command",
        "admin.login | always | is never set by a command",
        "wal.max.bytes | 5 | is never set by a command",
        "control.settle.ms | 5 | is never set by a command",
        "control.config.keys | * | is never set by a command",
        "audit.max.bytes | 5000 | is never set by a command",
        "user.site | south | is never set by a command",
    })
    void aChangeThatBreaksARuleIsRefusedAsAWhole(String key, String value, String rule) throws Exception {
        // Whatever the operator's globs let through.
        try (Caravan caravan = start("control.config.keys", key.equals("apart.rate") ? "speed.*" : "*")) {
            ControlException e = assertThrows(ControlException.class, () -> update(caravan, "c-1", Map.of(key, value, "speed.slow.ms", 99)));
            assertEquals(ControlException.FAILED, e.reason());
            assertTrue(e.getMessage().contains(key) && e.getMessage().contains(rule), e.getMessage());
            assertEquals("20", caravan.config().get("speed.slow.ms"));
            assertFalse(Files.exists(folder), "nothing was begun");
            update(caravan, "c-2", Map.of("speed.slow.ms", 99));
            assertEquals("99", caravan.config().get("speed.slow.ms"), "and it is not the other key's fault");
        }
    }

    @Test
    void whatIsWrongInEtcIsNotCoveredUp() throws Exception {
        try (Caravan caravan = start()) {
            Files.writeString(etc.resolve("io.caravan.other.cfg"), "other.rate = 7000\n");
            ControlException e = assertThrows(ControlException.class, () -> update(caravan, "c-1", Map.of("speed.fast.ms", 50)));
            assertTrue(e.getMessage().contains("other.rate [7000] must be a whole number"), e.getMessage());
            Files.writeString(etc.resolve("io.caravan.other.cfg"), "other.rate = 7\nother.rate = 8\n");
            e = assertThrows(ControlException.class, () -> update(caravan, "c-1", Map.of("speed.fast.ms", 50)));
            assertTrue(e.getMessage().contains("other.rate stands twice"), e.getMessage());
        }
    }

    @Test
    void whatTheCommandLineSaysIsNotOverridden() throws Exception {
        try (Caravan caravan = start("speed.fast.ms", "77")) {
            ControlException e = assertThrows(ControlException.class, () -> update(caravan, "c-1", Map.of("speed.fast.ms", 50)));
            assertTrue(e.getMessage().contains("speed.fast.ms is set by the argument --speed.fast.ms, which goes before"), e.getMessage());
        }
        try (Caravan caravan = start()) {
            update(caravan, "c-2", Map.of("speed.fast.ms", 50));
        }
        try (Caravan caravan = start("speed.fast.ms", "77")) {
            assertEquals("77 calm 1", ask(caravan));
            assertTrue(caravan.ready(), () -> String.valueOf(caravan.checks()));
        }
    }

    /** Somebody writes the file by hand, or the operator has become stricter: what is not allowed is not in force, and is said. */
    @Test
    void theFileItselfOpensNothing() throws Exception {
        Files.createDirectories(folder);
        Files.writeString(folder.resolve(ControlFolder.CONFIG), "http.max.bytes = 5\naudit.file = /tmp/x\nspeed.fast.ms = 50\napart.rate = 3\nspeed.slow.ms = 5000\nno.such = 1\n");
        try (Caravan caravan = start()) {
            assertEquals("65536", caravan.config().get("http.max.bytes"));
            assertEquals(temp.resolve("data/audit/audit.log").toString(), caravan.config().get("audit.file"));
            assertEquals("50 calm 1", ask(caravan));
            assertEquals("1", caravan.config().get("apart.rate"));
            assertEquals("20", caravan.config().get("speed.slow.ms"));
            String message = caravan.checks().stream().filter(c -> c.name().equals("control") && c.status().equals("DOWN")).findFirst().orElseThrow().message();
            for (String key : List.of("http.max.bytes", "audit.file", "apart.rate", "speed.slow.ms", "no.such")) {
                assertTrue(message.contains(key), message);
            }
            // The next change of a command leaves out what may not be there; what breaks its rule must be named or mended.
            update(caravan, "c-1", Map.of("speed.slow.ms", 60));
            assertEquals("60", caravan.config().get("speed.slow.ms"));
            await(caravan::ready);
        }
    }

    /** The journal as each stage of a change leaves it when the process is killed there. */
    @ParameterizedTest
    @ValueSource(strings = {"outcome", "copies", "journal", "applied", "confirmed", "restored", "told"})
    void aProcessThatDiesMeanwhileLeavesAToldState(String step) throws Exception {
        try (Caravan caravan = start()) {
            update(caravan, "c-0", Map.of("speed.fast.ms", 50, "other.rate", 2));
        }
        class Died extends Error {
            private static final long serialVersionUID = 1L;
        }
        ControlFolder dying = new ControlFolder(folder, at -> {
            if (at.equals(step)) {
                throw new Died();
            }
        });
        boolean undoing = step.equals("restored") || step.equals("told");
        assertThrows(Died.class, () -> {
            dying.begin("c-1", ControlFolder.CONFIG, ControlFolder.text(Map.of("speed.fast.ms", "60", "other.rate", "3")),
                    new ControlFolder.Outcome(ControlFolder.ROLLED_BACK, "the process ended before the gateway was ready again", "{\"changed\":{}}"));
            dying.apply();
            if (undoing) {
                dying.rollBack(new ControlFolder.Outcome(ControlFolder.ROLLED_BACK, "not ready", "{\"changed\":{}}"));
            } else {
                dying.confirm(new ControlFolder.Outcome(ControlFolder.APPLIED, "", "{\"changed\":{\"speed.fast.ms\":1}}"));
            }
        });
        try (Caravan caravan = start()) {
            boolean stays = step.equals("confirmed");
            assertEquals(stays ? "60 calm 3" : "50 calm 2", ask(caravan));
            assertTrue(caravan.awaitReady(Duration.ofSeconds(10)), () -> String.valueOf(caravan.checks()));
            assertFalse(Files.exists(folder.resolve(ControlFolder.JOURNAL)));
            // The command is run again: it is told what became of it, and nothing is done.
            if (stays) {
                assertEquals("{\"changed\":{\"speed.fast.ms\":1}}", update(caravan, "c-1", Map.of("speed.fast.ms", 60, "other.rate", 3)));
            } else {
                ControlException e = assertThrows(ControlException.class, () -> update(caravan, "c-1", Map.of("speed.fast.ms", 60, "other.rate", 3)));
                assertEquals(ControlException.ROLLED_BACK, e.reason());
                assertEquals("50 calm 2", ask(caravan));
            }
            boolean journal = !List.of("outcome", "copies", "confirmed").contains(step);
            assertEquals(journal, audit(caravan).contains("control.rollback c-1 ok"), () -> String.valueOf(audit(caravan)));
            update(caravan, "c-2", Map.of("speed.fast.ms", 70));
            assertEquals(stays ? "70 calm 3" : "70 calm 2", ask(caravan));
        }
    }

    @Test
    void aStopWhileItIsWatchedIsUndoneByTheNextStart() throws Exception {
        CompletableFuture<String> answer;
        try (Caravan caravan = start()) {
            answer = CompletableFuture.supplyAsync(() -> call(caravan, "c-1", Map.of("changes", Map.of("speed.fast.ms", 900), "ready_within_ms", 60_000), ConfigUpdate::update));
            await(() -> caravan.config().get("speed.fast.ms").equals("900"));
        }
        assertTrue(assertThrows(ExecutionException.class, () -> answer.get(10, TimeUnit.SECONDS)).getCause().getMessage().contains("next start undoes"));
        assertTrue(Files.exists(folder.resolve(ControlFolder.JOURNAL)));
        try (Caravan caravan = start()) {
            assertEquals("10 calm 1", ask(caravan));
            assertTrue(audit(caravan).contains("control.rollback c-1 ok"), () -> String.valueOf(audit(caravan)));
        }
    }

    @Test
    void theFolderCannotBeWrittenSoNothingIsChanged() throws Exception {
        Files.createDirectories(temp.resolve("data"));
        Files.writeString(folder, "a file where the folder should be");
        try (Caravan caravan = start()) {
            ControlException e = assertThrows(ControlException.class, () -> update(caravan, "c-1", Map.of("speed.fast.ms", 50)));
            assertEquals(ControlException.FAILED, e.reason());
            assertEquals("10 calm 1", ask(caravan));
            Files.delete(folder);
            update(caravan, "c-1", Map.of("speed.fast.ms", 50));
            assertEquals("50 calm 1", ask(caravan));
        }
    }

    @Test
    void whatCannotBeAuditedIsNotDone() throws Exception {
        // Each entry begins a new file, in a folder that is gone.
        try (Caravan caravan = start("audit.max.bytes", "100")) {
            Path log = temp.resolve("data/audit");
            Files.move(log, temp.resolve("moved"));
            Files.writeString(log, "a file where the folder should be");
            ControlException e = assertThrows(ControlException.class, () -> update(caravan, "c-1", Map.of("speed.fast.ms", 50)));
            assertTrue(e.getMessage().contains("Audit log"), e.getMessage());
            assertEquals("10 calm 1", ask(caravan));
            assertFalse(Files.exists(folder.resolve(ControlFolder.JOURNAL)));
        }
    }

    @Test
    void tellsOnlyWhatItMaySet() throws Exception {
        try (Caravan caravan = start("wal.token", "very-secret")) {
            String all = call(caravan, "c-1", Map.of(), ConfigUpdate::get);
            assertEquals("{\"values\":{\"other.rate\":\"1\",\"rollup.window.ms\":\"60000\",\"speed.fast.ms\":\"10\",\"speed.mode\":\"calm\",\"speed.slow.ms\":\"20\"},"
                    + "\"set_by_commands\":{}}", all);
            assertEquals("{\"values\":{\"speed.fast.ms\":\"10\"},\"set_by_commands\":{}}", call(caravan, "c-2", Map.of("keys", List.of("speed.f*", "http.port")), ConfigUpdate::get));
            call(caravan, "c-3", Map.of(), (u, exchange) -> u.set(exchange, "rollup.window.ms", 10_000));
            assertEquals("10000", caravan.config().get("rollup.window.ms"), "it has a command of its own");
        }
    }

    @Test
    void thePolicyIsKeptUndoneAndReadLikeTheRest() throws Exception {
        Map<String, Object> policy = Map.of("rollup", List.of(Map.of("device", "d-*", "metric", "t")), "passthrough", List.of());
        try (Caravan caravan = start()) {
            ConfigUpdate update = caravan.bean("configUpdate", ConfigUpdate.class).orElseThrow();
            assertEquals("{}", update.narrowing());
            call(caravan, "p-1", Map.of("policy", policy), ConfigUpdate::policy);
            assertTrue(update.narrowing().contains("\"d-*\""), update.narrowing());
            assertEquals("rw-------", PosixFilePermissions.toString(Files.getPosixFilePermissions(folder.resolve(ControlFolder.POLICY))));
        }
        ControlFolder dying = new ControlFolder(folder);
        dying.begin("p-2", ControlFolder.POLICY, "{}", new ControlFolder.Outcome(ControlFolder.ROLLED_BACK, "died", "{}"));
        dying.apply();
        try (Caravan caravan = start()) {
            ConfigUpdate update = caravan.bean("configUpdate", ConfigUpdate.class).orElseThrow();
            assertTrue(update.narrowing().contains("\"d-*\""), "the wider one was never confirmed: " + update.narrowing());
            Map<String, Object> none = new HashMap<>();
            none.put("policy", null);
            call(caravan, "p-3", none, ConfigUpdate::policy);
            assertEquals("{}", update.narrowing());
        }
    }

    private static void await(BooleanSupplier condition) throws InterruptedException {
        long deadline = System.nanoTime() + TimeUnit.SECONDS.toNanos(10);
        while (!condition.getAsBoolean()) {
            assertTrue(System.nanoTime() < deadline, "not within 10 s");
            TimeUnit.MILLISECONDS.sleep(20);
        }
    }
}
