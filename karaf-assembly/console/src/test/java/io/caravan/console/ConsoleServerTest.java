// SPDX-License-Identifier: Apache-2.0
package io.caravan.console;

import static org.junit.jupiter.api.Assertions.assertEquals;

import java.io.IOException;
import java.lang.reflect.Proxy;
import java.net.UnixDomainSocketAddress;
import java.nio.ByteBuffer;
import java.nio.channels.SocketChannel;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import org.apache.karaf.shell.api.console.Session;
import org.apache.karaf.shell.api.console.SessionFactory;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

class ConsoleServerTest {
    @TempDir
    private Path work;

    private interface Run {
        Object execute(String script) throws Throwable;
    }

    private String exec(Run run) throws IOException {
        return exec("sink:list", run);
    }

    /** @return the whole answer */
    private String exec(String text, Run run) throws IOException {
        Session session = (Session) Proxy.newProxyInstance(getClass().getClassLoader(), new Class<?>[] {Session.class},
                (p, m, a) -> m.getName().equals("execute") ? run.execute(a[0].toString()) : null);
        SessionFactory sessions = (SessionFactory) Proxy.newProxyInstance(getClass().getClassLoader(), new Class<?>[] {SessionFactory.class}, (p, m, a) -> session);
        Path socket = work.resolve("shell.sock");
        try (ConsoleServer server = new ConsoleServer(socket, new Access(work.resolve("absent")), sessions); SocketChannel client = SocketChannel.open(UnixDomainSocketAddress.of(socket))) {
            ByteBuffer bytes = ByteBuffer.wrap(("exec\n" + text).getBytes(StandardCharsets.UTF_8));
            while (bytes.hasRemaining()) {
                client.write(bytes);
            }
            client.shutdownOutput();
            return new String(ChannelStreams.input(client).readAllBytes(), StandardCharsets.UTF_8);
        }
    }

    /** The status is behind the zero byte; without one it is not known how the command ended. */
    @Test
    void eachCommandHasAStatus() throws Exception {
        assertEquals("sink:list\n\0" + "0", exec(script -> script));
        assertEquals("no such sink\n\0" + "1", exec(script -> {
            throw new IllegalArgumentException("no such sink");
        }));
        assertEquals("java.lang.NoClassDefFoundError: com/example/Gone\n\0" + "1", exec(script -> {
            throw new NoClassDefFoundError("com/example/Gone");
        }));
        assertEquals("java.lang.StackOverflowError\n\0" + "1", exec(script -> {
            throw new StackOverflowError();
        }));
    }

    /** Half a script is another script. */
    @Test
    void whatIsTooLongIsNotRunInPart() throws Exception {
        String longest = "# " + "x".repeat(1_048_574);
        assertEquals("1048576\n\0" + "0", exec(longest, script -> "" + script.length()));
        assertEquals("A script must not exceed 1048576 bytes: nothing of it was run\n\0" + "1", exec(longest + "x", script -> "" + script.length()));
    }
}
