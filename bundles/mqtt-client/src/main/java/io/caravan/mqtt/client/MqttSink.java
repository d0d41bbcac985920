// SPDX-License-Identifier: Apache-2.0
package io.caravan.mqtt.client;

import io.caravan.mqtt.client.internal.Closing;
import io.caravan.mqtt.client.internal.Meters;
import io.caravan.mqtt.client.internal.OwnIngest;
import io.caravan.mqtt.client.internal.Publication;
import io.caravan.mqtt.client.internal.ReasonCode;
import io.caravan.mqtt.client.internal.Settings;
import io.caravan.mqtt.client.internal.TopicPattern;
import io.caravan.wal.Batch;
import io.caravan.wal.Row;
import io.caravan.wal.SinkException;
import io.caravan.wal.SinkException.Kind;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.HashSet;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeSet;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.TimeoutException;
import java.util.stream.Collectors;
import java.util.stream.Stream;
import org.apache.camel.CamelContext;
import org.apache.camel.CamelContextAware;
import org.apache.camel.Exchange;
import org.apache.camel.Route;
import org.apache.camel.support.RoutePolicySupport;
import org.eclipse.paho.mqttv5.client.IMqttToken;
import org.eclipse.paho.mqttv5.client.MqttActionListener;
import org.eclipse.paho.mqttv5.client.MqttAsyncClient;
import org.eclipse.paho.mqttv5.client.MqttCallback;
import org.eclipse.paho.mqttv5.client.MqttClientException;
import org.eclipse.paho.mqttv5.client.MqttConnectionOptions;
import org.eclipse.paho.mqttv5.client.MqttDisconnectResponse;
import org.eclipse.paho.mqttv5.client.persist.MemoryPersistence;
import org.eclipse.paho.mqttv5.common.MqttException;
import org.eclipse.paho.mqttv5.common.MqttMessage;
import org.eclipse.paho.mqttv5.common.packet.MqttProperties;
import org.eclipse.paho.mqttv5.common.packet.MqttPublish;
import org.eclipse.paho.mqttv5.common.packet.UserProperty;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/**
 * Publishes batches of a sink to a broker (MQTT 5, QoS 1, not retained): a bean step with the method {@code deliver}, and
 * {@code routePolicy: "#name"} on the route, by which the connection ends when the route stops.
 *
 * <p>Guarantee: {@link #deliver} returns when the broker has acknowledged every row of the batch. Rows leave in the order of
 * the batch on one connection, so each device's are in order; after a failure the whole batch is sent again, with the same
 * user property {@code message_key} on each message. There is no session at the broker and no queue here: the log is both.
 *
 * <p>Why it is Java: {@code paho-mqtt5:} waits for each PUBACK before the next message, 20 messages a second over a line of
 * 50 ms, ignores PUBACK reason codes, and waits without limit.
 *
 * <p>Filled by setters and {@link #init} before its route starts, not changed afterwards. Then thread-safe; batches go out
 * one after the other. Does not connect before the first batch, and once per batch at most: when to try again is the
 * caller's business.
 */
public final class MqttSink extends RoutePolicySupport implements CamelContextAware {
  private static final Logger LOG = LoggerFactory.getLogger(MqttSink.class);
  private static final long DISCONNECT_CODE_MS = 500;
  /** Fixed header, lengths and property identifiers: more than there can be. */
  private static final int PACKET_OVERHEAD = 128;
  /** At most three bytes each, and MQTT's limit is 65,535 bytes. */
  private static final int TEXT_MAX_CHARS = 1_024;

  private final Settings settings = new Settings();
  private final OwnIngest own = new OwnIngest();
  private CamelContext context;
  private String gatewayId;
  private String topicText;
  private TopicPattern topic;
  private boolean bodyOnly;
  private int window = 1_000;
  private long ackTimeoutMs = 10_000;

  private volatile Meters meters = Meters.NONE;
  private volatile Line line;
  private volatile boolean closed;
  /** Something was accepted since this bean was made: what is refused now is not for want of rights in general. */
  private boolean accepted;

  /** Does nothing until its route starts. */
  public MqttSink() {
    settings.durable = false;
  }

  /** @param url {@code tcp://host:port} or {@code ssl://host:port} (TLS 1.2 or later, host name verified) */
  public void setUrl(String url) {
    settings.url = url;
  }

  /** @param clientId used by nobody else at that broker; empty: made from the gateway's id */
  public void setClientId(String clientId) {
    settings.clientId = clientId == null || clientId.isEmpty() ? null : clientId;
  }

  /** @param gatewayId makes the client id, {@code <gatewayId>-sink}, where none is given */
  public void setGatewayId(String gatewayId) {
    this.gatewayId = gatewayId;
  }

  /** @param userName empty: none */
  public void setUserName(String userName) {
    settings.userName = userName;
  }

  /** @param password empty: none; better {@link #setPasswordFile} */
  public void setPassword(String password) {
    settings.password = password;
  }

  /** @param file its text without surrounding white space is the password; goes before {@link #setPassword} */
  public void setPasswordFile(String file) {
    settings.passwordFile = file;
  }

  /** @param file PEM, who may sign the broker's certificate; empty: whom Java trusts */
  public void setCaFile(String file) {
    settings.caFile = file;
  }

  /** @param file PEM, own certificate for a broker that asks for one; empty: none */
  public void setCertFile(String file) {
    settings.certFile = file;
  }

  /** @param file PEM, PKCS#8 without password, the key of {@link #setCertFile} */
  public void setKeyFile(String file) {
    settings.keyFile = file;
  }

  /** @param seconds how often an idle connection is tried out, at least 1 */
  public void setKeepAliveSeconds(int seconds) {
    settings.keepAliveSeconds = seconds;
  }

  /** @param ms for the TCP and TLS connection; the answer to CONNECT must come within twice that */
  public void setConnectTimeoutMs(long ms) {
    settings.connectTimeoutMs = ms;
  }

  /** @param ms longest time in which the broker acknowledges nothing while something waits for it */
  public void setAckTimeoutMs(long ms) {
    ackTimeoutMs = ms;
  }

  /** @param messages that may be unacknowledged at a time, at least 1; the broker's Receive Maximum goes before it */
  public void setWindow(int messages) {
    window = messages;
  }

  /** @param pattern topic with the fields {gateway_id}, {device_id}, {kind}, {lane} */
  public void setTopic(String pattern) {
    topicText = pattern;
  }

  /** @param payload {@code row}: the row's line of JSON, or {@code body}: only what the device sent */
  public void setPayload(String payload) {
    if (!Set.of("row", "body").contains(payload)) {
      throw new IllegalArgumentException("payload [" + payload + "] must be row or body");
    }
    bodyOnly = payload.equals("body");
  }

  /** @param enabled whether the gateway reads from a broker */
  public void setOwnEnabled(boolean enabled) {
    own.reads = enabled;
  }

  /** @param url of the broker it reads from */
  public void setOwnUrl(String url) {
    own.url = url;
  }

  /** @param filters comma-separated, what it reads there */
  public void setOwnTopics(String filters) {
    own.filters = Settings.list(filters);
  }

  /** @param enabled whether the gateway listens for devices itself */
  public void setOwnListener(boolean enabled) {
    own.listens = enabled;
  }

  /** @param port where it listens */
  public void setOwnPort(int port) {
    own.port = port;
  }

  /** @param enabled whether it also listens with TLS */
  public void setOwnTls(boolean enabled) {
    own.tls = enabled;
  }

  /** @param port where it listens with TLS */
  public void setOwnTlsPort(int port) {
    own.tlsPort = port;
  }

  @Override
  public void setCamelContext(CamelContext camelContext) {
    context = camelContext;
  }

  @Override
  public CamelContext getCamelContext() {
    return context;
  }

  /** @throws IllegalArgumentException topic or url breaks its rule; files are looked at when it connects */
  public void init() {
    topic = new TopicPattern(topicText);
    settings.checkUrl();
    if (settings.clientId == null) {
      settings.clientId = gatewayId + "-sink";
    }
  }

  @Override
  public void onStart(Route route) {
    closed = false;
    if (topic == null) {
      init();
    }
    meters.close();
    meters = Meters.of(context, "sink-mqtt", () -> {
      Line now = line;
      return now != null && now.client.isConnected();
    });
    if (settings.exposesPassword()) {
      LOG.warn("The password for [{}] crosses the network in the clear: use ssl://", settings.url);
    }
  }

  @Override
  public void onStop(Route route) {
    close();
  }

  @Override
  public void onSuspend(Route route) {
    close();
  }

  @Override
  public void onResume(Route route) {
    onStart(route);
  }

  /** Ends the connection; the route may start again. Waits for nothing. */
  public void close() {
    closed = true;
    Line now = line;
    if (now != null) {
      drop(now);
    }
    meters.close();
  }

  /**
   * Publishes the body, a {@link Batch}.
   *
   * @throws SinkException        what became of it instead, as that class says
   * @throws InterruptedException the caller does not want to wait any longer; part of the batch may have arrived
   */
  public void deliver(Exchange exchange) throws SinkException, InterruptedException {
    Batch batch = exchange.getMessage().getBody(Batch.class);
    if (batch == null) {
      throw new IllegalArgumentException("the body must be a Batch, route [" + exchange.getFromRouteId() + "] gave ["
          + exchange.getMessage().getBody() + "]");
    }
    deliver(batch);
  }

  synchronized void deliver(Batch batch) throws SinkException, InterruptedException {
    String gateway = batch.get(0).gatewayId();
    if (!TopicPattern.isValue(gateway)) {
      // Not the records' fault.
      throw ReasonCode.failure(Kind.CONFIGURATION, "misconfigured", "gateway.id [" + gateway + "] cannot stand in a topic: it must"
          + " be 1 to 64 characters out of A-Z a-z 0-9 . _ -", null);
    }
    Line used = line;
    if (used == null || !used.client.isConnected()) {
      if (used != null) {
        drop(used);
      }
      used = connect();
    }
    Answers answers = null;
    try {
      answers = publish(used, batch);
    } finally {
      if (answers == null) {
        // What is still on its way must not be taken for an answer to the next attempt.
        drop(used);
      }
    }
    try {
      judge(batch, answers);
    } catch (SinkException e) {
      if (e.kind() == Kind.CONFIGURATION) {
        // Rights are often those of the moment of CONNECT.
        drop(used);
      }
      throw e;
    }
  }

  /** Of a whole batch. */
  private record Answers(Publication publication, Map<Long, String> topics, Map<Long, String> unsent, boolean tooLarge) { }

  private Answers publish(Line by, Batch batch) throws SinkException, InterruptedException {
    Publication publication = new Publication(meters, by.client::isConnected);
    by.publication = publication;
    Map<Long, String> topics = new HashMap<>();
    Map<Long, String> unsent = new LinkedHashMap<>();
    boolean tooLarge = false;
    try {
      for (Row row : batch) {
        try {
          String target = topic.of(row);
          MqttMessage message = message(row);
          if (by.exceeds(target, message)) {
            tooLarge = true;
            unsent.put(row.seq(), "the message for [" + target + "] is longer than the broker's maximum packet size ["
                + by.maximumPacketSize + "]");
            continue;
          }
          if (!publication.enter(by.window, ackTimeoutMs)) {
            throw broken(by, publication);
          }
          topics.put(row.seq(), target);
          try {
            by.client.publish(target, message, row.seq(), publication);
          } catch (IllegalArgumentException e) {
            publication.leave();
            throw e;
          }
        } catch (IllegalArgumentException e) {
          // A value that MQTT has no form for; Paho refuses it before any of it is sent.
          unsent.put(row.seq(), e.getMessage());
        }
      }
      if (!publication.awaitAll(ackTimeoutMs)) {
        throw broken(by, publication);
      }
      return new Answers(publication, topics, unsent, tooLarge);
    } catch (MqttException e) {
      publication.lost(e);
      throw broken(by, publication);
    } finally {
      by.publication = null;
      publication.over();
    }
  }

  /** All answers are there. */
  private void judge(Batch batch, Answers answers) throws SinkException {
    Publication publication = answers.publication;
    boolean before = accepted;
    accepted |= publication.accepted() > 0;
    if (publication.later() != 0) {
      throw ReasonCode.failure(Kind.TRANSIENT, publication.later() == ReasonCode.QUOTA_EXCEEDED ? "throttled" : "error",
          "the broker " + settings.url + " answered " + ReasonCode.text(publication.later()), null);
    }
    Map<Long, Integer> codes = publication.refused();
    Map<Long, String> refused = new LinkedHashMap<>(answers.unsent);
    if (codes.isEmpty() && refused.isEmpty()) {
      return;
    }
    boolean all = codes.size() == batch.size();
    Set<Integer> kinds = new HashSet<>(codes.values());
    Set<String> names = codes.keySet().stream().map(answers.topics::get).collect(Collectors.toCollection(TreeSet::new));
    if (all && kinds.equals(Set.of(ReasonCode.NOT_AUTHORIZED)) && (!before || names.size() > 1)) {
      throw ReasonCode.failure(Kind.CONFIGURATION, "unauthorized", "the broker " + settings.url + " refused all of "
          + names.size() + " topics, the first [" + names.iterator().next() + "], " + ReasonCode.text(ReasonCode.NOT_AUTHORIZED)
          + ": look at its access list for user [" + given(settings.userName) + "]", null);
    }
    if (all && batch.size() > 1 && kinds.equals(Set.of(ReasonCode.UNSPECIFIED))) {
      // Not one of many, and no word why: more likely the broker's trouble than that of all records.
      throw ReasonCode.failure(Kind.TRANSIENT, "server_error", "the broker " + settings.url + " refused all of " + batch.size()
          + " messages, " + ReasonCode.text(ReasonCode.UNSPECIFIED), null);
    }
    codes.forEach((seq, code) -> refused.put(seq, "the broker refused topic [" + answers.topics.get(seq) + "] " + ReasonCode.text(code)
        + publication.reason(seq) + (code == ReasonCode.NOT_AUTHORIZED ? ": look at its access list for user ["
        + given(settings.userName) + "]" : "")));
    boolean unauthorized = codes.size() == refused.size() && kinds.equals(Set.of(ReasonCode.NOT_AUTHORIZED));
    throw new SinkException(unauthorized ? "unauthorized" : codes.isEmpty() && answers.tooLarge ? "too_large" : "refused", refused);
  }

  private static String given(String text) {
    return text == null ? "" : text;
  }

  private MqttMessage message(Row row) {
    MqttMessage message = new MqttMessage(bodyOnly ? row.body() : row.json());
    message.setQos(1);
    message.setRetained(false);
    MqttProperties properties = new MqttProperties();
    properties.setContentType("application/json");
    properties.setPayloadFormat(true);
    List<UserProperty> user = new ArrayList<>(4);
    user.add(property("message_key", row.messageKey()));
    user.add(property("correlation_id", row.correlationId()));
    user.add(property("lane", row.lane()));
    if (row.traceContext() != null) {
      user.add(property("traceparent", row.traceContext()));
    }
    properties.setUserProperties(user);
    message.setProperties(properties);
    return message;
  }

  /** Checked here: half-way through a publication Paho takes it for the end of the connection. */
  private static UserProperty property(String name, String value) {
    boolean fits = value != null && value.length() <= TEXT_MAX_CHARS;
    for (int i = 0; fits && i < value.length(); i++) {
      fits = !Character.isISOControl(value.charAt(i)) && !Character.isSurrogate(value.charAt(i)) && value.charAt(i) < 0xfdd0;
    }
    if (!fits) {
      throw new IllegalArgumentException(name + " [" + String.valueOf(value).replaceAll("[^\\x20-\\x7e]", "?")
          + "] cannot be an MQTT user property: it must be at most " + TEXT_MAX_CHARS + " characters without control characters");
    }
    return new UserProperty(name, value);
  }

  /** Not all answers came. */
  private SinkException broken(Line by, Publication publication) throws InterruptedException {
    Throwable cause = publication.cause();
    if (cause == null && by.client.isConnected()) {
      return ReasonCode.failure(Kind.TRANSIENT, "timeout", "the broker " + settings.url + " acknowledged none of "
          + publication.inFlight() + " messages within " + ackTimeoutMs + " ms", null);
    }
    // The code of a DISCONNECT comes after the failure of what was under way.
    MqttDisconnectResponse said = by.disconnected(
        cause instanceof MqttException e && e.getReasonCode() == MqttClientException.REASON_CODE_SERVER_DISCONNECTED);
    if (said != null && said.getException() == null) {
      return ReasonCode.of(new MqttException(said.getReturnCode()), settings.url, settings.clientId);
    }
    if (cause instanceof MqttException e && e.getReasonCode() == MqttException.REASON_CODE_INVALID_RETURN_CODE) {
      // mosquitto answers a message above its message_size_limit with 0x95, which a PUBACK cannot have; Paho hangs up.
      return ReasonCode.failure(Kind.RECORD, "too_large", "the broker " + settings.url
          + " refused a record with a reason code that MQTT does not have for it, most likely it is too large", cause);
    }
    return ReasonCode.of(cause != null ? cause : new MqttException(MqttClientException.REASON_CODE_CONNECTION_LOST), settings.url,
        settings.clientId);
  }

  private Line connect() throws SinkException, InterruptedException {
    MqttConnectionOptions options;
    try {
      if (topic == null) {
        init();
      }
      options = settings.options();
    } catch (IllegalArgumentException e) {
      throw ReasonCode.failure(Kind.CONFIGURATION, "misconfigured", e.getMessage(), e);
    }
    String loop = own.loop(settings.url, topic);
    if (loop != null) {
      throw ReasonCode.failure(Kind.CONFIGURATION, "misconfigured", loop, null);
    }
    Line made = null;
    boolean connected = false;
    try {
      made = new Line(new MqttAsyncClient(settings.url, settings.clientId, new MemoryPersistence()));
      made.open(options);
      line = made;
      connected = !closed;
      if (closed) {
        throw ReasonCode.failure(Kind.TRANSIENT, "error", "the route is stopping", null);
      }
      LOG.info("{} is connected to {}, {} messages at a time", settings.clientId, settings.url, made.window);
      return made;
    } catch (MqttException e) {
      throw ReasonCode.of(e, settings.url, settings.clientId);
    } catch (ExecutionException e) {
      throw ReasonCode.of(e.getCause(), settings.url, settings.clientId);
    } catch (TimeoutException e) {
      throw ReasonCode.failure(Kind.TRANSIENT, "timeout", "the broker " + settings.url + " did not answer CONNECT within "
          + 2 * settings.connectTimeoutMs + " ms", e);
    } finally {
      meters.connects(connected);
      if (!connected && made != null) {
        drop(made);
      }
    }
  }

  private void drop(Line old) {
    if (line == old) {
      line = null;
    }
    old.abandoned = true;
    Closing.start(old.client, 0);
  }

  /** One connection, with a Paho client of its own, so that nothing of a broken one reaches the next. */
  private final class Line implements MqttCallback, MqttActionListener {
    final MqttAsyncClient client;
    final CompletableFuture<IMqttToken> connack = new CompletableFuture<>();
    final CompletableFuture<MqttDisconnectResponse> disconnect = new CompletableFuture<>();
    volatile Publication publication;
    volatile boolean abandoned;
    int window;
    long maximumPacketSize = Long.MAX_VALUE;

    Line(MqttAsyncClient client) {
      this.client = client;
    }

    void open(MqttConnectionOptions options) throws MqttException, InterruptedException, ExecutionException, TimeoutException, SinkException {
      client.setCallback(this);
      client.connect(options, null, this);
      MqttProperties limits = connack.get(2 * settings.connectTimeoutMs, TimeUnit.MILLISECONDS).getResponseProperties();
      Integer receiveMaximum = limits == null ? null : limits.getReceiveMaximum();
      // Never more than the broker takes: Paho throws 32202 then, for the message that finds no room.
      window = Math.max(1, Math.min(MqttSink.this.window, receiveMaximum == null ? 65_535 : receiveMaximum));
      if (limits != null && limits.getMaximumPacketSize() != null) {
        maximumPacketSize = limits.getMaximumPacketSize();
      }
      if (limits != null && limits.getMaximumQoS() != null && limits.getMaximumQoS() == 0) {
        throw ReasonCode.failure(Kind.CONFIGURATION, "misconfigured", "the broker " + settings.url
            + " takes QoS 0 only, which acknowledges nothing: set url to another one", null);
      }
    }

    /** Paho compares with the wrong one of the two maximum packet sizes, and the broker would hang up. */
    boolean exceeds(String topic, MqttMessage message) {
      if (maximumPacketSize == Long.MAX_VALUE) {
        return false;
      }
      long text = topic.length() + message.getProperties().getUserProperties().stream()
          .flatMap(p -> Stream.of(p.getKey(), p.getValue())).mapToLong(s -> s == null ? 0 : s.length()).sum();
      if (message.getPayload().length + 3 * text + PACKET_OVERHEAD <= maximumPacketSize) {
        return false;
      }
      try {
        MqttPublish packet = new MqttPublish(topic, message, message.getProperties());
        packet.setMessageId(1);
        return packet.getHeader().length + packet.getPayload().length > maximumPacketSize;
      } catch (MqttException e) {
        throw new IllegalArgumentException("the message for [" + topic + "] cannot be written: " + e.getMessage(), e);
      }
    }

    MqttDisconnectResponse disconnected(boolean expected) throws InterruptedException {
      try {
        return expected ? disconnect.get(DISCONNECT_CODE_MS, TimeUnit.MILLISECONDS) : disconnect.getNow(null);
      } catch (ExecutionException | TimeoutException e) {
        return null; // the connection went without a word
      }
    }

    @Override
    public void onSuccess(IMqttToken token) {
      connack.complete(token);
      if (abandoned) {
        Closing.start(client, 0);
      }
    }

    @Override
    public void onFailure(IMqttToken token, Throwable cause) {
      connack.completeExceptionally(cause);
    }

    @Override
    public void disconnected(MqttDisconnectResponse response) {
      disconnect.complete(response);
      Publication now = publication;
      Throwable cause = response.getException() != null ? response.getException()
          : new MqttException(MqttClientException.REASON_CODE_SERVER_DISCONNECTED);
      if (now != null) {
        now.lost(cause);
      } else if (!abandoned) {
        LOG.info("{} has no connection to {} any more, the next batch makes one: {}", settings.clientId, settings.url,
            response.getException() != null ? String.valueOf(response.getException().getMessage())
                : ReasonCode.text(response.getReturnCode()));
      }
    }

    @Override
    public void mqttErrorOccurred(MqttException e) {
      LOG.debug("{}", settings.clientId, e);
    }

    @Override
    public void messageArrived(String topic, MqttMessage message) {}

    @Override
    public void deliveryComplete(IMqttToken token) {}

    @Override
    public void connectComplete(boolean reconnect, String url) {}

    @Override
    public void authPacketArrived(int reasonCode, MqttProperties properties) {}
  }
}
