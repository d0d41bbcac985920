// SPDX-License-Identifier: Apache-2.0
package io.caravan.commands.internal;

import com.fasterxml.jackson.core.JsonProcessingException;
import com.fasterxml.jackson.databind.JsonNode;
import io.caravan.commands.Commands;
import io.caravan.commands.Commands.Command;
import io.caravan.commands.Commands.Request;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CompletionStage;
import org.apache.camel.Exchange;

/** Bean {@code commandIntake}: commands as routes have them. Thread-safe; nothing blocks, a route goes on after COMMIT. */
public final class CommandIntake {
  private final CommandEngine engine;

  CommandIntake(CommandEngine engine) {
    this.engine = engine;
  }

  /**
   * Body: a list of maps, one map, or JSON of either, or a frame with member {@code commands}; members as in docs/contract.md
   * section 12, {@code problem}: what is wrong with it as it came, {@code received_mono_ms}: when it came to this machine, by
   * {@link System#nanoTime} in milliseconds; its time counts from there, or else from now. Header CaravanOrigin: {@code cloud}, {@code mqtt},
   * {@code shell}; CaravanIssuedBy wins over member {@code issued_by}. The body is the list of commands afterwards.
   *
   * @return completes after COMMIT; a command that breaks a rule is REJECTED and no error
   */
  public CompletionStage<List<Command>> submit(Exchange exchange) throws JsonProcessingException {
    String origin = exchange.getMessage().getHeader("CaravanOrigin", "shell", String.class);
    String by = exchange.getMessage().getHeader("CaravanIssuedBy", String.class);
    List<Request> requests = new ArrayList<>();
    List<String> problems = new ArrayList<>();
    List<Long> received = new ArrayList<>();
    for (Map<?, ?> map : maps(exchange.getMessage().getBody(), "commands", exchange)) {
      List<String> wrong = new ArrayList<>(1);
      if (map.get("problem") != null) {
        wrong.add(map.get("problem").toString());
      }
      Object device = map.get("device_id");
      requests.add(new Request(text(map, "id", wrong), device == null ? Commands.GATEWAY : text(map, "device_id", wrong), text(map, "name", wrong),
          json(map, "arguments", wrong), json(map, "units", wrong), json(map, "precondition", wrong), ttl(map, wrong), origin,
          by != null ? by : text(map, "issued_by", wrong), text(map, "trace_context", wrong)));
      problems.add(wrong.isEmpty() ? null : wrong.get(0));
      received.add(map.get("received_mono_ms") instanceof Long at ? at : null);
    }
    return engine.submit(requests, problems, received).thenApply(commands -> {
      exchange.getMessage().setBody(commands);
      return commands;
    });
  }

  /** Body: a list of ids, or a frame with member {@code ids}; header CaravanBy: who asks. The body is what became of them afterwards. */
  public CompletionStage<List<Command>> cancel(Exchange exchange) throws JsonProcessingException {
    Object body = exchange.getMessage().getBody();
    if (body instanceof String || body instanceof byte[]) {
      body = parse(body);
    }
    String by = exchange.getMessage().getHeader("CaravanBy", String.class);
    if (body instanceof Map<?, ?> frame) {
      by = by == null && frame.get("by") != null ? frame.get("by").toString() : by;
      body = frame.get("ids");
    }
    if (!(body instanceof List<?> ids)) {
      throw new IllegalArgumentException("body of direct:command-cancel must be a list of ids, or a frame with ids");
    }
    List<CompletableFuture<java.util.Optional<Command>>> asked = new ArrayList<>();
    for (Object id : ids) {
      asked.add(engine.cancel(String.valueOf(id), by).toCompletableFuture());
    }
    return CompletableFuture.allOf(asked.toArray(CompletableFuture[]::new)).thenApply(none -> {
      List<Command> found = new ArrayList<>();
      asked.forEach(each -> each.join().ifPresent(found::add));
      exchange.getMessage().setBody(found);
      return found;
    });
  }

  private static List<Map<?, ?>> maps(Object body, String member, Exchange exchange) throws JsonProcessingException {
    Object value = body instanceof List || body instanceof Map ? body : parse(exchange.getMessage().getBody(String.class));
    if (value instanceof Map<?, ?> frame && frame.get(member) instanceof List) {
      value = frame.get(member);
    }
    List<Map<?, ?>> found = new ArrayList<>();
    for (Object each : value instanceof List<?> list ? list : List.of(value)) {
      if (!(each instanceof Map)) {
        throw new IllegalArgumentException("body of direct:command must be an object, a list of objects, or a frame with " + member);
      }
      found.add((Map<?, ?>) each);
    }
    return found;
  }

  private static Object parse(Object text) throws JsonProcessingException {
    if (text == null) {
      throw new IllegalArgumentException("body is empty: it must be JSON");
    }
    String json = text instanceof byte[] bytes ? new String(bytes, java.nio.charset.StandardCharsets.UTF_8) : text.toString();
    JsonNode node = Json.MAPPER.readTree(json);
    return Json.MAPPER.convertValue(node, Object.class);
  }

  private static String text(Map<?, ?> map, String name, List<String> wrong) {
    Object value = map.get(name);
    if (value == null || value instanceof String) {
      return (String) value;
    }
    wrong.add(name + " [" + Json.shown(value.toString()) + "] must be text");
    return null;
  }

  private static String json(Map<?, ?> map, String name, List<String> wrong) {
    Object value = map.get(name);
    if (value == null || value instanceof String) {
      return (String) value;
    }
    try {
      return Json.MAPPER.writeValueAsString(value);
    } catch (JsonProcessingException e) {
      wrong.add(name + " cannot be read: " + e.getOriginalMessage());
      return null;
    }
  }

  private static Long ttl(Map<?, ?> map, List<String> wrong) {
    Object value = map.get("ttl_ms");
    if (value == null) {
      return null;
    }
    if (value instanceof Long || value instanceof Integer) {
      return ((Number) value).longValue();
    }
    wrong.add("ttl_ms [" + Json.shown(value.toString()) + "] must be a whole number of milliseconds");
    return null;
  }
}
