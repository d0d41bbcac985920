// SPDX-License-Identifier: Apache-2.0
package io.caravan.mqtt.server;

import static io.caravan.fuzz.Invariant.same;

import com.code_intelligence.jazzer.junit.DictionaryEntries;
import com.code_intelligence.jazzer.junit.FuzzTest;
import io.caravan.fuzz.Mqtt;
import io.caravan.mqtt.server.internal.Listener;
import io.micrometer.core.instrument.simple.SimpleMeterRegistry;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.InputStream;
import java.net.Socket;
import java.net.SocketException;
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
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

/**
 * Bytes to the gateway's own MQTT listener, over real sockets. What comes back is MQTT, what reaches the route is a beginning of what a
 * reader of its own finds in the bytes, what is acknowledged is in it, and another connection does not notice.
 */
class MqttFuzz {
  private static final int MAX_PACKET = 4096;
  private static final int HANG_MS = 20_000;
  private static final String NEIGHBOUR = "devices/neighbour/telemetry";
  private static final byte[] CONNECT_4 = {0x10, 13, 0, 4, 'M', 'Q', 'T', 'T', 4, 2, 0, 60, 0, 1, 'f'};
  private static final byte[] CONNECT_5 = {0x10, 14, 0, 4, 'M', 'Q', 'T', 'T', 5, 2, 0, 60, 0, 0, 1, 'f'};
  private static final Queue<Mqtt.Routed> RECEIVED = new ConcurrentLinkedQueue<>();
  private static DefaultCamelContext context;
  private static int port;
  private static Socket neighbour;
  private static int neighbours;

  /** Stand-in for the bean wal: everything is durable at once. */
  public static final class Store {
    public CompletionStage<Void> append(Exchange exchange) {
      String topic = exchange.getMessage().getHeader("CaravanTopic", String.class);
      if (!topic.equals(NEIGHBOUR)) {
        RECEIVED.add(new Mqtt.Routed(topic, new String(exchange.getMessage().getBody(byte[].class), StandardCharsets.ISO_8859_1)));
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
    Mqtt.judge(sent, answer.toByteArray(), cut, List.copyOf(RECEIVED));
    neighbourIsWell();
  }

  /** Without it a listener that takes nothing would break no rule. */
  @ParameterizedTest
  @ValueSource(booleans = {false, true})
  void whatIsInOrderIsRoutedAndAcknowledged(boolean v5) throws Exception {
    RECEIVED.clear();
    ByteArrayOutputStream sent = new ByteArrayOutputStream();
    sent.writeBytes(v5 ? CONNECT_5 : CONNECT_4);
    sent.writeBytes(publish("devices/d1/telemetry", 1, v5));
    sent.writeBytes(publish("devices/d1/events", 2, v5));
    ByteArrayOutputStream answer = new ByteArrayOutputStream();
    try (Socket socket = new Socket("127.0.0.1", port)) {
      socket.setSoTimeout(HANG_MS);
      socket.getOutputStream().write(sent.toByteArray());
      for (int packet = 0; packet < 3; packet++) {
        List<Integer> head = read(socket, 2);
        head.forEach(answer::write);
        read(socket, head.get(1)).forEach(answer::write);
      }
    }
    same(Mqtt.judge(sent.toByteArray(), answer.toByteArray(), false, List.copyOf(RECEIVED)), List.of(1, 2), "acknowledged");
    same(List.copyOf(RECEIVED), List.of(new Mqtt.Routed("devices/d1/telemetry", "{}"), new Mqtt.Routed("devices/d1/events", "{}")), "routed");
  }

  private static void neighbourIsWell() throws IOException {
    int id = neighbours++ % 65_535 + 1;
    neighbour.getOutputStream().write(publish(NEIGHBOUR, id, false));
    same(List.of(0x40, 2, id >> 8, id & 0xFF), read(neighbour, 4), "PUBACK of the neighbour");
  }

  /** QoS 1, of an empty JSON object. */
  private static byte[] publish(String topic, int id, boolean v5) {
    ByteArrayOutputStream packet = new ByteArrayOutputStream();
    packet.writeBytes(new byte[] {0x32, (byte) (topic.length() + (v5 ? 7 : 6)), 0, (byte) topic.length()});
    packet.writeBytes(topic.getBytes(StandardCharsets.US_ASCII));
    packet.writeBytes(v5 ? new byte[] {(byte) (id >> 8), (byte) id, 0, '{', '}'} : new byte[] {(byte) (id >> 8), (byte) id, '{', '}'});
    return packet.toByteArray();
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
}
