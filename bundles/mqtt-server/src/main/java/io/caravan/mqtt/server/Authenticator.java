// SPDX-License-Identifier: Apache-2.0
package io.caravan.mqtt.server;

import java.util.concurrent.CompletionStage;

/**
 * Decides who may connect. The listener takes the one bean of this type in Camel's registry, or the one its option
 * {@code authenticator} names; without a bean everybody may connect and acts for the device that the topic names
 * (see the option {@code identity}).
 *
 * <p>Called on an event loop: it must not block. Until the stage completes nothing more is read from that connection;
 * a stage that does not complete within the listener's {@code connectTimeoutMs} ends the connection. Implementations
 * must be thread-safe.
 */
@FunctionalInterface
public interface Authenticator {

  /**
   * @param request what the client presented
   * @return completes with the decision; completed exceptionally, the connection is refused with 0x88 (server
   *     unavailable), so that the device tries again
   */
  CompletionStage<Decision> authenticate(ConnectRequest request);

  /**
   * What a client presented in CONNECT.
   *
   * @param listener        name of the listener, the first part of the endpoint's URI
   * @param clientId        client identifier, assigned by the listener if the client sent none
   * @param username        null if none was sent
   * @param password        null if none was sent; clear it after use
   * @param certificateName CN of the verified client certificate, null without one
   * @param tls             whether the connection is encrypted
   * @param remoteHost      numeric address of the peer
   * @param protocolLevel   4 for MQTT 3.1.1, 5 for MQTT 5
   */
  record ConnectRequest(String listener, String clientId, String username, byte[] password, String certificateName,
      boolean tls, String remoteHost, int protocolLevel) {

    /** Leaves the password out. */
    @Override
    public String toString() {
      return "ConnectRequest[listener=" + listener + ", clientId=" + clientId + ", username=" + username
          + ", certificateName=" + certificateName + ", remoteHost=" + remoteHost + ", protocolLevel=" + protocolLevel + "]";
    }
  }

  /**
   * @param reasonCode 0 to accept, else the MQTT 5 CONNACK reason code, for example 0x86 bad user name or password,
   *                   0x87 not authorized; a 3.1.1 client gets the nearest of its five codes
   * @param deviceId   the only device the connection may act for; null leaves it to the option {@code identity}
   * @param grant      what the connection may go on doing; null: no limits, until somebody ends it
   */
  record Decision(int reasonCode, String deviceId, Grant grant) {

    /** The connection acts for this device and no other, whatever {@code identity} says. */
    public static Decision accept(String deviceId) {
      return accept(deviceId, null);
    }

    /** As above, for as long and as fast as the grant says. */
    public static Decision accept(String deviceId, Grant grant) {
      return new Decision(0, deviceId, grant);
    }

    /** The connection is refused. */
    public static Decision refuse(int reasonCode) {
      if (reasonCode < 0x80 || reasonCode > 0x9F) {
        throw new IllegalArgumentException("refusal [" + reasonCode + "] must be an MQTT 5 CONNACK reason code, 0x80 to 0x9F");
      }
      return new Decision(reasonCode, null, null);
    }
  }

  /** What an accepted connection may go on doing. Never blocks; thread-safe. */
  interface Grant {

    /** @return whether it still holds; asked once the connection is open, then at least every second; false ends it with 0x98 */
    boolean valid();

    /**
     * Notes one PUBLISH, refused ones included, or one SUBSCRIBE.
     *
     * @param bytes of its payload; 0 for SUBSCRIBE
     * @return how long the connection is not read any further, milliseconds; 0: go on. The message itself is taken.
     */
    long take(int bytes);

    /**
     * @return whether it may also give commands to the gateway and through it to devices (topics {@code gateways/{id}/control}); asked
     *     for each message. A connection that is subscribed to control-status ends, as with {@link #valid}, when it is no more
     */
    default boolean controller() {
      return false;
    }
  }
}
