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
import java.nio.file.attribute.PosixFileAttributeView;
import java.nio.file.attribute.PosixFilePermission;
import java.nio.file.attribute.PosixFilePermissions;
import java.security.PrivilegedAction;
import java.util.HashSet;
import java.util.Set;
import java.util.TreeSet;
import java.util.concurrent.ConcurrentHashMap;
import javax.security.auth.Subject;
import jdk.net.ExtendedSocketOptions;
import org.apache.karaf.jaas.boot.principal.RolePrincipal;
import org.apache.karaf.jaas.boot.principal.UserPrincipal;
import org.apache.karaf.shell.api.console.Session;
import org.apache.karaf.shell.api.console.SessionFactory;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/**
 * Runs shell commands for the users of this machine. Who is at the other end is what the kernel says of the connection
 * (SO_PEERCRED), not what the client does; {@link Access} says which roles that user has. The socket file can be opened by its
 * owner only, or by members of one group where that is asked for.
 *
 * <p>The first line a client sends is the mode. After {@code exec}, everything up to the end of its stream is run as one
 * script; the answer is the output without escape sequences, a zero byte and the exit status in decimal; an answer without it is of
 * a container that ended. After {@code console TERM
 * COLUMNS ROWS}, and {@code nocolor} where no colours are wanted, both directions are those of a terminal in raw mode.
 *
 * <p>This class is thread-safe.
 */
final class ConsoleServer implements AutoCloseable {

    private static final Logger LOG = LoggerFactory.getLogger(ConsoleServer.class);
    private static final int MAX_LINE_BYTES = 200;
    private static final int MAX_SCRIPT_BYTES = 1_048_576;
    private static final int REFUSED = 77;

    private final Path socket;
    private final Access access;
    private final SessionFactory sessions;
    private final ServerSocketChannel server;
    private final java.nio.file.attribute.UserPrincipal owner;
    private final java.nio.file.attribute.UserPrincipal root;
    private final Set<SocketChannel> clients = ConcurrentHashMap.newKeySet();

    ConsoleServer(Path socket, Access access, SessionFactory sessions) throws IOException {
        this.socket = socket;
        this.access = access;
        this.sessions = sessions;
        Files.deleteIfExists(socket);
        server = ServerSocketChannel.open(StandardProtocolFamily.UNIX);
        try {
            server.bind(UnixDomainSocketAddress.of(socket));
            Files.setPosixFilePermissions(socket, PosixFilePermissions.fromString("rw-------"));
            owner = Files.getOwner(socket);
            root = root();
            open(access.socketGroup());
        } catch (IOException | RuntimeException e) {
            server.close();
            throw e;
        }
        daemon("shell-socket", this::accept);
    }

    /** Lets members of a group open the socket. Where that does not work, only its owner can. */
    private void open(String group) {
        if (group == null) {
            return;
        }
        try {
            Files.getFileAttributeView(socket, PosixFileAttributeView.class)
                    .setGroup(socket.getFileSystem().getUserPrincipalLookupService().lookupPrincipalByGroupName(group));
            Files.setPosixFilePermissions(socket, PosixFilePermissions.fromString("rw-rw----"));
            // To come to the socket, not to see what else is there; all that is has a mode of its own.
            Set<PosixFilePermission> folder = new HashSet<>(Files.getPosixFilePermissions(socket.getParent()));
            folder.addAll(Set.of(PosixFilePermission.GROUP_EXECUTE, PosixFilePermission.OTHERS_EXECUTE));
            Files.setPosixFilePermissions(socket.getParent(), folder);
        } catch (IOException e) {
            LOG.warn("Members of group [{}] cannot open the shell's socket [{}]: {}; the group must exist, and the user of this process be a member of it",
                    group, socket, e.toString());
        }
    }

    private java.nio.file.attribute.UserPrincipal root() {
        try {
            return socket.getFileSystem().getUserPrincipalLookupService().lookupPrincipalByName("root");
        } catch (IOException e) {
            return null;
        }
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
            java.nio.file.attribute.UserPrincipal user = client.getOption(ExtendedSocketOptions.SO_PEERCRED).user();
            Set<String> roles = access.roles(user, owner, root);
            if (roles.isEmpty()) {
                LOG.warn("User [{}] of this machine has no role in the shell and was turned away", user.getName());
                out.write(("User [" + user.getName() + "] has no role in this shell: an admin gives one in etc/shell.access\n\0" + REFUSED)
                        .getBytes(StandardCharsets.UTF_8));
                // To close before the client has said everything would make it lose the answer.
                client.shutdownOutput();
                in.readNBytes(MAX_SCRIPT_BYTES);
                return;
            }
            if (mode[0].equals("exec")) {
                byte[] bytes = in.readNBytes(MAX_SCRIPT_BYTES + 1);
                if (bytes.length > MAX_SCRIPT_BYTES) {
                    out.write(("A script must not exceed " + MAX_SCRIPT_BYTES + " bytes: nothing of it was run\n\0" + 1).getBytes(StandardCharsets.UTF_8));
                    client.shutdownOutput();
                    in.skip(Long.MAX_VALUE);
                    return;
                }
                String script = new String(bytes, StandardCharsets.UTF_8);
                int status = as(user.getName(), roles, () -> execute(script, out, roles));
                out.write(("\0" + status).getBytes(StandardCharsets.US_ASCII));
            } else if (mode[0].equals("console") && (mode.length == 4 || mode.length == 5)) {
                RemoteTerminal terminal = new RemoteTerminal(in, out, mode[1], Integer.parseInt(mode[2]), Integer.parseInt(mode[3]));
                as(user.getName(), roles, () -> {
                    interact(terminal, user.getName(), mode.length == 5);
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

    private int execute(String script, OutputStream out, Set<String> roles) {
        PrintStream print = new PrintStream(new PlainStream(out), true, StandardCharsets.UTF_8);
        try (Session session = sessions.create(InputStream.nullInputStream(), print, print)) {
            Object result = session.execute(script);
            if (result != null) {
                print.println(result);
            }
            return 0;
        } catch (Exception e) {
            print.println(e.getMessage() == null ? e.toString() : e.getMessage());
            // Karaf hides what a user may not do.
            if (e.getClass().getSimpleName().equals("CommandNotFoundException") && !roles.contains("admin")) {
                print.println("Or it needs another role than you have (" + String.join(", ", new TreeSet<>(roles)) + ").");
            }
            return 1;
        } catch (Throwable e) { // A missing class of a command must not end the session without a status.
            LOG.error("A command of the shell failed", e);
            print.println(e);
            return 1;
        } finally {
            print.flush();
        }
    }

    private void interact(RemoteTerminal terminal, String user, boolean plain) {
        PrintStream print = new PrintStream(terminal.output(), true, StandardCharsets.UTF_8);
        try (Session session = sessions.create(terminal.input(), print, print, terminal, "UTF-8", () -> { })) {
            session.put("USER", user);
            session.put("APPLICATION", System.getProperty("karaf.name"));
            if (plain) {
                session.put("NO_COLOR", "1");
            }
            session.run();
        }
    }

    private static <T> T as(String user, Set<String> roles, PrivilegedAction<T> action) {
        Subject subject = new Subject();
        subject.getPrincipals().add(new UserPrincipal(user));
        roles.forEach(role -> subject.getPrincipals().add(new RolePrincipal(role)));
        subject.setReadOnly();
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
