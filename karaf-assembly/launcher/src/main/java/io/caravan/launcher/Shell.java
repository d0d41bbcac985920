// SPDX-License-Identifier: Apache-2.0
package io.caravan.launcher;

import java.io.IOException;
import java.io.InputStream;
import java.net.UnixDomainSocketAddress;
import java.nio.ByteBuffer;
import java.nio.channels.SocketChannel;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;

/**
 * Talks to the shell of a running container: {@code Shell SOCKET MODE}, the mode as the container's console bundle
 * defines it. Standard input is the script or the keyboard; the process ends with the script's status, or says why there is none.
 */
public final class Shell {

    private static final int NOT_RUNNING = 4;
    private static final int LOST = 5;

    private Shell() {
    }

    public static void main(String[] args) throws IOException {
        Path socket = Path.of(args[0]);
        String mode = args[1];
        try (SocketChannel channel = open(socket, mode)) {
            Thread sender = new Thread(() -> send(System.in, channel), "sender");
            sender.setDaemon(true);
            sender.start();
            System.exit(receive(channel, mode.equals("exec")));
        } catch (IOException e) {
            System.err.println("caravan: no container answers on [" + socket + "]: " + e.getMessage());
            System.exit(NOT_RUNNING);
        }
    }

    private static SocketChannel open(Path socket, String mode) throws IOException {
        SocketChannel channel = SocketChannel.open(UnixDomainSocketAddress.of(socket));
        try {
            channel.write(ByteBuffer.wrap((mode + "\n").getBytes(StandardCharsets.US_ASCII)));
            return channel;
        } catch (IOException e) {
            channel.close();
            throw e;
        }
    }

    private static void send(InputStream in, SocketChannel channel) {
        try {
            byte[] buffer = new byte[1024];
            for (int length = in.read(buffer); length >= 0; length = in.read(buffer)) {
                channel.write(ByteBuffer.wrap(buffer, 0, length));
            }
            channel.shutdownOutput();
        } catch (IOException e) {
            // The container closed the session; the receiver ends the process.
        }
    }

    /**
     * Copies the output up to the zero byte, or to the end where there is none, and reads the status behind it.
     *
     * @param script without a status it is not known how far it came; the end of a terminal's session has none
     */
    private static int receive(SocketChannel channel, boolean script) {
        StringBuilder status = new StringBuilder();
        boolean ended = false;
        boolean broken = false;
        String why = "the container closed the session";
        ByteBuffer buffer = ByteBuffer.allocate(8192);
        try {
            while (channel.read(buffer) >= 0) {
                buffer.flip();
                while (buffer.hasRemaining()) {
                    byte b = buffer.get();
                    if (ended) {
                        status.append((char) b);
                    } else if (b == 0) {
                        ended = true;
                    } else {
                        System.out.write(b);
                    }
                }
                System.out.flush();
                buffer.clear();
            }
        } catch (IOException e) {
            why = "the session broke: " + e.getMessage();
            broken = true;
        }
        if (status.toString().matches("[0-9]{1,3}")) {
            return Integer.parseInt(status.toString());
        }
        if (!script && !broken) {
            return 0;
        }
        System.err.println("caravan: " + why + " before the command had a result: it may have been done, in part or not at all");
        return LOST;
    }
}
