// SPDX-License-Identifier: Apache-2.0
package io.caravan.desk.internal;

import io.caravan.desk.internal.Streams.Told;
import io.caravan.runtime.HttpStream;
import java.io.ByteArrayOutputStream;
import java.nio.charset.StandardCharsets;
import java.util.List;

/** A client that follows with Server-Sent Events. It is given a piece when it has read the one before. */
final class Sse implements Streams.Follower {
  /** What a client does when the connection ends: wait so long, connect again with Last-Event-ID. */
  private static final byte[] HELLO = "retry: 2000\n: caravan\n\n".getBytes(StandardCharsets.UTF_8);
  private static final byte[] HEARTBEAT = ":\n\n".getBytes(StandardCharsets.UTF_8);

  private final Runnable wake;
  private volatile HttpStream stream;
  private volatile boolean closed;

  Sse(Runnable wake) {
    this.wake = wake;
  }

  void open(HttpStream to) {
    to.onClose(() -> {
      closed = true;
      wake.run();
    });
    to.onReady(wake);
    to.write(HELLO);
    stream = to;
    if (closed) {
      to.close();
    }
    wake.run();
  }

  @Override
  public boolean isReady() {
    HttpStream to = stream;
    return !closed && to != null && to.isReady();
  }

  @Override
  public void tell(List<Told> events) {
    if (events.isEmpty()) {
      stream.write(HEARTBEAT);
      return;
    }
    ByteArrayOutputStream bytes = new ByteArrayOutputStream(events.size() * 256);
    events.forEach(e -> bytes.writeBytes(e.wire()));
    stream.write(bytes.toByteArray());
  }

  @Override
  public boolean isClosed() {
    return closed;
  }

  @Override
  public void end() {
    closed = true;
    HttpStream to = stream;
    if (to != null) {
      to.close();
    }
  }
}
