// SPDX-License-Identifier: Apache-2.0
package io.caravan.shell.internal;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNotNull;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import io.caravan.commands.Capabilities;
import io.caravan.commands.Commands;
import io.caravan.commands.Status;
import io.caravan.commands.Twins;
import io.caravan.desk.CommandDesk;
import io.caravan.desk.DeskException;
import io.caravan.runtime.Caravan;
import java.io.ByteArrayInputStream;
import java.io.ByteArrayOutputStream;
import java.io.PrintStream;
import java.lang.reflect.Field;
import java.lang.reflect.Modifier;
import java.lang.reflect.Proxy;
import java.net.URL;
import java.net.URLClassLoader;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.Hashtable;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Properties;
import java.util.Set;
import java.util.TreeMap;
import java.util.TreeSet;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CompletionStage;
import java.util.stream.Stream;
import org.apache.felix.gogo.runtime.Token;
import org.apache.felix.gogo.runtime.threadio.ThreadIOImpl;
import org.apache.karaf.service.guard.tools.ACLConfigurationParser;
import org.apache.karaf.shell.api.action.Command;
import org.apache.karaf.shell.api.action.Completion;
import org.apache.karaf.shell.api.action.Option;
import org.apache.karaf.shell.api.action.lifecycle.Service;
import org.apache.karaf.shell.api.console.Candidate;
import org.apache.karaf.shell.api.console.Session;
import org.apache.karaf.shell.impl.action.command.ManagerImpl;
import org.apache.karaf.shell.impl.console.SessionFactoryImpl;
import org.apache.karaf.shell.support.parsing.CommandLineImpl;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

/** Lines as people type them, in Karaf's shell: what reaches the beans, and what is printed. */
class CommandShellTest {
    private static final ObjectMapper JSON = new ObjectMapper();
    private static final Path REPO = Path.of(System.getProperty("repo.dir", "../.."));
    private static final List<Class<?>> ALL = Stream.of(CommandCommands.class, TwinCommands.class, CapabilityCommands.class).flatMap(c -> Stream.of(c.getDeclaredClasses()))
            .filter(c -> c.isAnnotationPresent(Command.class)).<Class<?>>map(c -> c).toList();

    private Caravan caravan;
    private SessionFactoryImpl factory;
    private Session session;
    private final ByteArrayOutputStream printed = new ByteArrayOutputStream();
    private final List<Commands.Request> asked = new ArrayList<>();
    private final List<CommandDesk.Request> askedDesk = new ArrayList<>();
    private final Map<String, Commands.Command> known = new TreeMap<>();
    /** Statuses that follow, one per look. */
    private final List<Commands.Event> coming = new ArrayList<>();
    private final Map<String, String> twins = new HashMap<>();

    // ------------------------------------------------------------------------------------------ the shell and what stands behind it

    private void start(String role) throws Exception {
        caravan = Caravan.builder().keys(REPO.resolve("config/" + role + "/keys")).set("http.port", "0").set("container.role", role).withoutDiscovery()
                .module("commands", (context, config) -> {
                    context.getRegistry().bind("commands", commands());
                    context.getRegistry().bind("twins", gatewayTwins());
                    context.getRegistry().bind("capabilities", capabilities());
                    if (role.equals("cloud")) {
                        context.getRegistry().bind("commandDesk", desk());
                    }
                    return () -> { };
                }).start();
        factory = new SessionFactoryImpl(new ThreadIOImpl()) {
            /** As Karaf's own for commands with roles does it. */
            @Override
            protected org.apache.felix.service.command.Function wrap(org.apache.karaf.shell.api.console.Command command) {
                var wrapped = super.wrap(command);
                return (commandSession, arguments) -> {
                    arguments.replaceAll(a -> a instanceof Token ? a.toString() : a);
                    return wrapped.execute(commandSession, arguments);
                };
            }
        };
        factory.getRegistry().register(caravan);
        ManagerImpl manager = new ManagerImpl(factory.getRegistry(), factory);
        for (Class<?> type : Stream.concat(ALL.stream(), Stream.of(TargetCompleter.class, CommandIdCompleter.class, CommandNameCompleter.class, DeviceCompleter.class)).toList()) {
            manager.register(type);
        }
        session = factory.create(new ByteArrayInputStream(new byte[0]), new PrintStream(printed, true), new PrintStream(printed, true));
    }

    @AfterEach
    void stop() {
        if (caravan != null) {
            session.close();
            factory.stop();
            caravan.close();
        }
    }

    private String run(String line) throws Exception {
        printed.reset();
        session.execute(line);
        return printed.toString(StandardCharsets.UTF_8);
    }

    private String fails(String line) {
        printed.reset();
        return assertThrows(Exception.class, () -> session.execute(line)).getMessage();
    }

    private static Commands.Command command(Commands.Request r, Status status, String reason, String detail, List<Commands.Event> events) {
        return new Commands.Command(r.id() == null ? "made-1" : r.id(), r.deviceId(), r.name(), r.arguments() == null ? "{}" : r.arguments(), r.origin(), r.issuedBy(), status, reason, detail, null,
                events.size(), 0, 1_790_000_000_000L, 1_790_000_030_000L, status.isFinal() ? 1_790_000_000_001L : null, events);
    }

    private Commands commands() {
        return new Commands() {
            @Override
            public CompletionStage<List<Command>> submit(List<Request> requests) {
                asked.addAll(requests);
                List<Command> all = new ArrayList<>();
                for (Request r : requests) {
                    boolean may = r.name().equals("led") || r.name().equals("relay");
                    List<Event> events = List.of(new Event(1, Status.ACCEPTED, null, null, 1_790_000_000_000L), may ? new Event(2, Status.QUEUED, null, null, 1_790_000_000_000L)
                            : new Event(2, Status.REJECTED, "no_capability", "the device has no command [" + r.name() + "]", 1_790_000_000_000L));
                    Command c = may ? command(r, Status.QUEUED, null, null, events) : command(r, Status.REJECTED, "no_capability", "the device has no command [" + r.name() + "]", events);
                    known.put(c.id(), c);
                    all.add(c);
                }
                return CompletableFuture.completedFuture(all);
            }

            @Override
            public CompletionStage<Optional<Command>> cancel(String id, String by) {
                return CompletableFuture.completedFuture(Optional.ofNullable(known.computeIfPresent(id, (k, c) -> c.status() == Status.QUEUED ? with(c, new Event(c.revision() + 1,
                        Status.CANCELLED, null, "by " + by, 0)) : c)));
            }

            private Command with(Command c, Event e) {
                List<Event> events = new ArrayList<>(c.events());
                events.add(e);
                return new Command(c.id(), c.deviceId(), c.name(), c.arguments(), c.origin(), c.issuedBy(), e.status(), e.reason(), e.detail(), e.status() == Status.SUCCEEDED ? "{\"on\":true}" : null,
                        e.revision(), 1, c.acceptedAtMs(), c.expiresAtMs(), e.status().isFinal() ? (Long) e.atMs() : null, events);
            }

            @Override
            public Optional<Command> find(String id) {
                if (known.containsKey(id) && !coming.isEmpty()) {
                    known.computeIfPresent(id, (k, c) -> with(c, coming.remove(0)));
                }
                return Optional.ofNullable(known.get(id));
            }

            @Override
            public AutoCloseable onChange(java.util.function.Consumer<Command> listener) {
                return () -> { };
            }

            @Override
            public List<Command> list(Filter filter, int limit) {
                return known.values().stream().filter(c -> (filter.deviceId() == null || filter.deviceId().equals(c.deviceId()))
                        && (filter.status() == null || filter.status() == c.status()) && (!filter.open() || !c.status().isFinal())).limit(limit).toList();
            }
        };
    }

    private Twins gatewayTwins() {
        return new Twins() {
            @Override
            public Optional<Twin> find(String deviceId) {
                return Optional.ofNullable(twins.get(deviceId)).map(desired -> new Twin(deviceId, desired, 3, 1_790_000_000_000L, "{}", 0, null, desired));
            }

            @Override
            public List<Twin> list() {
                return twins.keySet().stream().map(id -> find(id).orElseThrow()).toList();
            }

            @Override
            public CompletionStage<Twin> desire(String deviceId, String patch, Long expected, String by) {
                if (expected != null && expected != 3) {
                    return CompletableFuture.failedFuture(new IllegalStateException("desired state of [" + deviceId + "] has version 3, not " + expected));
                }
                twins.put(deviceId, patch);
                return CompletableFuture.completedFuture(find(deviceId).orElseThrow());
            }
        };
    }

    private static Capabilities capabilities() {
        try {
            JsonNode schema = JSON.readTree("{\"properties\":{\"on\":{\"type\":\"boolean\"},\"code\":{\"type\":\"string\"},\"level\":{\"type\":\"integer\",\"minimum\":0,\"maximum\":100,\"unit\":\"%\"},"
                    + "\"mode\":{\"enum\":[\"slow\",\"fast\"]}},\"required\":[\"on\"]}");
            Capabilities.Declared led = new Capabilities.Declared("sim-1", "1", "announced", List.of(new Capabilities.Capability("led", schema, true, 5_000,
                    List.of(new Capabilities.Budget(3, 60_000)), true), new Capabilities.Capability("relay", JSON.readTree("{}"), false, 5_000, List.of(), false)));
            return (Capabilities) Proxy.newProxyInstance(Capabilities.class.getClassLoader(), new Class<?>[] {Capabilities.class}, (proxy, method, args) -> switch (method.getName()) {
                case "of" -> args[0].equals("sim-1") ? Optional.of(led) : Optional.empty();
                case "list" -> List.of(led);
                case "find" -> args[0].equals("sim-1") ? led.commands().stream().filter(c -> c.name().equals(args[1])).findFirst() : Optional.empty();
                default -> throw new UnsupportedOperationException(method.getName());
            });
        } catch (java.io.IOException e) {
            throw new IllegalStateException(e);
        }
    }

    private CommandDesk desk() {
        Map<String, CommandDesk.Command> all = new TreeMap<>();
        return (CommandDesk) Proxy.newProxyInstance(CommandDesk.class.getClassLoader(), new Class<?>[] {CommandDesk.class}, (proxy, method, args) -> switch (method.getName()) {
            case "submit" -> {
                CommandDesk.Request r = (CommandDesk.Request) args[0];
                askedDesk.add(r);
                if (!r.gatewayId().equals("gw-1")) {
                    yield CompletableFuture.failedFuture(new DeskException("not_found", "/gateway_id", "gateway [" + r.gatewayId() + "] has never connected"));
                }
                CommandDesk.Command c = new CommandDesk.Command(7, r.gatewayId(), r.id() == null ? "made-2" : r.id(), r.deviceId(), r.name(), r.arguments(), r.units(), r.precondition(), r.origin(),
                        r.issuedBy(), "ACCEPTED", null, null, null, 1_790_000_000_000L, 1_790_000_030_000L, 0, null, 0, 1_790_000_000_000L, null,
                        List.of(new CommandDesk.Event(1, r.gatewayId(), r.deviceId(), "x", null, "ACCEPTED", null, null, null, 1_790_000_000_000L)));
                all.put(c.gatewayId() + "/" + c.id(), c);
                yield CompletableFuture.completedFuture(new CommandDesk.Accepted(c, false));
            }
            case "find" -> Optional.ofNullable(all.get(args[0] + "/" + args[1]));
            case "list" -> new CommandDesk.Page(
                    all.values().stream().filter(c -> ((CommandDesk.Filter) args[0]).deviceId() == null || c.deviceId().equals(((CommandDesk.Filter) args[0]).deviceId())).toList(), false);
            case "cancel" -> CompletableFuture.completedFuture(all.containsKey(args[0] + "/" + args[1])
                    ? new CommandDesk.Cancel(CommandDesk.Outcome.ASKED, Optional.of(all.get(args[0] + "/" + args[1]))) : new CommandDesk.Cancel(CommandDesk.Outcome.NOT_FOUND, Optional.empty()));
            case "twin" -> args[1].equals("sim-1") ? Optional.of(new CommandDesk.Twin("gw-1", "sim-1", "{\"led\":true}", 2, "{\"led\":false}", 5, "{\"led\":true}", 1_790_000_000_000L)) : Optional.empty();
            case "twins" -> List.of();
            case "desire" -> ((CommandDesk) proxy).submit(new CommandDesk.Request((String) args[0], "gateway", null, "twin.desire", "{\"device_id\":\"" + args[1] + "\",\"patch\":" + args[2]
                    + (args[3] == null ? "" : ",\"expected_version\":" + args[3]) + "}", null, null, null, null, (String) args[5], (String) args[6], null));
            default -> throw new UnsupportedOperationException(method.getName());
        });
    }

    private List<String> completions(String line) {
        List<Candidate> candidates = new ArrayList<>();
        String[] words = line.split(" ", -1);
        org.apache.karaf.shell.api.console.Command command = (org.apache.karaf.shell.api.console.Command) session.getRegistry().getCommand(words[0].split(":")[0], words[0].split(":")[1]);
        command.getCompleter(false).completeCandidates(session, new CommandLineImpl(words, words.length - 1, words[words.length - 1].length(), line.length(), line), candidates);
        return candidates.stream().map(c -> c.value().strip()).sorted().toList();
    }

    // ------------------------------------------------------------------------------------------ gateway

    @Test
    void sendsWhatWasTypedAndSaysWhereItIs() throws Exception {
        start("gateway");
        String text = run("command:send sim-1 led on=true level=50 code=0012 mode=fast --ttl 10s --id c-1 --units 'level=%'");
        Commands.Request r = asked.get(0);
        assertEquals(JSON.readTree("{\"on\":true,\"level\":50,\"code\":\"0012\",\"mode\":\"fast\"}"), JSON.readTree(r.arguments()), "a code is text because its schema says so");
        assertEquals(List.of("c-1", "sim-1", "led", 10_000L, "shell", "container"), List.of(r.id(), r.deviceId(), r.name(), r.ttlMs(), r.origin(), r.issuedBy()));
        assertEquals(JSON.readTree("{\"level\":\"%\"}"), JSON.readTree(r.units()));
        assertTrue(text.contains("Command c-1: led ") && text.contains("QUEUED") && text.contains("command:watch c-1"), text);

        JsonNode json = JSON.readTree(run("command:send sim-1 led '{\"on\": false}' --json"));
        assertEquals("{\"on\": false}", asked.get(1).arguments());
        assertEquals("QUEUED", json.path("status").asText());
        assertEquals(2, json.path("events").size());
        assertFalse(json.path("arguments").path("on").asBoolean(true), json.toString());

        run("command:send --precondition door=closed,level=3 sim-1 relay");
        assertEquals(JSON.readTree("{\"reported\":{\"properties\":{\"door\":{\"const\":\"closed\"},\"level\":{\"const\":3}},\"required\":[\"door\",\"level\"]}}"),
                JSON.readTree(asked.get(2).precondition()));
        assertEquals("{}", asked.get(2).arguments());
    }

    @Test
    void whatIsRejectedEndsWithAnError() throws Exception {
        start("gateway");
        assertEquals("Command made-1 is REJECTED no_capability: the device has no command [fly]", fails("command:send sim-1 fly"));
        assertEquals("Command made-1 ended REJECTED no_capability: the device has no command [fly]", fails("command:send sim-1 fly --wait"));
    }

    @Test
    void waitShowsEachStatusUntilTheEnd() throws Exception {
        start("gateway");
        coming.addAll(List.of(new Commands.Event(3, Status.SENT, null, null, 0), new Commands.Event(4, Status.DELIVERED, null, null, 0), new Commands.Event(5, Status.SUCCEEDED, null, null, 0)));
        String text = run("command:send sim-1 led on=true --wait");
        int at = -1;
        for (String status : List.of("ACCEPTED", "QUEUED", "SENT", "DELIVERED", "SUCCEEDED", "Result: {\"on\":true}")) {
            assertEquals(text.indexOf(status, at + 1), text.lastIndexOf(status), status + " once in " + text);
            assertTrue(text.indexOf(status) > at, status + " in turn in " + text);
            at = text.indexOf(status);
        }
        coming.addAll(List.of(new Commands.Event(3, Status.INDETERMINATE, "no_evidence", null, 0)));
        String message = fails("command:send sim-1 relay on=true --id c-2 --wait");
        assertTrue(message.startsWith("Command c-2 ended INDETERMINATE no_evidence. It may have been carried out or not"), message);
        assertTrue(fails("command:watch c-2").startsWith("Command c-2 ended INDETERMINATE"));
    }

    @Test
    void listsShowsAndCancels() throws Exception {
        start("gateway");
        run("command:send sim-1 led on=true --id c-1");
        run("command:send sim-2 relay --id c-2");
        assertTrue(run("command:list").contains("c-1") && run("command:list").contains("c-2"));
        assertFalse(run("command:list sim-1").contains("c-2"));
        assertEquals(1, JSON.readTree(run("command:list --limit 1 --json")).size());
        assertTrue(run("command:show c-1").contains("asked by  container by shell, 2026-09-21T14:13:20Z"));
        assertEquals("Command c-1 is cancelled, it will not be carried out.", run("command:cancel c-1").strip());
        assertEquals(List.of("CANCELLED", "0"), List.of(JSON.readTree(run("command:show c-1 --json")).path("status").asText(), "" + JSON.readTree(run("command:list --status sent --json")).size()));
        coming.add(new Commands.Event(3, Status.SENT, null, null, 0));
        run("command:show c-2");
        assertEquals("Command c-2 is not cancelled: it is SENT, what may have been sent is not taken back", fails("command:cancel c-2"));
        assertEquals("command [c-9] is not known here: command:list shows what is", fails("command:cancel c-9"));
        assertTrue(fails("command:list --status lost").contains("[lost] must be one of ACCEPTED"));
    }

    @Test
    void desiresAndShowsState() throws Exception {
        start("gateway");
        assertTrue(fails("twin:show sim-1").startsWith("device [sim-1] has no twin"));
        String text = run("twin:set sim-1 led=true interval_ms=500 --if-version 3");
        assertEquals(JSON.readTree("{\"led\":true,\"interval_ms\":500}"), JSON.readTree(twins.get("sim-1")));
        assertTrue(text.contains("is version 3") && text.contains("as soon as it is there"), text);
        assertTrue(fails("twin:set sim-1 led=false --if-version 2").contains("has version 3, not 2"));
        assertTrue(run("twin:show").contains("sim-1") && run("twin:show sim-1").contains("delta"));
        assertEquals(500, JSON.readTree(run("twin:show sim-1 --json")).path("delta").path("interval_ms").asInt());
        run("twin:set sim-1 '{\"led\":null}'");
        assertEquals("{\"led\":null}", twins.get("sim-1"));
    }

    @Test
    void showsCapabilities() throws Exception {
        start("gateway");
        String text = run("capability:show sim-1");
        for (String part : List.of("announced", "on: boolean, code: string", "integer 0..100 %", "slow|fast (optional)", "3 in 1m 0s", "no, by etc/command-policy.")) {
            assertTrue(text.contains(part), part + " is not in\n" + text);
        }
        assertTrue(run("capability:show").contains("led, relay"));
        assertEquals("led", JSON.readTree(run("capability:show sim-1 --json")).path("commands").get(0).path("name").asText());
        assertTrue(fails("capability:show sim-9").contains("devices/sim-9/capabilities"));
    }

    @Test
    void completes() throws Exception {
        start("gateway");
        run("command:send sim-1 led on=true --id c-1");
        assertEquals(List.of("gateway"), completions("command:send ga"));
        // The registry of devices is not started here, so Karaf knows no device; the gateway is always there.
        assertEquals(List.of(), completions("command:send gateway "));
        assertEquals(List.of("c-1"), completions("command:cancel "));
        assertTrue(completions("command:send --").containsAll(List.of("--ttl", "--precondition", "--units", "--id", "--wait", "--json")));
    }

    @ParameterizedTest
    @CsvSource(delimiter = '|', value = {
        "command:send sim-1 led on | argument [on] must be name=value",
        "command:send sim-1 led on=true on=false | argument [on] must be given once",
        "command:send sim-1 led '{\"on\":tru' | arguments [{\"on\":tru] must be a JSON object",
        "command:send sim-1 led --ttl soon | --ttl [soon] must be a length of time",
        "command:send sim-1 led --tll 5s | [--tll] is one argument too many, and no option: options are --id, --json",
        "command:send sim-1 led --precondition '{' | --precondition [{] must be a JSON object",
        "command:send gw-1/sim-1 led | device [gw-1/sim-1] must be a device's id without its gateway",
        "command:list --limit 0 | --limit [0] must be from 1 to 10000",
        "command:watch c-9 | command [c-9] is not known here",
        "twin:set sim-1 --if-version 1 | give what is desired",
        "twin:set sim-1 led=true --if-version x | --if-version [x] must be a whole number",
        "capability:set sim-1 | The registry",
    })
    void saysWhatIsWrong(String line, String message) throws Exception {
        start("gateway");
        String said = fails(line);
        assertTrue(said.contains(message) || message.equals("The registry") && said.contains("give the capabilities as one JSON object"), said);
        assertEquals(List.of(), asked);
    }

    // ------------------------------------------------------------------------------------------ cloud

    @Test
    void theCloudNamesGatewayAndDevice() throws Exception {
        start("cloud");
        String text = run("command:send gw-1/sim-1 led on=true --id c-1");
        CommandDesk.Request r = askedDesk.get(0);
        assertEquals(List.of("gw-1", "sim-1", "c-1", "led", "{\"on\":true}", "shell"), List.of(r.gatewayId(), r.deviceId(), r.id(), r.name(), r.arguments(), r.origin()));
        assertTrue(text.contains("Command gw-1/c-1: led {\"on\":true} for gw-1/sim-1") && text.contains("command:watch gw-1/c-1"), text);
        assertEquals("gw-1", JSON.readTree(run("command:show gw-1/c-1 --json")).path("gateway_id").asText());
        assertTrue(run("command:list gw-1/sim-1").contains("gw-1/c-1") && run("command:list gw-1").contains("gw-1/c-1"));
        assertTrue(run("command:cancel gw-1/c-1").contains("it is asked to cancel it and decides"));
        assertTrue(fails("command:send sim-1 led").contains("device [sim-1] must be GATEWAY/DEVICE"));
        assertTrue(fails("command:show c-1").contains("command [c-1] must be GATEWAY/COMMAND"));
        assertEquals("gateway [gw-9] has never connected", fails("command:send gw-9/sim-1 led"));
        assertEquals("command [gw-1/c-9] is not known here: command:list shows what is", fails("command:cancel gw-1/c-9"));
        assertTrue(run("twin:show gw-1/sim-1").contains("reported (version 5)  {\"led\":false}"));
        assertTrue(run("twin:set gw-1/sim-1 led=false").contains("command:watch gw-1/made-2"));
        assertEquals("{\"device_id\":\"sim-1\",\"patch\":{\"led\":false}}", askedDesk.get(2).arguments());
        run("twin:set gw-1/sim-1 led=true --if-version 7");
        assertEquals(JSON.readTree("{\"device_id\":\"sim-1\",\"patch\":{\"led\":true},\"expected_version\":7}"), JSON.readTree(askedDesk.get(3).arguments()));
        assertEquals(List.of("gw-1/gateway", "gw-1/sim-1"), completions("command:send g"));
        assertEquals(List.of("led"), completions("command:send gw-1/sim-1 "));
    }

    // ------------------------------------------------------------------------------------------ around

    /** Each role has only the classes of its own side: the shell must be able to look at every class all the same, as it does at its start. */
    @Test
    void theClassesCanBeLookedAtWithoutThoseOfTheOtherSide() throws Exception {
        Set<Class<?>> everywhere = new java.util.HashSet<>(Set.of(CommandCommands.class, TwinCommands.class, CommandSide.class, TargetCompleter.class, CommandIdCompleter.class, CommandNameCompleter.class));
        ALL.stream().filter(c -> c.getEnclosingClass() != CapabilityCommands.class).forEach(everywhere::add);
        List<Class<?>> gateway = Stream.concat(everywhere.stream(), ALL.stream()).toList();
        lookAt(everywhere, "io.caravan.devices.", "io.caravan.commands.");
        lookAt(gateway, "io.caravan.desk.");
    }

    private static void lookAt(Iterable<Class<?>> types, String... absent) throws Exception {
        List<URL> path = new ArrayList<>();
        for (String entry : System.getProperty("java.class.path").split(java.io.File.pathSeparator)) {
            path.add(Path.of(entry).toUri().toURL());
        }
        try (URLClassLoader without = new URLClassLoader(path.toArray(URL[]::new), ClassLoader.getPlatformClassLoader()) {
            @Override
            protected Class<?> loadClass(String name, boolean resolve) throws ClassNotFoundException {
                if (Stream.of(absent).anyMatch(name::startsWith)) {
                    throw new ClassNotFoundException(name);
                }
                return super.loadClass(name, resolve);
            }
        }) {
            for (Class<?> type : types) {
                Class<?> there = without.loadClass(type.getName());
                for (Class<?> c = there; c != Object.class && c != null; c = c.getSuperclass()) {
                    c.getDeclaredFields();
                    c.getDeclaredMethods();
                    c.getAnnotations();
                }
                if (type.isAnnotationPresent(Service.class)) {
                    there.getConstructor().newInstance();
                }
            }
            Class<?> other = without.loadClass(absent[0].contains("desk") ? "io.caravan.shell.internal.DeskSide" : "io.caravan.shell.internal.LanSide");
            assertThrows(NoClassDefFoundError.class, other::getDeclaredMethods, "else this test proves nothing");
        }
    }

    @Test
    void everyCommandIsComplete() throws Exception {
        Map<String, String> roles = new TreeMap<>();
        Set<String> names = new TreeSet<>();
        for (Class<?> type : ALL) {
            assertFalse(Modifier.isAbstract(type.getModifiers()));
            Command command = type.getAnnotation(Command.class);
            assertTrue(names.add(command.scope() + ":" + command.name()));
            assertNotNull(type.getAnnotation(Service.class), type.getName());
            Set<String> options = new TreeSet<>();
            for (Class<?> c = type; c != Object.class; c = c.getSuperclass()) {
                for (Field field : c.getDeclaredFields()) {
                    if (field.isAnnotationPresent(Option.class)) {
                        assertTrue(options.add(field.getAnnotation(Option.class).name()), type + " " + field);
                        assertFalse(field.getAnnotation(Option.class).description().isBlank());
                    }
                    if (Set.of("id", "device", "ref").contains(field.getName()) && !field.isAnnotationPresent(Option.class)) {
                        assertTrue(field.isAnnotationPresent(Completion.class), type + " " + field);
                    }
                }
            }
            assertTrue(options.contains("--json"), type.getName());
            roles.put(command.scope() + ":" + command.name(), role(command.scope(), command.name(), "sim-1"));
        }
        assertEquals(Map.ofEntries(Map.entry("command:send", "operator"), Map.entry("command:cancel", "operator"), Map.entry("command:list", "viewer"), Map.entry("command:show", "viewer"),
                Map.entry("command:watch", "viewer"), Map.entry("twin:show", "viewer"), Map.entry("twin:set", "operator"), Map.entry("capability:show", "viewer"),
                Map.entry("capability:set", "admin"), Map.entry("capability:clear", "admin")), roles);
    }

    /** Who sends to the gateway itself changes its configuration. */
    @ParameterizedTest
    @CsvSource({"gateway,admin", "demo/gateway,admin", "gateway-2,operator", "my.gateway,operator", "demo/sim-1,operator", "sim-gateway,operator"})
    void theGatewayItselfIsForAdmins(String device, String role) throws Exception {
        for (List<String> arguments : List.of(List.of(device, "ping"), List.of("--wait", device, "ping", "a=b"), List.of(device),
                List.of(device, "ping", "a=\n"), List.of("--id", "x\r\ny", device, "ping"), List.of("--units", "\u2028", device, "ping", "\u0085"))) {
            assertEquals(role, role("command", "send", arguments.toArray(String[]::new)), arguments.toString());
        }
    }

    /** Karaf matches the whole of the arguments, and a dot does not match a line break: with one in any argument a rule would not count. */
    @Test
    void noRuleIsPassedByALineBreak() throws Exception {
        int seen = 0;
        try (var files = Files.newDirectoryStream(REPO.resolve("karaf-assembly/common/etc"), "*acl*.cfg")) {
            for (Path file : files) {
                for (String line : Files.readAllLines(file)) {
                    if (!line.startsWith("#") && line.contains("[/")) {
                        assertTrue(line.contains("[/(?s)"), file.getFileName() + ": " + line);
                        seen++;
                    }
                }
            }
        }
        assertTrue(seen > 0, "else this test proves nothing");
    }

    /** A check makes the beans of the file, and they are code of whoever wrote it. */
    @Test
    void whoeverMayRunCodeIsAnAdmin() throws Exception {
        for (String name : List.of("check", "edit", "restore")) {
            assertEquals("admin", role("route", name, "/tmp/x.camel.yaml"), name);
        }
        assertEquals("viewer", role("route", "diff", "rollup"));
    }

    private static String role(String scope, String name, String... arguments) throws Exception {
        List<String> roles = new ArrayList<>();
        ACLConfigurationParser.getRolesForInvocation(name, new Object[] {List.of(arguments).toString()}, null, new Hashtable<>(asMap(acl(scope))), roles);
        return String.join(",", roles);
    }

    private static Properties acl(String scope) throws Exception {
        Properties acl = new Properties();
        try (var in = Files.newBufferedReader(REPO.resolve("karaf-assembly/common/etc/org.apache.karaf.command.acl." + scope + ".cfg"))) {
            acl.load(in);
        }
        return acl;
    }

    private static Map<String, Object> asMap(Properties properties) {
        Map<String, Object> map = new HashMap<>();
        properties.stringPropertyNames().forEach(n -> map.put(n, properties.getProperty(n)));
        return map;
    }
}
