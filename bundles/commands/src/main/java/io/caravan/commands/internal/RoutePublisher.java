// SPDX-License-Identifier: Apache-2.0
package io.caravan.commands.internal;

import com.fasterxml.jackson.databind.JsonNode;
import io.caravan.runtime.ControlException;
import java.nio.charset.StandardCharsets;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.RejectedExecutionException;
import java.util.concurrent.TimeUnit;
import java.util.function.LongSupplier;
import org.apache.camel.AsyncProducer;
import org.apache.camel.CamelContext;
import org.apache.camel.Exchange;
import org.apache.camel.ExchangePattern;
import org.apache.camel.Endpoint;
import org.apache.camel.ProducerTemplate;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/**
 * Publishes through routes: {@code direct:command-publish} for devices, from one thread and without waiting for the outcome, so that
 * those of a device leave in order and none holds up the others; {@code direct:control-run} for the gateway itself, one after the
 * other.
 */
final class RoutePublisher implements Publisher {
  private static final Logger LOG = LoggerFactory.getLogger(RoutePublisher.class);
  private static final Set<String> CONTROL_REASONS = Set.of("control_failed", "rolled_back", "bad_arguments");
  private static final String NO_ROUTE = "DirectConsumerNotAvailableException";

  private final Time time;
  private final LongSupplier ackMs;
  private final Endpoint devices;
  private final AsyncProducer toDevices;
  private final ProducerTemplate template;
  private final ExecutorService publishing = Executors.newSingleThreadExecutor(work -> CommandEngine.daemon(work, "caravan-commands-publish"));
  private final ExecutorService controlling = Executors.newSingleThreadExecutor(work -> CommandEngine.daemon(work, "caravan-commands-control"));

  RoutePublisher(CamelContext context, Time time, LongSupplier ackMs) throws Exception {
    this.time = time;
    this.ackMs = ackMs;
    devices = context.getEndpoint("direct:command-publish?block=false");
    toDevices = devices.createAsyncProducer();
    toDevices.start();
    template = context.createProducerTemplate();
  }

  @Override
  public void publish(Publication publication, Listener listener) {
    boolean gateway = publication.deviceId().equals(io.caravan.commands.Commands.GATEWAY);
    try {
      (gateway ? controlling : publishing).execute(() -> {
        try {
          if (time.monoMs() >= publication.deadlineMono()) {
            listener.outcome(publication, new Outcome(Evidence.NONE, "its time was over before it could be published", null), time.monoMs());
          } else if (gateway) {
            listener.outcome(publication, control(publication), time.monoMs());
          } else {
            toDevice(publication, listener);
          }
        } catch (Exception | LinkageError e) {
          LOG.warn("command [{}]: publishing failed", publication.commandId(), e);
          listener.outcome(publication, new Outcome(Evidence.UNKNOWN, e.toString(), null), time.monoMs());
        }
      });
    } catch (RejectedExecutionException e) {
      LOG.debug("command [{}] is not published any more: the gateway stops", publication.commandId());
    }
  }

  private void toDevice(Publication p, Listener listener) {
    long ttl = p.deadlineMono() == Entry.NEVER ? Math.max(60_000, p.timeoutMs()) : p.deadlineMono() - time.monoMs();
    Exchange exchange = devices.createExchange(ExchangePattern.InOut);
    exchange.getMessage().setBody(Told.payload(p, ttl).getBytes(StandardCharsets.UTF_8));
    exchange.getMessage().setHeader("CaravanDeviceId", p.deviceId());
    exchange.getMessage().setHeader("CaravanPath", p.way().name());
    exchange.getMessage().setHeader("CaravanTtlMs", ttl);
    // No longer than an answer is waited for: what is still in the listener's queue then has certainly not left.
    exchange.getMessage().setHeader("CaravanAckMs", Math.max(100, Math.min(ackMs.getAsLong(), p.timeoutMs())));
    exchange.getMessage().setHeader("CaravanQos", p.idempotent() ? 1 : 0);
    exchange.getMessage().setHeader("CaravanCorrelationData", p.commandId());
    exchange.getMessage().setHeader("CaravanContentType", "application/json");
    exchange.getMessage().setHeader("CaravanResponseTopic", "devices/" + p.deviceId() + "/command-status");
    exchange.getMessage().setHeader("CaravanUserProperties", p.traceContext() == null ? Map.of("caravan-command-id", p.commandId())
        : Map.of("caravan-command-id", p.commandId(), "traceparent", p.traceContext()));
    long at = time.monoMs();
    toDevices.process(exchange, doneSync -> listener.outcome(p, outcome(exchange), Math.max(at, 0)));
  }

  private static Outcome outcome(Exchange exchange) {
    Exception failed = exchange.getException();
    if (failed != null) {
      if (noRoute(failed)) {
        return new Outcome(Evidence.NONE, "no route publishes commands now: " + failed.getMessage(), null);
      }
      LOG.debug("publishing a command failed", failed);
      return new Outcome(Evidence.UNKNOWN, failed.toString(), null);
    }
    String detail = exchange.getMessage().getHeader("CaravanEvidenceDetail", String.class);
    String evidence = exchange.getMessage().getHeader("CaravanEvidence", String.class);
    return new Outcome(switch (evidence == null ? "" : evidence) {
      case "delivered" -> Evidence.DELIVERED;
      case "sent" -> Evidence.SENT;
      case "none" -> Evidence.NONE;
      case "refused" -> Evidence.REFUSED;
      default -> Evidence.UNKNOWN;
    }, detail, null);
  }

  private static boolean noRoute(Throwable failed) {
    return failed.getClass().getSimpleName().equals(NO_ROUTE);
  }

  private Outcome control(Publication p) {
    Exchange exchange = template.send("direct:control-run?block=false", ExchangePattern.InOut, e -> {
      e.getMessage().setBody(p.arguments());
      e.setVariable("commandName", p.name());
      e.setVariable("commandId", p.commandId());
      e.setVariable("commandOrigin", p.origin());
      e.setVariable("commandBy", p.issuedBy());
      e.setVariable("commandAttempt", p.attempt());
    });
    Throwable failed = exchange.getException();
    if (failed == null) {
      return answered(p, "succeeded", null, json(exchange), null);
    }
    if (noRoute(failed)) {
      return new Outcome(Evidence.NONE, "no route runs control commands now", null);
    }
    for (Throwable cause = failed; cause != null; cause = cause.getCause()) {
      if (cause instanceof InterruptedException || cause instanceof RejectedExecutionException) {
        return new Outcome(Evidence.UNKNOWN, "interrupted: " + failed, null); // its outcome is asked for again
      }
      if (cause instanceof ControlException control) {
        String reason = CONTROL_REASONS.contains(control.reason()) ? control.reason() : "control_failed";
        return answered(p, "failed", reason, valid(control.result()), control.getMessage());
      }
    }
    boolean forPeople = failed instanceof IllegalArgumentException || failed instanceof IllegalStateException;
    LOG.warn("control command [{}] {} failed", p.commandId(), p.name(), failed);
    return answered(p, "failed", "control_failed", null, forPeople ? failed.getMessage() : failed.getClass().getSimpleName());
  }

  private static Outcome answered(Publication p, String status, String reason, String result, String message) {
    return new Outcome(Evidence.ANSWERED, null, new Answer(p.deviceId(), p.commandId(), status, reason, result, message));
  }

  private static String json(Exchange exchange) {
    Object body = exchange.getMessage().getBody();
    if (body == null) {
      return null;
    }
    try {
      if (body instanceof Map || body instanceof JsonNode) {
        return Json.MAPPER.writeValueAsString(body);
      }
      String text = exchange.getMessage().getBody(String.class);
      String json = valid(text);
      return json != null || text == null || text.isBlank() ? json : Json.MAPPER.writeValueAsString(text);
    } catch (com.fasterxml.jackson.core.JsonProcessingException e) {
      LOG.debug("a result that is no JSON", e);
      return null;
    }
  }

  private static String valid(String text) {
    try {
      return text == null || text.isBlank() ? null : Json.MAPPER.writeValueAsString(Json.MAPPER.readTree(text));
    } catch (com.fasterxml.jackson.core.JsonProcessingException | NumberFormatException e) {
      return null;
    }
  }

  @Override
  public void settle() {
    CompletableFuture<Void> settled = new CompletableFuture<>();
    try {
      publishing.execute(() -> settled.complete(null));
      settled.join();
    } catch (RejectedExecutionException e) {
      LOG.debug("stopped");
    }
  }

  /** Stops handing over; what has left stays so. */
  @Override
  public void close() {
    publishing.shutdownNow();
    controlling.shutdownNow(); // a control command that runs is asked for its outcome at the next start
    try {
      publishing.awaitTermination(2, TimeUnit.SECONDS);
    } catch (InterruptedException e) {
      Thread.currentThread().interrupt();
    }
    toDevices.stop();
    template.stop();
  }
}
