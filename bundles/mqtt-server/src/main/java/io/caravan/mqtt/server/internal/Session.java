// SPDX-License-Identifier: Apache-2.0
package io.caravan.mqtt.server.internal;

import io.caravan.mqtt.server.Authenticator;
import io.caravan.mqtt.server.Connections;
import io.caravan.mqtt.server.DeviceNotConnectedException;
import io.caravan.mqtt.server.Evidence;
import io.caravan.mqtt.server.PublishRefusedException;
import io.caravan.mqtt.server.PublishTimeoutException;
import io.netty.buffer.ByteBuf;
import io.netty.buffer.ByteBufUtil;
import io.netty.buffer.Unpooled;
import io.netty.channel.ChannelHandlerContext;
import io.netty.channel.ChannelOption;
import io.netty.handler.codec.mqtt.MqttConnAckMessage;
import io.netty.handler.codec.mqtt.MqttConnAckVariableHeader;
import io.netty.handler.codec.mqtt.MqttConnectMessage;
import io.netty.handler.codec.mqtt.MqttConnectReturnCode;
import io.netty.handler.codec.mqtt.MqttFixedHeader;
import io.netty.handler.codec.mqtt.MqttMessage;
import io.netty.handler.codec.mqtt.MqttMessageIdAndPropertiesVariableHeader;
import io.netty.handler.codec.mqtt.MqttMessageType;
import io.netty.handler.codec.mqtt.MqttProperties;
import io.netty.handler.codec.mqtt.MqttProperties.IntegerProperty;
import io.netty.handler.codec.mqtt.MqttProperties.MqttPropertyType;
import io.netty.handler.codec.mqtt.MqttProperties.StringProperty;
import io.netty.handler.codec.mqtt.MqttPubReplyMessageVariableHeader;
import io.netty.handler.codec.mqtt.MqttPublishMessage;
import io.netty.handler.codec.mqtt.MqttPublishVariableHeader;
import io.netty.handler.codec.mqtt.MqttQoS;
import io.netty.handler.codec.mqtt.MqttReasonCodeAndPropertiesVariableHeader;
import io.netty.handler.codec.mqtt.MqttSubAckMessage;
import io.netty.handler.codec.mqtt.MqttSubAckPayload;
import io.netty.handler.codec.mqtt.MqttSubscribeMessage;
import io.netty.handler.codec.mqtt.MqttTopicSubscription;
import io.netty.handler.codec.mqtt.MqttUnacceptableProtocolVersionException;
import io.netty.handler.codec.mqtt.MqttUnsubAckMessage;
import io.netty.handler.codec.mqtt.MqttUnsubAckPayload;
import io.netty.handler.codec.mqtt.MqttUnsubscribeMessage;
import io.netty.handler.ssl.SslHandler;
import io.netty.util.ReferenceCountUtil;
import io.vertx.core.net.impl.NetSocketInternal;
import java.net.InetAddress;
import java.nio.charset.StandardCharsets;
import java.security.cert.Certificate;
import java.security.cert.X509Certificate;
import java.util.ArrayDeque;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Deque;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.UUID;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CompletionStage;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.ThreadLocalRandom;
import java.util.concurrent.atomic.AtomicBoolean;
import javax.net.ssl.SSLPeerUnverifiedException;
import org.apache.camel.Exchange;

/**
 * One connection, from its first byte to its end. Everything runs on the connection's event loop, except what says "any
 * thread".
 *
 * <p>Answers go out in the order of the messages, as MQTT demands: {@code pending} is that order, and only its completed
 * head is answered. Many are answered by one write.
 */
final class Session {
  static final int SERVER_SHUTTING_DOWN = 0x8B;
  static final int SESSION_TAKEN_OVER = 0x8E;
  private static final int NO_SUBSCRIPTION_EXISTED = 0x11;
  private static final int UNSPECIFIED = 0x80;
  private static final int MALFORMED = 0x81;
  private static final int PROTOCOL_ERROR = 0x82;
  private static final int CLIENT_ID_NOT_VALID = 0x85;
  private static final int NOT_AUTHORIZED = 0x87;
  private static final int SERVER_UNAVAILABLE = 0x88;
  private static final int SERVER_BUSY = 0x89;
  private static final int BAD_AUTHENTICATION_METHOD = 0x8C;
  private static final int KEEP_ALIVE_TIMEOUT = 0x8D;
  private static final int TOPIC_FILTER_INVALID = 0x8F;
  private static final int TOPIC_NAME_INVALID = 0x90;
  private static final int RECEIVE_MAXIMUM_EXCEEDED = 0x93;
  private static final int PACKET_TOO_LARGE = 0x95;
  private static final int TOPIC_ALIAS_INVALID = 0x94;
  private static final int QUOTA_EXCEEDED = 0x97;
  private static final int ADMINISTRATIVE_ACTION = 0x98;
  private static final int RETAIN_NOT_SUPPORTED = 0x9A;
  private static final int QOS_NOT_SUPPORTED = 0x9B;
  private static final int SHARED_SUBSCRIPTIONS_NOT_SUPPORTED = 0x9E;
  private static final int SUBSCRIPTION_IDENTIFIERS_NOT_SUPPORTED = 0xA1;
  private static final int WILDCARDS_NOT_SUPPORTED = 0xA2;

  /** Why the socket is not read. */
  private static final int AUTHENTICATING = 1;
  private static final int OWN_WINDOW = 2;
  private static final int ALL_IN_FLIGHT = 4;
  private static final int NOT_WRITABLE = 8;
  private static final int SUSPENDED = 16;
  private static final int FAILED = 32;
  private static final int RATE = 64;
  private static final int SUBSCRIBING = 128;

  private static final int MAX_CLIENT_ID = 128;
  private static final int MAX_SUBSCRIPTIONS = 64;
  private static final int MAX_QUEUED = 100;
  /** Messages to a device that wait for its PUBACK, if it announces no smaller receive maximum. */
  private static final int DEVICE_WINDOW = 32;
  /** A close right after DISCONNECT, with bytes unread, would reset the connection and lose the reason. */
  private static final long LINGER_MS = 250;
  /** Then the socket is closed even if the client does not read what is still to be sent. */
  private static final long CLOSE_MS = 2000;
  /** A wrong credential is answered after this time to three times as much: guessing is slow, and no clock. */
  private static final long REFUSAL_DELAY_MS = 100;

  private enum State { NEW, AUTHENTICATING, OPEN, FAILING, ENDED }

  private final Listener listener;
  private final Loop loop;
  private final NetSocketInternal socket;
  private final ChannelHandlerContext channel;
  private final InetAddress address;
  /** Null: not encrypted. */
  private final SslHandler ssl;
  private final long acceptedMs;
  /** Counted by the Door. */
  private boolean atDoor = true;
  /** Verified; null without. */
  private X509Certificate[] certificates;
  private Tls.Material verifiedBy;
  private State state = State.NEW;
  private long decoded;
  private int paused;
  /** Messages decoded out of bytes that had been read when the socket was paused. */
  private final Deque<MqttMessage> held = new ArrayDeque<>();
  private boolean draining;

  private volatile String clientId;
  private volatile String identity;
  /** The only device it may act for; null: any. Like grant written once, before the Hub gets to know the session. */
  private volatile String bound;
  private volatile Authenticator.Grant grant;
  /** Subscribed to control-status, at least once. */
  private volatile boolean watching;
  private boolean v5;
  private boolean problemInformation = true;
  private long keepAliveMs;
  private long lastPacketMs;
  private long connectedAtMs;
  private volatile long openedNs;
  private long endedMs;

  private final Deque<Publication> pending = new ArrayDeque<>();
  private int pendingQos1;
  private volatile int inFlight;
  private volatile long published;
  private final AtomicBoolean awake = new AtomicBoolean();
  private String lastTopic;
  private String lastDevice;

  /** Topic to granted QoS; written on the loop, read by any thread. */
  private final Map<String, Integer> subscriptions = new ConcurrentHashMap<>(4);
  private final Map<Integer, Delivery> outgoing = new HashMap<>(4);
  private final Deque<Delivery> queued = new ArrayDeque<>(0);
  private int outgoingWindow = DEVICE_WINDOW;
  private long maxOutgoingBytes = Long.MAX_VALUE;
  private int lastPacketId;

  Session(Listener listener, Loop loop, NetSocketInternal socket, InetAddress address, SslHandler ssl) {
    this.listener = listener;
    this.loop = loop;
    this.socket = socket;
    this.channel = socket.channelHandlerContext();
    this.address = address;
    this.ssl = ssl;
    this.acceptedMs = Loop.monotonicMs();
    this.lastPacketMs = acceptedMs;
  }

  void start() {
    socket.messageHandler(message -> {
      decoded++;
      receive((MqttMessage) message);
    });
    socket.exceptionHandler(e -> close());
    socket.closeHandler(none -> ended0());
    socket.drainHandler(none -> resume(NOT_WRITABLE));
    if (ssl != null) {
      ssl.handshakeFuture().addListener(handshake -> {
        Refusal refusal = handshake.isSuccess() ? null : Tls.refusal(handshake.cause());
        if (refusal != null) {
          // Netty's message about bytes that are no TLS has the bytes, a password perhaps.
          listener.refused(refusal, address, refusal == Refusal.PLAINTEXT ? null : handshake.cause().getMessage());
          close();
        }
      });
    }
  }

  // ---------------------------------------------------------------------------------------------- reading

  private void receive(MqttMessage message) {
    lastPacketMs = loop.nowMs();
    if (paused != 0 || draining) {
      held.add(message);
      return;
    }
    dispatch(message);
  }

  private void dispatch(MqttMessage message) {
    try {
      if (state == State.ENDED || state == State.FAILING) {
        return;
      }
      if (message.decoderResult().isFailure()) {
        undecodable(message.decoderResult().cause());
        return;
      }
      MqttMessageType type = message.fixedHeader().messageType();
      if (state == State.NEW) {
        if (type == MqttMessageType.CONNECT) {
          connect((MqttConnectMessage) message);
        } else {
          listener.refused(Refusal.MALFORMED, address, null);
          close();
        }
        return;
      }
      switch (type) {
        case PUBLISH -> publish((MqttPublishMessage) message);
        case PUBACK -> acknowledged((MqttPubReplyMessageVariableHeader) message.variableHeader());
        case SUBSCRIBE -> subscribe((MqttSubscribeMessage) message);
        case UNSUBSCRIBE -> unsubscribe((MqttUnsubscribeMessage) message);
        case PINGREQ -> write(MqttMessage.PINGRESP);
        case DISCONNECT -> close();
        default -> disconnect(PROTOCOL_ERROR, "a client does not send " + type + " here");
      }
    } catch (RuntimeException e) {
      listener.seldom().warn("mqtt-server:{} connection [{}] ended: a packet could not be handled", listener.name(), clientId, e);
      disconnect(UNSPECIFIED);
    } finally {
      ReferenceCountUtil.release(message);
    }
  }

  private void undecodable(Throwable cause) {
    if (state == State.NEW && cause instanceof MqttUnacceptableProtocolVersionException) {
      refuse(Refusal.PROTOCOL, 0x01);
    } else {
      refusePacket(MALFORMED);
    }
  }

  /** Ends the connection because of bytes that are no acceptable packet. */
  void refusePacket(int reasonCode) {
    if (state == State.OPEN) {
      listener.published(Meters.Outcome.PROTOCOL);
    } else if (state == State.NEW) {
      listener.refused(reasonCode == PACKET_TOO_LARGE ? Refusal.TOO_LARGE : Refusal.MALFORMED, address, null);
    }
    disconnect(reasonCode);
  }

  private void pause(int why) {
    if (paused == 0) {
      channel.channel().config().setAutoRead(false);
    }
    paused |= why;
  }

  private void resume(int why) {
    if ((paused & why) == 0) {
      return;
    }
    paused &= ~why;
    if (paused != 0 || draining) {
      return;
    }
    draining = true;
    try {
      while (paused == 0 && !held.isEmpty()) {
        dispatch(held.poll());
      }
    } finally {
      draining = false;
    }
    if (paused == 0 && state != State.ENDED) {
      lastPacketMs = loop.nowMs();
      channel.channel().config().setAutoRead(true);
    }
  }

  /** Whether what the connection was accepted for still holds. */
  private void recheck() {
    Refusal refusal = certificates == null ? null : certificateRefusal();
    // Without a list in force nobody new comes in; who was good by the last one stays.
    if (refusal != null && refusal != Refusal.CRL_UNUSABLE) {
      listener.refused(refusal, address, null);
      disconnect(ADMINISTRATIVE_ACTION);
    } else if (!granted()) {
      revoked();
    }
  }

  private Refusal certificateRefusal() {
    Tls.Material now = listener.tls() == null ? verifiedBy : listener.tls().material();
    if (now == verifiedBy && certificates[0].getNotAfter().getTime() >= System.currentTimeMillis()) {
      return null;
    }
    try {
      now.verify(certificates);
      verifiedBy = now;
      return null;
    } catch (Tls.Refused e) {
      if (e.refusal == Refusal.CRL_UNUSABLE) {
        verifiedBy = now;
      }
      return e.refusal;
    }
  }

  void suspend() {
    pause(SUSPENDED);
  }

  void resume() {
    resume(SUSPENDED);
  }

  void uncongested() {
    resume(ALL_IN_FLIGHT);
  }

  void sweep(long nowMs) {
    switch (state) {
      case NEW, AUTHENTICATING -> {
        // From the first moment, handshake included: who sends a byte now and then gets no more time.
        if (nowMs - acceptedMs > listener.settings().connectTimeoutMs) {
          listener.refused(Refusal.TIMEOUT, address, null);
          close();
        }
      }
      case OPEN -> {
        if (keepAliveMs > 0 && paused == 0 && nowMs - lastPacketMs > keepAliveMs + keepAliveMs / 2) {
          disconnect(KEEP_ALIVE_TIMEOUT);
        } else {
          recheck();
        }
      }
      case FAILING -> recheck();
      case ENDED -> {
        if (nowMs - endedMs > CLOSE_MS) {
          cut();
        }
      }
    }
  }

  // ---------------------------------------------------------------------------------------------- connecting

  private void connect(MqttConnectMessage message) {
    int level = message.variableHeader().version();
    v5 = level == 5;
    if (level < 4) {
      refuse(Refusal.PROTOCOL, 0x01);
      return;
    }
    MqttProperties properties = message.variableHeader().properties();
    String id = message.payload().clientIdentifier();
    boolean assigned = id == null || id.isEmpty();
    if (assigned && !v5 && !message.variableHeader().isCleanSession()
        || !assigned && (id.length() > MAX_CLIENT_ID || id.chars().anyMatch(Character::isISOControl))) {
      refuse(Refusal.PROTOCOL, CLIENT_ID_NOT_VALID);
      return;
    }
    if (v5 && property(properties, MqttPropertyType.AUTHENTICATION_METHOD) != null) {
      refuse(Refusal.PROTOCOL, BAD_AUTHENTICATION_METHOD);
      return;
    }
    // A will is accepted and never published; one that could not be accepted at all must be refused (MQTT 5, 3.1.2).
    if (v5 && message.variableHeader().isWillFlag()) {
      if (message.variableHeader().isWillRetain()) {
        refuse(Refusal.PROTOCOL, RETAIN_NOT_SUPPORTED);
        return;
      }
      if (message.variableHeader().willQos() > 1) {
        refuse(Refusal.PROTOCOL, QOS_NOT_SUPPORTED);
        return;
      }
    }
    if (v5) {
      int receiveMaximum = integer(properties, MqttPropertyType.RECEIVE_MAXIMUM, 65_535);
      long maximumPacket = Integer.toUnsignedLong(integer(properties, MqttPropertyType.MAXIMUM_PACKET_SIZE, -1));
      if (receiveMaximum == 0 || maximumPacket == 0) {
        refuse(Refusal.PROTOCOL, PROTOCOL_ERROR);
        return;
      }
      outgoingWindow = Math.min(outgoingWindow, receiveMaximum);
      maxOutgoingBytes = maximumPacket;
      problemInformation = integer(properties, MqttPropertyType.REQUEST_PROBLEM_INFORMATION, 1) == 1;
    }
    int asked = message.variableHeader().keepAliveTimeSeconds();
    int cap = listener.settings().keepAliveSeconds;
    boolean capped = v5 && (asked == 0 || asked > cap);
    keepAliveMs = 1000L * (capped ? cap : asked);
    clientId = assigned ? "auto-" + UUID.randomUUID() : id;
    String username = message.variableHeader().hasUserName() ? message.payload().userName() : null;
    String certificate = null;
    if (ssl != null && (certificates = peer()) != null) {
      // Asked again: a handshake that resumed an earlier one did not look at the certificate.
      Refusal refusal = certificateRefusal();
      certificate = refusal == null ? Tls.deviceName(certificates[0]) : null;
      if (certificate == null || username != null && !username.isEmpty() && !username.equals(certificate)) {
        refuse(refusal == null ? Refusal.CERTIFICATE_NAME : refusal, NOT_AUTHORIZED);
        return;
      }
    }
    identity = certificate != null ? certificate : username != null && !username.isEmpty() ? username : clientId;
    boolean sessionExpiry = integer(properties, MqttPropertyType.SESSION_EXPIRY_INTERVAL, 0) != 0;
    Authenticator authenticator = listener.authenticator();
    if (authenticator == null) {
      accept(Authenticator.Decision.accept(null), assigned, capped, sessionExpiry);
      return;
    }
    state = State.AUTHENTICATING;
    pause(AUTHENTICATING);
    byte[] password = message.variableHeader().hasPassword() ? message.payload().passwordInBytes() : null;
    CompletionStage<Authenticator.Decision> decided;
    try {
      decided = authenticator.authenticate(new Authenticator.ConnectRequest(listener.name(), clientId, username, password, certificate,
          ssl != null, address.getHostAddress(), level));
    } catch (RuntimeException e) {
      decided = CompletableFuture.failedFuture(e);
    }
    decided.whenComplete((decision, failure) -> {
      if (password != null) {
        Arrays.fill(password, (byte) 0);
      }
      later(() -> decided(decision, failure, assigned, capped, sessionExpiry));
    });
  }

  private void decided(Authenticator.Decision decision, Throwable failure, boolean assigned, boolean capped, boolean sessionExpiry) {
    if (state != State.AUTHENTICATING) {
      return;
    }
    if (failure == null && decision != null && decision.reasonCode() == 0) {
      accept(decision, assigned, capped, sessionExpiry);
      resume(AUTHENTICATING);
      return;
    }
    if (failure != null || decision == null) {
      listener.seldom().warn("mqtt-server:{} a connection of {} was refused: the authenticator failed", listener.name(), address.getHostAddress(), failure);
    }
    loop.after(REFUSAL_DELAY_MS + ThreadLocalRandom.current().nextLong(2 * REFUSAL_DELAY_MS + 1), () -> {
      if (state == State.AUTHENTICATING) {
        if (failure != null || decision == null) {
          refuse(Refusal.UNAVAILABLE, SERVER_UNAVAILABLE);
        } else {
          refuse(Refusal.NOT_AUTHORIZED, decision.reasonCode());
        }
      }
    });
  }

  private void accept(Authenticator.Decision decision, boolean assigned, boolean capped, boolean sessionExpiry) {
    if (!listener.enter()) {
      refuse(Refusal.CONNECTIONS, QUOTA_EXCEEDED);
      return;
    }
    state = State.OPEN;
    leftDoor();
    connectedAtMs = System.currentTimeMillis();
    openedNs = System.nanoTime();
    grant = decision.grant();
    if (decision.deviceId() != null) {
      identity = decision.deviceId();
      bound = identity;
    } else if (listener.settings().ownOnly) {
      bound = identity;
    }
    MqttProperties properties = MqttProperties.NO_PROPERTIES;
    if (v5) {
      properties = new MqttProperties();
      properties.add(new IntegerProperty(MqttPropertyType.RECEIVE_MAXIMUM.value(), listener.settings().receiveMaximum));
      properties.add(new IntegerProperty(MqttPropertyType.MAXIMUM_QOS.value(), 1));
      properties.add(new IntegerProperty(MqttPropertyType.RETAIN_AVAILABLE.value(), 1));
      properties.add(new IntegerProperty(MqttPropertyType.MAXIMUM_PACKET_SIZE.value(), listener.settings().maxPacketBytes));
      properties.add(new IntegerProperty(MqttPropertyType.TOPIC_ALIAS_MAXIMUM.value(), 0));
      properties.add(new IntegerProperty(MqttPropertyType.WILDCARD_SUBSCRIPTION_AVAILABLE.value(), 0));
      properties.add(new IntegerProperty(MqttPropertyType.SUBSCRIPTION_IDENTIFIER_AVAILABLE.value(), 0));
      properties.add(new IntegerProperty(MqttPropertyType.SHARED_SUBSCRIPTION_AVAILABLE.value(), 0));
      if (assigned) {
        properties.add(new StringProperty(MqttPropertyType.ASSIGNED_CLIENT_IDENTIFIER.value(), clientId));
      }
      if (capped) {
        properties.add(new IntegerProperty(MqttPropertyType.SERVER_KEEP_ALIVE.value(), listener.settings().keepAliveSeconds));
      }
      if (sessionExpiry) {
        properties.add(new IntegerProperty(MqttPropertyType.SESSION_EXPIRY_INTERVAL.value(), 0));
      }
    }
    // First: a device that has read its CONNACK is listed, and revalidate() reaches it.
    listener.hub().open(this, listener.settings().maxConnectionsPerDevice);
    write(connack(MqttConnectReturnCode.CONNECTION_ACCEPTED, properties));
    if (listener.congested()) {
      pause(ALL_IN_FLIGHT);
    }
    if (listener.suspended()) {
      pause(SUSPENDED);
    }
    // Whoever revokes asks the sessions in the Hub: what was revoked between the decision and now is noticed here.
    if (!granted()) {
      revoked();
    }
  }

  /** Any thread: whether the connection may stay. */
  boolean granted() {
    Authenticator.Grant given = grant;
    return given == null || given.valid() && (!watching || given.controller());
  }

  void revoked() {
    if (state != State.ENDED) {
      listener.refused(Refusal.GRANT_ENDED, address, null);
    }
    disconnect(ADMINISTRATIVE_ACTION);
  }

  void superfluous() {
    if (state != State.ENDED) {
      listener.refused(Refusal.DEVICE_CONNECTIONS, address, null);
    }
    disconnect(QUOTA_EXCEEDED, "a device may have " + listener.settings().maxConnectionsPerDevice + " connections");
  }

  /** Notes a message; if they come too fast the socket rests, so that TCP holds the sender and nothing is lost. */
  private void take(int bytes) {
    long rest = grant == null ? 0 : grant.take(bytes);
    if (rest > 0) {
      pause(RATE);
      listener.throttled(rest);
      loop.after(rest, () -> resume(RATE));
    }
  }

  /** @param reasonCode an MQTT 5 code, or 1 for the wrong protocol version */
  private void refuse(Refusal refusal, int reasonCode) {
    listener.refused(refusal, address, null);
    int code = reasonCode;
    if (!v5 && code > 5) {
      code = switch (reasonCode) {
        case CLIENT_ID_NOT_VALID -> 0x02;
        case 0x86 -> 0x04;
        case NOT_AUTHORIZED, 0x8A -> 0x05;
        default -> 0x03;
      };
    }
    write(connack(MqttConnectReturnCode.valueOf((byte) code), MqttProperties.NO_PROPERTIES));
    end();
  }

  private static MqttConnAckMessage connack(MqttConnectReturnCode code, MqttProperties properties) {
    return new MqttConnAckMessage(fixed(MqttMessageType.CONNACK, MqttQoS.AT_MOST_ONCE),
        new MqttConnAckVariableHeader(code, /* sessionPresent= */ false, properties));
  }

  private X509Certificate[] peer() {
    try {
      Certificate[] chain = ssl.engine().getSession().getPeerCertificates();
      return Arrays.copyOf(chain, chain.length, X509Certificate[].class);
    } catch (SSLPeerUnverifiedException e) {
      return null;
    }
  }

  // ---------------------------------------------------------------------------------------------- publishing

  private void publish(MqttPublishMessage message) {
    MqttQoS qos = message.fixedHeader().qosLevel();
    MqttPublishVariableHeader header = message.variableHeader();
    int packetId = qos == MqttQoS.AT_MOST_ONCE ? 0 : header.packetId();
    if (qos == MqttQoS.EXACTLY_ONCE) {
      listener.published(Meters.Outcome.PROTOCOL);
      disconnect(QOS_NOT_SUPPORTED, "the maximum QoS is 1");
      return;
    }
    if (v5 && message.fixedHeader().isRetain() && !Topics.retained(header.topicName())) {
      listener.published(Meters.Outcome.PROTOCOL);
      disconnect(RETAIN_NOT_SUPPORTED, "nothing but capabilities is retained here");
      return;
    }
    MqttProperties properties = header.properties();
    if (!properties.isEmpty() && property(properties, MqttPropertyType.TOPIC_ALIAS) != null) {
      listener.published(Meters.Outcome.PROTOCOL);
      disconnect(TOPIC_ALIAS_INVALID, "the topic alias maximum is 0");
      return;
    }
    if (v5 && packetId != 0 && pendingQos1 >= listener.settings().receiveMaximum) {
      listener.published(Meters.Outcome.PROTOCOL);
      disconnect(RECEIVE_MAXIMUM_EXCEEDED, "the receive maximum is " + listener.settings().receiveMaximum);
      return;
    }
    take(message.payload().readableBytes());
    String topic = header.topicName();
    String device = device(topic, packetId);
    if (device == null) {
      return;
    }
    published++;
    byte[] body = ByteBufUtil.getBytes(message.payload());
    // Not isEmpty(): Netty's does not count user properties.
    Exchange exchange = !v5 ? listener.exchange(body, topic, device, null, null, null, null)
        : listener.exchange(body, topic, device, text(properties, MqttPropertyType.CONTENT_TYPE),
            user(properties, "caravan-idempotency-key"), user(properties, "caravan-signature"), user(properties, "traceparent"));
    Publication publication = new Publication(this, exchange, packetId, body.length);
    enqueue(publication);
    if (listener.take(body.length)) {
      pause(ALL_IN_FLIGHT);
    }
    listener.getAsyncProcessor().process(exchange, publication);
    if (publication.answer() == Publication.FAILED) {
      // What comes behind it must not be stored before it: it waits here, and answer() ends the connection in its turn.
      pause(FAILED);
    }
  }

  private void enqueue(Publication publication) {
    pending.add(publication);
    if (publication.packetId != 0) {
      pendingQos1++;
    }
    inFlight = pending.size();
    // An MQTT 5 client keeps its QoS 1 messages within the window itself; TCP must hold all the others.
    if (pending.size() - (v5 ? pendingQos1 : 0) >= listener.settings().receiveMaximum) {
      pause(OWN_WINDOW);
    }
  }

  /** The device a message speaks for; null: the message was refused. */
  private String device(String topic, int packetId) {
    if (topic.equals(lastTopic)) {
      return lastDevice;
    }
    if (Topics.ofGateways(topic)) {
      return controller(topic, packetId);
    }
    if (!Topics.published(topic)) {
      refuseMessage(packetId, Meters.Outcome.BAD_TOPIC, TOPIC_NAME_INVALID);
      return null;
    }
    String device = Topics.device(topic);
    if (!Topics.validDevice(device)) {
      refuseMessage(packetId, Meters.Outcome.BAD_DEVICE_ID, TOPIC_NAME_INVALID);
      return null;
    }
    if (bound != null && !bound.equals(device)) {
      refuseMessage(packetId, Meters.Outcome.NOT_AUTHORIZED, NOT_AUTHORIZED);
      return null;
    }
    lastTopic = topic;
    lastDevice = device;
    return device;
  }

  /** Who sends a control message; null: refused. Not remembered: the right is asked for each. */
  private String controller(String topic, int packetId) {
    String named = Topics.controller(topic, listener.settings().gatewayId, Topics.CONTROL);
    if (named == null) {
      refuseMessage(packetId, Meters.Outcome.BAD_TOPIC, TOPIC_NAME_INVALID);
      return null;
    }
    if (!controls(named)) {
      refuseMessage(packetId, Meters.Outcome.NOT_AUTHORIZED, NOT_AUTHORIZED);
      return null;
    }
    return bound;
  }

  /** Any thread: whether it may use the control topics, and the one that names this device. */
  private boolean controls(String named) {
    Authenticator.Grant given = grant;
    return bound != null && given != null && given.controller() && (named.isEmpty() || named.equals(bound));
  }

  private void refuseMessage(int packetId, Meters.Outcome outcome, int reasonCode) {
    listener.published(outcome);
    if (!v5) {
      // MQTT 3.1.1 has no way to say no to a message, and yes would be a lie.
      disconnect(reasonCode);
    } else if (packetId != 0) {
      enqueue(Publication.refused(this, packetId, reasonCode, outcome.reason.isEmpty() ? outcome.outcome : outcome.reason));
      wake();
    }
  }

  /** Any thread: an answer may be ready. */
  void wake() {
    if (awake.compareAndSet(false, true)) {
      loop.wake(this);
    }
  }

  void answer() {
    awake.set(false);
    if (state != State.OPEN) {
      return;
    }
    ByteBuf out = null;
    for (Publication head = pending.peek(); head != null; head = pending.peek()) {
      int answer = head.answer();
      if (answer == Publication.WAITING) {
        break;
      }
      pending.poll();
      if (answer == Publication.FAILED) {
        flush(out);
        fail();
        return;
      }
      if (head.packetId == 0) {
        continue;
      }
      pendingQos1--;
      if (out == null) {
        out = channel.alloc().buffer(256);
      }
      puback(out, head.packetId, answer, head.detail);
    }
    inFlight = pending.size();
    flush(out);
    if (pending.size() <= listener.settings().receiveMaximum / 2) {
      resume(OWN_WINDOW);
    }
  }

  private void puback(ByteBuf out, int packetId, int reasonCode, String detail) {
    if (reasonCode == Publication.SUCCESS || !v5) {
      out.writeByte(0x40).writeByte(2).writeShort(packetId);
    } else if (detail == null || detail.length() > 100 || !explains(9 + detail.length())) {
      out.writeByte(0x40).writeByte(3).writeShort(packetId).writeByte(reasonCode);
    } else {
      // Reason String; at most 100 ASCII characters, so that both lengths fit into one byte.
      byte[] text = detail.getBytes(StandardCharsets.US_ASCII);
      out.writeByte(0x40).writeByte(7 + text.length).writeShort(packetId).writeByte(reasonCode)
          .writeByte(3 + text.length).writeByte(MqttPropertyType.REASON_STRING.value()).writeShort(text.length).writeBytes(text);
    }
  }

  /** @param packetBytes of the packet with its Reason String, ASCII and so short that each length fits into one byte */
  private boolean explains(int packetBytes) {
    return problemInformation && packetBytes <= maxOutgoingBytes;
  }

  private void flush(ByteBuf out) {
    if (out != null) {
      channel.writeAndFlush(out, channel.voidPromise());
      rest();
    }
  }

  /** The store cannot take messages now: nothing more is read, and after a while the device is sent away to come back. */
  private void fail() {
    state = State.FAILING;
    pause(FAILED);
    pending.clear();
    inFlight = 0;
    long delay = listener.settings().failureDelayMs;
    loop.after(Math.max(1, delay / 2 + ThreadLocalRandom.current().nextLong(delay / 2 + 1)),
        () -> disconnect(SERVER_BUSY, "the store cannot take messages now"));
  }

  // ---------------------------------------------------------------------------------------------- subscribing

  private void subscribe(MqttSubscribeMessage message) {
    if (v5 && property(message.idAndPropertiesVariableHeader().properties(), MqttPropertyType.SUBSCRIPTION_IDENTIFIER) != null) {
      disconnect(SUBSCRIPTION_IDENTIFIERS_NOT_SUPPORTED);
      return;
    }
    take(0);
    List<MqttTopicSubscription> asked = message.payload().topicSubscriptions();
    int[] codes = new int[asked.size()];
    List<String> told = new ArrayList<>(1);
    for (int i = 0; i < codes.length; i++) {
      String filter = asked.get(i).topicFilter();
      int qos = Math.min(1, asked.get(i).qualityOfService().value());
      codes[i] = refusal(filter, qos);
      listener.subscribed(codes[i] == qos ? Meters.Subscription.GRANTED
          : codes[i] == NOT_AUTHORIZED ? Meters.Subscription.NOT_AUTHORIZED : Meters.Subscription.REFUSED);
      if (codes[i] == qos) {
        subscriptions.put(filter, qos);
        listener.hub().subscribe(filter, this);
        if (Topics.ofGateways(filter)) {
          watching = true;
        } else if (listener.tells(Topics.channel(filter))) {
          told.add(filter);
        }
      } else if (!v5) {
        codes[i] = UNSPECIFIED;
      }
    }
    write(new MqttSubAckMessage(fixed(MqttMessageType.SUBACK, MqttQoS.AT_MOST_ONCE),
        new MqttMessageIdAndPropertiesVariableHeader(message.variableHeader().messageId(), MqttProperties.NO_PROPERTIES),
        new MqttSubAckPayload(codes)));
    if (!told.isEmpty()) {
      // One at a time: a device that subscribes over and over must not fill the queue of the workers.
      pause(SUBSCRIBING);
      listener.tell(told, () -> later(() -> resume(SUBSCRIBING)));
    }
    // Whose right to watch ended meanwhile was not found by whoever took it away.
    if (watching && !granted()) {
      revoked();
    }
  }

  private int refusal(String filter, int qos) {
    if (filter == null) {
      return TOPIC_FILTER_INVALID;
    }
    if (filter.startsWith("$share/")) {
      return SHARED_SUBSCRIPTIONS_NOT_SUPPORTED;
    }
    if (filter.indexOf('+') >= 0 || filter.indexOf('#') >= 0) {
      return WILDCARDS_NOT_SUPPORTED;
    }
    if (Topics.ofGateways(filter)) {
      String named = Topics.controller(filter, listener.settings().gatewayId, Topics.CONTROL_STATUS);
      return named == null ? TOPIC_FILTER_INVALID : controls(named) ? qos : NOT_AUTHORIZED;
    }
    if (!Topics.subscribed(filter) || !Topics.validDevice(Topics.device(filter))) {
      return TOPIC_FILTER_INVALID;
    }
    if (bound != null && !bound.equals(Topics.device(filter))) {
      return NOT_AUTHORIZED;
    }
    return subscriptions.size() < MAX_SUBSCRIPTIONS || subscriptions.containsKey(filter) ? qos : QUOTA_EXCEEDED;
  }

  private void unsubscribe(MqttUnsubscribeMessage message) {
    List<Short> codes = new ArrayList<>();
    for (String filter : message.payload().topics()) {
      boolean was = filter != null && subscriptions.remove(filter) != null;
      if (was) {
        listener.hub().unsubscribe(filter, this);
      }
      codes.add((short) (was ? 0 : NO_SUBSCRIPTION_EXISTED));
    }
    write(new MqttUnsubAckMessage(fixed(MqttMessageType.UNSUBACK, MqttQoS.AT_MOST_ONCE),
        new MqttMessageIdAndPropertiesVariableHeader(message.variableHeader().messageId(), MqttProperties.NO_PROPERTIES),
        new MqttUnsubAckPayload(v5 ? codes : List.of())));
  }

  // ---------------------------------------------------------------------------------------------- to the device

  void deliver(Delivery delivery) {
    if (delivery.awaitAck && delivery.ended()) {
      return;
    }
    Integer qos = subscriptions.get(delivery.topic);
    if (state != State.OPEN && state != State.FAILING || qos == null) {
      delivery.failed(delivery.gone(/* written= */ false));
    } else if (qos == 0 && !delivery.takesQos0()) {
      delivery.failed(new DeviceNotConnectedException("[" + delivery.topic + "] is subscribed with QoS 0, which gives no"
          + " acknowledgement: the device must subscribe with QoS 1", Evidence.NONE));
    } else if (delivery.maxBytes > maxOutgoingBytes) {
      delivery.failed(new PublishRefusedException("[" + delivery.topic + "] up to " + delivery.maxBytes
          + " bytes exceed the device's maximum packet size " + maxOutgoingBytes, Evidence.REFUSED));
    } else if (qos == 1 && outgoing.size() >= outgoingWindow) {
      if (queued.size() >= MAX_QUEUED) {
        queued.removeIf(each -> each.awaitAck && each.ended());
      }
      if (queued.size() >= MAX_QUEUED) {
        delivery.failed(new PublishRefusedException("[" + delivery.topic + "] the device has not acknowledged "
            + outgoing.size() + " messages and " + queued.size() + " more wait", Evidence.NONE));
      } else {
        queued.add(delivery);
      }
    } else {
      send(delivery, qos);
    }
  }

  private void send(Delivery delivery, int qos) {
    if (qos == 0 && !channel.channel().isWritable()) {
      // What a device does not read must not pile up; QoS 1 is bounded by the window.
      delivery.failed(new PublishRefusedException("[" + delivery.topic + "] the device does not read what it is sent", Evidence.NONE));
      return;
    }
    if (delivery.late()) {
      delivery.failed(new PublishTimeoutException("[" + delivery.topic + "] its time was over before the device took what was sent before it",
          Evidence.NONE));
      return;
    }
    if (!delivery.write()) {
      return;
    }
    int packetId = 0;
    if (qos == 1) {
      do {
        lastPacketId = lastPacketId % 65_535 + 1;
      } while (outgoing.containsKey(lastPacketId));
      packetId = lastPacketId;
      outgoing.put(packetId, delivery);
    }
    write(new MqttPublishMessage(fixed(MqttMessageType.PUBLISH, MqttQoS.valueOf(qos)),
        new MqttPublishVariableHeader(delivery.topic, packetId, v5 ? delivery.properties() : MqttProperties.NO_PROPERTIES),
        Unpooled.wrappedBuffer(delivery.payload)));
    if (!delivery.awaitAck || qos == 0) {
      delivery.succeeded(Evidence.SENT);
    }
  }

  private void acknowledged(MqttPubReplyMessageVariableHeader header) {
    Delivery delivery = outgoing.remove(header.messageId());
    if (delivery == null) {
      return;
    }
    int reasonCode = header.reasonCode() & 0xFF;
    if (reasonCode < 0x80) {
      delivery.succeeded(Evidence.DELIVERED);
    } else {
      delivery.failed(new PublishRefusedException("[" + delivery.topic + "] the device answered 0x" + Integer.toHexString(reasonCode),
          Evidence.REFUSED));
    }
    while (!queued.isEmpty() && outgoing.size() < outgoingWindow) {
      Delivery next = queued.poll();
      if (!next.ended() || !next.awaitAck) {
        deliver(next);
      }
    }
  }

  // ---------------------------------------------------------------------------------------------- ending

  void disconnect(int reasonCode) {
    disconnect(reasonCode, null);
  }

  private void disconnect(int reasonCode, String reason) {
    if (state == State.ENDED) {
      return;
    }
    if (v5 && (state == State.OPEN || state == State.FAILING)) {
      MqttProperties properties = MqttProperties.NO_PROPERTIES;
      if (reason != null && explains(7 + reason.length())) {
        properties = new MqttProperties();
        properties.add(new StringProperty(MqttPropertyType.REASON_STRING.value(), reason));
      }
      write(new MqttMessage(fixed(MqttMessageType.DISCONNECT, MqttQoS.AT_MOST_ONCE),
          new MqttReasonCodeAndPropertiesVariableHeader((byte) reasonCode, properties)));
      end();
    } else {
      close();
    }
  }

  /** Reads and drops what the client had sent, so that it gets to see the last packet written; then closes. */
  private void end() {
    leave();
    channel.channel().config().setAutoRead(true);
    loop.after(LINGER_MS, this::cut);
  }

  /**
   * Whoever does not read would not see an orderly end either: Vert.x' part of the pipeline would wait until he has read what was
   * written, and the kernel keep the connection for minutes.
   */
  private void cut() {
    if (!channel.channel().isOpen()) {
      return; // the peer was faster than the timer; a closed channel is not writable either, and takes no option
    }
    if (channel.channel().isWritable()) {
      channel.channel().close();
    } else {
      channel.channel().config().setOption(ChannelOption.SO_LINGER, 0);
      channel.channel().unsafe().close(channel.channel().voidPromise());
    }
  }

  private void close() {
    leave();
    socket.close();
  }

  /** The connection is accepted, or gone: not a stranger's any more. */
  void leftDoor() {
    if (atDoor) {
      atDoor = false;
      listener.door().leave(address);
    }
  }

  private void ended0() {
    leave();
    loop.ended(this);
  }

  private void leave() {
    if (state == State.ENDED) {
      return;
    }
    boolean open = state == State.OPEN || state == State.FAILING;
    state = State.ENDED;
    endedMs = Loop.monotonicMs();
    held.forEach(ReferenceCountUtil::release);
    held.clear();
    pending.clear();
    inFlight = 0;
    if (open) {
      listener.departed();
      listener.hub().close(this);
    }
    List<Delivery> unanswered = new ArrayList<>(outgoing.values());
    List<Delivery> unwritten = new ArrayList<>(queued);
    outgoing.clear();
    queued.clear();
    unanswered.forEach(each -> each.failed(each.gone(/* written= */ true)));
    unwritten.forEach(each -> each.failed(each.gone(/* written= */ false)));
  }

  // ---------------------------------------------------------------------------------------------- small things

  private void write(MqttMessage message) {
    channel.writeAndFlush(message, channel.voidPromise());
    rest();
  }

  /** Who does not read its answers is not read either. */
  private void rest() {
    if (!channel.channel().isWritable() && state != State.ENDED) {
      pause(NOT_WRITABLE);
    }
  }

  private static MqttFixedHeader fixed(MqttMessageType type, MqttQoS qos) {
    return new MqttFixedHeader(type, /* isDup= */ false, qos, /* isRetain= */ false, /* remainingLength= */ 0);
  }

  private static Object property(MqttProperties properties, MqttPropertyType type) {
    return properties.getProperty(type.value());
  }

  private static int integer(MqttProperties properties, MqttPropertyType type, int absent) {
    return property(properties, type) instanceof IntegerProperty found ? found.value() : absent;
  }

  private static String text(MqttProperties properties, MqttPropertyType type) {
    return property(properties, type) instanceof StringProperty found ? found.value() : null;
  }

  private static String user(MqttProperties properties, String key) {
    if (property(properties, MqttPropertyType.USER_PROPERTY) instanceof MqttProperties.UserProperties found) {
      for (MqttProperties.StringPair each : found.value()) {
        if (key.equals(each.key)) {
          return each.value;
        }
      }
    }
    return null;
  }

  /** Any thread. */
  void later(Runnable task) {
    loop.run(task);
  }

  boolean ended() {
    return state == State.ENDED;
  }

  /** Of the next packet: before a connection is accepted, small. */
  int maxPacketBytes() {
    return state == State.NEW ? Math.min(listener.settings().maxConnectBytes, listener.settings().maxPacketBytes) : listener.settings().maxPacketBytes;
  }

  long decoded() {
    return decoded;
  }

  boolean v5() {
    return v5;
  }

  Listener listener() {
    return listener;
  }

  /** Any thread. */
  String clientId() {
    return clientId;
  }

  /** Any thread. */
  long openedNs() {
    return openedNs;
  }

  /** Any thread. */
  String bound() {
    return bound;
  }

  /** Any thread. */
  String identity() {
    return identity;
  }

  /** Any thread. */
  Map<String, Integer> subscriptions() {
    return subscriptions;
  }

  /** Any thread. */
  Connections.Connection describe() {
    return new Connections.Connection(clientId, identity, listener.name(), socket.remoteAddress().toString(), v5 ? 5 : 4,
        ssl != null, connectedAtMs, published, inFlight, List.copyOf(subscriptions.keySet()));
  }
}
