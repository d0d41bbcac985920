// SPDX-License-Identifier: Apache-2.0
package io.caravan.ingest;

import com.github.f4b6a3.uuid.UuidCreator;
import io.caravan.ingest.internal.Draft;
import io.caravan.ingest.internal.Keys;
import io.caravan.ingest.internal.Meters;
import io.caravan.ingest.internal.PayloadReader;
import io.caravan.ingest.internal.Plain;
import io.caravan.ingest.internal.SchemaError;
import io.caravan.ingest.internal.Settings;
import io.caravan.ingest.internal.Shape;
import io.caravan.runtime.TraceSpan;
import io.caravan.runtime.Traces;
import io.caravan.wal.Record;
import io.caravan.wal.Rejection;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.Locale;
import java.util.Map;
import java.util.concurrent.TimeUnit;
import org.apache.camel.Exchange;
import org.apache.camel.Message;
import org.apache.camel.ValidationException;

/**
 * Bean {@code ingest}: turns what a device sent into a {@link Record} or a {@link Rejection}.
 *
 * <p>A route calls {@link #parse}, lets Camel's json-validator check the body unless {@code parse} has seen that it is valid, calls {@link #enrich} and appends the
 * record; on a {@link RejectedException} or ValidationException it calls {@link #reject} and stores the rejection. The
 * methods read the headers {@code CaravanSource}, {@code CaravanTopic}, {@code CaravanDeviceId},
 * {@code CaravanContentType}, {@code CaravanIdempotencyKey} and {@code CaravanTraceparent} and nothing else. Thread-safe;
 * nothing here blocks.
 */
public final class Ingest {
  private static final String DRAFT = "ingest";
  private static final long DAY_MS = TimeUnit.DAYS.toMillis(1);
  private static final long YEAR_2020_MS = 1_577_836_800_000L;
  private static final long YEAR_2100_MS = 4_102_444_800_000L;
  private static final int MAX_ERROR = 500;
  private static final int RETRY_AFTER_S = 5;

  private final Meters meters;
  private final Traces traces;
  private final Map<String, Shape> shapes;
  private volatile Settings settings;

  /** Leaves every telemetry and event to json-validator. */
  Ingest(Settings settings, Meters meters, Traces traces) {
    this(settings, Map.of(), meters, traces);
  }

  /** @param shapes of the kinds' schemas, as far as they have one */
  Ingest(Settings settings, Map<String, Shape> shapes, Meters meters, Traces traces) {
    this.settings = settings;
    this.shapes = shapes;
    this.meters = meters;
    this.traces = traces;
  }

  void settings(Settings changed) {
    this.settings = changed;
  }

  /**
   * Reads the message. Sets the body to its canonical JSON (a JSON body stays as it is) and the variables
   * {@code correlationId}, {@code kind} ({@code telemetry}, {@code event}, {@code capabilities},
   * {@code command-status}, {@code reported}) and {@code schema}: the kind whose schema is still to be asked; not set if there is none, or
   * it certainly accepts the message.
   *
   * @throws RejectedException the message is refused; every reason of docs/contract.md section 6 apart from
   *     {@code key_conflict}, and {@code schema_violation} only as far as it concerns fields this bean uses itself
   */
  public void parse(Exchange exchange) throws RejectedException {
    Settings current = settings;
    Message message = exchange.getMessage();
    byte[] body = message.getBody(byte[].class);
    Draft draft = new Draft(UuidCreator.getTimeOrderedEpochPlus1().toString(), System.currentTimeMillis(),
        TimeUnit.NANOSECONDS.toMillis(System.nanoTime()), text(message, "CaravanSource", "unknown"),
        text(message, "CaravanTopic", ""), body == null ? new byte[0] : body);
    // First of all, so that whatever is thrown from here on can be kept as a rejection.
    exchange.setVariable(DRAFT, draft);
    exchange.setVariable("correlationId", draft.correlationId);
    trace(exchange, draft, message.getHeader("CaravanTraceparent"));
    draft.readTopic(text(message, "CaravanDeviceId", null));
    exchange.setVariable("kind", draft.kind);
    draft.contentType = contentType(text(message, "CaravanContentType", null), current, draft);
    if (draft.original.length > current.maxBytes()) {
      throw new RejectedException(Reason.TOO_LARGE, null,
          "payload of " + draft.original.length + " bytes exceeds ingest.max.bytes [" + current.maxBytes() + "]");
    }
    PayloadReader.read(draft, shapes.get(draft.kind));
    if (!draft.valid && Draft.MODELLED.contains(draft.kind)) {
      exchange.setVariable("schema", draft.kind);
    }
    if (draft.json != draft.original) {
      message.setBody(draft.json);
    }
  }

  /** The row continues the trace of its span; without one, because it is not sampled or tracing is off, the trace the device gave. */
  private void trace(Exchange exchange, Draft draft, Object traceparent) {
    draft.traceContext = traces.received(traceparent);
    TraceSpan span = traces.on() ? traces.start(Traces.Stage.INGEST, draft.source, draft.traceContext) : null;
    if (span != null) {
      draft.traceContext = span.traceparent();
      draft.span = span.set("messaging.message.conversation_id", draft.correlationId).set("messaging.message.body.size", draft.original.length);
      traces.attach(exchange, span);
    }
  }

  /**
   * What {@link #parse} found.
   *
   * @throws IllegalStateException parse has not been called, or refused the message
   */
  public static Received received(Exchange exchange) {
    return draft(exchange);
  }

  /** A gateway whose own clock is not set, as after a start without a battery, cannot say that a device is ahead. */
  static boolean plausible(long observedAtMs, long receivedAtMs) {
    return observedAtMs >= YEAR_2020_MS && observedAtMs <= (receivedAtMs < YEAR_2020_MS ? YEAR_2100_MS : receivedAtMs + DAY_MS);
  }

  /**
   * Sets the variable {@code record}.
   *
   * @throws IllegalStateException {@link #parse} has not been called
   */
  public void enrich(Exchange exchange) {
    Draft draft = draft(exchange);
    Message message = exchange.getMessage();
    long observedAtMs = draft.observedAtMs;
    if (draft.observed && !plausible(observedAtMs, draft.receivedAtMs)) {
      meters.clockImplausible();
      observedAtMs = draft.receivedAtMs;
    } else if (!draft.observed) {
      observedAtMs = draft.receivedAtMs;
    }
    String key = draft.bootId != null ? Keys.numbered(draft.deviceId, draft.bootId, draft.deviceSeq)
        : Keys.unnumbered(draft, text(message, "CaravanIdempotencyKey", null), settings.dedupeWindowMs());
    exchange.setVariable("record", new Record(key, draft.correlationId, draft.deviceId, draft.kind, /* lane= */ "live",
        draft.bootId, draft.deviceSeq, observedAtMs, draft.receivedAtMs, draft.monoMs, draft.schemaVersion, draft.contentType,
        draft.traceContext, draft.json, draft.replayWindow));
    if (draft.span != null) {
      draft.span.set("messaging.message.id", key).set("caravan.device_id", draft.deviceId).set("caravan.kind", draft.kind);
    }
  }

  /**
   * Turns the exchange's exception into the variable {@code rejection} and sets {@code outcome}, {@code reason},
   * {@code field} and {@code error}.
   *
   * @throws Exception the exchange's exception itself, if it is no refusal of the device's message
   */
  public void reject(Exchange exchange) throws Exception {
    Exception cause = exchange.getException();
    if (cause == null) {
      cause = exchange.getProperty(Exchange.EXCEPTION_CAUGHT, Exception.class);
    }
    Reason reason;
    String field;
    String error;
    if (cause instanceof RejectedException rejected) {
      reason = rejected.reason();
      field = rejected.field();
      error = rejected.getMessage();
    } else if (cause instanceof ValidationException invalid) {
      SchemaError first = SchemaError.first(invalid);
      reason = Reason.SCHEMA_VIOLATION;
      field = first.pointer();
      error = first.message();
    } else if (cause != null) {
      throw cause;
    } else {
      throw new IllegalStateException("ingest.reject was called without an exception: call it in an onException of the route");
    }
    Draft draft = draft(exchange);
    // Both quote the device, and go on to answers, terminals and logs.
    error = Plain.text(error, MAX_ERROR);
    field = Plain.text(field, MAX_ERROR);
    int maxBytes = settings.maxBytes();
    byte[] body = draft.original.length > maxBytes ? Arrays.copyOf(draft.original, maxBytes) : draft.original;
    String contentType = draft.contentType != null ? draft.contentType : text(exchange.getMessage(), "CaravanContentType", null);
    exchange.setVariable("rejection", new Rejection(draft.receivedAtMs, draft.correlationId, draft.source, draft.topic,
        draft.deviceId, contentType, reason.toString(), field, error, body));
    exchange.setVariable("outcome", "rejected");
    exchange.setVariable("reason", reason.toString());
    exchange.setVariable("field", field);
    exchange.setVariable("error", error);
    if (draft.span != null) {
      draft.span.fail(reason.toString(), error);
    }
    meters.rejected(reason);
  }

  /**
   * Answers HTTP ingest from the variables {@code outcome} (also {@code unavailable}; any other is an internal error), {@code reason}, {@code field},
   * {@code error}, {@code correlationId}: sets the status code, the content type and, as a Map to be marshalled to JSON,
   * the body (docs/contract.md section 4).
   */
  public void answer(Exchange exchange) {
    Message message = exchange.getMessage();
    Map<String, Object> body = new LinkedHashMap<>();
    String outcome = exchange.getVariable("outcome", String.class);
    int status;
    if ("durable".equals(outcome) || "duplicate".equals(outcome)) {
      status = 202;
      body.put("correlation_id", exchange.getVariable("correlationId"));
      body.put("status", outcome);
    } else if ("rejected".equals(outcome)) {
      String reason = exchange.getVariable("reason", String.class);
      status = Reason.TOO_LARGE.toString().equals(reason) ? 413 : Reason.UNSUPPORTED_CONTENT_TYPE.toString().equals(reason) ? 415
          : Reason.BAD_SIGNATURE.toString().equals(reason) || "replayed".equals(reason) ? 403 : 400;
      body.put("error", "invalid_payload");
      body.put("reason", reason);
      put(body, "field", exchange.getVariable("field"));
      put(body, "message", exchange.getVariable("error"));
      body.put("correlation_id", exchange.getVariable("correlationId"));
    } else if ("unavailable".equals(outcome)) {
      status = 503;
      message.setHeader("Retry-After", RETRY_AFTER_S);
      body.put("error", "store_unavailable");
      body.put("message", "the store cannot take messages now; nothing was kept");
    } else {
      status = 500;
      body.put("error", "internal_error");
      body.put("message", "the message was not stored; the gateway's log says why");
      put(body, "correlation_id", exchange.getVariable("correlationId"));
    }
    message.setHeader(Exchange.HTTP_RESPONSE_CODE, status);
    message.setHeader(Exchange.CONTENT_TYPE, "application/json");
    message.setBody(body);
  }

  private static void put(Map<String, Object> body, String key, Object value) {
    if (value != null) {
      body.put(key, value);
    }
  }

  /** The media type without parameters; capabilities, command statuses and reported state are JSON. */
  private static String contentType(String given, Settings settings, Draft draft) throws RejectedException {
    String type = given == null || given.isBlank() ? settings.contentTypeDefault() : given;
    if (type.equals(Draft.JSON)) {
      return Draft.JSON;
    }
    int semicolon = type.indexOf(';');
    String media = (semicolon < 0 ? type : type.substring(0, semicolon)).trim().toLowerCase(Locale.ROOT);
    String parameters = semicolon < 0 ? "" : type.substring(semicolon + 1).replaceAll("[\\s\"]", "").toLowerCase(Locale.ROOT);
    if (media.equals(Draft.JSON) && (parameters.isEmpty() || parameters.equals("charset=utf-8"))) {
      return Draft.JSON;
    }
    if (media.equals(Draft.PROTOBUF) && (draft.kind.equals(Draft.TELEMETRY) || draft.kind.equals(Draft.EVENT))) {
      return Draft.PROTOBUF;
    }
    throw new RejectedException(Reason.UNSUPPORTED_CONTENT_TYPE, null, "content type [" + shorten(type) + "] of a "
        + draft.kind + " message must be " + Draft.JSON + (Draft.MODELLED.contains(draft.kind) ? " or " + Draft.PROTOBUF : ""));
  }

  private static String shorten(String text) {
    return text.length() > 100 ? text.substring(0, 100) + "..." : text;
  }

  private static Draft draft(Exchange exchange) {
    if (exchange.getVariable(DRAFT) instanceof Draft draft) {
      return draft;
    }
    throw new IllegalStateException("the exchange has no parsed message: call ingest.parse first");
  }

  private static String text(Message message, String header, String absent) {
    Object value = message.getHeader(header);
    return value == null ? absent : value.toString();
  }
}
