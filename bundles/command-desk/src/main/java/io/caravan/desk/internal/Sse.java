// SPDX-License-Identifier: Apache-2.0
package io.caravan.desk.internal;

import io.caravan.desk.internal.Streams.Told;
import io.caravan.runtime.HttpStream;
import java.io.ByteArrayOutputStream;
import java.util.List;

/** A client that follows with Server-Sent Events. */
final class Sse implements Streams.Follower {
  private final io.caravan.runtime.Sse client;

  Sse(Runnable wake) {
    client = new io.caravan.runtime.Sse(wake);
  }

  void open(HttpStream to) {
    client.open(to);
  }

  @Override
  public boolean isReady() {
    return client.isReady();
  }

  @Override
  public void tell(List<Told> events) {
    if (events.isEmpty()) {
      client.heartbeat();
      return;
    }
    ByteArrayOutputStream bytes = new ByteArrayOutputStream(events.size() * 256);
    events.forEach(e -> bytes.writeBytes(e.wire()));
    client.write(bytes.toByteArray());
  }

  @Override
  public boolean isClosed() {
    return client.isClosed();
  }

  @Override
  public void end() {
    client.end();
  }
}
