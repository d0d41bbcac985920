// SPDX-License-Identifier: Apache-2.0
package io.caravan.mqtt.server;

import static io.caravan.fuzz.Invariant.same;
import static io.caravan.fuzz.Invariant.that;

import com.code_intelligence.jazzer.junit.DictionaryEntries;
import com.code_intelligence.jazzer.junit.FuzzTest;
import io.caravan.mqtt.server.internal.Listener;
import io.micrometer.core.instrument.simple.SimpleMeterRegistry;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.InputStream;
import java.net.Socket;
import java.net.SocketException;
import java.nio.ByteBuffer;
import java.nio.charset.CharacterCodingException;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.List;
import java.util.Queue;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CompletionStage;
import java.util.concurrent.ConcurrentLinkedQueue;
import org.apache.camel.Exchange;
import org.apache.camel.builder.RouteBuilder;
import org.apache.camel.impl.DefaultCamelContext;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.BeforeAll;

/**
 * Bytes to the gateway's own MQTT listener, over real sockets. What comes back is MQTT, what reaches the route is a beginning of what a
 * reader of its own finds in the bytes, and another connection does not notice.
 */
class MqttFuzz {
  private static final int MAX_PACKET = 4096;
  private static final int HANG_MS = 20_000;
  private static final String TOPIC = "devices/(?!.*\\.\\.)[A-Za-z0-9][A-Za-z0-9._-]{0,63}/(telemetry|events|capabilities|command-status|reported)";
  private static final String NEIGHBOUR = "devices/neighbour/telemetry";
  private static final byte[] CONNECT_4 = {0x10, 13, 0, 4, 'M', 'Q', 'T', 'T', 4, 2, 0, 60, 0, 1, 'f'};
  private static final byte[] CONNECT_5 = {0x10, 14, 0, 4, 'M', 'Q', 'T', 'T', 5, 2, 0, 60, 0, 0, 1, 'f'};
  private static final Queue<Published> RECEIVED = new ConcurrentLinkedQueue<>();
  private static DefaultCamelContext context;
  private static int port;
  private static Socket neighbour;
  private static int neighbours;

  record Published(String topic, int qos, int id, String body) {}

  /** Stand-in for the bean wal: everything is durable at once. */
  public static final class Store {
    public CompletionStage<Void> append(Exchange exchange) {
      String topic = exchange.getMessage().getHeader("CaravanTopic", String.class);
      if (!topic.equals(NEIGHBOUR)) {
        RECEIVED.add(new Published(topic, 0, 0, new String(exchange.getMessage().getBody(byte[].class), StandardCharsets.ISO_8859_1)));
      }
      exchange.setVariable("outcome", "durable");
      return CompletableFuture.completedFuture(null);
    }
  }

  @BeforeAll
  static void start() throws Exception {
    context = new DefaultCamelContext();
    context.getRegistry().bind("metricsRegistry", new SimpleMeterRegistry());
    context.getRegistry().bind("store", new Store());
    context.addRoutes(new RouteBuilder() {
      @Override
      public void configure() {
        errorHandler(noErrorHandler());
        from("mqtt-server:devices?port=0&connectsPerS=0&maxPending=5000&maxPendingPerAddress=5000&maxConnectionsPerDevice=1000&maxPacketBytes="
            + MAX_PACKET).routeId("in").bean("store", "append");
      }
    });
    context.start();
    port = ((Listener) context.getRoute("in").getConsumer()).actualPort();
    neighbour = new Socket("127.0.0.1", port);
    neighbour.setSoTimeout(HANG_MS);
    neighbour.getOutputStream().write(new byte[] {0x10, 21, 0, 4, 'M', 'Q', 'T', 'T', 4, 2, 0, 0, 0, 9, 'n', 'e', 'i', 'g', 'h', 'b', 'o', 'u', 'r'});
    same(List.of(0x20, 2, 0, 0), read(neighbour, 4), "CONNACK of the neighbour");
  }

  @AfterAll
  static void stop() throws IOException {
    neighbour.close();
    context.stop();
  }

  /** Input: a byte that says whether a CONNECT of MQTT 3.1.1 or 5 goes before, then the bytes. */
  @FuzzTest
  @DictionaryEntries({"MQTT", "MQIsdp", "devices/d1/telemetry", "devices/d1/events", "devices/d1/commands", "devices/d1/receipts", "gateways/g1/control", "$share/a/b", "+", "#",
      "caravan-idempotency-key", "caravan-signature", "application/json"})
  void bytes(byte[] input) throws Exception {
    int mode = input.length == 0 ? 0 : Math.floorMod(input[0], 3);
    byte[] before = mode == 0 ? new byte[0] : mode == 1 ? CONNECT_4 : CONNECT_5;
    byte[] sent = new byte[before.length + Math.max(0, input.length - 1)];
    System.arraycopy(before, 0, sent, 0, before.length);
    System.arraycopy(input, Math.min(1, input.length), sent, before.length, sent.length - before.length);

    RECEIVED.clear();
    ByteArrayOutputStream answer = new ByteArrayOutputStream();
    boolean cut = exchange(sent, answer);
    List<byte[]> packets = packets(answer.toByteArray(), cut);
    List<Published> published = published(sent);

    List<Integer> acknowledged = new ArrayList<>();
    boolean v5 = sent.length > 8 && sent[8] == 5;
    for (int i = 0; i < packets.size(); i++) {
      byte[] packet = packets.get(i);
      int type = packet[0] & 0xF0;
      that((i == 0) == (type == 0x20), "CONNACK, and nothing else, comes first");
      that(type == 0x20 || type == 0x40 || type == 0x90 || type == 0xB0 || type == 0xD0 || type == 0xE0, "a server does not send " + type + " here");
      if (type == 0x40) {
        acknowledged.add((packet[2] & 0xFF) << 8 | packet[3] & 0xFF);
      }
      // What it says when handling a packet threw.
      that(type != 0xE0 || packet.length < 3 || packet[2] != (byte) 0x80, "a packet was not handled: DISCONNECT 0x80");
      that(type != 0xE0 || i == packets.size() - 1 && v5, "DISCONNECT is the last packet, and of MQTT 5");
    }
    List<Published> expected = published.stream().filter(p -> p.topic.matches(TOPIC)).map(p -> new Published(p.topic, 0, 0, p.body)).toList();
    List<Published> got = List.copyOf(RECEIVED);
    that(got.size() <= expected.size() && expected.subList(0, got.size()).equals(got), "the route got " + got + " out of " + expected);
    List<Integer> ids = published.stream().filter(p -> p.qos == 1).map(Published::id).toList();
    that(acknowledged.size() <= ids.size() && ids.subList(0, acknowledged.size()).equals(acknowledged), "acknowledged " + acknowledged + " of " + ids);
    neighbourIsWell();
  }

  private static void neighbourIsWell() throws IOException {
    int id = neighbours++ % 65_535 + 1;
    ByteArrayOutputStream packet = new ByteArrayOutputStream();
    packet.writeBytes(new byte[] {0x32, (byte) (NEIGHBOUR.length() + 6), 0, (byte) NEIGHBOUR.length()});
    packet.writeBytes(NEIGHBOUR.getBytes(StandardCharsets.US_ASCII));
    packet.writeBytes(new byte[] {(byte) (id >> 8), (byte) id, '{', '}'});
    neighbour.getOutputStream().write(packet.toByteArray());
    same(List.of(0x40, 2, id >> 8, id & 0xFF), read(neighbour, 4), "PUBACK of the neighbour");
  }

  /** @return whether the end was not an orderly one, so that the last packet may be torn */
  private static boolean exchange(byte[] sent, ByteArrayOutputStream answer) throws IOException {
    try (Socket socket = new Socket("127.0.0.1", port)) {
      socket.setSoTimeout(HANG_MS);
      try {
        socket.getOutputStream().write(sent);
        socket.shutdownOutput();
        InputStream in = socket.getInputStream();
        byte[] buffer = new byte[4096];
        for (int n = in.read(buffer); n >= 0; n = in.read(buffer)) {
          answer.write(buffer, 0, n);
        }
        return false;
      } catch (SocketException e) {
        return true;
      }
    }
  }

  private static List<Integer> read(Socket socket, int count) throws IOException {
    List<Integer> read = new ArrayList<>();
    for (byte each : socket.getInputStream().readNBytes(count)) {
      read.add(each & 0xFF);
    }
    return read;
  }

  private static List<byte[]> packets(byte[] bytes, boolean cut) {
    List<byte[]> packets = new ArrayList<>();
    ByteBuffer in = ByteBuffer.wrap(bytes);
    while (in.hasRemaining()) {
      int begin = in.position();
      in.get();
      int length = number(in);
      if (length < 0 || length > in.remaining()) {
        that(cut, "the answer ends within a packet");
        return packets;
      }
      that(length < 128, "answers are small");
      in.position(in.position() + length);
      packets.add(java.util.Arrays.copyOfRange(bytes, begin, in.position()));
    }
    return packets;
  }

  /** The PUBLISH packets up to the first thing that is no packet; by the standard, not by Netty. */
  private static List<Published> published(byte[] bytes) {
    List<Published> published = new ArrayList<>();
    ByteBuffer in = ByteBuffer.wrap(bytes);
    // Of the protocol name any length is possible, but only one is accepted.
    boolean v5 = bytes.length > 8 && bytes[8] == 5;
    while (in.hasRemaining()) {
      int head = in.get() & 0xFF;
      int length = number(in);
      if (length < 0 || length > in.remaining()) {
        return published;
      }
      ByteBuffer packet = in.slice(in.position(), length);
      in.position(in.position() + length);
      if (head >> 4 == 3) {
        Published one = publish(head, packet, v5);
        if (one == null) {
          return published;
        }
        published.add(one);
      }
    }
    return published;
  }

  private static Published publish(int head, ByteBuffer in, boolean v5) {
    int qos = head >> 1 & 3;
    if (in.remaining() < 2) {
      return null;
    }
    int length = in.getShort() & 0xFFFF;
    if (length > in.remaining() || qos > 1) {
      return null;
    }
    String topic;
    try {
      topic = StandardCharsets.UTF_8.newDecoder().decode(in.slice(in.position(), length)).toString();
    } catch (CharacterCodingException e) {
      return null;
    }
    in.position(in.position() + length);
    int id = 0;
    if (qos > 0) {
      if (in.remaining() < 2) {
        return null;
      }
      id = in.getShort() & 0xFFFF;
      if (id == 0) {
        return null;
      }
    }
    if (v5) {
      int properties = number(in);
      if (properties < 0 || properties > in.remaining()) {
        return null;
      }
      in.position(in.position() + properties);
    }
    byte[] body = new byte[in.remaining()];
    in.get(body);
    return new Published(topic, qos, id, new String(body, StandardCharsets.ISO_8859_1));
  }

  /** @return a variable byte integer; -1: there is none */
  private static int number(ByteBuffer in) {
    int number = 0;
    for (int shift = 0; shift <= 21 && in.hasRemaining(); shift += 7) {
      int digit = in.get();
      number |= (digit & 127) << shift;
      if (digit >= 0) {
        return number;
      }
    }
    return -1;
  }
}
