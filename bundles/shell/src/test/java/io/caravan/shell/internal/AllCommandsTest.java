// SPDX-License-Identifier: Apache-2.0
package io.caravan.shell.internal;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNotNull;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import io.caravan.devices.DevicesModule;
import io.caravan.runtime.Audit;
import io.caravan.runtime.Caravan;
import io.caravan.wal.Recovery;
import io.caravan.wal.Recovery.Change;
import io.caravan.wal.WalModule;
import java.io.ByteArrayInputStream;
import java.io.ByteArrayOutputStream;
import java.io.PrintStream;
import java.lang.reflect.Field;
import java.lang.reflect.Modifier;
import java.lang.reflect.ParameterizedType;
import java.lang.reflect.Proxy;
import java.lang.reflect.RecordComponent;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeSet;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import java.util.stream.Stream;
import org.apache.felix.gogo.runtime.Token;
import org.apache.felix.gogo.runtime.threadio.ThreadIOImpl;
import org.apache.karaf.shell.api.action.Action;
import org.apache.karaf.shell.api.action.Argument;
import org.apache.karaf.shell.api.action.Command;
import org.apache.karaf.shell.api.action.Completion;
import org.apache.karaf.shell.api.action.Option;
import org.apache.karaf.shell.api.action.lifecycle.Service;
import org.apache.karaf.shell.api.console.Candidate;
import org.apache.karaf.shell.api.console.Session;
import org.apache.karaf.shell.impl.action.command.ManagerImpl;
import org.apache.karaf.shell.impl.console.SessionFactoryImpl;
import org.apache.karaf.shell.support.parsing.CommandLineImpl;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** What holds for every command of this bundle, whoever adds one: help, completion, JSON, width, what devices call themselves. */
class AllCommandsTest {

    private static final Path REPO = Path.of(System.getProperty("repo.dir", "../.."));
    private static final ObjectMapper JSON = new ObjectMapper();
    private static final Set<String> OF_GATEWAY = Set.of("sink", "dead", "wal", "device", "capability");
    private static final Set<String> OF_CLOUD = Set.of("account", "token", "site", "uplink", "gateway:list", "gateway:show", "gateway:enrol", "gateway:rotate", "gateway:revoke",
            "gateway:import");
    /** What names from outside may hold at worst: escapes that colour, move and set the title, a bell, right-to-left override, wide and long. */
    private static final String NASTY = "\u001b[31mred\u001b[2J\u001b]0;title\u0007 \u202Etxt.exe \u009b5A 漢字漢字漢字 é\u0301 " + "x".repeat(300) + " <&\"'\n\r\tend";

    @TempDir
    static Path home;

    private static Caravan caravan;
    private static SessionFactoryImpl factory;
    private static Session session;
    private static final ByteArrayOutputStream PRINTED = new ByteArrayOutputStream();

    private static List<Class<?>> all() throws Exception {
        List<Class<?>> all = new ArrayList<>();
        try (Stream<Path> files = Files.list(Path.of(GatewayCommand.class.getProtectionDomain().getCodeSource().getLocation().toURI()).resolve("io/caravan/shell/internal"))) {
            for (Path file : files.filter(f -> f.toString().endsWith(".class")).sorted().toList()) {
                all.add(Class.forName("io.caravan.shell.internal." + file.getFileName().toString().replace(".class", "")));
            }
        }
        return all;
    }

    private static Map<String, Class<?>> commands() throws Exception {
        Map<String, Class<?>> commands = new java.util.TreeMap<>();
        for (Class<?> type : all()) {
            Command command = type.getAnnotation(Command.class);
            if (command != null) {
                assertEquals(null, commands.put(command.scope() + ":" + command.name(), type), "two commands of one name: " + type);
            }
        }
        return commands;
    }

    private static List<Field> fields(Class<?> type) {
        List<Field> fields = new ArrayList<>();
        for (Class<?> c = type; c != Object.class; c = c.getSuperclass()) {
            fields.addAll(List.of(c.getDeclaredFields()));
        }
        return fields;
    }

    @BeforeAll
    static void start() throws Exception {
        Path file = Files.writeString(Files.createDirectories(home.resolve("routes")).resolve("shipped.camel.yaml"), """
                - route:
                    id: shipped
                    from:
                      uri: timer:never?delay=3600000
                      steps:
                        - to: direct:inner
                - route:
                    id: inner
                    from:
                      uri: direct:inner
                      steps:
                        - log: "{{http.port}} {{no.such.key:other}}"
                """);
        caravan = Caravan.builder().home(home).keys(REPO.resolve("config/gateway/keys")).set("http.port", "0").set("container.role", "gateway").withoutDiscovery()
                .module("wal", new WalModule()).module("devices", new DevicesModule()).routes(file).start();
        assertTrue(caravan.awaitReady(Duration.ofSeconds(60)), () -> String.valueOf(caravan.checks()));
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
        // gateway:bundle lists what is installed.
        factory.getRegistry().register(Proxy.newProxyInstance(AllCommandsTest.class.getClassLoader(), new Class<?>[] {org.osgi.framework.BundleContext.class}, (p, m, a) ->
                m.getName().equals("hashCode") ? (Object) 1 : m.getName().equals("equals") ? (Object) (p == a[0]) : null));
        ManagerImpl manager = new ManagerImpl(factory.getRegistry(), factory);
        for (Class<?> type : all()) {
            if (type.isAnnotationPresent(Service.class)) {
                manager.register(type);
            }
        }
        PrintStream out = new PrintStream(PRINTED, true, StandardCharsets.UTF_8);
        session = factory.create(new ByteArrayInputStream(new byte[0]), out, out);
    }

    @AfterAll
    static void stop() {
        if (session != null) {
            session.close();
            factory.stop();
        }
        if (caravan != null) {
            caravan.close();
        }
    }

    private static String run(String line) throws Exception {
        PRINTED.reset();
        session.execute(line);
        return PRINTED.toString(StandardCharsets.UTF_8);
    }

    private static String fails(String line) {
        return String.valueOf(assertThrows(Exception.class, () -> run(line), line).getMessage());
    }

    private static JsonNode json(String line) throws Exception {
        return JSON.readTree(run(line + " --json"));
    }

    /** Steers nothing; and fits, tables and the one screen. A sentence or a payload goes on in the terminal's next line, to be copied in one piece. */
    private static void screen(String what, String text) {
        for (String line : text.split("\n", -1)) {
            assertEquals(Text.clean(line), line, () -> what + " steers the terminal: " + JSON.valueToTree(line));
            assertTrue(Text.columns(line) <= Table.WIDTH || !line.contains("│") && !line.contains("─") && !what.matches("gateway:.*|route:.*"), () -> what + ": " + Text.columns(line) + " columns: " + line);
        }
    }

    @Test
    void everyCommandSaysWhatItDoesHasExamplesCompletersAndJson() throws Exception {
        List<String> wrong = new ArrayList<>();
        for (Map.Entry<String, Class<?>> entry : commands().entrySet()) {
            wrong.addAll(wrong(entry.getKey(), entry.getValue()));
        }
        assertEquals(List.of(), wrong);
        assertTrue(commands().size() >= 85, "commands: " + commands().size());
    }

    private static List<String> wrong(String name, Class<?> type) {
        List<String> wrong = new ArrayList<>();
        Command command = type.getAnnotation(Command.class);
        if (!type.isAnnotationPresent(Service.class) || !Modifier.isPublic(type.getModifiers()) || !Action.class.isAssignableFrom(type)) {
            wrong.add(name + " is no public service");
        }
        if (command.description().isBlank() || command.description().endsWith(".")) {
            wrong.add(name + " needs one line of description, without a full stop");
        }
        Set<String> options = new TreeSet<>(Set.of("--help"));
        for (Field field : fields(type)) {
            Option option = field.getAnnotation(Option.class);
            Argument argument = field.getAnnotation(Argument.class);
            if (option != null) {
                options.add(option.name());
                options.addAll(List.of(option.aliases()));
            }
            if ((argument != null || option != null && field.getType() != boolean.class) && !field.isAnnotationPresent(Completion.class)) {
                wrong.add(name + " " + (option != null ? option.name() : argument.name()) + " has no completer; FreeText where there is nothing to offer");
            }
            if ((option != null ? option.description() : argument != null ? argument.description() : "x").isBlank()) {
                wrong.add(name + " " + field.getName() + " has no description");
            }
        }
        if (!options.contains("--json")) {
            wrong.add(name + " has no --json");
        }
        List<String> examples = command.detailedDescription().lines().skip(1).map(String::strip).toList();
        if (examples.isEmpty() || !command.detailedDescription().startsWith("Example")) {
            wrong.add(name + " has no example in its help");
        }
        for (String example : examples) {
            if (!example.equals(name) && !example.startsWith(name + " ")) {
                wrong.add(name + " has an example of another command: " + example);
            }
            for (Matcher m = Pattern.compile("(?<= )--?[a-z][a-z-]*").matcher(example); m.find();) {
                if (!options.contains(m.group())) {
                    wrong.add(name + " has an example with an option it has not: " + m.group());
                }
            }
        }
        return wrong;
    }

    @Service
    @Command(scope = "bad", name = "one", description = "Stops.", detailedDescription = "Example:\n  good:one --no")
    public static final class Bad implements Action {
        @Argument(description = "x")
        String word;

        @Override
        public Object execute() {
            return null;
        }
    }

    @Test
    void theWalkWouldSeeIt() {
        assertEquals(5, wrong("bad:one", Bad.class).size(), wrong("bad:one", Bad.class).toString());
    }

    @Test
    void helpShowsTheExamplesAndFits() throws Exception {
        for (Map.Entry<String, Class<?>> entry : commands().entrySet()) {
            String help = run(entry.getKey() + " --help").replaceAll("\u001b\\[[0-9;]*m", "").replace("\t", "        ");
            for (String example : entry.getValue().getAnnotation(Command.class).detailedDescription().lines().skip(1).map(String::strip).toList()) {
                assertTrue(help.replaceAll("\\s+", " ").contains(example.replaceAll("\\s+", " ")), entry.getKey() + " --help has no [" + example + "]: " + help);
            }
        }
    }

    @Test
    void everyScopeSaysWhoMayUseIt() throws Exception {
        for (String scope : commands().keySet().stream().map(c -> c.replaceFirst(":.*", "")).distinct().toList()) {
            assertTrue(Files.exists(acl(scope)), scope + " has no " + acl(scope) + ": everybody could use it");
            assertTrue(Files.readString(acl(scope)).contains("\n* = admin"), acl(scope).toString());
        }
    }

    private static Path acl(String scope) {
        return REPO.resolve("karaf-assembly/common/etc/org.apache.karaf.command.acl." + scope + ".cfg");
    }

    /** The table of docs/shell.md is made of the annotations and the access lists; the message is what belongs there. */
    @Test
    void theDocumentationIsOfTheseCommands() throws Exception {
        StringBuilder table = new StringBuilder("| command | where | role | what |\n|---|---|---|---|\n");
        for (Map.Entry<String, Class<?>> entry : commands().entrySet()) {
            String scope = entry.getKey().replaceFirst(":.*", "");
            String name = entry.getKey().replaceFirst(".*:", "");
            String role = Files.readString(acl(scope)).lines().filter(l -> l.startsWith(name + " = ")).map(l -> l.replaceFirst(".* = ", "")).findFirst().orElse("admin");
            String where = OF_GATEWAY.contains(scope) ? "gateway" : OF_CLOUD.contains(scope) || OF_CLOUD.contains(entry.getKey()) ? "cloud" : "both";
            table.append("| `").append(entry.getKey()).append("` | ").append(where).append(" | ").append(role).append(" | ")
                    .append(entry.getValue().getAnnotation(Command.class).description().replace("|", "\\|").replace("<", "&lt;")).append(" |\n");
        }
        String docs = Files.readString(REPO.resolve("docs/shell.md"));
        assertTrue(docs.contains(table), () -> "docs/shell.md must have this table:\n" + table);
    }

    /** In fences and in backticks: options that there are, and {@code --yes} where a command given from outside would only say that it asks. */
    @Test
    void commandsInTheDocumentationHaveTheirOptions() throws Exception {
        List<String> wrong = new ArrayList<>();
        int seen = 0;
        try (Stream<Path> tree = Files.walk(REPO)) {
            for (Path file : tree.filter(p -> p.toString().endsWith(".md") && !REPO.relativize(p).toString().matches("(.*/)?(target|node_modules|\\.[a-z]+)/.*|demo/.*|CHANGELOG.md")).toList()) {
                List<String> found = new ArrayList<>();
                seen += documented(Files.readString(file), found);
                found.forEach(f -> wrong.add(REPO.relativize(file) + ": " + f));
            }
        }
        assertEquals(List.of(), wrong);
        assertTrue(seen > 100, "commands seen: " + seen);
        List<String> found = new ArrayList<>();
        documented("`sink:list --jsn`\n```\nbin/caravan shell 'sink:reset x now' | jq --raw\nsink:reset x now   --no option\nsink:reset x now --yes\n```\n", found);
        assertEquals(List.of("[sink:list --jsn] has no option --jsn", "[sink:reset x now] asks, and nobody answers: --yes"), found);
    }

    /** @return how many commands it names */
    private static int documented(String text, List<String> wrong) throws Exception {
        Map<String, Class<?>> commands = commands();
        // What ends it: a quote or backtick, an operator of a shell, a column of remarks.
        Matcher m = Pattern.compile("(shell ')?(?<![\\w:./{-])([a-z]+:[a-z][a-z-]*[a-z])(?![\\w:/{(.])((?: (?!#)[^ '`|;&()\\n]+)*)").matcher(text);
        int seen = 0;
        while (m.find()) {
            Class<?> type = commands.get(m.group(2));
            if (type == null) {
                continue;
            }
            seen++;
            Set<String> options = new TreeSet<>(Set.of("--help"));
            for (Field field : fields(type)) {
                Option option = field.getAnnotation(Option.class);
                if (option != null) {
                    options.add(option.name());
                    options.addAll(List.of(option.aliases()));
                }
            }
            List<String> words = List.of(m.group(3).strip().split(" +"));
            for (String word : words) {
                String name = word.replaceFirst("^\\[", "").replaceFirst("[\\],.=].*$", "");
                if (name.startsWith("--") && !options.contains(name)) {
                    wrong.add("[" + m.group(2) + m.group(3) + "] has no option " + name);
                }
            }
            if (m.group(1) != null && options.contains("--yes") && !words.contains("--yes") && !words.contains("--help")) {
                wrong.add("[" + m.group(2) + m.group(3) + "] asks, and nobody answers: --yes");
            }
        }
        return seen;
    }

    @Test
    void whatIsTypedIsCompleted() throws Exception {
        assertEquals(caravan.bean("recovery", Recovery.class).orElseThrow().sinks().stream().map(Recovery.SinkStatus::name).sorted().toList(), complete("sink:pause "));
        assertEquals(List.of("shipped"), complete("route:show "));
        assertEquals(List.of("dot", "mermaid", "svg", "text"), complete("route:topology --format "));
        assertEquals(List.of("deploy", "feature"), complete("route:show shipped --origin "));
        // Karaf itself completes nothing behind an argument.
        assertTrue(complete("route:show shipped -").containsAll(List.of("--json", "--origin", "--resolved")), complete("route:show shipped -").toString());
        assertTrue(complete("device:add new-one -").contains("--signing"), "device:add");
        assertEquals(List.of("accept", "off", "require"), complete("device:add new-one --signing "));
        assertTrue(complete("config:list ").contains("http.port"), "keys");
        assertTrue(complete("config:list http").contains("http."), () -> String.valueOf(complete("config:list http")));
        assertEquals(List.of("admin", "operator", "viewer"), complete("user:add anna "));
    }

    private static List<String> complete(String line) {
        String[] words = line.split(" ", -1);
        var command = factory.getRegistry().getCommand(words[0].split(":")[0], words[0].split(":")[1]);
        List<Candidate> candidates = new ArrayList<>();
        command.getCompleter(false).completeCandidates(session, new CommandLineImpl(words, words.length - 1, words[words.length - 1].length(), line.length(), line), candidates);
        return candidates.stream().map(c -> c.value().strip()).filter(c -> words[words.length - 1].startsWith("-") || !c.startsWith("-")).sorted().toList();
    }

    /** A Recovery that answers everything with the worst names there can be. */
    @SuppressWarnings("unchecked")
    private static <T> T nasty(Class<T> type, java.lang.reflect.Type generic) throws Exception {
        if (type == String.class) {
            return (T) NASTY;
        }
        if (type == long.class || type == int.class) {
            return (T) (type == long.class ? (Object) 1_790_000_000_000L : (Object) 2_000_000_000);
        }
        if (type == boolean.class) {
            return (T) Boolean.FALSE;
        }
        if (List.class.isAssignableFrom(type)) {
            Class<?> element = (Class<?>) ((ParameterizedType) generic).getActualTypeArguments()[0];
            return (T) List.of(nasty(element, element), nasty(element, element));
        }
        RecordComponent[] parts = type.getRecordComponents();
        Object[] values = new Object[parts.length];
        Class<?>[] types = new Class<?>[parts.length];
        for (int i = 0; i < parts.length; i++) {
            types[i] = parts[i].getType();
            values[i] = nasty(types[i], parts[i].getGenericType());
        }
        return type.getDeclaredConstructor(types).newInstance(values);
    }

    @Test
    void whateverThingsAreCalledItFitsAndSteersNothing() throws Exception {
        Recovery real = caravan.bean("recovery", Recovery.class).orElseThrow();
        Recovery worst = (Recovery) Proxy.newProxyInstance(getClass().getClassLoader(), new Class<?>[] {Recovery.class}, (p, method, arguments) -> {
            if (method.getName().equals("deadExport")) {
                return 0L;
            }
            return method.getReturnType() == void.class ? null : nasty(method.getReturnType(), method.getGenericReturnType());
        });
        assertNotNull(nasty(Change.class, Change.class));
        caravan.bean("audit", Audit.class).orElseThrow().record("device.note", NASTY, "ok", Map.of("note", NASTY));
        caravan.context().getRegistry().unbind("recovery");
        caravan.context().getRegistry().bind("recovery", Recovery.class, worst);
        try {
            Map<String, String> lines = new LinkedHashMap<>();
            for (String command : List.of("sink:list", "dead:list", "dead:list --rows", "wal:status", "wal:ledger", "wal:peek 1", "wal:verify", "wal:incidents", "gateway:diagnose", "gateway:info",
                    "gateway:info --checks", "gateway:watch --count 1", "route:list", "route:topology", "audit:list", "user:list")) {
                String printed = run(command);
                screen(command, printed);
                lines.put(command, printed);
            }
            assertTrue(lines.get("gateway:info").lines().count() <= 24, lines.get("gateway:info"));
            assertTrue(lines.get("sink:list").contains("\\u001b"), "shown as what it is: " + lines.get("sink:list"));
            for (String command : lines.keySet().stream().filter(c -> !c.contains("--checks")).toList()) {
                String printed = run(command + " --json");
                assertEquals(Text.clean(printed), printed, command);
                JSON.readTree(printed);
            }
            assertEquals(NASTY, json("sink:list").get(0).get("name").asText(), "JSON is the same name");
            String refused = fails("sink:pause \"\u001b[2J\u009bx\" --nonsense");
            assertEquals(Text.clean(refused), refused);
        } finally {
            caravan.context().getRegistry().unbind("recovery");
            caravan.context().getRegistry().bind("recovery", Recovery.class, real);
        }
    }

    @Test
    void listsAndShowsAreJson() throws Exception {
        Set<String> done = new TreeSet<>();
        for (String command : commands().keySet()) {
            boolean both = !OF_CLOUD.contains(command) && !OF_CLOUD.contains(command.replaceFirst(":.*", "")) && !Set.of("command", "twin", "capability", "task").contains(command.replaceFirst(":.*", ""));
            if (both && command.matches(".*:(list|status|ledger|incidents|verify|info|diagnose|diff|topology)")) {
                assertTrue(json(command).isContainerNode(), command);
                screen(command, run(command));
                done.add(command);
            }
        }
        assertTrue(done.size() >= 15, done.toString());
    }

    @Test
    void theOverviewSaysHowItIsAndWhatToDo() throws Exception {
        String well = run("gateway:info");
        assertTrue(well.contains("READY for") && well.contains("Intake") && well.contains("full ") && well.contains("Uplink") && well.contains("Commands"), well);
        assertFalse(well.contains("\u001b"), "no colour without a terminal");
        JsonNode json = json("gateway:info");
        assertEquals("gateway", json.path("role").asText());
        for (String member : List.of("version", "uptime_s", "ready", "since_ms", "checks", "rate_per_s", "taken_rows", "wal", "wal_limit_bytes", "time_to_full_s", "uplink_connected", "commands_open",
                "sinks", "findings")) {
            assertTrue(json.has(member), member + " is not in " + json);
        }
        String[] watched = run("gateway:watch --interval 100ms --count 2").split("\n");
        assertEquals(2, watched.length, String.join("\n", watched));
        assertTrue(fails("gateway:watch --interval soon").contains("--interval [soon]"));
    }

    @Test
    void coloursAreForTerminalsThatWantThem() {
        Map<String, Object> variables = new LinkedHashMap<>();
        String[] type = {"xterm"};
        var terminal = (org.apache.karaf.shell.api.console.Terminal) Proxy.newProxyInstance(getClass().getClassLoader(), new Class<?>[] {org.apache.karaf.shell.api.console.Terminal.class},
                (p, m, a) -> m.getName().equals("getType") ? type[0] : m.getReturnType() == boolean.class ? (Object) true : null);
        Session colourful = (Session) Proxy.newProxyInstance(getClass().getClassLoader(), new Class<?>[] {Session.class}, (p, m, a) -> m.getName().equals("getTerminal") ? terminal : variables.get(a[0]));
        assertTrue(Paint.allowed(colourful) || System.getenv("NO_COLOR") != null);
        assertEquals("\u001b[31mx\u001b[0m", Paint.RED.on(true, "x"));
        variables.put("NO_COLOR", "1");
        assertFalse(Paint.allowed(colourful));
        variables.clear();
        type[0] = "dumb";
        assertFalse(Paint.allowed(colourful));
        assertFalse(Paint.allowed(session), "no terminal");
    }

    @Test
    void aRouteFileIsCheckedComparedAndPutBack() throws Exception {
        String shipped = Files.readString(home.resolve("routes/shipped.camel.yaml"));
        Path good = Files.writeString(Files.createDirectories(home.resolve("mine")).resolve("shipped.camel.yaml"), shipped.replace("delay=3600000", "delay=3600000&repeatCount=1"));
        assertTrue(run("route:check " + good).contains("is ok: routes shipped, inner"), PRINTED.toString());
        assertEquals("[\"shipped\",\"inner\"]", json("route:check " + good).get("routes").toString());
        assertTrue(run("route:diff").contains("Nothing is overridden"), "a check deploys nothing");
        Map<String, String> broken = new LinkedHashMap<>();
        broken.put("{{http.port}", "is not");
        broken.put("timer:never?delaz=1", "delaz");
        broken.put("nosuch:x", "nosuch");
        for (Map.Entry<String, String> one : broken.entrySet()) {
            String text = one.getKey().startsWith("{{") ? "- route:\n    id: x\n   from: [\n" : shipped.replace("timer:never?delay=3600000", one.getKey());
            Path bad = Files.writeString(home.resolve("mine/other.camel.yaml"), text.replace("id: shipped", "id: other").replace("id: inner", "id: inner2").replace("direct:inner", "direct:inner2"));
            String message = fails("route:check " + bad);
            assertTrue(message.startsWith(bad + "") && message.contains("-> ") && (one.getKey().startsWith("{{") || message.contains(one.getValue())), message);
        }
        Path language = Files.writeString(home.resolve("mine/other.camel.yaml"), "- route:\n    id: other\n    from:\n      uri: direct:other\n      steps:\n        - filter:\n            simple: \"${body} ==\"\n"
                + "            steps:\n              - log: x\n");
        assertTrue(fails("route:check " + language).contains("line "), "a predicate that cannot be read");
        Path taken = Files.writeString(home.resolve("mine/thief.camel.yaml"), shipped);
        assertTrue(fails("route:check " + taken).contains("belongs to shipped.camel.yaml"), "ids of another file");
        assertTrue(fails("route:check /no/such.camel.yaml").contains("absolute path"));
        assertTrue(caravan.ready(), () -> "what runs goes on running: " + caravan.checks());

        caravan.deploy(good);
        try {
            String diff = run("route:diff shipped");
            assertTrue(diff.contains("--- shipped/shipped.camel.yaml\n+++ deploy/shipped.camel.yaml\n@@ ") && diff.contains("\n-      uri: timer:never?delay=3600000\n+      uri: timer:never?delay=3600000&repeatCount=1\n"), diff);
            assertTrue(json("route:diff").get(0).get("diff").asText().contains("repeatCount"));
            assertTrue(run("route:show shipped").contains("repeatCount"));
            assertFalse(run("route:show shipped --origin feature").contains("repeatCount"));
            assertTrue(run("route:show shipped --resolved").contains("argument --http.port"), PRINTED.toString());
            assertTrue(PRINTED.toString().contains("the default beside it"), PRINTED.toString());
            assertTrue(fails("route:restore shipped").contains("--yes"));
            assertTrue(fails("route:restore inner").contains("no route file"));
        } finally {
            caravan.undeploy("shipped");
        }
        assertTrue(fails("route:restore shipped --yes").contains("shipped version"));
    }

    @Test
    void thePictureHasRoutesAndWhatFeedsThem() throws Exception {
        String text = run("route:topology");
        assertTrue(text.contains("[timer:never]\n└─> shipped\n") || text.contains("└─> shipped\n   └─> inner\n"), text);
        JsonNode json = json("route:topology");
        assertTrue(json.get("edges").toString().contains("{\"from\":\"route shipped\",\"to\":\"route inner\",\"how\":\"direct\"}"), json.toString());
        assertTrue(run("route:topology --format mermaid").startsWith("flowchart LR\n"));
        assertTrue(run("route:topology --format dot").strip().endsWith("}"));
        String svg = run("route:topology shipped --format svg");
        javax.xml.parsers.DocumentBuilderFactory.newInstance().newDocumentBuilder().parse(new ByteArrayInputStream(svg.getBytes(StandardCharsets.UTF_8)));
        assertTrue(fails("route:topology --format gif").contains("[gif]"));
    }

    @Test
    void textIsCleanedAndMeasured() {
        assertEquals("a\\u001b[2Jb", Text.line("a\u001b[2Jb"));
        assertEquals("\\u202ex", Text.clean("\u202ex"));
        assertEquals(4, Text.columns("漢字"));
        assertEquals("漢…", Text.cut("漢字漢字", 4));
        assertEquals(List.of("ab cd", "efghij", "k"), Text.wrap("ab cd efghijk", 6));
        Table table = new Table(List.of("A", "B"));
        table.add("x".repeat(500), NASTY);
        table.lines(40, false).forEach(l -> assertTrue(Text.columns(l) <= 40, l));
    }

    @Test
    void aRateIsOfTheLastMinute() {
        Pulse pulse = new Pulse(() -> null);
        assertTrue(pulse.perSecond().isEmpty());
        pulse.beat(0, 0);
        pulse.beat(10_000_000_000L, 100);
        assertEquals(10, pulse.perSecond().orElseThrow());
        pulse.beat(90_000_000_000L, 100);
        assertTrue(pulse.perSecond().isEmpty(), "what is older than a minute does not count");
        pulse.beat(91_000_000_000L, 5);
        assertTrue(pulse.perSecond().isEmpty(), "a counter that fell is another process's");
        pulse.close();
    }
}
