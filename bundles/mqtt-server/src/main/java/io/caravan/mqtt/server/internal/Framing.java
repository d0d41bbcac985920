// SPDX-License-Identifier: Apache-2.0
package io.caravan.mqtt.server.internal;

import io.netty.buffer.ByteBuf;
import io.netty.channel.ChannelHandlerContext;
import io.netty.handler.codec.ByteToMessageDecoder;
import java.util.List;

/**
 * Cuts the stream into whole MQTT packets before Netty's decoder sees them.
 *
 * <p>Netty's MqttDecoder checks a packet's size only after its variable header, and follows the lengths inside that
 * header beyond the packet's end: by declaring 256 MB of properties a stranger could make it collect as much. Here
 * nothing larger than the limit is collected, and a packet that does not decode to exactly one message, or whose
 * {@link Properties} are not as long as they say, ends the connection.
 */
final class Framing extends ByteToMessageDecoder {
  private static final int PACKET_TOO_LARGE = 0x95;
  private static final int MALFORMED = 0x81;
  private static final int CONNECT = 0x10;

  private final Session session;

  Framing(Session session) {
    this.session = session;
  }

  @Override
  protected void decode(ChannelHandlerContext context, ByteBuf in, List<Object> out) {
    if (session.ended()) {
      in.skipBytes(in.readableBytes());
      return;
    }
    int at = in.readerIndex() + 1;
    int length = 0;
    for (int shift = 0;; shift += 7) {
      if (at >= in.writerIndex()) {
        return;
      }
      int digit = in.getByte(at++);
      length |= (digit & 127) << shift;
      if (digit >= 0) {
        break;
      }
      if (shift == 21) {
        refuse(in, MALFORMED);
        return;
      }
    }
    int header = at - in.readerIndex();
    if (header + length > session.maxPacketBytes()) {
      refuse(in, PACKET_TOO_LARGE);
      return;
    }
    if (in.readableBytes() < header + length) {
      return;
    }
    long before = session.decoded();
    // The decoder reads from this very object; retained, because what is left in it is asked for afterwards.
    ByteBuf packet = in.readRetainedSlice(header + length).retain();
    try {
      if (!Properties.fit(packet, header, session.v5())) {
        packet.release();
        refuse(in, MALFORMED);
        return;
      }
      context.fireChannelRead(packet);
      if ((session.decoded() != before + 1 || packet.isReadable()) && !session.ended()) {
        refuse(in, MALFORMED);
      }
    } finally {
      if ((packet.getByte(0) & 0xF0) == CONNECT) {
        // It has the password, and the memory goes back to a pool.
        packet.setZero(0, packet.capacity());
      }
      packet.release();
    }
  }

  /**
   * Without what Netty's does besides: it takes a decoder that hands on its packets by itself, as this one does, for one that
   * got no whole packet yet, and reads on although the session has paused the socket.
   */
  @Override
  public void channelReadComplete(ChannelHandlerContext context) {
    discardSomeReadBytes();
    context.fireChannelReadComplete();
  }

  private void refuse(ByteBuf in, int reasonCode) {
    in.skipBytes(in.readableBytes());
    session.refusePacket(reasonCode);
  }
}
