// SPDX-License-Identifier: Apache-2.0
package io.caravan.commands.internal;

import com.fasterxml.jackson.core.JsonProcessingException;
import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.cfg.JsonNodeFeature;
import com.fasterxml.jackson.databind.node.ObjectNode;
import io.caravan.commands.Capabilities;
import io.caravan.commands.Capabilities.Capability;
import io.caravan.commands.Capabilities.Declared;
import io.caravan.commands.Capabilities.Problem;
import io.caravan.commands.Commands;
import io.caravan.commands.Commands.Request;
import io.caravan.devices.Devices;
import java.nio.charset.StandardCharsets;
import java.security.MessageDigest;
import java.security.NoSuchAlgorithmException;
import java.util.Iterator;
import java.util.Map;
import java.util.Optional;
import java.util.concurrent.ThreadLocalRandom;
import java.util.regex.Pattern;

/** A request as far as it can be judged without the store, on the thread of who asks. Immutable once made. */
final class Draft {
  static final Pattern ID = Pattern.compile("[A-Za-z0-9._-]{1,64}");
  private static final Pattern DEVICE = Pattern.compile("(?!.*\\.\\.)[A-Za-z0-9][A-Za-z0-9._-]{0,63}");
  private static final Pattern NAME = Pattern.compile("[A-Za-z][A-Za-z0-9_.-]{0,63}");
  private static final Pattern ISSUER = Pattern.compile("[\\x20-\\x7e\\u00a0-\\uffff]{1,128}");
  private static final Pattern TRACE = Pattern.compile("[\\x21-\\x7e]{1,256}");
  private static final ObjectMapper SORTED = Json.MAPPER.copy().configure(JsonNodeFeature.WRITE_PROPERTIES_SORTED, true);

  final String id;
  final String deviceId;
  final String name;
  /** JSON objects with sorted members; units and precondition may be null. */
  final String arguments;
  final String units;
  final String precondition;
  final byte[] hash;
  final long ttlMs;
  /** When it came to this machine, and not when it could be looked at: its time counts from here. */
  final long madeMono;
  final long madeMs;
  final String origin;
  final String issuedBy;
  final String traceContext;
  final Capability capability;
  final String capabilityVersion;
  /** Why it is rejected; null: not yet. */
  final String reason;
  final String detail;
  /** False: neither id nor device may be written down. */
  final boolean keepable;

  /**
   * @param problem        what the caller found wrong already; null: nothing
   * @param receivedMonoMs when it came, by {@link Time#monoMs}; null, or later than now: now
   */
  Draft(Request request, String problem, Long receivedMonoMs, Settings settings, Capabilities capabilities, Devices devices, Time time) {
    String bad = problem;
    long nowMono = time.monoMs();
    // Longer ago than any command lives is over all the same.
    madeMono = receivedMonoMs == null ? nowMono : Math.max(nowMono - settings.ttlMaxMs(), Math.min(nowMono, receivedMonoMs));
    madeMs = time.wallMs() - (nowMono - madeMono);
    id = request.id() == null ? newId(time) : request.id();
    deviceId = request.deviceId();
    boolean idOk = ID.matcher(id).matches();
    boolean deviceOk = deviceId != null && DEVICE.matcher(deviceId).matches();
    keepable = idOk && deviceOk;
    if (!idOk) {
      bad = bad != null ? bad : "id [" + Json.shown(id) + "] must be 1 to 64 of A-Za-z0-9._-";
    }
    if (!deviceOk) {
      bad = bad != null ? bad : "device_id [" + Json.shown(String.valueOf(deviceId)) + "] must be 1 to 64 of A-Za-z0-9._-, a letter or digit first, no ..";
    }
    boolean nameOk = request.name() != null && NAME.matcher(request.name()).matches();
    if (!nameOk) {
      bad = bad != null ? bad : "name [" + Json.shown(String.valueOf(request.name())) + "] must be 1 to 64 of A-Za-z0-9_.-, a letter first";
    }
    name = nameOk ? request.name() : "invalid";
    origin = request.origin() == null ? "shell" : request.origin();
    issuedBy = request.issuedBy() != null && ISSUER.matcher(request.issuedBy()).matches() ? request.issuedBy() : "unknown";
    traceContext = request.traceContext() != null && TRACE.matcher(request.traceContext()).matches() ? request.traceContext() : null;
    boolean readable = problem == null;
    ObjectNode argumentsNode = null;
    ObjectNode unitsNode = null;
    ObjectNode preconditionNode = null;
    try {
      argumentsNode = request.arguments() == null ? Json.MAPPER.createObjectNode() : Json.object(request.arguments(), "arguments", settings.maxBytes());
      unitsNode = request.units() == null ? null : Json.object(request.units(), "units", settings.maxBytes());
      preconditionNode = request.precondition() == null ? null : Json.object(request.precondition(), "precondition", settings.maxBytes());
    } catch (IllegalArgumentException e) {
      readable = false;
      bad = bad != null ? bad : e.getMessage();
    }
    arguments = argumentsNode == null ? "{}" : text(argumentsNode);
    units = unitsNode == null || unitsNode.isEmpty() ? null : text(unitsNode);
    precondition = preconditionNode == null || preconditionNode.isEmpty() ? null : text(preconditionNode);
    if (bad == null && precondition != null) {
      bad = form(preconditionNode, capabilities);
    }
    ttlMs = request.ttlMs() == null ? settings.ttlDefaultMs() : request.ttlMs();
    if (bad == null && ttlMs > settings.ttlMaxMs()) {
      bad = "ttl_ms [" + ttlMs + "] must be at most " + settings.ttlMaxMs() + " (command.ttl.max.ms)";
    }
    // Of what could not be read the text as it came: the same request again is the same command.
    hash = readable
        ? hash(deviceId, name, arguments, units, precondition)
        : hash(deviceId, request.name(), request.arguments(), request.units(), request.precondition());
    Problem refusal = null;
    Optional<Capability> found = Optional.empty();
    String version = null;
    if (bad == null) {
      refusal = device(settings, devices);
      if (refusal == null) {
        found = capabilities.find(deviceId, name);
        version = capabilities.of(deviceId).map(Declared::version).orElse(null);
        refusal = capability(found, capabilities, argumentsNode, unitsNode);
      }
    }
    capability = found.orElse(null);
    capabilityVersion = version;
    reason = bad != null ? "bad_command" : refusal == null ? null : refusal.reason();
    detail = bad != null ? bad : refusal == null ? null : (refusal.field() == null ? "" : refusal.field() + ": ") + refusal.message();
  }

  private Problem device(Settings settings, Devices devices) {
    if (Commands.GATEWAY.equals(deviceId) || settings.open()) {
      return null;
    }
    Devices.Device device = devices.find(deviceId).orElse(null);
    if (device == null) {
      return new Problem("unknown_device", null, "device [" + deviceId + "] is not in the registry: device:add");
    }
    return device.status() == Devices.Status.ACTIVE ? null : new Problem("device_revoked", null, "device [" + deviceId + "] is revoked");
  }

  private Problem capability(Optional<Capability> found, Capabilities capabilities, JsonNode argumentsNode, JsonNode unitsNode) {
    if (found.isEmpty()) {
      return new Problem("no_capability", null, "device [" + deviceId + "] has not declared command [" + name + "]: capability:show");
    }
    if (!found.get().allowed()) {
      return new Problem("not_allowed", null, "command [" + name + "] is forbidden by etc/command-policy.json");
    }
    return capabilities.check(found.get(), argumentsNode, unitsNode).orElse(null);
  }

  private static String form(ObjectNode precondition, Capabilities capabilities) {
    for (Iterator<Map.Entry<String, JsonNode>> members = precondition.fields(); members.hasNext();) {
      Map.Entry<String, JsonNode> member = members.next();
      if (member.getKey().equals("reported")) {
        if (!member.getValue().isObject()) {
          return "precondition: /reported must be a JSON Schema, an object";
        }
        Problem problem = capabilities.matches(member.getValue(), Json.MAPPER.createObjectNode()).orElse(null);
        if (problem != null && problem.reason().equals("bad_command")) {
          return "precondition: /reported" + (problem.field() == null ? "" : problem.field()) + ": " + problem.message();
        }
      } else if (member.getKey().equals("max_age_ms")) {
        if (!member.getValue().isIntegralNumber() || !member.getValue().canConvertToLong() || member.getValue().longValue() < 1) {
          return "precondition: /max_age_ms [" + Json.shown(member.getValue().toString()) + "] must be a positive whole number of milliseconds";
        }
      } else {
        return "precondition: [" + Json.shown(member.getKey()) + "] is not one of reported, max_age_ms";
      }
    }
    return precondition.has("reported") ? null : "precondition: reported is missing";
  }

  private static String text(JsonNode node) {
    try {
      return SORTED.writeValueAsString(node);
    } catch (JsonProcessingException e) {
      throw new IllegalStateException(e);
    }
  }

  private static byte[] hash(String... parts) {
    try {
      MessageDigest digest = MessageDigest.getInstance("SHA-256");
      for (String part : parts) {
        byte[] bytes = (part == null ? "-" : "+" + part).getBytes(StandardCharsets.UTF_8);
        digest.update((bytes.length + ":").getBytes(StandardCharsets.US_ASCII));
        digest.update(bytes);
      }
      return digest.digest();
    } catch (NoSuchAlgorithmException e) {
      throw new IllegalStateException(e);
    }
  }

  /** Ordered by time: random ones cost the index most of its rate. */
  private static String newId(Time time) {
    return String.format("%012x-%016x", time.wallMs() & 0xffff_ffff_ffffL, ThreadLocalRandom.current().nextLong());
  }
}
