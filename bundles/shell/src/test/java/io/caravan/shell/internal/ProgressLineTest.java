// SPDX-License-Identifier: Apache-2.0
package io.caravan.shell.internal;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.caravan.runtime.Task;
import io.caravan.runtime.TaskCancelledException;
import io.caravan.runtime.Tasks;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.OutputStream;
import java.io.PrintStream;
import java.lang.reflect.Proxy;
import java.nio.charset.StandardCharsets;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.atomic.AtomicReference;
import org.apache.camel.util.json.JsonObject;
import org.apache.camel.util.json.Jsoner;
import org.apache.karaf.shell.api.console.Session;
import org.apache.karaf.shell.api.console.Signal;
import org.apache.karaf.shell.api.console.SignalListener;
import org.apache.karaf.shell.api.console.Terminal;
import org.junit.jupiter.api.Test;

/** How far long work is, on a terminal and without one, and how it ends. */
class ProgressLineTest {
    private final Tasks tasks = new Tasks();
    private final ByteArrayOutputStream printed = new ByteArrayOutputStream();
    private final AtomicReference<SignalListener> listener = new AtomicReference<>();
    private final CountDownLatch begun = new CountDownLatch(1);

    private Session session(OutputStream out, boolean terminal) {
        PrintStream console = new PrintStream(out, true, StandardCharsets.UTF_8);
        Object keys = Proxy.newProxyInstance(getClass().getClassLoader(), new Class<?>[] {Terminal.class}, (proxy, method, arguments) -> {
            if (method.getName().equals("addSignalListener")) {
                listener.set((SignalListener) arguments[0]);
            } else if (method.getName().equals("removeSignalListener")) {
                listener.set(null);
            }
            return null;
        });
        return (Session) Proxy.newProxyInstance(getClass().getClassLoader(), new Class<?>[] {Session.class}, (proxy, method, arguments) ->
                switch (method.getName()) {
                    case "getConsole" -> console;
                    case "getTerminal" -> terminal ? keys : null;
                    default -> null;
                });
    }

    /** Never done by itself. */
    private Object endless(Task task) {
        task.total(100);
        task.progress(7);
        begun.countDown();
        while (true) {
            task.check();
            Thread.onSpinWait();
        }
    }

    private Object run(ProgressLine line) {
        return line.run(() -> tasks.run("wal:verify", "", "rows", "run it again, it starts anew", this::endless));
    }

    @Test
    void controlCEndsItAndTheLineGoesAway() throws Exception {
        Thread person = new Thread(() -> {
            try {
                begun.await();
                listener.get().signal(Signal.INT);
            } catch (InterruptedException e) {
                Thread.currentThread().interrupt();
            }
        });
        person.start();
        TaskCancelledException e = assertThrows(TaskCancelledException.class, () -> run(new ProgressLine(tasks, session(printed, true), false, 0)));
        assertEquals("cancelled after 7 of 100 rows; run it again, it starts anew", e.getMessage());
        person.join();
        String text = printed.toString(StandardCharsets.UTF_8);
        assertTrue(text.isEmpty() || text.startsWith("\r") && text.endsWith("\r\u001b[K") && !text.contains("\n"), text);
        assertEquals(null, listener.get(), "the terminal is given back");
    }

    @Test
    void interruptOfTheShellEndsItToo() throws Exception {
        AtomicReference<Throwable> ended = new AtomicReference<>();
        Thread shell = new Thread(() -> {
            try {
                run(new ProgressLine(tasks, session(printed, false), false, 60_000));
            } catch (RuntimeException e) {
                ended.set(e);
            }
        });
        shell.start();
        begun.await();
        shell.interrupt();
        shell.join();
        assertEquals(TaskCancelledException.class, ended.get().getClass());
        assertEquals("cancelled", tasks.list().get(0).state());
    }

    @Test
    void withoutATerminalItIsALineAndAClientThatIsGoneEndsIt() throws Exception {
        OutputStream gone = new OutputStream() {
            @Override
            public void write(int b) throws IOException {
                printed.write(b);
                if (b == '\n') {
                    throw new IOException("Broken pipe");
                }
            }
        };
        assertThrows(TaskCancelledException.class, () -> run(new ProgressLine(tasks, session(gone, false), true, 0)));
        String line = printed.toString(StandardCharsets.UTF_8).lines().findFirst().orElseThrow();
        JsonObject progress = (JsonObject) ((JsonObject) Jsoner.deserialize(line)).get("progress");
        assertEquals("wal:verify", progress.get("name"));
        assertEquals("running", progress.get("state"));
        assertEquals(0.07, ((Number) progress.get("ratio")).doubleValue(), 1e-9);
    }

    /** Negative control: what is quick says nothing of how far it is, and its result and its errors are its own. */
    @Test
    void whatIsQuickSaysNothing() {
        ProgressLine line = new ProgressLine(tasks, session(printed, true), false, 0);
        assertEquals(42, line.<Integer>run(() -> tasks.run("wal:replay", "kafka", "rows", "again", task -> 42)));
        assertEquals("no sink [x]", assertThrows(IllegalArgumentException.class, () -> line.run(() -> {
            throw new IllegalArgumentException("no sink [x]");
        })).getMessage());
        assertFalse(printed.toString(StandardCharsets.UTF_8).contains("%"));
    }
}
