// SPDX-License-Identifier: Apache-2.0
package io.caravan.devices.internal;

import io.caravan.devices.Gate;
import io.caravan.devices.Gate.Transport;
import io.caravan.devices.Gate.Verdict;
import io.caravan.mqtt.server.Authenticator;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CompletionStage;

/** Bean {@code deviceAuthenticator}: the gate's answer in MQTT's words. Whatever is wrong with an identity is one answer. */
final class DeviceAuthenticator implements Authenticator {
  private static final CompletionStage<Decision> REFUSED = CompletableFuture.completedStage(Decision.refuse(0x87));
  private static final CompletionStage<Decision> LOCKED_OUT = CompletableFuture.completedStage(Decision.refuse(0x9F));
  private static final CompletionStage<Decision> UNAVAILABLE = CompletableFuture.completedStage(Decision.refuse(0x88));

  private final Gate gate;

  DeviceAuthenticator(Gate gate) {
    this.gate = gate;
  }

  @Override
  public CompletionStage<Decision> authenticate(ConnectRequest request) {
    Verdict verdict = gate.check(new Gate.Attempt(request.tls() ? Transport.MQTTS : Transport.MQTT, request.username(), request.password(),
        request.certificateName(), request.remoteHost()));
    return switch (verdict.outcome()) {
      case ACCEPTED -> CompletableFuture.completedStage(Decision.accept(verdict.deviceId(), verdict.grant()));
      case LOCKED_OUT -> LOCKED_OUT;
      case UNAVAILABLE -> UNAVAILABLE;
      default -> REFUSED;
    };
  }
}
