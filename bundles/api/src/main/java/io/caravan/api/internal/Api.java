// SPDX-License-Identifier: Apache-2.0
package io.caravan.api.internal;

import io.caravan.api.internal.Document.Operation;
import io.caravan.api.internal.Document.Parameter;
import io.caravan.runtime.Config;
import io.caravan.runtime.HttpCall;
import io.caravan.runtime.Problem;
import java.net.URLEncoder;
import java.nio.charset.StandardCharsets;
import java.security.MessageDigest;
import java.security.NoSuchAlgorithmException;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Base64;
import java.util.List;
import java.util.Map;
import org.apache.camel.Exchange;
import org.apache.camel.Message;

/**
 * Bean {@code api}: what every route of the API does before and after its SQL. Expressions of a route could check a parameter, but
 * not from the document that clients get. Thread-safe.
 */
public final class Api {
  private static final int SHOWN = 80;

  private final Config config;
  private final LiveStream stream;
  private final Document document = new Document();
  private final byte[] json = document.json();

  public Api(Config config, LiveStream stream) {
    this.config = config;
    this.stream = stream;
  }

  /**
   * Parameters that keep their rule become variables of their name, those that were not given their default or nothing; variable
   * {@code site_list}: the sites that may be seen, or {@code *}; variable {@code limit_bytes}: of a page's bodies. Else the answer is made, and the route ends.
   */
  public void check(Exchange exchange) {
    Operation operation = document.operation(exchange.getFromRouteId());
    for (Parameter parameter : operation.parameters()) {
      String wrong = keep(exchange, parameter);
      if (wrong != null) {
        Problem.answer(exchange, 400, "bad_request", "/" + parameter.name(), wrong);
        exchange.setRouteStop(true);
        return;
      }
    }
    exchange.setVariable("site_list", sites(exchange));
    exchange.setVariable("limit_bytes", config.getLong("api.rows.bytes"));
  }

  /** @return null: it keeps its rule */
  private String keep(Exchange exchange, Parameter parameter) {
    Object given = exchange.getMessage().getHeader(parameter.name());
    if (given instanceof List<?>) {
      return parameter.name() + " must be given once";
    }
    String text = given == null ? "" : given.toString();
    if (text.isEmpty()) {
      if (parameter.required()) {
        return parameter.name() + " must be given: " + parameter.rule();
      }
      set(exchange, parameter, parameter.otherwise());
      return null;
    }
    List<String> elements = parameter.several() ? Arrays.asList(text.split(",", -1)) : List.of(text);
    if (parameter.elements() > 0 && elements.size() != parameter.elements() || parameter.whole() != null && !parameter.whole().matcher(text).find()) {
      return parameter.name() + " [" + shown(text) + "] must be " + parameter.rule();
    }
    List<Object> values = new ArrayList<>();
    for (String element : elements) {
      Object value = value(parameter, element);
      if (value == null) {
        return parameter.name() + " [" + shown(element) + "] must be " + parameter.rule();
      }
      values.add(value);
    }
    set(exchange, parameter, parameter.several() ? values : values.get(0));
    return null;
  }

  private void set(Exchange exchange, Parameter parameter, Object value) {
    Object kept = value;
    if (parameter.name().equals("limit")) {
      long asked = value == null ? config.getLong("api.rows.default") : ((Number) value).longValue();
      kept = Math.min(asked, config.getLong("api.rows.max"));
    }
    if (kept == null) {
      exchange.removeVariable(parameter.name());
    } else {
      exchange.setVariable(parameter.name(), kept instanceof Integer number ? Long.valueOf(number) : kept);
    }
  }

  /** @return null: it breaks the rule */
  private static Object value(Parameter parameter, String text) {
    if (parameter.number()) {
      if (!text.matches("-?[0-9]{1,18}")) {
        return null;
      }
      long number = Long.parseLong(text);
      return number < parameter.min() || number > parameter.max() ? null : (Object) number;
    }
    boolean good = text.codePointCount(0, text.length()) <= parameter.longest() && text.chars().noneMatch(Character::isISOControl)
        && (parameter.pattern() == null || parameter.pattern().matcher(text).find())
        && (parameter.values().isEmpty() || parameter.values().contains(text));
    return good ? text : null;
  }

  private static List<String> sites(Exchange exchange) {
    String sites = exchange.getVariable("sites", String.class);
    if (sites == null) {
      throw new IllegalStateException("route [" + exchange.getFromRouteId() + "] does not ask bean apiAccess who it is before it checks");
    }
    // A JSON array of ids, which have nothing to escape.
    List<String> list = new ArrayList<>();
    for (String id : sites.replaceAll("[\\[\\]\" ]", "").split(",")) {
      if (!id.isEmpty()) {
        list.add(id);
      }
    }
    return list.isEmpty() ? List.of("") : list;
  }

  /**
   * The body, or 404 without one; a row with {@code body} and {@code next}: the element by which the page behind it is asked for, or
   * null.
   */
  public void answer(Exchange exchange) {
    Message message = exchange.getMessage();
    Object body = message.getBody();
    Object next = null;
    if (body instanceof Map<?, ?> row) {
      next = row.get("next");
      body = row.get("body");
    }
    if (body == null) {
      Problem.answer(exchange, 404, "not_found", null, exchange.getVariable("device_id") == null ? "there is no such gateway here"
          : "there is no such device here");
      return;
    }
    send(exchange, body.toString().getBytes(StandardCharsets.UTF_8), next);
  }

  /** The document itself. */
  public void document(Exchange exchange) {
    send(exchange, json, null);
  }

  /** The live stream: the body is what goes on. */
  public void stream(Exchange exchange) {
    stream.follow(exchange);
  }

  private void send(Exchange exchange, byte[] bytes, Object next) {
    Message message = exchange.getMessage();
    String known = message.getHeader("If-None-Match", String.class);
    String tag = '"' + Base64.getUrlEncoder().withoutPadding().encodeToString(Arrays.copyOf(digest(bytes), 15)) + '"';
    message.removeHeaders("*");
    message.setHeader("ETag", tag);
    // Kept by the client, and asked for each time. Camel would drop the first of these headers.
    HttpCall call = HttpCall.of(exchange);
    call.answer("Cache-Control", "private, no-cache");
    call.answer("Vary", "Authorization, Cookie, Origin");
    if (next != null) {
      message.setHeader("Link", "<" + link(exchange, next.toString()) + ">; rel=\"next\"");
    }
    if (matches(known, tag)) {
      message.setHeader(Exchange.HTTP_RESPONSE_CODE, 304);
      message.setBody(null);
      return;
    }
    message.setHeader(Exchange.CONTENT_TYPE, "application/json");
    message.setBody(bytes);
  }

  /** Weak comparison, RFC 9110 section 13.1.2. */
  private static boolean matches(String known, String tag) {
    if (known == null) {
      return false;
    }
    return Arrays.stream(known.split(",")).map(String::trim).anyMatch(k -> k.equals("*") || k.equals(tag) || k.equals("W/" + tag));
  }

  private String link(Exchange exchange, String next) {
    Operation operation = document.operation(exchange.getFromRouteId());
    String path = operation.path();
    StringBuilder query = new StringBuilder();
    for (Parameter parameter : operation.parameters()) {
      Object value = parameter.name().equals(operation.cursor()) ? next : exchange.getVariable(parameter.name());
      if (parameter.path()) {
        path = path.replace('{' + parameter.name() + '}', encoded(value));
      } else if (value != null) {
        query.append(query.length() == 0 ? '?' : '&').append(parameter.name()).append('=')
            .append(encoded(value instanceof List<?> list ? String.join(",", list.stream().map(String::valueOf).toList()) : value));
      }
    }
    return path + query;
  }

  private static String encoded(Object value) {
    return URLEncoder.encode(String.valueOf(value), StandardCharsets.UTF_8).replace("+", "%20");
  }

  private static byte[] digest(byte[] bytes) {
    try {
      return MessageDigest.getInstance("SHA-256").digest(bytes);
    } catch (NoSuchAlgorithmException e) {
      throw new IllegalStateException(e);
    }
  }

  private static String shown(String text) {
    String clean = text.replaceAll("\\p{Cntrl}", "?");
    return clean.length() > SHOWN ? clean.substring(0, SHOWN) + "..." : clean;
  }
}
