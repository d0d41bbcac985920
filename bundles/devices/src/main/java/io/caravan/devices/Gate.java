// SPDX-License-Identifier: Apache-2.0
package io.caravan.devices;

import io.caravan.mqtt.server.Authenticator;
import java.util.Locale;

/**
 * Bean {@code gate}: decides whether who presents this credential from that address may act for the device. Counts every
 * decision ({@code caravan_auth_total}, tags {@code transport} and {@code outcome}), keeps the lock-outs, and notes when a
 * device was last seen. Never blocks; thread-safe.
 *
 * <p>With {@code device.access=open} everybody on the machine itself (loopback) may act for any device, nobody else.
 */
public interface Gate {

  enum Transport { MQTT, MQTTS, HTTP, HTTPS;

    @Override
    public String toString() {
      return name().toLowerCase(Locale.ROOT);
    }
  }

  /** The closed vocabulary of docs/contract.md section 11; clients are only told refused, locked out, or too fast. */
  enum Outcome { ACCEPTED, NO_CREDENTIAL, UNKNOWN_DEVICE, WRONG_TOKEN, EXPIRED, NOT_YET_VALID, REVOKED, ADDRESS, LOCKED_OUT,
    TOO_FAST, UNAVAILABLE;

    @Override
    public String toString() {
      return name().toLowerCase(Locale.ROOT);
    }
  }

  /**
   * @param deviceId        whom the client says it is: user name, path; may be anything or null
   * @param token           what it presented; null if nothing; cleared by the gate
   * @param certificateName CN of a client certificate that the listener verified; then no token is needed; null without
   * @param address         numeric address of the peer, or what a trusted proxy says it is
   */
  record Attempt(Transport transport, String deviceId, byte[] token, String certificateName, String address) {
    /** Leaves the token out. */
    @Override
    public String toString() {
      return "Attempt[" + transport + ", deviceId=" + deviceId + ", certificateName=" + certificateName + ", address=" + address + "]";
    }
  }

  /**
   * @param deviceId     whom it acts for; null unless ACCEPTED, and with {@code device.access=open}: any
   * @param grant        what it may go on doing; null unless ACCEPTED. For a request {@code take} is called once with its
   *                     size; its answer is the pause of an MQTT connection and means nothing to a request
   * @param retryAfterMs with LOCKED_OUT and TOO_FAST: how long; else 0
   */
  record Verdict(Outcome outcome, String deviceId, Authenticator.Grant grant, long retryAfterMs) {}

  /**
   * Decides about a new connection, or about one request. TOO_FAST is only said to requests: as long as the device owes
   * for what it sent before.
   */
  Verdict check(Attempt attempt);
}
