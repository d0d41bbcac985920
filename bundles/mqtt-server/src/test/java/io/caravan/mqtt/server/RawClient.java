// SPDX-License-Identifier: Apache-2.0
package io.caravan.mqtt.server;

import static java.nio.charset.StandardCharsets.UTF_8;

import java.io.ByteArrayOutputStream;
import java.io.DataInputStream;
import java.io.EOFException;
import java.io.IOException;
import java.net.Socket;
import java.net.SocketException;
import java.util.HexFormat;

/** Speaks MQTT byte by byte, so that a test can also speak it wrongly. */
final class RawClient implements AutoCloseable {
  private static final int READ_TIMEOUT_MS = 10_000;
  private final Socket socket;
  private final DataInputStream in;

  RawClient(int port) throws IOException {
    socket = new Socket("127.0.0.1", port);
    socket.setSoTimeout(READ_TIMEOUT_MS);
    in = new DataInputStream(socket.getInputStream());
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
    } catch (EOFException | SocketException e) {
      return "closed";
    }
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
