// SPDX-License-Identifier: Apache-2.0
package io.caravan.fuzz;

import static io.caravan.fuzz.Invariant.that;

import java.nio.ByteBuffer;
import java.nio.charset.CharacterCodingException;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;

/** What an MQTT listener may answer, and route, to what a client sent: by the standard and the contract, not by Netty. */
public final class Mqtt {
  private static final String TOPIC = "devices/(?!.*\\.\\.)[A-Za-z0-9][A-Za-z0-9._-]{0,63}/(telemetry|events|capabilities|command-status|reported)";

  /** What reached the route. */
  public record Routed(String topic, String body) {}

  private record Published(String topic, int qos, int id, String body) {
    boolean wanted() {
      return topic.matches(TOPIC);
    }
  }

  /** A PUBACK; of MQTT 5 it may be a refusal. */
  private record Ack(int id, int code) {}

  private Mqtt() {}

  /**
   * @param sent from the first byte of the connection
   * @param answer all bytes that came back
   * @param cut the end was not an orderly one, so that the last packet may be torn
   * @param routed in their order
   * @return ids of the messages that were acknowledged
   */
  public static List<Integer> judge(byte[] sent, byte[] answer, boolean cut, List<Routed> routed) {
    List<byte[]> packets = packets(answer, cut);
    List<Published> published = published(sent);
    List<Ack> acks = new ArrayList<>();
    boolean v5 = v5(sent);
    for (int i = 0; i < packets.size(); i++) {
      byte[] packet = packets.get(i);
      int type = packet[0] & 0xF0;
      that((i == 0) == (type == 0x20), "CONNACK, and nothing else, comes first");
      that(type == 0x20 || type == 0x40 || type == 0x90 || type == 0xB0 || type == 0xD0 || type == 0xE0, "a server does not send " + type + " here");
      if (type == 0x40) {
        acks.add(new Ack((packet[2] & 0xFF) << 8 | packet[3] & 0xFF, packet.length > 4 ? packet[4] & 0xFF : 0));
      }
      // What it says when handling a packet threw.
      that(type != 0xE0 || packet.length < 3 || packet[2] != (byte) 0x80, "a packet was not handled: DISCONNECT 0x80");
      that(type != 0xE0 || i == packets.size() - 1 && v5, "DISCONNECT is the last packet, and of MQTT 5");
    }
    List<Routed> expected = published.stream().filter(Published::wanted).map(p -> new Routed(p.topic, p.body)).toList();
    that(routed.size() <= expected.size() && expected.subList(0, routed.size()).equals(routed), "the route got " + routed + " out of " + expected);
    // In the order of sending: what is acknowledged reached the route, and each before it that had to.
    int wanted = 0;
    int answered = 0;
    List<Integer> taken = new ArrayList<>();
    for (Published each : published) {
      wanted += each.wanted() ? 1 : 0;
      if (each.qos == 0 || answered == acks.size()) {
        continue;
      }
      Ack ack = acks.get(answered++);
      that(ack.id == each.id, "acknowledged " + acks + ", sent " + published);
      if (ack.code == 0) {
        that(each.wanted() && wanted <= routed.size(), "acknowledged " + each + ", which did not reach the route: " + routed);
        taken.add(ack.id);
      }
    }
    that(answered == acks.size(), "acknowledged " + acks + ", sent " + published);
    return taken;
  }

  /** Of the protocol name any length is possible, but only one is accepted. */
  private static boolean v5(byte[] sent) {
    return sent.length > 8 && sent[8] == 5;
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
      packets.add(Arrays.copyOfRange(bytes, begin, in.position()));
    }
    return packets;
  }

  /** The PUBLISH packets up to the first thing that is no packet. */
  private static List<Published> published(byte[] bytes) {
    List<Published> published = new ArrayList<>();
    ByteBuffer in = ByteBuffer.wrap(bytes);
    boolean v5 = v5(bytes);
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
