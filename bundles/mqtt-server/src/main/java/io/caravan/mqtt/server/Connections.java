// SPDX-License-Identifier: Apache-2.0
package io.caravan.mqtt.server;

import java.util.List;

/**
 * The devices that are connected now, over all listeners of the CamelContext. Bean {@code mqttConnections}, bound when
 * the component is created. Thread-safe; a list is a snapshot.
 */
public interface Connections {

  /** @return every accepted connection, in no particular order */
  List<Connection> list();

  /** @return number of accepted connections */
  int count();

  /** @return whether a connection is subscribed to this topic now; a look into a table */
  boolean subscribed(String topic);

  /**
   * Ends every connection of a device, for example after its credentials were revoked.
   *
   * @param deviceId   identity of the connection: certificate name, user name or client id, or what the
   *                   {@link Authenticator} said
   * @param reasonCode MQTT 5 DISCONNECT reason code, 0x80 to 0xA2, for example 0x98 (administrative action); a 3.1.1
   *                   client only sees the connection close
   * @return how many connections were told to end
   */
  int disconnect(String deviceId, int reasonCode);

  /**
   * Asks the {@link Authenticator.Grant} of open connections now instead of with the next sweep, and ends those whose
   * grant does not hold any more, with 0x98 (administrative action). Call it after the change is in force: a connection
   * that is being accepted at this moment asks by itself.
   *
   * @param deviceId whose connections; null: all
   * @return how many connections were told to end
   */
  int revalidate(String deviceId);

  /**
   * @param clientId      MQTT client identifier
   * @param deviceId      whom the connection acts for
   * @param listener      name of the listener
   * @param remoteAddress host and port of the peer
   * @param protocolLevel 4 for MQTT 3.1.1, 5 for MQTT 5
   * @param tls           whether the connection is encrypted
   * @param connectedAtMs wall-clock milliseconds
   * @param published     messages taken from the device on this connection
   * @param inFlight      of those, not answered yet
   * @param subscriptions topics the device subscribed to
   */
  record Connection(String clientId, String deviceId, String listener, String remoteAddress, int protocolLevel, boolean tls,
      long connectedAtMs, long published, int inFlight, List<String> subscriptions) {}
}
