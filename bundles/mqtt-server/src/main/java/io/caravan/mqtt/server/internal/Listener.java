// SPDX-License-Identifier: Apache-2.0
package io.caravan.mqtt.server.internal;

import io.caravan.mqtt.server.Authenticator;
import io.caravan.mqtt.server.MqttServerHeaders;
import io.vertx.core.DeploymentOptions;
import io.vertx.core.Vertx;
import io.vertx.core.net.NetServerOptions;
import java.net.BindException;
import java.net.InetAddress;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
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
import org.apache.camel.health.HealthCheck;
import org.apache.camel.health.HealthCheckRegistry;
import org.apache.camel.health.HealthCheckResultBuilder;
import org.apache.camel.impl.health.AbstractHealthCheck;
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
  private static final long TLS_REFRESH_MS = 2000;
  private static final long STUCK_S = 30;

  private final String name;
  private final Settings settings;
  private final Hub hub;
  private final Supplier<Vertx> vertx;
  private final Authenticator authenticator;
  private final Seldom seldom = new Seldom(LOG);
  /** Of its own, so that strangers cannot hide other warnings. */
  private final Seldom refusals = new Seldom(LOG);
  private final Door door;
  private final List<Loop> loops = new CopyOnWriteArrayList<>();
  private final AtomicInteger accepted = new AtomicInteger();
  private final AtomicInteger inFlight = new AtomicInteger();
  private final AtomicLong inFlightBytes = new AtomicLong();
  private volatile boolean congested;
  private volatile boolean suspended;
  private volatile int actualPort;
  private final List<String> deployments = new ArrayList<>();
  private String claimed;
  private Meters meters;
  private volatile Tls tls;
  private long tlsRefresh;
  private HealthCheck check;
  private ProducerTemplate subscribed;

  public Listener(Endpoint endpoint, Processor processor, String name, Settings settings, Hub hub, Supplier<Vertx> vertx,
      Authenticator authenticator) {
    super(endpoint, processor);
    this.name = name;
    this.settings = settings;
    this.hub = hub;
    this.vertx = vertx;
    this.authenticator = authenticator;
    this.door = new Door(settings.maxPending, settings.maxPendingPerAddress, settings.connectsPerS, System::nanoTime);
  }

  @Override
  protected void doStart() throws Exception {
    super.doStart();
    settings.checkFiles(name);
    suspended = false;
    if (settings.tls()) {
      tls = new Tls(name, settings, vertx.get());
    }
    meters = Meters.of(getEndpoint().getCamelContext().getRegistry().lookupByName("metricsRegistry"), name,
        accepted::get, door::pending, inFlight::get);
    try {
      listen();
    } catch (Exception e) {
      meters.close();
      throw e;
    }
    if (tls != null) {
      watchTls(tls);
    }
    HealthCheckRegistry checks = HealthCheckRegistry.get(getEndpoint().getCamelContext());
    if (checks != null) {
      check = new ListenerCheck(tls);
      checks.register(check);
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
        undeploy();
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
    // The first one binds, the others share its socket. All at once, one could fail and the next one succeed some milliseconds later: Vert.x would say that
    // the deployment failed, and leave the second one there.
    deploy(options, 1);
    if (settings.port != 0 && settings.eventLoops > 1) {
      deploy(options, settings.eventLoops - 1);
    }
  }

  private void deploy(NetServerOptions options, int instances) throws ExecutionException, TimeoutException, InterruptedException {
    deployments.add(vertx.get().deployVerticle(() -> {
      Loop loop = new Loop(this, options);
      loops.add(loop);
      return loop;
    }, new DeploymentOptions().setInstances(instances)).toCompletionStage().toCompletableFuture().get(START_TIMEOUT_S, TimeUnit.SECONDS));
  }

  private Exception describe(String address, Throwable cause) {
    String port = settings.tls() ? "mqtt.server.tls.port" : "mqtt.server.port";
    String advice = cause instanceof BindException ? ": stop what has the port (ss -ltnp names it) or change "
        : settings.tls() ? ": check the PEM files, " : ": check ";
    advice += port + " and mqtt.server.bind.host";
    return new IllegalStateException("mqtt-server:" + name + " cannot listen on " + address + " (" + cause.getMessage() + ")" + advice, cause);
  }

  private NetServerOptions options() {
    return new NetServerOptions().setHost(settings.host).setPort(settings.port)
        .setTcpKeepAlive(true);
  }

  private void watchTls(Tls watched) {
    tlsRefresh = vertx.get().setPeriodic(TLS_REFRESH_MS, id -> vertx.get().executeBlocking(() -> {
      watched.refresh();
      return null;
    }, false));
  }

  private void unwatch() {
    if (tls != null) {
      vertx.get().cancelTimer(tlsRefresh);
    }
    HealthCheckRegistry checks = HealthCheckRegistry.get(getEndpoint().getCamelContext());
    if (checks != null && check != null) {
      checks.unregister(check);
    }
    check = null;
  }

  /**
   * Readiness: DOWN while the TLS files are not in order, while the route is suspended, and while messages wait and none is answered.
   * A restart would not help, so no liveness.
   */
  private final class ListenerCheck extends AbstractHealthCheck {
    private final Tls tls;
    private final Standstill standstill = new Standstill(System::nanoTime);

    /** @param tls null: none */
    ListenerCheck(Tls tls) {
      super("caravan", "mqtt-server:" + name);
      this.tls = tls;
    }

    @Override
    public boolean isLiveness() {
      return false;
    }

    @Override
    protected void doCall(HealthCheckResultBuilder builder, Map<String, Object> options) {
      String trouble = tls == null ? null : tls.trouble();
      long stuck = standstill.seconds(inFlight.get(), meters.answered());
      if (trouble != null) {
        builder.message(trouble).down();
      } else if (suspended) {
        builder.message("the listener does not read: its route is suspended").detail("todo", "resume or start the route that consumes mqtt-server:" + name).down();
      } else if (stuck >= STUCK_S) {
        builder.message(inFlight.get() + " messages wait for their answer, none got one for " + stuck + " s")
            .detail("todo", "check wal says whether the store is the cause; else the log, and the routes behind ingest").down();
      } else {
        builder.message("listens on " + settings.host + ':' + actualPort).up();
      }
    }
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
    unwatch();
    if (meters != null) {
      meters.close();
    }
    if (subscribed != null) {
      subscribed.stop();
      subscribed = null;
    }
    super.doStop();
  }

  private void unlisten() {
    undeploy();
    if (claimed != null) {
      hub.release(claimed, this);
      claimed = null;
    }
  }

  private void undeploy() {
    // After the disconnects of doStop: a loop runs its tasks in order, and closing the server closes what is left.
    while (!deployments.isEmpty()) {
      try {
        vertx.get().undeploy(deployments.remove(deployments.size() - 1)).toCompletionStage().toCompletableFuture().get(START_TIMEOUT_S, TimeUnit.SECONDS);
      } catch (InterruptedException e) {
        Thread.currentThread().interrupt();
      } catch (ExecutionException | TimeoutException e) {
        LOG.warn("mqtt-server:{} did not close {}:{} cleanly", name, settings.host, settings.port, e);
      }
    }
    loops.clear();
  }

  /** Camel's exchange for a message; null if it cannot be made now. */
  Exchange exchange(byte[] body, String topic, String deviceId, String contentType, String idempotencyKey, String signature,
      String traceparent) {
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
    if (signature != null) {
      message.setHeader(MqttServerHeaders.SIGNATURE, signature);
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
        String reason = exchange.getVariable("reason", String.class);
        // Whose signature does not hold is told what a stranger is told; the message is kept all the same.
        answer = "bad_signature".equals(reason) || "replayed".equals(reason) || "not_authorized".equals(reason) ? Publication.NOT_AUTHORIZED : Publication.PAYLOAD_FORMAT_INVALID;
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

  void throttled(long ms) {
    meters.throttled(ms);
  }

  void subscribed(Meters.Subscription outcome) {
    meters.subscribed(outcome);
  }

  /** Counts a connection that was refused or ended, and says so now and then. */
  void refused(Refusal refusal, InetAddress address, String detail) {
    meters.refused(refusal);
    refusals.warn("mqtt-server:{} refused or ended a connection of {}: {}{}", name, address.getHostAddress(), refusal.text,
        detail == null ? "" : ": " + detail);
  }

  /** Whether a connection of this address may try; true is followed by one leave() of the door. */
  boolean admit(InetAddress address) {
    if (suspended) {
      return false;
    }
    Refusal refusal = door.enter(address);
    if (refusal != null) {
      refused(refusal, address, null);
    }
    return refusal == null;
  }

  Door door() {
    return door;
  }

  /** Null: not encrypted. */
  Tls tls() {
    return tls;
  }

  /** Whether one more connection may be accepted; each true is followed by one departed(). */
  boolean enter() {
    if (accepted.incrementAndGet() <= settings.maxConnections) {
      return true;
    }
    accepted.decrementAndGet();
    return false;
  }

  void departed() {
    accepted.decrementAndGet();
  }

  /** Whether somebody is told of a subscription to that channel. */
  boolean tells(String channel) {
    return !Settings.blank(hook(channel));
  }

  private String hook(String channel) {
    return switch (channel) {
      case "receipts" -> settings.onReceiptsSubscribed;
      case "commands", "desired" -> settings.onSubscribed;
      default -> null;
    };
  }

  /** Tells of subscriptions, topics of devices, on a worker thread; done is called on any thread when they were told. */
  void tell(List<String> topics, Runnable done) {
    vertx.get().executeBlocking(() -> {
      for (String each : topics) {
        String device = Topics.device(each);
        String channel = Topics.channel(each);
        try {
          template().sendBodyAndHeaders(hook(channel), device, Map.of(MqttServerHeaders.DEVICE_ID, device, MqttServerHeaders.CHANNEL, channel));
        } catch (RuntimeException e) {
          seldom.warn("mqtt-server:{} could not tell [{}] of the subscription to [{}]: {}", name, hook(channel), each, e.toString());
        }
      }
      return null;
    }, false).onComplete(result -> done.run());
  }

  private synchronized ProducerTemplate template() {
    if (subscribed == null) {
      subscribed = getEndpoint().getCamelContext().createProducerTemplate();
    }
    return subscribed;
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
