// SPDX-License-Identifier: Apache-2.0
package io.caravan.mqtt.server.internal;

/** Why a connection was refused or ended: the tag reason of caravan_mqtt_refused_total, and the text of the log line. */
enum Refusal {
  PENDING("too many connections that are not accepted yet (mqtt.server.pending.max)"),
  ADDRESS_PENDING("too many connections of this address that are not accepted yet (mqtt.server.address.pending.max)"),
  ADDRESS_RATE("too many connections of this address in a short time (mqtt.server.address.connects.per.s)"),
  CONNECTIONS("too many connections (mqtt.server.connections.max)"),
  DEVICE_CONNECTIONS("too many connections of one device: its oldest was ended (mqtt.server.device.connections.max)"),
  TIMEOUT("not accepted in time"),
  PLAINTEXT("bytes that are not TLS on the port for TLS"),
  TLS_VERSION("TLS older than 1.2"),
  NO_CERTIFICATE("no client certificate"),
  UNTRUSTED("a client certificate of an authority that is not in mqtt.server.tls.client.ca.file, or not for clients"),
  CERTIFICATE_EXPIRED("a client certificate outside its time of validity"),
  CERTIFICATE_REVOKED("a client certificate that is on the revocation list"),
  CRL_UNUSABLE("no revocation list that is in force for the client certificate (mqtt.server.tls.crl.file)"),
  CERTIFICATE_NAME("a client certificate without exactly one CN that is a device id, or another user name than the CN"),
  TLS("the TLS handshake failed"),
  MALFORMED("no MQTT"),
  TOO_LARGE("a CONNECT larger than accepted"),
  PROTOCOL("a CONNECT that asks for what is not there: version, client id, will, authentication method"),
  NOT_AUTHORIZED("not authorized"),
  UNAVAILABLE("who may connect could not be decided"),
  GRANT_ENDED("the right to be connected ended");

  final String text;

  Refusal(String text) {
    this.text = text;
  }

  String tag() {
    return name().toLowerCase(java.util.Locale.ROOT);
  }
}
