// SPDX-License-Identifier: Apache-2.0
package io.caravan.console;

import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.InputStream;
import java.io.OutputStream;
import java.io.PrintStream;
import java.net.StandardProtocolFamily;
import java.net.UnixDomainSocketAddress;
import java.nio.channels.ClosedChannelException;
import java.nio.channels.ServerSocketChannel;
import java.nio.channels.SocketChannel;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.attribute.PosixFilePermissions;
import java.security.PrivilegedAction;
import java.util.Set;
import java.util.concurrent.ConcurrentHashMap;
import javax.security.auth.Subject;
import org.apache.karaf.jaas.boot.principal.RolePrincipal;
import org.apache.karaf.jaas.boot.principal.UserPrincipal;
import org.apache.karaf.shell.api.console.Session;
import org.apache.karaf.shell.api.console.SessionFactory;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/**
 * Runs shell commands for whoever may open the socket file, which is its owner only: the file's mode is the login. What
 * comes in runs with the roles of Karaf's local console.
 *
 * <p>The first line a client sends is the mode. After {@code exec}, everything up to the end of its stream is run as one
 * script; the answer is the output, a zero byte and the exit status in decimal. After {@code console TERM COLUMNS ROWS},
 * both directions are those of a terminal in raw mode.
 *
 * <p>This class is thread-safe.
 */
final class ConsoleServer implements AutoCloseable {

    private static final Logger LOG = LoggerFactory.getLogger(ConsoleServer.class);
    private static final int MAX_LINE_BYTES = 200;

    private final Path socket;
    private final SessionFactory sessions;
    private final ServerSocketChannel server;
    private final Set<SocketChannel> clients = ConcurrentHashMap.newKeySet();

    ConsoleServer(Path socket, SessionFactory sessions) throws IOException {
        this.socket = socket;
        this.sessions = sessions;
        Files.deleteIfExists(socket);
        server = ServerSocketChannel.open(StandardProtocolFamily.UNIX);
        try {
            server.bind(UnixDomainSocketAddress.of(socket));
            Files.setPosixFilePermissions(socket, PosixFilePermissions.fromString("rw-------"));
        } catch (IOException | RuntimeException e) {
            server.close();
            throw e;
        }
        daemon("shell-socket", this::accept);
    }

    private static void daemon(String name, Runnable task) {
        Thread thread = new Thread(task, name);
        thread.setDaemon(true);
        thread.start();
    }

    private void accept() {
        try {
            while (true) {
                SocketChannel client = server.accept();
                clients.add(client);
                daemon("shell-client", () -> serve(client));
            }
        } catch (ClosedChannelException e) {
            LOG.debug("Socket [{}] closed", socket);
        } catch (IOException e) {
            LOG.warn("No more shell sessions on socket [{}]: {}", socket, e.getMessage());
        }
    }

    private void serve(SocketChannel client) {
        try (client) {
            InputStream in = ChannelStreams.input(client);
            OutputStream out = ChannelStreams.output(client);
            String[] mode = readLine(in).split(" ");
            if (mode[0].equals("exec")) {
                String script = new String(in.readAllBytes(), StandardCharsets.UTF_8);
                int status = asLocalUser(() -> execute(script, out));
                out.write(("\0" + status).getBytes(StandardCharsets.US_ASCII));
            } else if (mode[0].equals("console") && mode.length == 4) {
                RemoteTerminal terminal = new RemoteTerminal(in, out, mode[1], Integer.parseInt(mode[2]), Integer.parseInt(mode[3]));
                asLocalUser(() -> {
                    interact(terminal);
                    return null;
                });
            } else {
                LOG.warn("Shell client asked for unknown mode [{}]", mode[0]);
            }
        } catch (IOException | RuntimeException e) {
            LOG.debug("Shell client gone", e);
        } finally {
            clients.remove(client);
        }
    }

    private int execute(String script, OutputStream out) {
        PrintStream print = new PrintStream(out, true, StandardCharsets.UTF_8);
        try (Session session = sessions.create(InputStream.nullInputStream(), print, print)) {
            Object result = session.execute(script);
            if (result != null) {
                print.println(result);
            }
            return 0;
        } catch (Exception e) {
            print.println(e.getMessage() == null ? e.toString() : e.getMessage());
            return 1;
        } finally {
            print.flush();
        }
    }

    private void interact(RemoteTerminal terminal) {
        PrintStream print = new PrintStream(terminal.output(), true, StandardCharsets.UTF_8);
        try (Session session = sessions.create(terminal.input(), print, print, terminal, "UTF-8", () -> { })) {
            session.put("USER", System.getProperty("karaf.local.user"));
            session.put("APPLICATION", System.getProperty("karaf.name"));
            session.run();
        }
    }

    private static <T> T asLocalUser(PrivilegedAction<T> action) {
        Subject subject = new Subject();
        subject.getPrincipals().add(new UserPrincipal(System.getProperty("karaf.local.user", "karaf")));
        for (String role : System.getProperty("karaf.local.roles", "").split(",")) {
            subject.getPrincipals().add(new RolePrincipal(role.trim()));
        }
        return Subject.doAs(subject, action);
    }

    private static String readLine(InputStream in) throws IOException {
        ByteArrayOutputStream line = new ByteArrayOutputStream();
        for (int b = in.read(); b >= 0 && b != '\n' && line.size() < MAX_LINE_BYTES; b = in.read()) {
            line.write(b);
        }
        return line.toString(StandardCharsets.US_ASCII);
    }

    @Override
    public void close() {
        try {
            server.close();
            for (SocketChannel client : clients) {
                client.close();
            }
            Files.deleteIfExists(socket);
        } catch (IOException e) {
            LOG.debug("Closing socket [{}]", socket, e);
        }
    }
}
