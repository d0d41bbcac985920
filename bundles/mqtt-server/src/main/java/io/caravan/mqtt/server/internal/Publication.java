// SPDX-License-Identifier: Apache-2.0
package io.caravan.mqtt.server.internal;

import org.apache.camel.AsyncCallback;
import org.apache.camel.Exchange;

/** One message a device published, from its arrival to its answer. Completed on any thread, answered on the event loop. */
final class Publication implements AsyncCallback {
  /** Not known yet. */
  static final int WAITING = -1;
  /** The route failed: no answer, so that the device sends the message again. */
  static final int FAILED = -2;
  static final int SUCCESS = 0x00;
  static final int NOT_AUTHORIZED = 0x87;
  static final int PAYLOAD_FORMAT_INVALID = 0x99;

  private final Session session;
  private final Exchange exchange;
  /** 0: QoS 0, no answer. */
  final int packetId;
  private final int bytes;
  /** Why the message was rejected; written before answer. */
  String detail;
  private volatile int answer = WAITING;

  Publication(Session session, Exchange exchange, int packetId, int bytes) {
    this.session = session;
    this.exchange = exchange;
    this.packetId = packetId;
    this.bytes = bytes;
  }

  /** A message that was refused without a route. */
  static Publication refused(Session session, int packetId, int answer, String detail) {
    Publication refused = new Publication(session, null, packetId, 0);
    refused.detail = detail;
    refused.answer = answer;
    return refused;
  }

  int answer() {
    return answer;
  }

  @Override
  public void done(boolean doneSync) {
    // The exchange is read first and not touched after: a pooled one is somebody else's from then on.
    int settled = session.listener().settle(this, exchange, bytes);
    answer = settled;
    session.wake();
  }
}
