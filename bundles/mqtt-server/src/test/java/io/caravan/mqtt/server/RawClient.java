// SPDX-License-Identifier: Apache-2.0
package io.caravan.mqtt.server;

import static java.nio.charset.StandardCharsets.UTF_8;

import java.io.ByteArrayOutputStream;
import java.io.DataInputStream;
import java.io.EOFException;
import java.io.IOException;
import java.net.InetAddress;
import java.net.Socket;
import java.net.SocketException;
import java.nio.ByteBuffer;
import java.nio.channels.SocketChannel;
import java.util.HexFormat;
import java.util.concurrent.TimeUnit;
import javax.net.ssl.SSLContext;
import javax.net.ssl.SSLException;
import javax.net.ssl.SSLSession;
import javax.net.ssl.SSLSocket;

/** Speaks MQTT byte by byte, so that a test can also speak it wrongly. */
final class RawClient implements AutoCloseable {
  private static final int READ_TIMEOUT_MS = 10_000;
  private final Socket socket;
  private final DataInputStream in;

  RawClient(int port) throws IOException {
    this(new Socket("127.0.0.1", port));
  }

  RawClient(Socket socket) throws IOException {
    this.socket = socket;
    socket.setSoTimeout(READ_TIMEOUT_MS);
    in = new DataInputStream(socket.getInputStream());
  }

  /** From another address of this machine, 127.0.0.2 for example. */
  static RawClient from(String address, int port) throws IOException {
    return new RawClient(new Socket("127.0.0.1", port, InetAddress.getByName(address), 0));
  }

  /** Shakes hands; a server that wants a certificate and got a bad one may say so only with the next read. */
  static RawClient tls(int port, SSLContext context, String... protocols) throws IOException {
    SSLSocket socket = (SSLSocket) context.getSocketFactory().createSocket("127.0.0.1", port);
    if (protocols.length > 0) {
      socket.setEnabledProtocols(protocols);
    }
    RawClient client = new RawClient(socket);
    socket.startHandshake();
    return client;
  }

  /** Connects and swallows CONNACK. */
  static RawClient connected(int port, int level, String clientId, int keepAliveSeconds) throws IOException {
    RawClient client = new RawClient(port);
    client.send(connect(level, clientId, keepAliveSeconds));
    String connack = client.receive();
    if (!connack.startsWith("20") || !connack.startsWith("0000", 4)) {
      throw new IOException("refused: " + connack);
    }
    return client;
  }

  static byte[] connect(int level, String clientId, String username, String password) {
    Packet packet = new Packet().text("MQTT").bytes(level, 0xC2).number(60);
    if (level == 5) {
      packet.bytes(0);
    }
    return packet.text(clientId).text(username).text(password).build(0x10);
  }

  static byte[] connect(int level, String clientId, int keepAliveSeconds) {
    Packet packet = new Packet().text("MQTT").bytes(level, 0x02).number(keepAliveSeconds);
    if (level == 5) {
      packet.bytes(0);
    }
    return packet.text(clientId).build(0x10);
  }

  static byte[] publish(int level, String topic, int qos, int packetId, byte[] body) {
    Packet packet = new Packet().text(topic);
    if (qos > 0) {
      packet.number(packetId);
    }
    if (level == 5) {
      packet.bytes(0);
    }
    return packet.raw(body).build(0x30 | qos << 1);
  }

  static byte[] subscribe(int level, int packetId, String filter, int qos) {
    Packet packet = new Packet().number(packetId);
    if (level == 5) {
      packet.bytes(0);
    }
    return packet.text(filter).bytes(qos).build(0x82);
  }

  void send(byte[] packet) throws IOException {
    socket.getOutputStream().write(packet);
    socket.getOutputStream().flush();
  }

  /** @return the next packet in hex; "closed" at the end of the connection */
  String receive() throws IOException {
    try {
      int type = in.readUnsignedByte();
      int length = 0;
      for (int shift = 0;; shift += 7) {
        int digit = in.readUnsignedByte();
        length |= (digit & 127) << shift;
        if (digit < 128) {
          break;
        }
      }
      byte[] rest = in.readNBytes(length);
      return HexFormat.of().toHexDigits((byte) type) + HexFormat.of().toHexDigits((byte) length) + HexFormat.of().formatHex(rest);
    } catch (EOFException | SocketException | SSLException e) {
      return "closed";
    }
  }

  /**
   * Sends the same bytes over and over, until the peer has not taken any for a second.
   *
   * @return how many were taken, max if it took so many
   */
  static long sendUntilHeld(SocketChannel to, byte[] bytes, long max) throws IOException, InterruptedException {
    to.configureBlocking(false);
    ByteBuffer buffer = ByteBuffer.wrap(bytes);
    long sent = 0;
    for (int idle = 0; idle < 50 && sent < max;) {
      int written = to.write(buffer);
      sent += written;
      buffer.position(buffer.position() % buffer.limit());
      if (written == 0) {
        TimeUnit.MILLISECONDS.sleep(20);
      }
      idle = written == 0 ? idle + 1 : 0;
    }
    return sent;
  }

  /** Sends a packet and returns the answer. */
  String ask(byte[] packet) throws IOException {
    try {
      send(packet);
    } catch (SocketException | SSLException e) {
      // The server may have closed already; what it said before that can still be read.
    }
    return receive();
  }

  /** @return in hex, what comes until the connection is closed */
  String untilClosed() throws IOException {
    ByteArrayOutputStream all = new ByteArrayOutputStream();
    try {
      for (int next = in.read(); next >= 0; next = in.read()) {
        all.write(next);
      }
    } catch (SocketException e) {
      // Closed with bytes unread.
    }
    return HexFormat.of().formatHex(all.toByteArray());
  }

  SSLSession tlsSession() {
    return ((SSLSocket) socket).getSession();
  }

  /** Leaves the peer without a word. */
  @Override
  public void close() throws IOException {
    socket.close();
  }

  static final class Packet {
    private final ByteArrayOutputStream out = new ByteArrayOutputStream();

    Packet text(String text) {
      byte[] bytes = text.getBytes(UTF_8);
      return number(bytes.length).raw(bytes);
    }

    Packet number(int number) {
      return bytes(number >> 8, number);
    }

    Packet bytes(int... bytes) {
      for (int each : bytes) {
        out.write(each);
      }
      return this;
    }

    Packet raw(byte[] bytes) {
      out.writeBytes(bytes);
      return this;
    }

    byte[] build(int first) {
      ByteArrayOutputStream packet = new ByteArrayOutputStream();
      packet.write(first);
      int length = out.size();
      do {
        packet.write(length > 127 ? length & 127 | 128 : length);
        length >>= 7;
      } while (length > 0);
      packet.writeBytes(out.toByteArray());
      return packet.toByteArray();
    }
  }
}
