// SPDX-License-Identifier: Apache-2.0
package io.caravan.devices.internal;

import io.caravan.devices.Devices;
import io.caravan.devices.Gate.Outcome;

/**
 * What is kept of one token. Immutable; nobody changes the arrays.
 *
 * @param number     counts up per device
 * @param signingKey null once revoked, as brokerHash and brokerSalt: what is not needed cannot be stolen
 */
record Credential(String id, int number, byte[] hash, byte[] signingKey, byte[] brokerHash, byte[] brokerSalt, int brokerIterations,
    long createdAtMs, long notBeforeMs, Long notAfterMs, Long revokedAtMs) {

  /** @return ACCEPTED, or why it is not valid then */
  Outcome at(long nowMs) {
    if (revokedAtMs != null) {
      return Outcome.REVOKED;
    }
    if (notAfterMs != null && nowMs >= notAfterMs) {
      return Outcome.EXPIRED;
    }
    return nowMs < notBeforeMs ? Outcome.NOT_YET_VALID : Outcome.ACCEPTED;
  }

  boolean validAt(long nowMs) {
    return at(nowMs) == Outcome.ACCEPTED;
  }

  Credential revoked(long nowMs) {
    return revokedAtMs != null ? this
        : new Credential(id, number, hash, null, null, null, brokerIterations, createdAtMs, notBeforeMs, notAfterMs, nowMs);
  }

  /** Ends then at the latest. */
  Credential until(long ms) {
    return notAfterMs != null && notAfterMs <= ms ? this
        : new Credential(id, number, hash, signingKey, brokerHash, brokerSalt, brokerIterations, createdAtMs, notBeforeMs, ms, revokedAtMs);
  }

  Devices.Token shown() {
    return new Devices.Token(id, createdAtMs, notBeforeMs, notAfterMs, revokedAtMs);
  }

  @Override
  public String toString() {
    return "Credential[" + id + "]";
  }
}
