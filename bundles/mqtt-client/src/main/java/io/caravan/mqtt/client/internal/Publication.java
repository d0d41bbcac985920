// SPDX-License-Identifier: Apache-2.0
package io.caravan.mqtt.client.internal;

import java.util.LinkedHashMap;
import java.util.Map;
import java.util.concurrent.TimeUnit;
import java.util.function.BooleanSupplier;
import org.eclipse.paho.mqttv5.client.IMqttToken;
import org.eclipse.paho.mqttv5.client.MqttActionListener;
import org.eclipse.paho.mqttv5.common.packet.MqttProperties;

/**
 * The publications of one batch that are on their way: at most a window of them at a time, so that a line of 50 ms does not
 * make 20 messages a second. Thread-safe: one thread publishes and waits, Paho's tell what came back. User context of each
 * publication is the sequence of its row.
 */
public final class Publication implements MqttActionListener {
  private static final long LOOK_MS = 500;
  private static final int REASON_MAX = 200;

  private final Meters meters;
  private final BooleanSupplier connected;
  private final Map<Long, Integer> refused = new LinkedHashMap<>();
  private final Map<Long, String> reasons = new LinkedHashMap<>();
  private int inFlight;
  private int accepted;
  private int later;
  private boolean over;
  private Throwable lost;
  private long progress = System.nanoTime();

  /** @param connected whether answers may still come: Paho does not tell of every end */
  public Publication(Meters meters, BooleanSupplier connected) {
    this.meters = meters;
    this.connected = connected;
  }

  /**
   * Waits for room, and takes it.
   *
   * @param silenceMs longest time without any answer while some are open
   * @return false: it lasted longer than that, or the connection is gone
   */
  public synchronized boolean enter(int window, long silenceMs) throws InterruptedException {
    if (!await(window - 1, silenceMs)) {
      return false;
    }
    if (inFlight == 0) {
      progress = System.nanoTime();
    }
    inFlight++;
    return true;
  }

  /** It was not sent after all. */
  public synchronized void leave() {
    inFlight--;
  }

  /** Waits for all answers. @return false: not all came, see {@link #enter} */
  public synchronized boolean awaitAll(long silenceMs) throws InterruptedException {
    return await(0, silenceMs);
  }

  private boolean await(int open, long silenceMs) throws InterruptedException {
    while (lost == null && inFlight > open) {
      long left = silenceMs - TimeUnit.NANOSECONDS.toMillis(System.nanoTime() - progress);
      if (left <= 0 || !connected.getAsBoolean()) {
        return false;
      }
      wait(Math.min(left, LOOK_MS));
    }
    return lost == null;
  }

  /** What comes back from now on is of no interest; what is open counts as lost. */
  public synchronized void over() {
    over = true;
    for (int i = 0; i < inFlight; i++) {
      meters.published("lost");
    }
  }

  /** The connection is gone. */
  public synchronized void lost(Throwable cause) {
    if (lost == null && !over) {
      lost = cause;
    }
    notifyAll();
  }

  @Override
  public synchronized void onSuccess(IMqttToken token) {
    if (over) {
      return;
    }
    inFlight--;
    progress = System.nanoTime();
    int[] codes = token.getReasonCodes();
    int code = codes == null || codes.length == 0 ? 0 : codes[codes.length - 1];
    if (code < 0x80) {
      accepted++;
    } else if (ReasonCode.later(code)) {
      later = code;
    } else {
      long seq = (Long) token.getUserContext();
      refused.put(seq, code);
      reasons.put(seq, reason(token));
    }
    meters.published(code < 0x80 ? "acknowledged" : "refused");
    notifyAll();
  }

  /** What the broker says beside the code, with a blank before it. It ends up in logs, so no more of it than is safe. */
  private static String reason(IMqttToken token) {
    MqttProperties properties = token.getResponseProperties();
    String text = properties == null || properties.getReasonString() == null ? "" : properties.getReasonString();
    text = text.replaceAll("[^\\x20-\\x7e]+", " ").strip();
    return text.isEmpty() ? "" : " (" + text.substring(0, Math.min(REASON_MAX, text.length())) + ")";
  }

  @Override
  public void onFailure(IMqttToken token, Throwable cause) {
    lost(cause);
  }

  /** @return why the connection is gone; null: it is not known, or it is not gone */
  public synchronized Throwable cause() {
    return lost;
  }

  public synchronized int inFlight() {
    return inFlight;
  }

  public synchronized int accepted() {
    return accepted;
  }

  /** @return the PUBACK code of one that the broker wants later; 0: none */
  public synchronized int later() {
    return later;
  }

  /** @return sequence to PUBACK code of those the broker does not want */
  public synchronized Map<Long, Integer> refused() {
    return Map.copyOf(refused);
  }

  /** @return what the broker said about it beside the code */
  public synchronized String reason(long seq) {
    return reasons.getOrDefault(seq, "");
  }
}
