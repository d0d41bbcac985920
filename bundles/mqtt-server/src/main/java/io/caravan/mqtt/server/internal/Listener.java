// SPDX-License-Identifier: Apache-2.0
package io.caravan.mqtt.server.internal;

import io.caravan.mqtt.server.Authenticator;
import io.caravan.mqtt.server.MqttServerHeaders;
import io.vertx.core.DeploymentOptions;
import io.vertx.core.Vertx;
import io.vertx.core.http.ClientAuth;
import io.vertx.core.net.NetServerOptions;
import io.vertx.core.net.PemKeyCertOptions;
import io.vertx.core.net.PemTrustOptions;
import java.net.BindException;
import java.util.List;
import java.util.Set;
import java.util.concurrent.CopyOnWriteArrayList;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.TimeoutException;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.concurrent.atomic.AtomicLong;
import java.util.function.Supplier;
import org.apache.camel.Endpoint;
import org.apache.camel.Exchange;
import org.apache.camel.Message;
import org.apache.camel.Processor;
import org.apache.camel.ProducerTemplate;
import org.apache.camel.Suspendable;
import org.apache.camel.support.DefaultConsumer;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/**
 * Consumer of {@code mqtt-server:}. Every message is one exchange, processed on the event loop of its connection until
 * the route first leaves it; the answer follows the exchange's end.
 *
 * <p>Memory is bounded by the messages in flight: per connection by receiveMaximum, over all by maxInFlight and
 * maxInFlightBytes; beyond that the sockets are not read, and TCP holds the senders.
 */
public final class Listener extends DefaultConsumer implements Suspendable {
  private static final Logger LOG = LoggerFactory.getLogger(Listener.class);
  private static final long START_TIMEOUT_S = 10;
  private static final long REBIND_NS = TimeUnit.SECONDS.toNanos(1);
  private static final long REBIND_PAUSE_MS = 50;
  /** Sockets that may be open beyond maxConnections, so that a client can be told that there are too many. */
  private static final int SPARE_SOCKETS = 64;

  private final String name;
  private final Settings settings;
  private final Hub hub;
  private final Supplier<Vertx> vertx;
  private final Authenticator authenticator;
  private final Seldom seldom = new Seldom(LOG);
  private final List<Loop> loops = new CopyOnWriteArrayList<>();
  private final AtomicInteger sockets = new AtomicInteger();
  private final AtomicInteger accepted = new AtomicInteger();
  private final AtomicInteger inFlight = new AtomicInteger();
  private final AtomicLong inFlightBytes = new AtomicLong();
  private volatile boolean congested;
  private volatile boolean suspended;
  private volatile int actualPort;
  private String deployment;
  private String claimed;
  private Meters meters;
  private ProducerTemplate receiptsSubscribed;

  public Listener(Endpoint endpoint, Processor processor, String name, Settings settings, Hub hub, Supplier<Vertx> vertx,
      Authenticator authenticator) {
    super(endpoint, processor);
    this.name = name;
    this.settings = settings;
    this.hub = hub;
    this.vertx = vertx;
    this.authenticator = authenticator;
  }

  @Override
  protected void doStart() throws Exception {
    super.doStart();
    settings.checkFiles(name);
    suspended = false;
    meters = Meters.of(getEndpoint().getCamelContext().getRegistry().lookupByName("metricsRegistry"), name,
        accepted::get, inFlight::get);
    try {
      listen();
    } catch (Exception e) {
      meters.close();
      throw e;
    }
    LOG.info("mqtt-server:{} listens on {}:{}{}", name, settings.host, actualPort, settings.tls() ? ", TLS" : "");
  }

  private void listen() throws Exception {
    String address = settings.host + ':' + settings.port;
    if (settings.port != 0) {
      hub.claim(address, this);
      claimed = address;
    }
    long giveUp = System.nanoTime() + REBIND_NS;
    while (true) {
      try {
        deploy();
        return;
      } catch (ExecutionException e) {
        loops.clear();
        // A route that stops and starts again, an edit, finds its port taken for some milliseconds: NIO gives a closed
        // listening socket back only when its selector runs the next time.
        if (!(e.getCause() instanceof BindException) || System.nanoTime() - giveUp > 0) {
          unlisten();
          throw describe(address, e.getCause());
        }
        TimeUnit.MILLISECONDS.sleep(REBIND_PAUSE_MS);
      } catch (TimeoutException e) {
        unlisten();
        throw describe(address, e);
      }
    }
  }

  private void deploy() throws ExecutionException, TimeoutException, InterruptedException {
    NetServerOptions options = options();
    deployment = vertx.get().deployVerticle(() -> {
      Loop loop = new Loop(this, options);
      loops.add(loop);
      return loop;
    }, new DeploymentOptions().setInstances(settings.port == 0 ? 1 : settings.eventLoops))
        .toCompletionStage().toCompletableFuture().get(START_TIMEOUT_S, TimeUnit.SECONDS);
  }

  private Exception describe(String address, Throwable cause) {
    String port = settings.tls() ? "mqtt.server.tls.port" : "mqtt.server.port";
    String advice = cause instanceof BindException ? ": stop what has the port (ss -ltnp names it) or change "
        : settings.tls() ? ": check the PEM files, " : ": check ";
    advice += port + " and mqtt.server.bind.host";
    return new IllegalStateException("mqtt-server:" + name + " cannot listen on " + address + " (" + cause.getMessage() + ")" + advice, cause);
  }

  private NetServerOptions options() {
    NetServerOptions options = new NetServerOptions().setHost(settings.host).setPort(settings.port)
        .setTcpKeepAlive(true).setSslHandshakeTimeout(settings.connectTimeoutMs).setSslHandshakeTimeoutUnit(TimeUnit.MILLISECONDS);
    if (settings.tls()) {
      options.setSsl(true).setEnabledSecureTransportProtocols(Set.of("TLSv1.2", "TLSv1.3"))
          .setKeyCertOptions(new PemKeyCertOptions().setCertPath(settings.tlsCert).setKeyPath(settings.tlsKey));
      if (!Settings.blank(settings.tlsClientCa)) {
        options.setClientAuth(ClientAuth.REQUIRED).setTrustOptions(new PemTrustOptions().addCertPath(settings.tlsClientCa));
      }
      if (!Settings.blank(settings.tlsCrl)) {
        options.addCrlPath(settings.tlsCrl);
      }
    }
    return options;
  }

  /** Stops reading; what was read is answered when its exchange ends, which Camel waits for before it stops the rest. */
  @Override
  protected void doSuspend() {
    suspended = true;
    loops.forEach(loop -> loop.each(Session::suspend));
  }

  @Override
  protected void doResume() {
    suspended = false;
    loops.forEach(loop -> loop.each(Session::resume));
  }

  @Override
  protected void doStop() throws Exception {
    suspended = true;
    loops.forEach(loop -> loop.each(session -> session.disconnect(Session.SERVER_SHUTTING_DOWN)));
    unlisten();
    if (meters != null) {
      meters.close();
    }
    if (receiptsSubscribed != null) {
      receiptsSubscribed.stop();
      receiptsSubscribed = null;
    }
    super.doStop();
  }

  private void unlisten() {
    if (deployment != null) {
      // After the disconnects above: a loop runs its tasks in order, and closing the server closes what is left.
      String id = deployment;
      deployment = null;
      try {
        vertx.get().undeploy(id).toCompletionStage().toCompletableFuture().get(START_TIMEOUT_S, TimeUnit.SECONDS);
      } catch (InterruptedException e) {
        Thread.currentThread().interrupt();
      } catch (ExecutionException | TimeoutException e) {
        LOG.warn("mqtt-server:{} did not close {}:{} cleanly", name, settings.host, settings.port, e);
      }
    }
    loops.clear();
    if (claimed != null) {
      hub.release(claimed, this);
      claimed = null;
    }
  }

  /** Camel's exchange for a message; null if it cannot be made now. */
  Exchange exchange(byte[] body, String topic, String deviceId, String contentType, String idempotencyKey, String traceparent) {
    Exchange exchange = createExchange(false);
    Message message = exchange.getMessage();
    message.setBody(body);
    message.setHeader(MqttServerHeaders.SOURCE, "mqtt-server");
    message.setHeader(MqttServerHeaders.TOPIC, topic);
    message.setHeader(MqttServerHeaders.DEVICE_ID, deviceId);
    if (contentType != null) {
      message.setHeader(MqttServerHeaders.CONTENT_TYPE, contentType);
    }
    if (idempotencyKey != null) {
      message.setHeader(MqttServerHeaders.IDEMPOTENCY_KEY, idempotencyKey);
    }
    if (traceparent != null) {
      message.setHeader(MqttServerHeaders.TRACEPARENT, traceparent);
    }
    return exchange;
  }

  /** Any thread: reads what became of the exchange, gives it back, and returns the answer to the device. */
  int settle(Publication publication, Exchange exchange, int bytes) {
    int answer;
    Exception failure = exchange.getException();
    if (failure != null) {
      answer = Publication.FAILED;
      meters.published(Meters.Outcome.FAILED);
      seldom.warn("mqtt-server:{} a message was not taken and not acknowledged; its device is disconnected and will send it again: {}",
          name, failure.toString());
    } else {
      Object outcome = exchange.getVariable("outcome");
      if ("durable".equals(outcome)) {
        answer = Publication.SUCCESS;
        meters.published(Meters.Outcome.DURABLE);
      } else if ("duplicate".equals(outcome)) {
        answer = Publication.SUCCESS;
        meters.published(Meters.Outcome.DUPLICATE);
      } else if ("rejected".equals(outcome)) {
        answer = Publication.PAYLOAD_FORMAT_INVALID;
        publication.detail = detail(exchange);
        meters.published(Meters.Outcome.REJECTED);
      } else {
        // A route that ends without saying so has not stored anything: acknowledging would break the one promise.
        answer = Publication.FAILED;
        meters.published(Meters.Outcome.FAILED);
        seldom.warn("mqtt-server:{} route [{}] ended with variable outcome [{}], which must be durable, duplicate or rejected;"
            + " the message was not acknowledged", name, getRouteId(), outcome);
      }
    }
    releaseExchange(exchange, false);
    give(bytes);
    return answer;
  }

  private static String detail(Exchange exchange) {
    String reason = exchange.getVariable("reason", String.class);
    String field = exchange.getVariable("field", String.class);
    return reason == null || field == null ? reason : reason + ' ' + field;
  }

  /** Counts a message in; true if the sockets should rest until others have ended. Before the message is processed. */
  boolean take(int bytes) {
    int messages = inFlight.incrementAndGet();
    long sum = inFlightBytes.addAndGet(bytes);
    if (messages < settings.maxInFlight && sum < settings.maxInFlightBytes) {
      return congested;
    }
    // The message that sets it has not ended yet, so a later give() sees it.
    congested = true;
    return true;
  }

  private void give(int bytes) {
    int messages = inFlight.decrementAndGet();
    long sum = inFlightBytes.addAndGet(-bytes);
    if (congested && messages <= settings.maxInFlight / 4 * 3 && sum <= settings.maxInFlightBytes / 4 * 3) {
      congested = false;
      loops.forEach(loop -> loop.each(Session::uncongested));
    }
  }

  boolean congested() {
    return congested;
  }

  void published(Meters.Outcome outcome) {
    meters.published(outcome);
  }

  /** Whether one more socket may be open. */
  boolean admit() {
    if (suspended || sockets.get() >= settings.maxConnections + SPARE_SOCKETS) {
      return false;
    }
    sockets.incrementAndGet();
    return true;
  }

  void left() {
    sockets.decrementAndGet();
  }

  /** Whether one more connection may be accepted; each true is followed by one departed(). */
  boolean enter() {
    if (accepted.incrementAndGet() <= settings.maxConnections) {
      return true;
    }
    accepted.decrementAndGet();
    seldom.warn("mqtt-server:{} refused a connection: {} are open, the limit maxConnections", name, settings.maxConnections);
    return false;
  }

  void departed() {
    accepted.decrementAndGet();
  }

  void receiptsSubscribed(String deviceId) {
    if (Settings.blank(settings.onReceiptsSubscribed)) {
      return;
    }
    vertx.get().executeBlocking(() -> {
      template().sendBodyAndHeader(settings.onReceiptsSubscribed, deviceId, MqttServerHeaders.DEVICE_ID, deviceId);
      return null;
    }, false).onFailure(e -> seldom.warn("mqtt-server:{} could not ask [{}] for a receipt: {}", name,
        settings.onReceiptsSubscribed, e.toString()));
  }

  private synchronized ProducerTemplate template() {
    if (receiptsSubscribed == null) {
      receiptsSubscribed = getEndpoint().getCamelContext().createProducerTemplate();
    }
    return receiptsSubscribed;
  }

  void handshakeFailed(Throwable cause) {
    LOG.debug("mqtt-server:{} a connection failed before it was accepted", name, cause);
  }

  void listening(int port) {
    actualPort = port;
  }

  /** The port that is listened on; differs from the option only if that is 0. */
  public int actualPort() {
    return actualPort;
  }

  String name() {
    return name;
  }

  Settings settings() {
    return settings;
  }

  Hub hub() {
    return hub;
  }

  Authenticator authenticator() {
    return authenticator;
  }

  boolean suspended() {
    return suspended;
  }

  Seldom seldom() {
    return seldom;
  }
}
