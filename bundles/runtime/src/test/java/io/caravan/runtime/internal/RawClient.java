// SPDX-License-Identifier: Apache-2.0
package io.caravan.runtime.internal;

import java.io.ByteArrayOutputStream;
import java.io.EOFException;
import java.io.IOException;
import java.io.InputStream;
import java.net.InetAddress;
import java.net.InetSocketAddress;
import java.net.Socket;
import java.nio.charset.StandardCharsets;
import java.util.Map;
import java.util.TreeMap;

/** HTTP as an attacker writes it: bytes. */
final class RawClient implements AutoCloseable {

    record Answer(int status, Map<String, String> headers, String body) {}

    private static final int TIMEOUT_MS = 20_000;

    private final Socket socket;
    private final InputStream in;

    RawClient(int port) throws IOException {
        this(port, "127.0.0.1");
    }

    /** @param from address of this machine that the server sees */
    RawClient(int port, String from) throws IOException {
        this(new Socket(), port, from);
    }

    RawClient(Socket socket, int port, String from) throws IOException {
        this.socket = socket;
        if (!socket.isConnected()) {
            socket.bind(new InetSocketAddress(InetAddress.getByName(from), 0));
            socket.connect(new InetSocketAddress("127.0.0.1", port), TIMEOUT_MS);
        }
        socket.setSoTimeout(TIMEOUT_MS);
        socket.setTcpNoDelay(true);
        in = socket.getInputStream();
    }

    RawClient send(String text) throws IOException {
        return send(text.getBytes(StandardCharsets.ISO_8859_1));
    }

    RawClient send(byte[] bytes) throws IOException {
        socket.getOutputStream().write(bytes);
        socket.getOutputStream().flush();
        return this;
    }

    /** Sends byte after byte, each a while after the other, for as long as the server takes them. */
    Thread trickle(String text, int pauseMs) {
        Thread thread = new Thread(() -> {
            try {
                for (byte b : text.getBytes(StandardCharsets.ISO_8859_1)) {
                    send(new byte[] {b});
                    Thread.sleep(pauseMs);
                }
            } catch (IOException | InterruptedException e) {
                // Cut: what the test is about.
            }
        });
        thread.setDaemon(true);
        thread.start();
        return thread;
    }

    /** @throws EOFException the server closed without an answer */
    Answer read() throws IOException {
        String first = line();
        if (!first.matches("HTTP/1\\.[01] \\d{3} .*")) {
            throw new IOException("no answer of HTTP/1: [" + first + "]");
        }
        Map<String, String> headers = new TreeMap<>(String.CASE_INSENSITIVE_ORDER);
        for (String line = line(); !line.isEmpty(); line = line()) {
            int colon = line.indexOf(':');
            headers.merge(line.substring(0, colon), line.substring(colon + 1).trim(), (a, b) -> a + ", " + b);
        }
        ByteArrayOutputStream body = new ByteArrayOutputStream();
        if (headers.containsKey("Content-Length")) {
            body.write(in.readNBytes(Integer.parseInt(headers.get("Content-Length"))));
        } else if ("chunked".equals(headers.get("Transfer-Encoding"))) {
            for (int size = Integer.parseInt(line(), 16); size > 0; size = Integer.parseInt(line(), 16)) {
                body.write(in.readNBytes(size));
                line();
            }
            line();
        }
        return new Answer(Integer.parseInt(first.split(" ")[1]), headers, body.toString(StandardCharsets.UTF_8));
    }

    /** Whether the server has closed, after what it may still have sent. */
    boolean closed() throws IOException {
        try {
            return in.read() < 0;
        } catch (java.net.SocketException e) {
            return true;
        }
    }

    private String line() throws IOException {
        StringBuilder line = new StringBuilder();
        while (true) {
            int b = in.read();
            if (b < 0) {
                throw new EOFException("closed after [" + line + "]");
            }
            if (b == '\n') {
                return line.toString();
            }
            if (b != '\r') {
                line.append((char) b);
            }
        }
    }

    @Override
    public void close() throws IOException {
        socket.close();
    }
}
