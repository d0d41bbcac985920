// SPDX-License-Identifier: Apache-2.0
package io.caravan.devices;

import io.caravan.devices.internal.RequestRate;
import io.caravan.runtime.Config;
import io.caravan.runtime.HttpCall;
import io.caravan.runtime.HttpGuard;
import java.io.ByteArrayInputStream;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.util.List;
import java.util.Locale;
import java.util.regex.Pattern;
import java.util.zip.GZIPInputStream;
import org.apache.camel.Exchange;
import org.apache.camel.Message;

/**
 * Bean {@code httpAccess}: who may post to {@code /ingest/{device_id}}. The server asks {@link #admit} when the header of a
 * request is there, so that nobody's body is read who may not send one; the route asks {@link #check}, which puts that decision
 * into the variable {@code access} and into the answer. Thread-safe; nothing here blocks.
 */
public final class HttpAccess implements HttpGuard {
  private static final String PREFIX = "/ingest/";
  /** RFC 6750: one space, and nothing that a token cannot have. */
  private static final Pattern BEARER = Pattern.compile("(?i:Bearer) ([A-Za-z0-9._~+/-]{1,512}=*)");
  /** Presented, and wrong: whoever sends something else than a bearer token is refused like a wrong one. */
  private static final byte[] NO_TOKEN = new byte[0];
  private static final long UNAVAILABLE_S = 5;
  private static final int MAX_SHOWN = 40;

  private final Gate gate;
  private final Config config;
  private final RequestRate rate = new RequestRate();

  public HttpAccess(Gate gate, Config config) {
    this.gate = gate;
    this.config = config;
  }

  @Override
  public String prefix() {
    return PREFIX;
  }

  @Override
  public boolean admit(HttpCall call) {
    Gate.Verdict verdict = decide(call);
    call.attach(verdict);
    return verdict.outcome() == Gate.Outcome.ACCEPTED;
  }

  /**
   * Sets the variable {@code access}: {@code granted}, {@code unauthorized}, {@code locked_out}, {@code too_fast} or {@code
   * unavailable}. If granted, the body is a byte array, and header {@code CaravanDeviceId} the device that was recognised (not with
   * {@code device.access=open}); else the message is the answer, the same whatever the reason for {@code unauthorized} is.
   *
   * @throws IllegalStateException the exchange does not come from the container's HTTP server
   */
  public void check(Exchange exchange) {
    HttpCall call = HttpCall.of(exchange);
    Message message = exchange.getMessage();
    Gate.Verdict verdict = call.attachment(Gate.Verdict.class);
    if (verdict == null) {
      // A path the server did not ask about, or it failed to: then the body has been read, which costs memory and nothing else.
      verdict = decide(call);
    }
    if (verdict.outcome() != Gate.Outcome.ACCEPTED) {
      refuse(exchange, call, verdict.outcome(), verdict.retryAfterMs());
      return;
    }
    if (!verdict.grant().valid()) {
      // Revoked while the body came in.
      refuse(exchange, call, Gate.Outcome.REVOKED, 0);
      return;
    }
    byte[] body = message.getBody(byte[].class);
    message.setBody(body == null ? new byte[0] : body);
    verdict.grant().take(body == null ? 0 : body.length);
    if (verdict.deviceId() != null) {
      message.setHeader("CaravanDeviceId", verdict.deviceId());
    }
    exchange.setVariable("access", "granted");
  }

  /**
   * Unpacks a body that came with {@code Content-Encoding: gzip}, up to one byte more than {@code ingest.max.bytes}, so that a larger
   * one is refused as too large without being unpacked. Any other encoding, or gzip that is damaged, becomes part of header {@code
   * CaravanContentType}, which is then of no type that is taken; the body stays as it came.
   */
  public void inflate(Exchange exchange) {
    HttpCall call = HttpCall.of(exchange);
    String encoding = String.join(",", call.headers("Content-Encoding")).trim().toLowerCase(Locale.ROOT);
    if (encoding.isEmpty() || encoding.equals("identity")) {
      return;
    }
    Message message = exchange.getMessage();
    if (!encoding.equals("gzip")) {
      refuse(message, call, encoding.length() > MAX_SHOWN ? encoding.substring(0, MAX_SHOWN) + "..." : encoding);
      return;
    }
    int max = (int) config.getLong("ingest.max.bytes");
    try (GZIPInputStream in = new GZIPInputStream(new ByteArrayInputStream(message.getBody(byte[].class)))) {
      byte[] body = in.readNBytes(max + 1);
      if (body.length > max) {
        call.refused("inflated_too_large");
      }
      message.setBody(body);
    } catch (IOException e) {
      refuse(message, call, "damaged gzip");
    }
  }

  private static void refuse(Message message, HttpCall call, String encoding) {
    call.refused("content_encoding");
    message.setHeader("CaravanContentType", encoding + " of " + message.getHeader("CaravanContentType", "", String.class));
  }

  private Gate.Verdict decide(HttpCall call) {
    Gate.Verdict verdict = gate.check(new Gate.Attempt(call.tls() ? Gate.Transport.HTTPS : Gate.Transport.HTTP, deviceId(call.path()),
        token(call.headers("Authorization")), call.certificateName(), call.address()));
    if (verdict.outcome() != Gate.Outcome.ACCEPTED) {
      return verdict;
    }
    // After the gate: strangers must not use up what the devices have together.
    long waitMs = rate.take(config.getLong("http.requests.per.s"));
    return waitMs == 0 ? verdict : new Gate.Verdict(Gate.Outcome.TOO_FAST, null, null, waitMs);
  }

  /** @return as it stands in the path; what is escaped there is no device id, and so nobody's */
  private static String deviceId(String path) {
    if (!path.startsWith(PREFIX)) {
      return null;
    }
    int end = path.indexOf('/', PREFIX.length());
    return path.substring(PREFIX.length(), end < 0 ? path.length() : end);
  }

  private static byte[] token(List<String> headers) {
    if (headers.isEmpty()) {
      return null;
    }
    var bearer = BEARER.matcher(headers.get(0));
    return headers.size() == 1 && bearer.matches() ? bearer.group(1).getBytes(StandardCharsets.US_ASCII) : NO_TOKEN;
  }

  private static void refuse(Exchange exchange, HttpCall call, Gate.Outcome outcome, long retryAfterMs) {
    Message message = exchange.getMessage();
    message.removeHeaders("*");
    message.setHeader(Exchange.CONTENT_TYPE, "application/json");
    String access;
    switch (outcome) {
      case LOCKED_OUT, TOO_FAST -> {
        access = outcome.toString();
        message.setHeader(Exchange.HTTP_RESPONSE_CODE, 429);
        message.setHeader("Retry-After", Math.max(1, (retryAfterMs + 999) / 1000));
        message.setBody("{\"error\":\"too_many_requests\",\"message\":\"nothing was kept; send it again after the time in Retry-After\"}");
      }
      case UNAVAILABLE -> {
        access = "unavailable";
        message.setHeader(Exchange.HTTP_RESPONSE_CODE, 503);
        message.setHeader("Retry-After", UNAVAILABLE_S);
        message.setBody("{\"error\":\"unavailable\",\"message\":\"nobody can be recognised now; nothing was kept\"}");
      }
      default -> {
        access = "unauthorized";
        message.setHeader(Exchange.HTTP_RESPONSE_CODE, 401);
        message.setHeader("WWW-Authenticate", "Bearer");
        message.setBody("{\"error\":\"unauthorized\",\"message\":\"the credential is not one of this device, or may not be used here and now\"}");
      }
    }
    exchange.setVariable("access", access);
    call.refused(access);
  }
}
