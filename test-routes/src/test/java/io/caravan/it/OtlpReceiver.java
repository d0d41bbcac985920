// SPDX-License-Identifier: Apache-2.0
package io.caravan.it;

import com.google.protobuf.ByteString;
import com.sun.net.httpserver.HttpExchange;
import com.sun.net.httpserver.HttpServer;
import io.opentelemetry.proto.collector.trace.v1.ExportTraceServiceRequest;
import io.opentelemetry.proto.collector.trace.v1.ExportTraceServiceResponse;
import io.opentelemetry.proto.common.v1.AnyValue;
import io.opentelemetry.proto.common.v1.KeyValue;
import io.opentelemetry.proto.trace.v1.ResourceSpans;
import io.opentelemetry.proto.trace.v1.Span;
import io.opentelemetry.proto.trace.v1.Status;
import java.io.IOException;
import java.io.InputStream;
import java.net.InetAddress;
import java.net.InetSocketAddress;
import java.util.HashMap;
import java.util.HashSet;
import java.util.HexFormat;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.CopyOnWriteArrayList;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.zip.GZIPInputStream;

/**
 * Receives OTLP over HTTP as the specification describes it, reads it with the classes that its authors make from the .proto files, and
 * holds every request and span against the specification: {@link #problems}.
 */
public final class OtlpReceiver implements AutoCloseable {
  private static final HexFormat HEX = HexFormat.of();

  /** A span; ids in hex, {@code parent} empty for the first of a trace. */
  public record Got(String service, Map<String, String> resource, String trace, String id, String parent, String name, Span.SpanKind kind,
      Map<String, String> attributes, List<String> links, boolean failed, long startNs, long endNs) {
    /** As it is written into rows. */
    public String traceparent() {
      return "00-" + trace + "-" + id + "-01";
    }
  }

  private final HttpServer server;
  private final ExecutorService threads = Executors.newCachedThreadPool();
  private final List<Got> spans = new CopyOnWriteArrayList<>();
  private final List<String> problems = new CopyOnWriteArrayList<>();
  private final Set<String> seen = new HashSet<>();
  private final AtomicInteger requests = new AtomicInteger();
  private volatile int status = 200;
  private volatile CountDownLatch gate = new CountDownLatch(0);
  private volatile Map<String, String> headers = Map.of();
  public final int port;

  /** @param port 0: any that is free */
  public OtlpReceiver(int port) throws IOException {
    server = HttpServer.create(new InetSocketAddress(InetAddress.getLoopbackAddress(), port), 0);
    server.setExecutor(threads);
    server.createContext("/", this::handle);
    server.start();
    this.port = server.getAddress().getPort();
  }

  public String endpoint() {
    return "http://127.0.0.1:" + port + "/v1/traces";
  }

  /** Answers from now on with this status and, unless it is 200, takes nothing. */
  public void answer(int now) {
    status = now;
  }

  /** Answers nothing until {@link #release}. */
  public void hold() {
    gate = new CountDownLatch(1);
  }

  public void release() {
    gate.countDown();
  }

  public int requests() {
    return requests.get();
  }

  /** Header of the newest request, by its name in lower case; null: none. */
  public String header(String name) {
    return headers.get(name);
  }

  /** What is not as the specification says. */
  public List<String> problems() {
    return problems;
  }

  public List<Got> spans() {
    return List.copyOf(spans);
  }

  public List<Got> trace(String traceId) {
    return spans.stream().filter(s -> s.trace.equals(traceId)).toList();
  }

  private void handle(HttpExchange http) throws IOException {
    try (http) {
      requests.incrementAndGet();
      Map<String, String> now = new HashMap<>();
      http.getRequestHeaders().forEach((name, values) -> now.put(name.toLowerCase(java.util.Locale.ROOT), String.join(", ", values)));
      headers = now;
      byte[] body = body(http);
      gate.await();
      int answer = status;
      if (answer == 200) {
        request(http, body);
      }
      byte[] reply = answer == 200 ? ExportTraceServiceResponse.getDefaultInstance().toByteArray() : new byte[0];
      http.getResponseHeaders().set("Content-Type", "application/x-protobuf");
      http.sendResponseHeaders(answer, reply.length == 0 ? -1 : reply.length);
      http.getResponseBody().write(reply);
    } catch (InterruptedException e) {
      Thread.currentThread().interrupt();
    } catch (IOException e) {
      // The client did not wait, which is its right.
    } catch (RuntimeException e) {
      problems.add("not readable: " + e);
      throw e;
    }
  }

  private static byte[] body(HttpExchange http) throws IOException {
    try (InputStream in = "gzip".equals(http.getRequestHeaders().getFirst("Content-Encoding")) ? new GZIPInputStream(http.getRequestBody())
        : http.getRequestBody()) {
      return in.readAllBytes();
    }
  }

  private synchronized void request(HttpExchange http, byte[] body) throws IOException {
    check(http.getRequestMethod().equals("POST"), "method " + http.getRequestMethod());
    check(http.getRequestURI().toString().equals("/v1/traces"), "path " + http.getRequestURI());
    check("application/x-protobuf".equals(http.getRequestHeaders().getFirst("Content-Type")), "content type "
        + http.getRequestHeaders().getFirst("Content-Type"));
    ExportTraceServiceRequest request = ExportTraceServiceRequest.parseFrom(body);
    check(request.getUnknownFields().asMap().isEmpty() && request.getResourceSpansCount() > 0, "fields of the request");
    for (ResourceSpans each : request.getResourceSpansList()) {
      Map<String, String> resource = attributes(each.getResource().getAttributesList());
      check(resource.containsKey("service.name") && "opentelemetry".equals(resource.get("telemetry.sdk.name")), "resource " + resource);
      each.getScopeSpansList().forEach(scope -> {
        check(scope.getScope().getName().equals("io.caravan"), "scope " + scope.getScope());
        scope.getSpansList().forEach(span -> take(resource, span));
      });
    }
  }

  private void take(Map<String, String> resource, Span span) {
    String id = id(span.getSpanId(), 8);
    String trace = id(span.getTraceId(), 16);
    check(span.getParentSpanId().isEmpty() || id(span.getParentSpanId(), 8) != null, "parent of " + span);
    check(!span.getName().isEmpty() && span.getKind() != Span.SpanKind.SPAN_KIND_UNSPECIFIED, "name and kind of " + span);
    check(span.getStartTimeUnixNano() > 0 && span.getEndTimeUnixNano() >= span.getStartTimeUnixNano(), "times of " + span);
    check(span.getUnknownFields().asMap().isEmpty() && span.getDroppedAttributesCount() == 0 && span.getDroppedLinksCount() == 0, "fields of " + span);
    // Bit 0 is W3C's "sampled"; bits 8 and 9 say whether the parent is remote.
    check((span.getFlags() & 1) == 1, "flags of " + span);
    check(span.getStatus().getCode() != Status.StatusCode.STATUS_CODE_ERROR || attributes(span.getAttributesList()).containsKey("error.type"),
        "an error without error.type: " + span);
    check(seen.add(trace + id), "a second time: " + span);
    List<String> links = span.getLinksList().stream().map(l -> "00-" + id(l.getTraceId(), 16) + "-" + id(l.getSpanId(), 8) + "-01").toList();
    Map<String, String> attributes = attributes(span.getAttributesList());
    // What the conventions for messaging require of every span.
    check(attributes.keySet().containsAll(List.of("messaging.system", "messaging.operation.name", "messaging.operation.type")), "attributes of " + span);
    spans.add(new Got(resource.get("service.name"), resource, trace, id, span.getParentSpanId().isEmpty() ? "" : id(span.getParentSpanId(), 8),
        span.getName(), span.getKind(), attributes, links, span.getStatus().getCode() == Status.StatusCode.STATUS_CODE_ERROR,
        span.getStartTimeUnixNano(), span.getEndTimeUnixNano()));
  }

  private String id(ByteString bytes, int length) {
    String hex = HEX.formatHex(bytes.toByteArray());
    check(bytes.size() == length && !hex.matches("0+"), "id [" + hex + "] must be " + length + " bytes and not all zeros");
    return hex;
  }

  private Map<String, String> attributes(List<KeyValue> list) {
    Map<String, String> attributes = new HashMap<>();
    for (KeyValue each : list) {
      AnyValue value = each.getValue();
      String text = switch (value.getValueCase()) {
        case STRING_VALUE -> value.getStringValue();
        case INT_VALUE -> String.valueOf(value.getIntValue());
        default -> value.toString();
      };
      check(!each.getKey().isEmpty() && attributes.put(each.getKey(), text) == null, "attribute [" + each.getKey() + "] twice, or without a key");
    }
    return attributes;
  }

  private void check(boolean holds, String what) {
    if (!holds) {
      problems.add(what);
    }
  }

  @Override
  public void close() {
    release();
    server.stop(0);
    threads.shutdownNow();
  }
}
