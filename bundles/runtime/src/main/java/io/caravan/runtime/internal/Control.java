// SPDX-License-Identifier: Apache-2.0
package io.caravan.runtime.internal;

import io.caravan.runtime.Check;
import io.caravan.runtime.ControlException;
import java.io.UncheckedIOException;
import java.lang.reflect.RecordComponent;
import java.nio.charset.StandardCharsets;
import java.time.Instant;
import java.util.ArrayList;
import java.util.Collection;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Optional;
import java.util.Set;
import java.util.function.Supplier;
import java.util.function.UnaryOperator;
import java.util.regex.Pattern;
import org.apache.camel.Body;
import org.apache.camel.Exchange;
import org.apache.camel.util.json.DeserializationException;
import org.apache.camel.util.json.JsonObject;
import org.apache.camel.util.json.Jsoner;

/**
 * The bean {@code control}: reads the arguments of a command, writes its answer, and says how the gateway is. Java, because answers of beans
 * are records, which no route can write as JSON with a bounded length. This class is thread-safe.
 */
public final class Control {

    private static final int MAX_RESULT_CHARS = 65_536;
    private static final int MAX_DEPTH = 32;
    private static final Pattern ID = Pattern.compile("[A-Za-z0-9._-]{1,64}");
    private static final Set<String> MEMBERS = Set.of("id", "device_id", "name", "arguments", "units", "precondition", "ttl_ms");
    private static final String GATEWAY = "gateway";

    private final Supplier<Map<String, Object>> about;
    private final Supplier<List<Check>> checks;
    private final UnaryOperator<String> redaction;
    private final AuditLog audit;

    Control(Supplier<Map<String, Object>> about, Supplier<List<Check>> checks, UnaryOperator<String> redaction, AuditLog audit) {
        this.audit = audit;
        this.about = about;
        this.checks = checks;
        this.redaction = redaction;
    }

    /**
     * @return the arguments of a command
     * @throws ControlException it is no JSON object
     */
    public Map<String, Object> arguments(@Body String text) {
        return parse(text == null || text.isBlank() ? "{}" : text);
    }

    /** @return the other one if there is no value */
    public Object orElse(Object value, Object other) {
        return value == null ? other : value;
    }

    /** @return JSON text of an object */
    public String text(Map<?, ?> map) {
        return json(map);
    }

    /** Body: the arguments; what is in {@code echo} comes back. */
    public Map<String, Object> ping(@Body Map<String, Object> arguments) {
        Map<String, Object> answer = new LinkedHashMap<>();
        answer.put("pong", true);
        Optional.ofNullable(arguments.get("echo")).ifPresent(echo -> answer.put("echo", echo));
        answer.put("at", Instant.now().toString());
        return answer;
    }

    /**
     * What a controller sent, as {@code direct:command} takes it. What has no id cannot be kept, as it would be another command each
     * time it is sent again: variable {@code outcome} is then {@code rejected}.
     */
    public void message(Exchange exchange) {
        String from = exchange.getMessage().getHeader("CaravanDeviceId", String.class);
        Map<String, Object> command = new LinkedHashMap<>();
        try {
            Map<String, Object> sent = parse(new String(exchange.getMessage().getBody(byte[].class), StandardCharsets.UTF_8));
            command.put("id", named(sent, "id", null));
            command.put("device_id", named(sent, "device_id", GATEWAY));
            List<String> problems = new ArrayList<>();
            sent.keySet().stream().filter(k -> !MEMBERS.contains(k)).findFirst().ifPresent(k -> problems.add("[" + k + "] is no member of a command"));
            if (sent.get("name") instanceof String name) {
                command.put("name", name);
            } else {
                problems.add("name must be text");
            }
            for (String part : List.of("arguments", "units", "precondition")) {
                if (sent.get(part) instanceof Map<?, ?> object) {
                    command.put(part, json(object));
                } else if (sent.get(part) != null) {
                    problems.add(part + " must be an object");
                }
            }
            if (sent.get("ttl_ms") instanceof Number ttl && ttl.doubleValue() == ttl.longValue()) {
                command.put("ttl_ms", ttl.longValue());
            } else if (sent.get("ttl_ms") != null) {
                problems.add("ttl_ms must be a whole number");
            }
            if (!problems.isEmpty()) {
                command.put("problem", String.join("; ", problems));
            }
        } catch (ControlException e) {
            reject(exchange, "bad_command", e.getMessage());
            return;
        }
        command.put("issued_by", "mqtt:" + from);
        Optional.ofNullable(exchange.getMessage().getHeader("CaravanTraceparent", String.class)).ifPresent(t -> command.put("trace_context", t));
        exchange.getMessage().setHeader("CaravanOrigin", "mqtt");
        exchange.getMessage().setBody(List.of(command));
    }

    /** A device that is no controller, or none any more. */
    public void refused(Exchange exchange) {
        String from = String.valueOf(exchange.getMessage().getHeader("CaravanDeviceId"));
        audit.note("control.refused", from, "not_authorized", Map.of());
        reject(exchange, "not_authorized", "[" + from + "] is no controller: device:controller " + from + " on");
    }

    /** Writes down what is about to be done, else it is not done. Body: its arguments. */
    public void audit(Exchange exchange) {
        try {
            audit.record("control." + exchange.getVariable("commandName"), String.valueOf(exchange.getVariable("commandId")), "begun", Map.of(
                    "by", exchange.getVariable("commandOrigin") + ":" + exchange.getVariable("commandBy"),
                    "arguments", redaction.apply(json(exchange.getMessage().getBody(Map.class)))));
        } catch (UncheckedIOException e) {
            throw new ControlException(ControlException.FAILED, e.getMessage(), null, e);
        }
    }

    /** The body, whatever a bean gave, as JSON text of an object. */
    public void answer(Exchange exchange) {
        Object body = exchange.getMessage().getBody();
        exchange.getMessage().removeHeaders("*");
        if (body instanceof String text && text.startsWith("{")) {
            exchange.getMessage().setBody(text);
            return;
        }
        Object plain = plain(body);
        String text = json(plain instanceof Map<?, ?> map ? map : plain == null ? Map.of() : Map.of("result", plain));
        if (text.length() > MAX_RESULT_CHARS) {
            throw new ControlException("It was done, but the answer is longer than " + MAX_RESULT_CHARS + " characters: ask for less");
        }
        exchange.getMessage().setBody(text);
    }

    /** @return what runs here, and whether it is ready; the names of checks that are not up */
    public Map<String, Object> info() {
        Map<String, Object> answer = new LinkedHashMap<>(about.get());
        List<String> down = checks.get().stream().filter(c -> !c.up()).map(Check::name).toList();
        answer.put("ready", down.isEmpty());
        answer.put("not_up", down);
        answer.put("at", Instant.now().toString());
        return answer;
    }

    /** @param findings of the log and its sinks; @return why it is not ready, and those; without secrets */
    public Map<String, Object> diagnose(@Body Collection<?> findings) {
        Map<String, Object> answer = info();
        answer.put("checks", checks.get().stream().filter(c -> !c.up()).toList());
        answer.put("findings", Optional.<Collection<?>>ofNullable(findings).orElse(List.of()));
        return parse(redaction.apply(json(answer)));
    }

    static String json(Map<?, ?> map) {
        return new JsonObject(object(map)).toJson();
    }

    private static void reject(Exchange exchange, String reason, String message) {
        exchange.setVariable("outcome", "rejected");
        exchange.setVariable("reason", reason);
        exchange.setVariable("detail", message);
    }

    private static String named(Map<String, Object> sent, String name, String otherwise) {
        Object value = sent.getOrDefault(name, otherwise);
        if (value instanceof String text && ID.matcher(text).matches()) {
            return text;
        }
        throw new ControlException(name + " must be 1 to 64 characters out of A-Z a-z 0-9 . _ -");
    }

    private static Map<String, Object> parse(String text) {
        int depth = 0;
        boolean quoted = false;
        for (int i = 0; i < text.length(); i++) {
            char c = text.charAt(i);
            if (quoted && c == '\\') {
                i++;
            } else if (c == '"') {
                quoted = !quoted;
            } else if (!quoted && (c == '{' || c == '[') && ++depth > MAX_DEPTH) {
                throw new ControlException("The JSON is nested more than " + MAX_DEPTH + " deep");
            } else if (!quoted && (c == '}' || c == ']')) {
                depth--;
            }
        }
        try {
            if (Jsoner.deserialize(text) instanceof JsonObject object) {
                return new LinkedHashMap<>(object);
            }
        } catch (DeserializationException | RuntimeException e) {
            throw new ControlException(ControlException.FAILED, "It is no JSON: " + Causes.text(e), null, e);
        }
        throw new ControlException("It must be a JSON object");
    }

    private static Map<String, Object> object(Map<?, ?> map) {
        Map<String, Object> answer = new LinkedHashMap<>();
        map.forEach((k, v) -> answer.put(String.valueOf(k), plain(v)));
        return answer;
    }

    /** Records as objects, their components in snake_case. */
    private static Object plain(Object value) {
        if (value instanceof Map<?, ?> map) {
            return object(map);
        }
        if (value instanceof Collection<?> list) {
            List<Object> answer = new ArrayList<>();
            list.forEach(v -> answer.add(plain(v)));
            return answer;
        }
        if (value instanceof Record) {
            Map<String, Object> answer = new LinkedHashMap<>();
            try {
                for (RecordComponent c : value.getClass().getRecordComponents()) {
                    answer.put(c.getName().replaceAll("([A-Z])", "_$1").toLowerCase(Locale.ROOT), plain(c.getAccessor().invoke(value)));
                }
            } catch (ReflectiveOperationException e) {
                throw new IllegalStateException(e);
            }
            return answer;
        }
        return value == null || value instanceof Number || value instanceof Boolean ? value : String.valueOf(value);
    }
}
