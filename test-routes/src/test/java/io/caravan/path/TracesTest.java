// SPDX-License-Identifier: Apache-2.0
package io.caravan.path;

import static java.nio.charset.StandardCharsets.UTF_8;
import static org.awaitility.Awaitility.await;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.google.protobuf.ByteString;
import io.caravan.devices.DevicesModule;
import io.caravan.ingest.IngestModule;
import io.caravan.it.OtlpReceiver;
import io.caravan.it.OtlpReceiver.Got;
import io.caravan.it.Ports;
import io.caravan.runtime.Caravan;
import io.caravan.telemetry.TelemetryModule;
import io.caravan.wal.Batch;
import io.caravan.wal.SinkException;
import io.caravan.wal.WalModule;
import io.opentelemetry.proto.collector.trace.v1.ExportTraceServiceRequest;
import io.opentelemetry.proto.common.v1.AnyValue;
import io.opentelemetry.proto.common.v1.InstrumentationScope;
import io.opentelemetry.proto.common.v1.KeyValue;
import io.opentelemetry.proto.resource.v1.Resource;
import io.opentelemetry.proto.trace.v1.ResourceSpans;
import io.opentelemetry.proto.trace.v1.ScopeSpans;
import io.opentelemetry.proto.trace.v1.Span;
import java.io.ByteArrayOutputStream;
import java.io.PrintStream;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.HashMap;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.stream.Stream;
import org.apache.camel.Exchange;
import org.apache.camel.ProducerTemplate;
import org.apache.camel.builder.RouteBuilder;
import org.apache.camel.impl.DefaultCamelContext;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.io.TempDir;

/** What is sampled, what a sink's attempts leave, and a receiver that is away, slow or broken: the shipped log, ingest and sink routes. */
@Timeout(180)
class TracesTest {
  private static final Path REPO = Path.of(System.getProperty("repo.dir", "..")).toAbsolutePath().normalize();
  private static final Duration SOON = Duration.ofSeconds(40);
  private static final String DEVICE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

  @TempDir
  Path home;
  private OtlpReceiver receiver;
  private Caravan gateway;
  private ProducerTemplate template;
  private final AtomicInteger attempts = new AtomicInteger();
  private volatile int failures;
  private int sent;

  @BeforeEach
  void receiver() throws Exception {
    receiver = new OtlpReceiver(0);
  }

  @AfterEach
  void stop() {
    if (gateway != null) {
      gateway.close();
    }
    receiver.close();
  }

  private void start(Map<String, String> keys, String... more) throws Exception {
    Path etc = Files.createDirectories(home.resolve("etc"));
    for (String from : List.of("common", "gateway")) {
      Path folder = REPO.resolve("config").resolve(from);
      try (Stream<Path> files = Files.walk(folder)) {
        for (Path file : files.filter(f -> Files.isRegularFile(f) && !f.toString().endsWith(".cfg")).toList()) {
          Path to = etc.resolve(folder.relativize(file).toString());
          Files.createDirectories(to.getParent());
          Files.copy(file, to, java.nio.file.StandardCopyOption.REPLACE_EXISTING);
        }
      }
    }
    set(keys);
    DefaultCamelContext context = new DefaultCamelContext();
    context.disableJMX();
    context.addRoutes(new RouteBuilder() {
      @Override
      public void configure() {
        errorHandler(noErrorHandler());
        from("direct:deliver-told").process(exchange -> {
          assertEquals(Batch.class, exchange.getMessage().getBody().getClass());
          if (attempts.incrementAndGet() <= failures) {
            throw new SinkException(SinkException.Kind.TRANSIENT, "unavailable", "told to", 0, null);
          }
        });
      }
    });
    List<String> stems = Stream.concat(Stream.of("ingest", "wal-append", "rejected"), Stream.of(more)).toList();
    gateway = Caravan.builder().context(context).home(home).keys(etc.resolve("keys")).cfg(etc).environment(Map.of()).withoutDiscovery()
        .set("container.role", "gateway").set("gateway.id", "g1").set("http.port", String.valueOf(Ports.free()))
        .set("device.access", "open").set("sink.retry.min.ms", "20").set("sink.retry.max.ms", "40").set("fanout.tick.ms", "100")
        .module("wal", new WalModule()).module("ingest", new IngestModule()).module("devices", new DevicesModule()).module("telemetry", new TelemetryModule())
        .routes(stems.stream().map(s -> REPO.resolve("routes/gateway/" + s + ".camel.yaml")).toArray(Path[]::new)).start();
    assertTrue(gateway.awaitReady(SOON), () -> gateway.checks() + " " + gateway.routes());
    template = gateway.context().createProducerTemplate();
  }

  /** Changes keys, also while it runs. */
  private void set(Map<String, String> keys) throws Exception {
    Map<String, String> all = new HashMap<>(Map.of("traces.enabled", "true", "traces.endpoint", receiver.endpoint(), "traces.sample.ratio", "1"));
    all.putAll(keys);
    StringBuilder text = new StringBuilder();
    all.forEach((k, v) -> text.append(k).append(" = ").append(v).append('\n'));
    Files.writeString(home.resolve("etc/io.caravan.telemetry.cfg"), text);
    if (gateway != null) {
      await().atMost(SOON).until(() -> all.entrySet().stream().allMatch(e -> gateway.config().get(e.getKey()).equals(e.getValue())));
    }
  }

  /** @return what the row has */
  private String send(String traceparent) {
    Exchange done = template.request("direct:ingest", exchange -> {
      exchange.getMessage().setBody(("{\"schema_version\":1,\"metrics\":{\"t\":" + ++sent + "}}").getBytes(UTF_8));
      exchange.getMessage().setHeader("CaravanSource", "http");
      exchange.getMessage().setHeader("CaravanTopic", "devices/d1/telemetry");
      exchange.getMessage().setHeader("CaravanIdempotencyKey", "k" + sent);
      if (traceparent != null) {
        exchange.getMessage().setHeader("CaravanTraceparent", traceparent);
      }
    });
    assertNull(done.getException());
    assertEquals("durable", done.getVariable("outcome"));
    return done.getVariable("record", io.caravan.wal.Record.class).traceContext();
  }

  private double meter(String line) {
    return gateway.metrics().lines().filter(l -> l.startsWith(line + " ")).mapToDouble(l -> Double.parseDouble(l.substring(line.length() + 1))).sum();
  }

  private double spans(String outcome) {
    return meter("caravan_traces_spans_total{outcome=\"" + outcome + "\"}");
  }

  @Test
  void theRatioDecidesWhereNobodyHas() throws Exception {
    start(Map.of("traces.sample.ratio", "0"));
    for (int i = 0; i < 50; i++) {
      assertNull(send(null));
    }
    // Parent based, both ways.
    assertTrue(send(DEVICE).startsWith("00-4bf92f3577b34da6a3ce929d0e0e4736-") && !send(DEVICE).equals(DEVICE));
    String unsampled = DEVICE.replaceAll("1$", "0");
    set(Map.of("traces.sample.ratio", "0.5"));
    int sampled = 0;
    for (int i = 0; i < 400; i++) {
      assertEquals(unsampled, i % 100 == 0 ? send(unsampled) : unsampled);
      sampled += send(null) == null ? 0 : 1;
    }
    // 400 throws of a coin: outside of this less than once in 10^12 runs.
    assertTrue(sampled > 125 && sampled < 275, "sampled " + sampled);
    int recorded = sampled;
    await().atMost(SOON).until(() -> receiver.spans().size() == 2 * (recorded + 2));
    assertEquals(recorded + 1, new HashSet<>(receiver.spans().stream().map(Got::trace).toList()).size());
    set(Map.of("traces.enabled", "false"));
    await().atMost(SOON).until(() -> send(null) == null && send(null) == null && send(null) == null && send(null) == null
        && send(DEVICE).equals(DEVICE));
    set(Map.of());
    await().atMost(SOON).until(() -> send(null) != null);
    assertEquals(List.of(), receiver.problems());
  }

  @Test
  void aSinksAttemptsAreInTheTracesOfTheBatch() throws Exception {
    failures = 5;
    start(Map.of("traces.headers.file", Files.writeString(home.resolve("headers"), "# who we are\nAuthorization: Bearer s3cret\n").toString(),
        "traces.resource.attributes", "deployment.environment.name=test"), "sink", "fanout");
    String context = send(DEVICE);
    List<String> others = Stream.generate(() -> send(null)).limit(100).toList();
    Path sink = Files.writeString(home.resolve("sink-told.camel.yaml"), "- templatedRoute:\n    routeTemplateRef: sink\n    routeId: sink-told\n"
        + "    parameters:\n      - { name: sink, value: told }\n");
    gateway.deploy(sink);
    String trace = context.substring(3, 35);
    await().atMost(SOON).until(() -> receiver.trace(trace).stream().anyMatch(s -> s.name().equals("retry told") && !s.failed()));
    List<Got> told = receiver.trace(trace).stream().filter(s -> s.name().endsWith(" told"))
        .sorted(java.util.Comparator.comparingLong(Got::startNs)).toList();
    // Of failures the 1st, 2nd and 4th; then the one that succeeded.
    assertEquals(List.of("publish told 1 true", "retry told 2 true", "retry told 4 true", "retry told 6 false"),
        told.stream().map(s -> s.name() + " " + s.attributes().get("caravan.attempt") + " " + s.failed()).toList());
    assertEquals("unavailable", told.get(0).attributes().get("error.type"));
    assertEquals("101", told.get(0).attributes().get("messaging.batch.message_count"));
    assertEquals(Set.of(context.substring(36, 52)), new HashSet<>(told.stream().map(Got::parent).toList()));
    assertEquals("test", told.get(0).resource().get("deployment.environment.name"));
    assertEquals("Bearer s3cret", receiver.header("authorization"));
    // A batch of a hundred traces: bounded.
    await().atMost(SOON).until(() -> receiver.spans().stream().filter(s -> s.name().equals("publish told")).count() == 32);
    assertEquals(100, new HashSet<>(others).size());
    assertEquals(List.of(), receiver.problems());
  }

  /** Every message is stored meanwhile; send asserts that. */
  private void sendUntilDropped() {
    double before = spans("dropped");
    await().atMost(SOON).pollInterval(Duration.ofMillis(1)).until(() -> {
      for (int i = 0; i < 100; i++) {
        send(null);
      }
      return spans("dropped") > before;
    });
  }

  @Test
  void aReceiverThatIsAwaySlowOrBrokenHoldsUpNothing() throws Exception {
    int port = receiver.port;
    receiver.close();
    PrintStream err = System.err;
    ByteArrayOutputStream log = new ByteArrayOutputStream();
    System.setErr(new PrintStream(log, true, UTF_8));
    try {
      // Away.
      start(Map.of("traces.queue.spans", "64", "traces.timeout.ms", "500"));
      sendUntilDropped();
      await().atMost(SOON).until(() -> spans("failed") > 0 && spans("failed") + spans("dropped") + meter("caravan_traces_queue_spans") == 2 * sent);
      // There, and broken.
      receiver = new OtlpReceiver(port);
      receiver.answer(500);
      await().atMost(SOON).until(() -> meter("caravan_traces_queue_spans") == 0);
      double lost = spans("failed");
      send(null);
      await().atMost(SOON).until(() -> spans("failed") == lost + 2);
      // There, and answers nothing.
      receiver.answer(200);
      receiver.hold();
      int before = receiver.requests();
      send(null);
      await().atMost(SOON).until(() -> receiver.requests() > before);
      sendUntilDropped();
      // Well again.
      receiver.release();
      await().atMost(SOON).until(() -> {
        send(null);
        return spans("exported") > 0;
      });
      assertTrue(receiver.spans().size() > 0);
      // It ends in bounded time also when the receiver does not answer; Timeout of this class would tell.
      receiver.hold();
      send(null);
      gateway.close();
      gateway = null;
    } finally {
      System.setErr(err);
    }
    String said = log.toString(UTF_8);
    assertEquals(1, said.lines().filter(l -> l.contains("traces do not arrive")).count(), said);
    assertTrue(!said.contains("io.opentelemetry"), said);
  }

  /** Else that it had no problems would say nothing. */
  @Test
  void theReceiverFindsWhatIsNotAsSpecified() throws Exception {
    Span good = Span.newBuilder().setTraceId(ByteString.copyFrom(new byte[] {1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}))
        .setSpanId(ByteString.copyFrom(new byte[] {1, 0, 0, 0, 0, 0, 0, 0})).setName("n").setKind(Span.SpanKind.SPAN_KIND_INTERNAL).setFlags(1)
        .setStartTimeUnixNano(1).setEndTimeUnixNano(2).addAttributes(attribute("messaging.system")).addAttributes(attribute("messaging.operation.name"))
        .addAttributes(attribute("messaging.operation.type")).build();
    export("application/x-protobuf", good);
    assertEquals(List.of(), receiver.problems());
    export("application/x-protobuf", good);
    assertTrue(receiver.problems().get(0).startsWith("a second time"), receiver.problems()::toString);
    Span.Builder other = good.toBuilder().setSpanId(ByteString.copyFrom(new byte[] {2, 0, 0, 0, 0, 0, 0, 0}));
    for (Span bad : List.of(other.clone().setTraceId(ByteString.copyFrom(new byte[16])).build(), other.clone().setSpanId(ByteString.EMPTY).build(),
        other.clone().setEndTimeUnixNano(0).build(), other.clone().setName("").build(), other.clone().clearAttributes().build())) {
      int before = receiver.problems().size();
      export("application/x-protobuf", bad);
      assertTrue(receiver.problems().size() > before, bad::toString);
    }
    int before = receiver.problems().size();
    export("application/json", other.clone().setSpanId(ByteString.copyFrom(new byte[] {3, 0, 0, 0, 0, 0, 0, 0})).build());
    assertEquals(before + 1, receiver.problems().size());
  }

  private static KeyValue attribute(String key) {
    return KeyValue.newBuilder().setKey(key).setValue(AnyValue.newBuilder().setStringValue("x")).build();
  }

  private void export(String type, Span span) throws Exception {
    ResourceSpans spans = ResourceSpans.newBuilder().setResource(Resource.newBuilder().addAttributes(attribute("service.name"))
        .addAttributes(KeyValue.newBuilder().setKey("telemetry.sdk.name").setValue(AnyValue.newBuilder().setStringValue("opentelemetry"))))
        .addScopeSpans(ScopeSpans.newBuilder().setScope(InstrumentationScope.newBuilder().setName("io.caravan")).addSpans(span)).build();
    HttpRequest request = HttpRequest.newBuilder(URI.create(receiver.endpoint())).timeout(SOON).header("Content-Type", type)
        .POST(HttpRequest.BodyPublishers.ofByteArray(ExportTraceServiceRequest.newBuilder().addResourceSpans(spans).build().toByteArray())).build();
    assertEquals(200, HttpClient.newHttpClient().send(request, HttpResponse.BodyHandlers.discarding()).statusCode());
  }
}
