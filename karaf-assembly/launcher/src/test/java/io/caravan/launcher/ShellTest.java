// SPDX-License-Identifier: Apache-2.0
package io.caravan.launcher;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.net.StandardProtocolFamily;
import java.net.UnixDomainSocketAddress;
import java.nio.ByteBuffer;
import java.nio.channels.ServerSocketChannel;
import java.nio.channels.SocketChannel;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.concurrent.TimeUnit;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** The process itself, with a socket that answers as a container does, or ends as one that dies does. */
class ShellTest {
    private static final long PROCESS_S = 60;

    @TempDir
    private Path work;
    private Path socket;

    private record Ran(int exit, String out, String err) { }

    @BeforeEach
    void place() {
        socket = work.resolve("shell.sock");
    }

    /** @param answer what the container sends before it closes the connection; null: it is not there */
    private Ran run(String mode, String answer) throws IOException, InterruptedException {
        Path out = work.resolve("out");
        Path err = work.resolve("err");
        try (ServerSocketChannel server = ServerSocketChannel.open(StandardProtocolFamily.UNIX)) {
            if (answer != null) {
                server.bind(UnixDomainSocketAddress.of(socket));
            }
            Path classes;
            try {
                classes = Path.of(Shell.class.getProtectionDomain().getCodeSource().getLocation().toURI());
            } catch (java.net.URISyntaxException e) {
                throw new IllegalStateException(e);
            }
            Process process = new ProcessBuilder(Path.of(System.getProperty("java.home"), "bin/java").toString(), "-cp", classes.toString(), Shell.class.getName(), socket.toString(), mode)
                .redirectOutput(out.toFile()).redirectError(err.toFile()).start();
            try {
                process.getOutputStream().write("sink:list".getBytes(StandardCharsets.UTF_8));
                process.getOutputStream().close();
                if (answer != null) {
                    try (SocketChannel client = server.accept()) {
                        ByteBuffer said = ByteBuffer.allocate(1_024);
                        while (client.read(said) >= 0) {
                            // Up to the end of what it is to do.
                        }
                        assertEquals(mode + "\nsink:list", new String(said.array(), 0, said.position(), StandardCharsets.UTF_8));
                        client.write(ByteBuffer.wrap(answer.getBytes(StandardCharsets.UTF_8)));
                    }
                }
                assertTrue(process.waitFor(PROCESS_S, TimeUnit.SECONDS));
            } finally {
                process.destroyForcibly();
            }
            return new Ran(process.exitValue(), Files.readString(out), Files.readString(err));
        }
    }

    @Test
    void endsWithTheStatusOfTheCommand() throws Exception {
        assertEquals(new Ran(0, "done\n", ""), run("exec", "done\n\0" + "0"));
        Files.delete(socket);
        assertEquals(new Ran(77, "no role\n", ""), run("exec", "no role\n\0" + "77"));
    }

    /** Whether it was done is not known; a script must not go on as if it was. */
    @Test
    void aContainerThatEndsBeforeTheCommandHasAResultIsNoSuccess() throws Exception {
        for (String answer : new String[] {"", "half of it\n", "all of it\n\0"}) {
            Ran ran = run("exec", answer);
            assertEquals(5, ran.exit, ran.toString());
            assertEquals(answer.replace("\0", ""), ran.out);
            assertTrue(ran.err.startsWith("caravan: the container closed the session before the command had a result"), ran.err);
            Files.delete(socket);
        }
    }

    @Test
    void aTerminalsSessionJustEnds() throws Exception {
        assertEquals(new Ran(0, "bye\n", ""), run("console dumb 80 24", "bye\n"));
    }

    @Test
    void withoutAContainerItSaysSo() throws Exception {
        Ran ran = run("exec", null);
        assertEquals(4, ran.exit);
        assertTrue(ran.err.contains("no container answers on [" + socket + "]"), ran.err);
        assertFalse(Files.exists(socket));
    }
}
