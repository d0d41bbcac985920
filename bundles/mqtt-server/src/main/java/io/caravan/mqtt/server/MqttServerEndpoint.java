// SPDX-License-Identifier: Apache-2.0
package io.caravan.mqtt.server;

import io.caravan.mqtt.server.internal.Listener;
import io.caravan.mqtt.server.internal.Publisher;
import io.caravan.mqtt.server.internal.Settings;
import java.util.Set;
import org.apache.camel.Consumer;
import org.apache.camel.Processor;
import org.apache.camel.Producer;
import org.apache.camel.support.DefaultEndpoint;

/** Options of {@code mqtt-server:name}; each setter is an option of the URI and documents it. */
public class MqttServerEndpoint extends DefaultEndpoint {
  private final MqttServerComponent component;
  private final String name;
  private final Settings settings = new Settings();
  private String channel;
  private boolean awaitAck = true;
  private boolean ignoreAbsent;
  private boolean evidence;
  private long publishTimeoutMs = 10_000;
  private Authenticator authenticator;

  MqttServerEndpoint(String uri, MqttServerComponent component, String name) {
    super(uri, component);
    this.component = component;
    this.name = name;
  }

  @Override
  public Consumer createConsumer(Processor processor) throws Exception {
    settings.check(name);
    Authenticator chosen = authenticator != null ? authenticator
        : getCamelContext().getRegistry().findSingleByType(Authenticator.class);
    Listener listener = new Listener(this, processor, name, settings, component.hub(), component::vertx, chosen);
    configureConsumer(listener);
    return listener;
  }

  @Override
  public Producer createProducer() {
    return new Publisher(this, component.hub(), component::vertx, component::completions,
        new Publisher.Options(channel, settings.gatewayId, awaitAck, ignoreAbsent, evidence, publishTimeoutMs));
  }

  /** Consumer: address to listen on; default 127.0.0.1. */
  public void setHost(String host) {
    settings.host = host;
  }

  /** Consumer: port to listen on, 0 for any free one; default 1883. */
  public void setPort(int port) {
    settings.port = port;
  }

  /** Consumer: event loops the connections are spread over; default 2. */
  public void setEventLoops(int eventLoops) {
    settings.eventLoops = eventLoops;
  }

  /**
   * Consumer: messages of one connection that may be unanswered, 1 to 65535; default 500. Announced to MQTT 5 clients,
   * who are disconnected (0x93) if they exceed it with QoS 1; the socket of everybody else is not read beyond it.
   */
  public void setReceiveMaximum(int receiveMaximum) {
    settings.receiveMaximum = receiveMaximum;
  }

  /** Consumer: messages of all connections that may be unanswered before sockets are no longer read; default 10000. */
  public void setMaxInFlight(int maxInFlight) {
    settings.maxInFlight = maxInFlight;
  }

  /** Consumer: their payload bytes, likewise; default 32 MiB. */
  public void setMaxInFlightBytes(long maxInFlightBytes) {
    settings.maxInFlightBytes = maxInFlightBytes;
  }

  /** Consumer: connections; one more is refused with 0x97 (3.1.1: 3); default 1000. */
  public void setMaxConnections(int maxConnections) {
    settings.maxConnections = maxConnections;
  }

  /** Consumer: connections that are not accepted yet, 1 to 5000; one more is closed at once; default 500. */
  public void setMaxPending(int maxPending) {
    settings.maxPending = maxPending;
  }

  /** Consumer: those of one address (IPv6: of one /64), likewise; default 100. */
  public void setMaxPendingPerAddress(int maxPendingPerAddress) {
    settings.maxPendingPerAddress = maxPendingPerAddress;
  }

  /**
   * Consumer: connections per second that one address (IPv6: one /64) may open in the long run, 0 for no limit; twenty
   * seconds' worth may come at once, one more is closed at once; default 50.
   */
  public void setConnectsPerS(int connectsPerS) {
    settings.connectsPerS = connectsPerS;
  }

  /** Consumer: connections of one device; beyond, its oldest ends (0x97). Only where an identity is known; default 4. */
  public void setMaxConnectionsPerDevice(int maxConnectionsPerDevice) {
    settings.maxConnectionsPerDevice = maxConnectionsPerDevice;
  }

  /** Consumer: size of CONNECT, bytes; a larger one ends the connection; default 4096. */
  public void setMaxConnectBytes(int maxConnectBytes) {
    settings.maxConnectBytes = maxConnectBytes;
  }

  /**
   * Consumer: MQTT packet size, bytes, announced to MQTT 5 clients; default 69632 (a payload of 65536 with topic and
   * properties). A larger one ends the connection (0x95); a payload that only exceeds {@code ingest.max.bytes} is
   * rejected by the route instead.
   */
  public void setMaxPacketBytes(int maxPacketBytes) {
    settings.maxPacketBytes = maxPacketBytes;
  }

  /** Consumer: time a new connection has from its first moment, TLS included, until it is accepted, milliseconds; default 10000. */
  public void setConnectTimeoutMs(long connectTimeoutMs) {
    settings.connectTimeoutMs = connectTimeoutMs;
  }

  /** Consumer: largest keep-alive, seconds; MQTT 5 clients that ask for more or none are told this; default 300. */
  public void setKeepAliveSeconds(int keepAliveSeconds) {
    settings.keepAliveSeconds = keepAliveSeconds;
  }

  /**
   * Consumer: a device whose message the store could not take is disconnected (0x89) after half to all of this time,
   * milliseconds, and sends it again when it comes back; default 2000.
   */
  public void setFailureDelayMs(long failureDelayMs) {
    settings.failureDelayMs = failureDelayMs;
  }

  /**
   * Consumer: {@code any} (default): a connection may act for any device; {@code own}: only for the one named by its
   * client certificate, else its user name, else its client id. For listeners without an {@link Authenticator}, or
   * one whose decision names no device.
   */
  public void setIdentity(String identity) {
    if (!Set.of("any", "own").contains(identity)) {
      throw new IllegalArgumentException("identity [" + identity + "] must be any or own, in " + getEndpointUri());
    }
    settings.ownOnly = identity.equals("own");
  }

  /** Consumer: who may connect; default: the one {@link Authenticator} in the registry, else everybody. */
  public void setAuthenticator(Authenticator authenticator) {
    this.authenticator = authenticator;
  }

  /**
   * Consumer: PEM file with the server's certificate and chain; makes it a TLS listener (1.2 and 1.3). All files of TLS
   * are read again within seconds when they change, without closing the port; what cannot be used leaves what was there
   * before in force and makes the readiness check {@code mqtt-server:name} DOWN.
   */
  public void setTlsCert(String tlsCert) {
    settings.tlsCert = tlsCert;
  }

  /** Consumer: PEM file (PKCS#8) with the server's key. */
  public void setTlsKey(String tlsKey) {
    settings.tlsKey = tlsKey;
  }

  /**
   * Consumer: PEM file with the authorities of client certificates. The CN of a certificate is the device id; a user name
   * must be absent or the same.
   */
  public void setTlsClientCa(String tlsClientCa) {
    settings.tlsClientCa = tlsClientCa;
  }

  /**
   * Consumer: PEM file with the revocation lists of the authorities in {@code tlsClientCa}. Certificates of an authority
   * without a list that is in force are refused; connections whose certificate comes onto the list are ended.
   */
  public void setTlsCrl(String tlsCrl) {
    settings.tlsCrl = tlsCrl;
  }

  /** Consumer: client certificates: none, optional, required; default: required if there is a tlsClientCa, else none. */
  public void setTlsClientAuth(String tlsClientAuth) {
    if (tlsClientAuth != null && !tlsClientAuth.isEmpty() && !Set.of("none", "optional", "required").contains(tlsClientAuth)) {
      throw new IllegalArgumentException("tlsClientAuth [" + tlsClientAuth + "] must be none, optional or required, in " + getEndpointUri());
    }
    settings.tlsClientAuth = tlsClientAuth;
  }

  /**
   * Consumer: endpoint URI that gets the device id, as body and as header {@code CaravanDeviceId}, when a device
   * subscribed to its receipts; on a worker thread.
   */
  public void setOnReceiptsSubscribed(String onReceiptsSubscribed) {
    settings.onReceiptsSubscribed = onReceiptsSubscribed;
  }

  /**
   * Consumer: endpoint URI that gets the device id, as body and as header {@code CaravanDeviceId}, when a device subscribed to its commands
   * or its desired state (header {@code CaravanChannel}: {@code commands} or {@code desired}); on a worker thread, after SUBACK.
   */
  public void setOnSubscribed(String onSubscribed) {
    settings.onSubscribed = onSubscribed;
  }

  /**
   * Consumer and producer: name of this gateway in {@code gateways/{gatewayId}/control} and {@code /control-status}, which are for connections
   * whose {@link Authenticator.Grant#controller} says so; without it there are no such topics.
   */
  public void setGatewayId(String gatewayId) {
    settings.gatewayId = gatewayId;
  }

  /**
   * Producer: {@code commands}, {@code receipts} or {@code desired}: publish to {@code devices/${CaravanDeviceId}/<channel>}; {@code
   * control-status}: to the connections of device {@code ${CaravanDeviceId}} that are subscribed to that topic of the gateway. A command goes
   * to one connection, the newest that can be written to; everything else to all that are subscribed.
   */
  public void setChannel(String channel) {
    this.channel = channel;
  }

  /** Producer: end the exchange with the device's PUBACK (default), or as soon as the message was handed over. */
  public void setAwaitAck(boolean awaitAck) {
    this.awaitAck = awaitAck;
  }

  /** Producer: an absent device is no error; default false. */
  public void setIgnoreAbsent(boolean ignoreAbsent) {
    this.ignoreAbsent = ignoreAbsent;
  }

  /**
   * Producer: do not fail but set the header {@code CaravanEvidence} to what is known of the message ({@link Evidence}), and {@code
   * CaravanEvidenceDetail} to why; a subscription with QoS 0 then is no failure either. Default false.
   */
  public void setEvidence(boolean evidence) {
    this.evidence = evidence;
  }

  /** Producer: time the device has to acknowledge, milliseconds; default 10000. */
  public void setPublishTimeoutMs(long publishTimeoutMs) {
    if (publishTimeoutMs < 1) {
      throw new IllegalArgumentException("publishTimeoutMs [" + publishTimeoutMs + "] must be at least 1, in " + getEndpointUri());
    }
    this.publishTimeoutMs = publishTimeoutMs;
  }
}
