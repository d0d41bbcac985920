// SPDX-License-Identifier: Apache-2.0
package io.caravan.sinks;

import io.caravan.parts.HttpsPart;
import io.caravan.telemetry.v1.PushReply;
import io.caravan.telemetry.v1.PushRequest;
import io.caravan.telemetry.v1.Row;
import io.caravan.telemetry.v1.TelemetryIngestGrpc;
import io.grpc.Context;
import io.grpc.Contexts;
import io.grpc.Metadata;
import io.grpc.Server;
import io.grpc.ServerCall;
import io.grpc.ServerCallHandler;
import io.grpc.ServerInterceptor;
import io.grpc.ServerInterceptors;
import io.grpc.Status;
import io.grpc.netty.shaded.io.grpc.netty.NettyServerBuilder;
import io.grpc.netty.shaded.io.netty.handler.ssl.ApplicationProtocolConfig;
import io.grpc.netty.shaded.io.netty.handler.ssl.ApplicationProtocolConfig.Protocol;
import io.grpc.netty.shaded.io.netty.handler.ssl.ApplicationProtocolConfig.SelectedListenerFailureBehavior;
import io.grpc.netty.shaded.io.netty.handler.ssl.ApplicationProtocolConfig.SelectorFailureBehavior;
import io.grpc.netty.shaded.io.netty.handler.ssl.ClientAuth;
import io.grpc.netty.shaded.io.netty.handler.ssl.IdentityCipherSuiteFilter;
import io.grpc.netty.shaded.io.netty.handler.ssl.JdkSslContext;
import io.grpc.stub.StreamObserver;
import java.net.InetSocketAddress;
import java.util.ArrayDeque;
import java.util.ArrayList;
import java.util.Deque;
import java.util.HashMap;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.TimeUnit;

/**
 * A receiver as its author would write it, with grpc-java and the code generated from {@code telemetry-ingest.proto}, that
 * misbehaves as it is told. Its certificates are those of an {@link HttpsPart}. What it took is counted when it decides to
 * take it, before it answers. Thread-safe.
 */
public final class GrpcReceiver implements AutoCloseable {
  private static final Metadata.Key<String> AUTHORIZATION = Metadata.Key.of("authorization", Metadata.ASCII_STRING_MARSHALLER);
  private static final Metadata.Key<String> IDEMPOTENCY_KEY = Metadata.Key.of("idempotency-key", Metadata.ASCII_STRING_MARSHALLER);
  private static final Metadata.Key<String> PUSHBACK = Metadata.Key.of("grpc-retry-pushback-ms", Metadata.ASCII_STRING_MARSHALLER);
  private static final Context.Key<Metadata> METADATA = Context.key("metadata");

  /**
   * What becomes of a call.
   *
   * @param status     null: there is no answer
   * @param take       whether the rows count as taken
   * @param pushbackMs sent with a status that is not OK; 0: none
   * @param accepted   number in the reply; -1: the rows of the request
   */
  public record Answer(Status status, boolean take, long pushbackMs, long accepted) {
    public static Answer ok() {
      return new Answer(Status.OK, true, 0, -1);
    }

    public static Answer status(Status status) {
      return new Answer(status, false, 0, -1);
    }

    public static Answer hang() {
      return new Answer(null, false, 0, -1);
    }

    /** Takes the rows and says nothing. */
    public static Answer late() {
      return new Answer(null, true, 0, -1);
    }
  }

  /**
   * A call as it came.
   *
   * @param deadlineMs what was left of the deadline the caller told, 0: none was told
   */
  public record Call(PushRequest request, Metadata metadata, long deadlineMs) {
    public List<Long> seqs() {
      return request.getRowsList().stream().map(Row::getSeq).toList();
    }
  }

  private final HttpsPart authority;
  private final List<Call> calls = new ArrayList<>();
  private final Deque<Answer> next = new ArrayDeque<>();
  private final Map<String, Status> refused = new HashMap<>();
  private final Map<String, PushRequest> requests = new HashMap<>();
  private final Set<String> taken = new HashSet<>();
  private final Set<String> faults = new HashSet<>();
  private Answer answer = Answer.ok();
  private String token;
  private int repeatedCalls;
  private boolean tls = true;
  private boolean clientCertificate;
  private int maxBytes = 4_194_304;
  private Server server;
  private int port;

  /** @param authority whose certificates are shown and trusted; remains the caller's */
  public GrpcReceiver(HttpsPart authority) throws Exception {
    this.authority = authority;
    start();
  }

  public synchronized String url() {
    return (tls ? "https" : "http") + "://localhost:" + port;
  }

  public synchronized void answer(Answer always) {
    answer = always;
  }

  public synchronized void next(Answer... each) {
    next.addAll(List.of(each));
  }

  /** Answers so to every call that holds a row with this key, and takes nothing of it. */
  public synchronized void refuse(String messageKey, Status status) {
    refused.put(messageKey, status);
  }

  /** Answers UNAUTHENTICATED to every call without this bearer token. */
  public synchronized void token(String expected) {
    token = expected;
  }

  /** From the next start on. */
  public synchronized void listenAs(boolean withTls, boolean withClientCertificate, int maxMessageBytes) {
    tls = withTls;
    clientCertificate = withClientCertificate;
    maxBytes = maxMessageBytes;
  }

  public synchronized List<Call> calls() {
    return List.copyOf(calls);
  }

  /** @return message keys that were taken, each once, whatever arrived how often */
  public synchronized Set<String> taken() {
    return Set.copyOf(taken);
  }

  public synchronized int repeatedCalls() {
    return repeatedCalls;
  }

  /** @return keys that stood for two different requests, metadata that belied the message, fields that are not in the file */
  public synchronized Set<String> faults() {
    return Set.copyOf(faults);
  }

  /** Listens again, on the same port; what was recorded stays. */
  public synchronized void start() throws Exception {
    NettyServerBuilder builder = NettyServerBuilder.forAddress(new InetSocketAddress("127.0.0.1", port)).maxInboundMessageSize(maxBytes)
        .addService(ServerInterceptors.intercept(new Service(), new Reader()));
    if (tls) {
      builder.sslContext(new JdkSslContext(authority.tls(), false, null, IdentityCipherSuiteFilter.INSTANCE,
          new ApplicationProtocolConfig(Protocol.ALPN, SelectorFailureBehavior.NO_ADVERTISE, SelectedListenerFailureBehavior.ACCEPT, "h2"),
          clientCertificate ? ClientAuth.REQUIRE : ClientAuth.NONE, null, false));
    }
    server = builder.build().start();
    port = server.getPort();
  }

  /** Closes the port and every connection. */
  public void stop() throws InterruptedException {
    server.shutdownNow().awaitTermination(30, TimeUnit.SECONDS);
  }

  @Override
  public void close() throws InterruptedException {
    stop();
  }

  private static final class Reader implements ServerInterceptor {
    @Override
    public <Q, R> ServerCall.Listener<Q> interceptCall(ServerCall<Q, R> call, Metadata headers, ServerCallHandler<Q, R> handler) {
      return Contexts.interceptCall(Context.current().withValue(METADATA, headers), call, headers, handler);
    }
  }

  private final class Service extends TelemetryIngestGrpc.TelemetryIngestImplBase {
    @Override
    public void push(PushRequest request, StreamObserver<PushReply> observer) {
      Answer chosen = choose(request);
      if (chosen.status() == null) {
        return;
      }
      if (chosen.status().isOk()) {
        observer.onNext(PushReply.newBuilder().setAccepted(chosen.accepted() < 0 ? request.getRowsCount() : chosen.accepted()).build());
        observer.onCompleted();
      } else {
        Metadata trailers = new Metadata();
        if (chosen.pushbackMs() > 0) {
          trailers.put(PUSHBACK, String.valueOf(chosen.pushbackMs()));
        }
        observer.onError(chosen.status().asRuntimeException(trailers));
      }
    }
  }

  private synchronized Answer choose(PushRequest request) {
    Metadata metadata = METADATA.get();
    long left = Context.current().getDeadline() == null ? 0 : Context.current().getDeadline().timeRemaining(TimeUnit.MILLISECONDS);
    calls.add(new Call(request, metadata, left));
    String key = request.getBatchKey();
    if (!key.equals(metadata.get(IDEMPOTENCY_KEY))) {
      faults.add("metadata " + metadata.get(IDEMPOTENCY_KEY) + ", message " + key);
    }
    if (!request.getUnknownFields().asMap().isEmpty() || request.getRowsList().stream().anyMatch(r -> !r.getUnknownFields().asMap().isEmpty())) {
      faults.add("unknown fields in " + key);
    }
    if (!requests.merge(key, request, (before, now) -> before).equals(request)) {
      faults.add("two requests for " + key);
    }
    if (token != null && !("Bearer " + token).equals(metadata.get(AUTHORIZATION))) {
      return Answer.status(Status.UNAUTHENTICATED);
    }
    for (Row row : request.getRowsList()) {
      if (refused.containsKey(row.getMessageKey())) {
        return Answer.status(refused.get(row.getMessageKey()));
      }
    }
    Answer chosen = next.isEmpty() ? answer : next.remove();
    if (chosen.take()) {
      List<String> keys = request.getRowsList().stream().map(Row::getMessageKey).toList();
      repeatedCalls += taken.containsAll(keys) ? 1 : 0;
      taken.addAll(keys);
    }
    return chosen;
  }
}
