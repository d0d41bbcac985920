// SPDX-License-Identifier: Apache-2.0
package io.caravan.desk.internal;

import com.fasterxml.jackson.core.JsonProcessingException;
import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.node.ArrayNode;
import com.fasterxml.jackson.databind.node.ObjectNode;
import io.caravan.desk.CommandDesk;
import io.caravan.desk.CommandDesk.Accepted;
import io.caravan.desk.CommandDesk.Cancel;
import io.caravan.desk.CommandDesk.Command;
import io.caravan.desk.CommandDesk.Filter;
import io.caravan.desk.CommandDesk.Page;
import io.caravan.desk.CommandDesk.Request;
import io.caravan.desk.CommandDesk.Twin;
import io.caravan.desk.DeskException;
import io.caravan.runtime.Config;
import io.caravan.runtime.Grant;
import io.caravan.runtime.HttpFeed;
import io.caravan.runtime.Problem;
import io.caravan.wal.StoreUnavailableException;
import java.io.IOException;
import java.time.DateTimeException;
import java.time.OffsetDateTime;
import java.util.List;
import java.util.Set;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CompletionException;
import java.util.concurrent.CompletionStage;
import java.util.concurrent.ExecutionException;
import java.util.function.Supplier;
import org.apache.camel.Exchange;
import org.apache.camel.Message;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/**
 * Bean {@code commandApi}: between HTTP and the desk. Each method reads the request that a route has let in (variable {@code user}: who
 * it is) and makes the whole answer, refusals included. Those that wait for the store return a stage, so that no thread waits.
 */
public final class Api {
  private static final Logger LOG = LoggerFactory.getLogger(Api.class);
  private static final Set<String> STATUSES = Set.of("ACCEPTED", "QUEUED", "SENT", "DELIVERED", "SUCCEEDED", "FAILED", "REJECTED", "EXPIRED",
      "CANCELLED", "INDETERMINATE");
  private static final Set<String> FIELDS = Set.of("id", "name", "arguments", "units", "precondition", "ttl_ms", "expires_at");
  private static final int RETRY_S = 5;

  private final Desk desk;
  private final Config config;

  public Api(Desk desk, Config config) {
    this.desk = desk;
    this.config = config;
  }

  /** POST .../commands */
  public CompletionStage<String> submit(Exchange exchange) {
    return answered(exchange, () -> {
      ObjectNode body = body(exchange, "application/json");
      body.fieldNames().forEachRemaining(name -> {
        if (!FIELDS.contains(name)) {
          throw Rules.bad("/" + Rules.shown(name), "there is no field [" + Rules.shown(name) + "]; there are " + new java.util.TreeSet<>(FIELDS));
        }
      });
      String id = text(body, "id");
      String key = header(exchange, "Idempotency-Key");
      if (id != null && key != null && !id.equals(key)) {
        throw Rules.bad("/id", "id and the header Idempotency-Key must be the same where both are given");
      }
      return desk.submit(new Request(header(exchange, "gateway_id"), header(exchange, "device_id"), id == null ? key : id, text(body, "name"),
          json(body, "arguments"), json(body, "units"), json(body, "precondition"), ttl(body), expiry(body), "cloud", user(exchange),
          header(exchange, "traceparent")));
    }, accepted -> accepted(exchange, accepted));
  }

  /** PATCH .../twin */
  public CompletionStage<String> desire(Exchange exchange) {
    return answered(exchange, () -> {
      ObjectNode body = body(exchange, "application/json", "application/merge-patch+json");
      String device = header(exchange, "device_id");
      Rules.id("/device_id", device);
      if (device.equals(CommandDesk.GATEWAY)) {
        throw Rules.bad("/device_id", "the gateway itself has no twin");
      }
      return desk.desire(header(exchange, "gateway_id"), device, Rules.canonical(body), expected(exchange), header(exchange, "Idempotency-Key"),
          "cloud", user(exchange));
    }, accepted -> accepted(exchange, accepted));
  }

  /** POST .../commands/{command_id}/cancel */
  public CompletionStage<String> cancel(Exchange exchange) {
    return answered(exchange, () -> {
      String gateway = header(exchange, "gateway_id");
      String id = header(exchange, "command_id");
      known(gateway, header(exchange, "device_id"), id);
      return desk.cancel(gateway, id, user(exchange));
    }, cancel -> cancelled(exchange, cancel));
  }

  /** GET .../commands */
  public void list(Exchange exchange) {
    String[] next = {null};
    answer(exchange, () -> {
      String gateway = header(exchange, "gateway_id");
      String device = header(exchange, "device_id");
      Rules.id("/gateway_id", gateway);
      Rules.id("/device_id", device);
      String status = header(exchange, "status");
      boolean open = "open".equals(status);
      if (status != null && !open && !STATUSES.contains(status)) {
        throw Rules.bad("/status", "status [" + Rules.shown(status) + "] must be open or one of " + new java.util.TreeSet<>(STATUSES));
      }
      long limit = Math.min(number(exchange, "limit", config.getLong("api.rows.default")), config.getLong("api.rows.max"));
      if (limit < 1) {
        throw Rules.bad("/limit", "limit must be a whole number from 1");
      }
      ArrayNode all = Rules.JSON.createArrayNode();
      Page page = desk.list(new Filter(gateway, device, open ? null : status, open), number(exchange, "after", 0), (int) limit);
      page.commands().forEach(c -> all.add(Views.json(c)));
      if (page.more()) {
        next[0] = "</api/v1/devices/" + gateway + "/" + device + "/commands?" + (status == null ? "" : "status=" + status + "&") + "after="
            + page.commands().get(page.commands().size() - 1).seq() + "&limit=" + limit + ">; rel=\"next\"";
      }
      return text(all);
    });
    if (next[0] != null) {
      exchange.getMessage().setHeader("Link", next[0]);
    }
  }

  /** GET .../commands/{command_id} */
  public void show(Exchange exchange) {
    answer(exchange, () -> Views.text(Views.json(known(header(exchange, "gateway_id"), header(exchange, "device_id"), header(exchange, "command_id")))));
  }

  /** GET .../twin */
  public void twin(Exchange exchange) {
    long[] version = {-1};
    answer(exchange, () -> {
      String gateway = header(exchange, "gateway_id");
      String device = header(exchange, "device_id");
      Rules.id("/gateway_id", gateway);
      Rules.id("/device_id", device);
      Twin twin = desk.twin(gateway, device).orElseThrow(() -> new DeskException("not_found", null,
          "device [" + device + "] of gateway [" + gateway + "] has neither desired nor reported anything yet, as far as this cloud knows"));
      version[0] = twin.desiredVersion();
      return Views.text(Views.json(twin));
    });
    if (version[0] >= 0) {
      exchange.getMessage().setHeader("ETag", "\"" + version[0] + "\"");
    }
  }

  /** GET /api/v1/commands/stream: the body is what goes on. */
  public void stream(Exchange exchange) {
    Sse client = new Sse(desk.streams()::wake);
    answer(exchange, () -> {
      String gateway = header(exchange, "gateway_id");
      String device = header(exchange, "device_id");
      if (gateway != null) {
        Rules.id("/gateway_id", gateway);
      }
      if (device != null) {
        Rules.id("/device_id", device);
      }
      // The header is what a browser adds by itself when it connects again, so it is the newer one.
      String last = header(exchange, "Last-Event-ID");
      long after = last == null ? number(exchange, "after", -1) : number(exchange, "Last-Event-ID", -1);
      if (!desk.streams().add(client, new Filter(gateway, device, null, false), exchange.getVariable("grant", Grant.class), after < 0 ? desk.streams().newest() : after, config.getLong("command.stream.max.ms"),
          (int) config.getLong("command.stream.max"))) {
        throw new StoreUnavailableException("as many follow as command.stream.max lets (" + config.getLong("command.stream.max") + ")", RETRY_S, null);
      }
      return "";
    });
    if (exchange.getMessage().getHeader(Exchange.HTTP_RESPONSE_CODE, Integer.class) == 200) {
      exchange.getMessage().setHeader(Exchange.CONTENT_TYPE, "text/event-stream");
      exchange.getMessage().setHeader("X-Accel-Buffering", "no");
      exchange.getMessage().setBody((HttpFeed) client::open);
    }
  }

  private Command known(String gateway, String device, String id) {
    Rules.id("/gateway_id", gateway);
    Rules.id("/device_id", device);
    Rules.id("/command_id", id);
    return desk.find(gateway, id).filter(c -> c.deviceId().equals(device)).orElseThrow(() -> new DeskException("not_found", null,
        "device [" + device + "] of gateway [" + gateway + "] has no command [" + id + "] here"));
  }

  private String accepted(Exchange exchange, Accepted accepted) {
    Command c = accepted.command();
    String answer = respond(exchange, accepted.known() ? 200 : 202, Views.text(Views.json(c)));
    exchange.getMessage().setHeader("Location", "/api/v1/devices/" + c.gatewayId() + "/" + c.deviceId() + "/commands/" + c.id());
    return answer;
  }

  private String cancelled(Exchange exchange, Cancel cancel) {
    Command c = cancel.command().orElse(null);
    return switch (cancel.outcome()) {
      case CANCELLED -> respond(exchange, 200, Views.text(Views.json(c)));
      case ASKED -> respond(exchange, 202, Views.text(Views.json(c)));
      case TOO_LATE -> refuse(exchange, 409, "too_late", null, "command [" + c.id() + "] is " + c.status() + " already");
      case NOT_FOUND -> refuse(exchange, 404, "not_found", null, "there is no such command");
    };
  }

  /** What an asynchronous method does with the outcome of its stage. */
  private interface Outcome<T> {
    String of(T value);
  }

  private <T> CompletionStage<String> answered(Exchange exchange, Supplier<CompletionStage<T>> work, Outcome<T> outcome) {
    CompletionStage<T> stage;
    try {
      stage = work.get();
    } catch (RuntimeException e) {
      stage = CompletableFuture.failedFuture(e);
    }
    return stage.handle((value, failure) -> failure == null ? outcome.of(value) : refusal(exchange, failure));
  }

  private void answer(Exchange exchange, Supplier<String> work) {
    String body;
    try {
      String made = work.get();
      body = respond(exchange, 200, made);
    } catch (RuntimeException e) {
      body = refusal(exchange, e);
    }
    exchange.getMessage().setBody(body);
  }

  private String refusal(Exchange exchange, Throwable failure) {
    Throwable cause = failure;
    while ((cause instanceof CompletionException || cause instanceof ExecutionException) && cause.getCause() != null) {
      cause = cause.getCause();
    }
    if (cause instanceof DeskException e) {
      int status = switch (e.error()) {
        case "conflict" -> 409;
        case "not_found" -> 404;
        case "too_many" -> 429;
        default -> 400;
      };
      String body = refuse(exchange, status, e.error().equals("too_many") ? "too_many_requests" : e.error(), e.field(), e.getMessage());
      if (status == 429) {
        exchange.getMessage().setHeader("Retry-After", RETRY_S);
      }
      return body;
    }
    if (cause instanceof StoreUnavailableException e) {
      String body = refuse(exchange, 503, "unavailable", null, e.getMessage());
      exchange.getMessage().setHeader("Retry-After", e.getRetryAfterSeconds());
      return body;
    }
    LOG.error("A request about commands failed", cause);
    return refuse(exchange, 500, "internal_error", null, "the request failed; the log says why");
  }

  private static String refuse(Exchange exchange, int status, String error, String field, String message) {
    Problem.answer(exchange, status, error, field, message);
    return exchange.getMessage().getBody(String.class);
  }

  private static String respond(Exchange exchange, int status, String body) {
    Message message = exchange.getMessage();
    message.removeHeaders("*");
    message.setHeader(Exchange.HTTP_RESPONSE_CODE, status);
    message.setHeader(Exchange.CONTENT_TYPE, "application/json");
    return body;
  }

  private static ObjectNode body(Exchange exchange, String... types) {
    String type = header(exchange, "Content-Type");
    String plain = type == null ? "" : type.split(";")[0].trim().toLowerCase(java.util.Locale.ROOT);
    if (!List.of(types).contains(plain)) {
      throw Rules.bad("/", "Content-Type [" + Rules.shown(type) + "] must be " + String.join(" or ", types));
    }
    byte[] bytes = exchange.getMessage().getBody(byte[].class);
    try {
      JsonNode node = Rules.JSON.readTree(bytes == null ? new byte[0] : bytes);
      if (node instanceof ObjectNode object) {
        return object;
      }
    } catch (JsonProcessingException e) {
      throw Rules.bad("/", "the body must be JSON, at most " + Rules.DEPTH + " levels deep, no key twice: " + e.getOriginalMessage());
    } catch (NumberFormatException e) {
      throw Rules.bad("/", "the body must not have a number with such an exponent");
    } catch (IOException e) {
      throw Rules.bad("/", "the body must be JSON: " + e.getMessage());
    }
    throw Rules.bad("/", "the body must be a JSON object");
  }

  /** @return null: not given; given twice it is a list in brackets, that no rule lets through */
  private static String header(Exchange exchange, String name) {
    String value = exchange.getMessage().getHeader(name) instanceof List<?> several ? several.toString()
        : exchange.getMessage().getHeader(name, String.class);
    return value == null || value.isEmpty() ? null : value;
  }

  private static long number(Exchange exchange, String name, long otherwise) {
    String value = header(exchange, name);
    if (value == null) {
      return otherwise;
    }
    if (!value.matches("[0-9]{1,18}")) {
      throw Rules.bad("/" + name, name + " [" + Rules.shown(value) + "] must be a whole number from 0");
    }
    return Long.parseLong(value);
  }

  /** If-Match: the version that a change is of, as the ETag of a twin says it. */
  private static Long expected(Exchange exchange) {
    String match = header(exchange, "If-Match");
    if (match == null || match.equals("*")) {
      return null;
    }
    if (!match.matches("\"[0-9]{1,18}\"")) {
      throw Rules.bad("/", "If-Match [" + Rules.shown(match) + "] must be a desired_version in quotation marks, as ETag says it");
    }
    return Long.parseLong(match.substring(1, match.length() - 1));
  }

  private static String user(Exchange exchange) {
    return exchange.getVariable("user", String.class);
  }

  private static String text(ObjectNode body, String name) {
    JsonNode node = body.get(name);
    if (node == null || node.isNull()) {
      return null;
    }
    if (!node.isTextual()) {
      throw Rules.bad("/" + name, name + " must be a text");
    }
    return node.textValue();
  }

  private static String json(ObjectNode body, String name) {
    JsonNode node = body.get(name);
    if (node == null || node.isNull()) {
      return null;
    }
    if (!node.isObject()) {
      throw Rules.bad("/" + name, name + " must be a JSON object");
    }
    return Rules.canonical(node);
  }

  private static Long ttl(ObjectNode body) {
    JsonNode node = body.get("ttl_ms");
    if (node == null || node.isNull()) {
      return null;
    }
    if (!node.isIntegralNumber() || !node.canConvertToLong()) {
      throw Rules.bad("/ttl_ms", "ttl_ms must be whole milliseconds");
    }
    return node.longValue();
  }

  private static Long expiry(ObjectNode body) {
    JsonNode node = body.get("expires_at");
    if (node == null || node.isNull()) {
      return null;
    }
    if (node.isIntegralNumber() && node.canConvertToLong()) {
      return node.longValue();
    }
    try {
      return OffsetDateTime.parse(node.asText()).toInstant().toEpochMilli();
    } catch (DateTimeException | ArithmeticException e) {
      throw Rules.bad("/expires_at", "expires_at must be an RFC 3339 time with its zone, or whole milliseconds since 1970");
    }
  }

  private static String text(JsonNode node) {
    try {
      return Rules.JSON.writeValueAsString(node);
    } catch (JsonProcessingException e) {
      throw new IllegalStateException(e);
    }
  }
}
