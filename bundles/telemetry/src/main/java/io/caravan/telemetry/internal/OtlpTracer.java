// SPDX-License-Identifier: Apache-2.0
package io.caravan.telemetry.internal;

import io.caravan.runtime.TraceSpan;
import io.caravan.runtime.Traceparent;
import io.caravan.runtime.Tracer;
import io.caravan.runtime.Traces;
import io.opentelemetry.api.trace.Span;
import io.opentelemetry.api.trace.SpanBuilder;
import io.opentelemetry.api.trace.SpanContext;
import io.opentelemetry.api.trace.SpanKind;
import io.opentelemetry.api.trace.StatusCode;
import io.opentelemetry.api.trace.TraceFlags;
import io.opentelemetry.api.trace.TraceState;
import io.opentelemetry.context.Context;
import io.opentelemetry.exporter.otlp.http.trace.OtlpHttpSpanExporter;
import io.opentelemetry.exporter.otlp.http.trace.OtlpHttpSpanExporterBuilder;
import io.opentelemetry.sdk.common.export.RetryPolicy;
import io.opentelemetry.sdk.resources.Resource;
import io.opentelemetry.sdk.resources.ResourceBuilder;
import io.opentelemetry.sdk.trace.SdkTracerProvider;
import io.opentelemetry.sdk.trace.SpanLimits;
import io.opentelemetry.sdk.trace.export.BatchSpanProcessor;
import io.opentelemetry.sdk.trace.samplers.Sampler;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.Collection;
import java.util.LinkedHashMap;
import java.util.Locale;
import java.util.Map;
import java.util.concurrent.ThreadLocalRandom;
import java.util.concurrent.TimeUnit;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/**
 * Spans of OpenTelemetry, sent by OTLP over HTTP. Names, kinds and attributes are those of its conventions for messaging. What the
 * receiver does not take in time is dropped and counted; nobody waits for it. Thread-safe.
 */
final class OtlpTracer implements Tracer, AutoCloseable {
  private static final Logger LOG = LoggerFactory.getLogger("io.caravan.telemetry");
  private static final int EXPORT_BATCH = 512;
  private static final long EVERY_MS = 1_000;
  private static final long CONNECT_MS = 2_000;
  private static final long CLOSE_MS = 2_000;
  private static final int TEXT_MAX = 512;
  private static final int HEADERS_MAX = 32;

  private final double ratio;
  private final Outlet outlet;
  private final SdkTracerProvider provider;
  private final io.opentelemetry.api.trace.Tracer tracer;

  /**
   * @throws IOException              a file that the settings name cannot be read
   * @throws IllegalArgumentException its content is not what it should be
   */
  OtlpTracer(Settings settings, Meters meters) throws IOException {
    ratio = settings.ratio();
    Map<String, String> headers = headers(settings.headersFile());
    OtlpHttpSpanExporterBuilder exporter = OtlpHttpSpanExporter.builder().setEndpoint(settings.endpoint().toString())
        // In OSGi what it finds by ServiceLoader is in its own bundle, and neither in this one nor in the thread's class loader.
        .setServiceClassLoader(OtlpHttpSpanExporter.class.getClassLoader())
        .setCompression("gzip").setConnectTimeout(Duration.ofMillis(Math.min(CONNECT_MS, settings.timeoutMs())))
        .setTimeout(Duration.ofMillis(settings.timeoutMs())).setHeaders(() -> headers)
        .setRetryPolicy(RetryPolicy.builder().setMaxAttempts(2).setInitialBackoff(Duration.ofMillis(EVERY_MS)).build());
    if (settings.caFile() != null) {
      exporter.setTrustedCertificates(Files.readAllBytes(settings.caFile()));
    }
    outlet = new Outlet(exporter.build(), settings.endpoint().toString(), settings.queue(), meters, to -> BatchSpanProcessor.builder(to)
        .setMaxQueueSize(settings.queue()).setMaxExportBatchSize(Math.min(EXPORT_BATCH, settings.queue()))
        .setScheduleDelay(Duration.ofMillis(EVERY_MS)).setExporterTimeout(Duration.ofMillis(3 * settings.timeoutMs())).build());
    ResourceBuilder resource = Resource.getDefault().toBuilder();
    settings.resource().forEach(resource::put);
    provider = SdkTracerProvider.builder().setResource(resource.build()).addSpanProcessor(outlet)
        // What gets here is sampled: Traces has asked before anything was made.
        .setSampler(Sampler.alwaysOn())
        .setSpanLimits(SpanLimits.builder().setMaxNumberOfAttributes(32).setMaxAttributeValueLength(TEXT_MAX)
            .setMaxNumberOfLinks(Traces.BATCH_MAX).build())
        .build();
    tracer = provider.get("io.caravan");
    LOG.info("traces go to [{}], of {} of the messages that bring no trace; {}", settings.endpoint(), settings.ratio(), settings.described());
  }

  @Override
  public boolean sample() {
    return ratio >= 1 || ratio > 0 && ThreadLocalRandom.current().nextDouble() < ratio;
  }

  @Override
  public TraceSpan start(Traces.Stage stage, String destination, String parent, Collection<String> links) {
    String operation = stage.name().toLowerCase(Locale.ROOT);
    SpanBuilder builder = tracer.spanBuilder(operation + ' ' + destination).setSpanKind(kind(stage))
        .setAttribute("messaging.system", "caravan").setAttribute("messaging.operation.name", operation)
        .setAttribute("messaging.operation.type", stage.type()).setAttribute("messaging.destination.name", destination);
    // Not the current context: a span belongs to its message, whatever this thread is doing.
    builder.setParent(parent == null ? Context.root() : Context.root().with(Span.wrap(context(parent))));
    links.forEach(link -> builder.addLink(context(link)));
    return new Recorded(builder.startSpan());
  }

  private static SpanContext context(String traceparent) {
    return SpanContext.createFromRemoteParent(Traceparent.traceId(traceparent), Traceparent.spanId(traceparent), TraceFlags.getSampled(),
        TraceState.getDefault());
  }

  private static SpanKind kind(Traces.Stage stage) {
    return switch (stage) {
      case INGEST, RECEIVE -> SpanKind.CONSUMER;
      case PUBLISH, RETRY, SEND, EMIT -> SpanKind.PRODUCER;
      case APPEND, ROLLUP, STORE -> SpanKind.INTERNAL;
    };
  }

  int queued() {
    return outlet.queued();
  }

  /** Sends what waits, for at most two seconds; the rest is counted as dropped. */
  @Override
  public void close() {
    provider.shutdown().join(CLOSE_MS, TimeUnit.MILLISECONDS);
    outlet.abandon();
  }

  private static Map<String, String> headers(Path file) throws IOException {
    Map<String, String> headers = new LinkedHashMap<>();
    if (file == null) {
      return headers;
    }
    for (String line : Files.readAllLines(file)) {
      String text = line.trim();
      if (text.isEmpty() || text.startsWith("#")) {
        continue;
      }
      int colon = text.indexOf(':');
      // Not the line: it may be a secret.
      if (colon < 1 || headers.size() == HEADERS_MAX || !text.substring(0, colon).matches("[A-Za-z0-9-]{1,64}")
          || !text.substring(colon + 1).trim().matches("[ -~]{1,8192}")) {
        throw new IllegalArgumentException("traces.headers.file [" + file + "] must be lines of name: value, at most " + HEADERS_MAX
            + ", and has a line that is none");
      }
      headers.put(text.substring(0, colon), text.substring(colon + 1).trim());
    }
    return Map.copyOf(headers);
  }

  private static final class Recorded implements TraceSpan {
    private final Span span;
    private boolean failed;

    Recorded(Span span) {
      this.span = span;
    }

    @Override
    public String traceparent() {
      SpanContext context = span.getSpanContext();
      return "00-" + context.getTraceId() + '-' + context.getSpanId() + "-01";
    }

    @Override
    public TraceSpan set(String key, String value) {
      span.setAttribute(key, value);
      return this;
    }

    @Override
    public TraceSpan set(String key, long value) {
      span.setAttribute(key, value);
      return this;
    }

    @Override
    public TraceSpan fail(String type, String message) {
      if (!failed) {
        failed = true;
        span.setAttribute("error.type", type);
        span.setStatus(StatusCode.ERROR, message == null ? "" : message.length() > TEXT_MAX ? message.substring(0, TEXT_MAX) : message);
      }
      return this;
    }

    @Override
    public void end() {
      span.end();
    }
  }
}
