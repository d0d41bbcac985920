// SPDX-License-Identifier: Apache-2.0
package io.caravan.mqtt.server.internal;

import io.netty.buffer.ByteBuf;

/**
 * Whether the properties of an MQTT 5 packet are as long as their length says (MQTT 5, 2.2.2).
 *
 * <p>Netty's MqttDecoder reads whole properties until as many bytes are used up, of which it counts the length itself as one: the
 * last property may run over, and a single byte may be left. Of a PUBLISH it would find a payload that begins later, or sooner,
 * than it does for every other reader.
 */
final class Properties {
  private static final int CONNECT = 1;
  private static final int PUBLISH = 3;
  private static final int PUBCOMP = 7;
  private static final int SUBSCRIBE = 8;
  private static final int UNSUBSCRIBE = 10;
  private static final int DISCONNECT = 14;
  private static final int AUTH = 15;
  private static final int WILL = 4;

  private Properties() {}

  /**
   * @param packet a whole one; is left as it was
   * @param header bytes before its variable header
   * @param v5 what the connection speaks; a CONNECT says so itself
   * @return false: they are longer or shorter, or of no known kind. Whatever else is wrong with the packet is Netty's to find
   */
  static boolean fit(ByteBuf packet, int header, boolean v5) {
    int type = packet.getByte(packet.readerIndex()) >> 4 & 15;
    if (!v5 && type != CONNECT) {
      return true;
    }
    int begin = packet.readerIndex();
    try {
      packet.skipBytes(header);
      switch (type) {
        case CONNECT:
          text(packet);
          if (packet.readByte() != 5) {
            return true;
          }
          int flags = packet.readByte();
          packet.skipBytes(2);
          if (!block(packet)) {
            return false;
          }
          text(packet);
          return (flags & WILL) == 0 || block(packet);
        case PUBLISH:
          text(packet);
          packet.skipBytes((packet.getByte(begin) & 6) == 0 ? 0 : 2);
          return block(packet);
        case SUBSCRIBE, UNSUBSCRIBE:
          packet.skipBytes(2);
          return block(packet);
        case DISCONNECT, AUTH:
          return !packet.isReadable(2) || block(packet.skipBytes(1));
        default:
          // PUBACK and its like; a PINGREQ has none.
          return type <= PUBLISH || type > PUBCOMP || !packet.isReadable(4) || block(packet.skipBytes(3));
      }
    } catch (IndexOutOfBoundsException e) {
      return true;
    } finally {
      packet.readerIndex(begin);
    }
  }

  private static boolean block(ByteBuf in) {
    int length = number(in);
    try {
      return properties(in, in.readerIndex() + length);
    } catch (IndexOutOfBoundsException e) {
      return false;
    }
  }

  private static boolean properties(ByteBuf in, int end) {
    while (in.readerIndex() < end) {
      switch (in.readByte()) {
        case 1, 23, 25, 36, 37, 40, 41, 42 -> in.skipBytes(1);
        case 19, 33, 34, 35 -> in.skipBytes(2);
        case 2, 17, 24, 39 -> in.skipBytes(4);
        case 11 -> number(in);
        case 3, 8, 9, 18, 21, 22, 26, 28, 31 -> text(in);
        case 38 -> {
          text(in);
          text(in);
        }
        default -> {
          return false;
        }
      }
    }
    return in.readerIndex() == end;
  }

  private static void text(ByteBuf in) {
    in.skipBytes(in.readUnsignedShort());
  }

  private static int number(ByteBuf in) {
    int number = 0;
    for (int shift = 0; shift <= 21; shift += 7) {
      int digit = in.readByte();
      number |= (digit & 127) << shift;
      if (digit >= 0) {
        break;
      }
    }
    return number;
  }
}
