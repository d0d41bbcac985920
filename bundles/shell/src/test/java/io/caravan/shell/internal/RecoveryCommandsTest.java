// SPDX-License-Identifier: Apache-2.0
package io.caravan.shell.internal;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNotNull;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.caravan.wal.Recovery.Change;
import io.caravan.wal.Recovery.DeadCause;
import io.caravan.wal.Recovery.DeadLetter;
import io.caravan.wal.Recovery.Discrepancy;
import io.caravan.wal.Recovery.Message;
import io.caravan.wal.Recovery.Place;
import io.caravan.wal.Recovery.SinkStatus;
import java.io.ByteArrayOutputStream;
import java.io.PrintStream;
import java.lang.reflect.Field;
import java.lang.reflect.Proxy;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Set;
import java.util.TreeSet;
import java.util.stream.Stream;
import org.apache.karaf.shell.api.action.Argument;
import org.apache.karaf.shell.api.action.Command;
import org.apache.karaf.shell.api.action.Completion;
import org.apache.karaf.shell.api.action.Option;
import org.apache.karaf.shell.api.action.lifecycle.Service;
import org.apache.karaf.shell.api.console.Session;
import org.apache.karaf.shell.api.console.Terminal;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** What the recovery commands understand and print; RecoveryIT gives them to a running gateway. */
class RecoveryCommandsTest {

    private static final long NOW = 1_790_000_000_000L;
    private static final List<Class<?>> ALL = Stream.of(SinkCommands.class, DeadCommands.class, WalCommands.class)
            .flatMap(holder -> Stream.of(holder.getDeclaredClasses())).filter(c -> c.isAnnotationPresent(Command.class)).toList();

    private final ByteArrayOutputStream printed = new ByteArrayOutputStream();
    private final List<String> asked = new ArrayList<>();

    @Test
    void timesAreTimesOrAges() {
        assertEquals(NOW - 90_000, Times.parse("--from", "90s", NOW));
        assertEquals(NOW - 7_200_000, Times.parse("--from", "2h", NOW));
        assertEquals(NOW - 3 * 86_400_000L, Times.parse("--from", "3d", NOW));
        assertEquals(1_795_255_200_000L, Times.parse("--from", "2026-11-21T10:00:00Z", NOW));
        assertEquals(1_795_255_200_000L, Times.parse("--from", "2026-11-21T11:00:00+01:00", NOW));
        assertEquals(NOW, Times.parse("--from", Long.toString(NOW), NOW));
        for (String bad : List.of("yesterday", "2h ago", "-2h", "10:00", "")) {
            String message = assertThrows(IllegalArgumentException.class, () -> Times.parse("--to", bad, NOW)).getMessage();
            assertTrue(message.startsWith("--to [" + bad + "] must be") && message.contains("15m"), message);
        }
    }

    @Test
    void sequencesAreOneOrTwo() {
        assertArrayEquals(new long[] {17, 17}, WalCommands.Replay.sequences("17"));
        assertArrayEquals(new long[] {100, 200}, WalCommands.Replay.sequences("100-200"));
        for (String bad : List.of("", "a", "1-", "1-2-3", "-5", "99999999999999999999")) {
            assertTrue(assertThrows(IllegalArgumentException.class, () -> WalCommands.Replay.sequences(bad)).getMessage().contains("[" + bad + "]"));
        }
    }

    @Test
    void aSinkIsOneRow() {
        SinkStatus waiting = new SinkStatus("kafka", false, true, "failed", "not_found", 4, NOW + 12_000, "no topic [t]", 1, 2, 30, 10, 100, 2, "lost=3", 61_000);
        assertEquals(List.of("kafka", "failed", "30", "1m 1s", "10", "100", "2", "lost=3", "not_found; 4 attempts, next in 12s; no topic [t]"),
                Stream.of(SinkCommands.Listing.row(waiting, NOW)).map(String::valueOf).toList());
        SinkStatus absent = new SinkStatus("old", false, false, "running", null, 0, 0, null, 0, 0, 0, 0, 5, 0, "", 0);
        assertEquals(List.of("old", "running, absent", "0", "", "0", "5", "0", "", ""), Stream.of(SinkCommands.Listing.row(absent, NOW)).map(String::valueOf).toList());
    }

    @Test
    void deadLettersAreRows() {
        assertArrayEquals(new Object[] {"0a1b2c3d", "s3", "refused", 7L, "2026-09-21T14:13:20Z", "2026-09-21T14:13:21Z", "1,2,3,...", "no # here"},
                DeadCommands.Listing.row(new DeadCause("0a1b2c3d", "s3", "refused", "no # here", 7, NOW, NOW + 1_000, "1,2,3")));
        assertEquals("(row is gone)", DeadCommands.Listing.row(new DeadLetter("s3", 1, "corrupt", "x", 1, 1, 1, null, null, "0a1b2c3d"))[4]);
        assertArrayEquals(new Object[] {"s3", "5-7", "twice"}, WalCommands.Ledger.row(new Discrepancy("s3", 5, 7, "twice")));
        assertArrayEquals(new Object[] {"s3", "", "sum"}, WalCommands.Ledger.row(new Discrepancy("s3", 0, 0, "sum")));
    }

    @Test
    void jsonHasAllComponents() {
        assertEquals("{\"sink\":\"s3\",\"rows\":3,\"ranges\":1,\"discarded\":0,\"pending\":0,\"gone\":2,\"more\":false,\"note\":\"1-2: gone\"}",
                Output.jsonOf(new Change("s3", 3, 1, 0, 0, 2, false, "1-2: gone")).toJson());
        Message message = new Message(5, "d/b/1", "c", "d", "event", "live", 1, 2, "application/json", null, "{\"a\":1}", true,
                List.of(new Place("s3", "Acked", null)), "");
        String json = Output.jsonOf(message).toJson();
        assertTrue(json.contains("\"received_at_ms\":2") && json.contains("\"places\":[{\"sink\":\"s3\",\"status\":\"Acked\",\"detail\":null}]")
                && json.contains("\"body\":\"{\\\"a\\\":1}\""), json);
    }

    @Test
    void changesAreSaidInWords() {
        Change change = new Change("s3", 3, 1, 4, 1, 2, false, "1-2: gone");
        assertEquals("Sink s3: 4 rows of its backlog would be discarded, 3 rows would be delivered again. Note: 1-2: gone.", Output.reset(change, true));
        assertEquals("3 rows are delivered again to s3. 1 are in its backlog anyway. Note: 1-2: gone.", Output.replay(change, false));
        assertEquals("3 dead letters are discarded. Note: 1-2: gone.", Output.dead(change, "are discarded"));
        assertEquals("999 B", Output.bytes(999));
        assertEquals("1.5 GiB", Output.bytes(3L << 29));
    }

    @Test
    void withoutATerminalAYesIsNeeded() {
        GatewayCommand command = command(null, null);
        String message = assertThrows(IllegalStateException.class,
                () -> command.confirmed(false, "sink:reset", () -> "9 rows would be discarded.", () -> printed.writeBytes(new byte[] {'x'}))).getMessage();
        assertTrue(message.contains("9 rows would be discarded") && message.contains("--yes"), message);
        assertEquals("", printed.toString(StandardCharsets.UTF_8));
        command.confirmed(true, "sink:reset", () -> {
            throw new AssertionError("not asked");
        }, () -> printed.writeBytes(new byte[] {'x'}));
        assertEquals("x", printed.toString(StandardCharsets.UTF_8));
    }

    @Test
    void onATerminalItIsAsked() {
        for (String no : new String[] {"n", "", "x", "yesno"}) {
            command("terminal", no).confirmed(false, "c", () -> "What.", () -> {
                throw new AssertionError("done after [" + no + "]");
            });
        }
        assertEquals(Set.of("What. Go on? [y/N] "), Set.copyOf(asked));
        assertTrue(printed.toString(StandardCharsets.UTF_8).contains("Nothing was done."));
        for (String yes : new String[] {"y", "Y", "yes "}) {
            List<String> done = new ArrayList<>();
            command("terminal", yes).confirmed(false, "c", () -> "What.", () -> done.add("done"));
            assertEquals(List.of("done"), done);
        }
    }

    private GatewayCommand command(String terminal, String answer) {
        PrintStream out = new PrintStream(printed, true, StandardCharsets.UTF_8);
        Object screen = terminal == null ? null : Proxy.newProxyInstance(getClass().getClassLoader(), new Class<?>[] {Terminal.class}, (p, m, a) -> null);
        GatewayCommand command = new WalCommands.Status();
        command.session = (Session) Proxy.newProxyInstance(getClass().getClassLoader(), new Class<?>[] {Session.class}, (proxy, method, arguments) -> {
            switch (method.getName()) {
                case "getConsole":
                    return out;
                case "getTerminal":
                    return screen;
                case "readLine":
                    asked.add((String) arguments[0]);
                    return answer;
                default:
                    throw new UnsupportedOperationException(method.toString());
            }
        });
        return command;
    }

    /** The shell finds a command by its annotations alone. */
    @Test
    void everyCommandIsComplete() throws Exception {
        Set<String> names = new TreeSet<>();
        for (Class<?> type : ALL) {
            Command command = type.getAnnotation(Command.class);
            assertTrue(names.add(command.scope() + ":" + command.name()));
            assertNotNull(type.getAnnotation(Service.class), type.getName());
            assertNotNull(type.getConstructor().newInstance());
            assertTrue(!command.description().isBlank(), type.getName());
            Set<String> options = new TreeSet<>();
            for (Class<?> c = type; c != Object.class; c = c.getSuperclass()) {
                for (Field field : c.getDeclaredFields()) {
                    if (field.isAnnotationPresent(Option.class)) {
                        assertTrue(options.add(field.getAnnotation(Option.class).name()), type + " " + field);
                    }
                    if (field.getName().equals("sink") || field.getName().equals("cause")) {
                        assertNotNull(field.getAnnotation(Completion.class), type + " " + field);
                    }
                    if (field.isAnnotationPresent(Argument.class)) {
                        assertTrue(!field.getAnnotation(Argument.class).description().isBlank(), type + " " + field);
                    }
                }
            }
            assertTrue(options.contains("--json"), type.getName());
        }
        assertEquals(Set.of("sink:list", "sink:pause", "sink:resume", "sink:reset", "sink:remove", "dead:list", "dead:export", "dead:requeue", "dead:discard",
                "wal:status", "wal:ledger", "wal:peek", "wal:verify", "wal:compact", "wal:replay", "wal:incidents", "wal:acknowledge"), names);
    }

    @Test
    void optionsMayStandBehindArguments() throws Exception {
        SinkCommands.Reset reset = new SinkCommands.Reset();
        reset.trailing = List.of("--yes", "--json", "--nonsense");
        assertTrue(assertThrows(IllegalArgumentException.class, reset::execute).getMessage().contains("[--nonsense]"));
        assertTrue(reset.yes && reset.json);
        DeadCommands.Export export = new DeadCommands.Export();
        export.trailing = List.of("--sink", "s3", "--limit", "7", "--seq", "x");
        assertTrue(assertThrows(IllegalArgumentException.class, export::execute).getMessage().contains("--seq [x] must be a whole number"));
        assertEquals("s3", export.sink);
        assertEquals(7, export.limit);
        export.trailing = List.of("--sink");
        assertTrue(assertThrows(IllegalArgumentException.class, export::execute).getMessage().contains("[--sink] must be followed"));
    }

    @Test
    void nothingChosenIsNotAll() {
        DeadCommands.Requeue requeue = new DeadCommands.Requeue();
        assertTrue(assertThrows(IllegalArgumentException.class, () -> requeue.mustChoose(false)).getMessage().contains("--all"));
        requeue.mustChoose(true);
        requeue.sink = "s3";
        requeue.mustChoose(false);
        assertThrows(IllegalArgumentException.class, () -> requeue.mustChoose(true));
    }

    @Test
    void aLogIsCutAtALine(@TempDir Path folder) throws Exception {
        Path log = folder.resolve("log");
        Files.writeString(log, "short\n");
        assertEquals("short\n", SupportBundle.tail(log));
        Files.writeString(log, "a line of some length\n".repeat(200_000));
        String tail = SupportBundle.tail(log);
        assertTrue(tail.startsWith("a line") && tail.length() > 1_900_000 && tail.length() < 2_000_001, () -> tail.length() + tail.substring(0, 30));
    }
}
