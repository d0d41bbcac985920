// SPDX-License-Identifier: Apache-2.0
package io.caravan.bench;

import java.util.LinkedHashMap;
import java.util.Map;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ObjectNode;

/**
 * What a board can do when it is told: a led, a relay, and how often it measures. As safe firmware does it: an id is
 * remembered before it is carried out, and a repeated one is answered again and not carried out again; an expired one is
 * refused. Not thread-safe.
 */
final class Actuators {
    /** Ids that are remembered; older ones have expired long ago. */
    static final int REMEMBERED = 10_000;

    /** @param status {@code succeeded}, {@code failed} or {@code rejected}; result, message: null if there is nothing to say */
    record Answer(String commandId, String status, JsonNode result, String message) { }

    /**
     * @param what    {@code ran}, {@code again} (known already), {@code refused} (against a rule, or too late)
     * @param changed whether the reported state is another one now
     */
    record Done(String what, Answer answer, boolean changed) { }

    private final ObjectMapper json = new ObjectMapper();
    private final Map<String, Answer> known = new LinkedHashMap<>() {
        @Override
        protected boolean removeEldestEntry(Map.Entry<String, Answer> eldest) {
            return size() > REMEMBERED;
        }
    };
    private boolean led;
    private boolean relay;
    private long intervalMs;
    private long switched;

    Actuators(long intervalMs) {
        this.intervalMs = intervalMs;
    }

    /** What it announces: {@code "version":...,"commands":{...}} without the outer fields. */
    static String capabilities() {
        return """
                "version":"1","commands":{\
                "led":{"arguments":{"type":"object","properties":{"on":{"type":"boolean"}},"required":["on"],"additionalProperties":false},\
                "idempotent":true,"timeout_ms":5000},\
                "sampling":{"arguments":{"type":"object","properties":{"interval_ms":{"type":"integer","minimum":100,"maximum":60000,"unit":"ms"}},\
                "required":["interval_ms"],"additionalProperties":false},"idempotent":true,"timeout_ms":5000},\
                "relay":{"arguments":{"type":"object","properties":{"on":{"type":"boolean"}},"required":["on"],"additionalProperties":false},\
                "idempotent":false,"timeout_ms":5000,"budget":[{"count":3,"per_ms":10000}]}}""";
    }

    long intervalMs() {
        return intervalMs;
    }

    /** How often the relay was switched. */
    long switched() {
        return switched;
    }

    /** Its state: {@code "led":true,...} without the outer fields. */
    String reported() {
        return "\"led\":" + led + ",\"relay\":" + relay + ",\"interval_ms\":" + intervalMs;
    }

    /**
     * Carries out what is asked for, or says why not.
     *
     * @param expired by the board's own clock, if it has one
     */
    Done command(JsonNode command, boolean expired) {
        String id = command.path("command_id").asText();
        Answer before = known.get(id);
        if (before != null) {
            return new Done("again", before, false);
        }
        String against = expired ? "expired" : against(command.path("name").asText(), command.path("arguments"));
        if (against != null) {
            Answer no = new Answer(id, "rejected", null, against);
            known.put(id, no);
            return new Done("refused", no, false);
        }
        // Remembered first: what stops in the middle must not be begun again.
        known.put(id, new Answer(id, "failed", null, "was interrupted"));
        boolean changed = carryOut(command.path("name").asText(), command.path("arguments"));
        ObjectNode result = json.createObjectNode();
        if (command.path("name").asText().equals("relay")) {
            result.put("relay", relay).put("switched", switched);
        }
        Answer answer = new Answer(id, "succeeded", result.isEmpty() ? null : result, null);
        known.put(id, answer);
        return new Done("ran", answer, changed);
    }

    /** Follows the desired state as far as it may: not the relay, whose budget counts commands. */
    boolean follow(JsonNode desired) {
        boolean changed = false;
        if (against("led", json.createObjectNode().set("on", desired.path("led"))) == null) {
            changed = carryOut("led", json.createObjectNode().set("on", desired.path("led")));
        }
        ObjectNode sampling = json.createObjectNode();
        sampling.set("interval_ms", desired.path("interval_ms"));
        if (against("sampling", sampling) == null) {
            changed |= carryOut("sampling", sampling);
        }
        return changed;
    }

    /** The gateway has checked it already; a board that trusts that is one bug away from burning down. */
    private static String against(String name, JsonNode arguments) {
        return switch (name) {
            case "led", "relay" -> arguments.path("on").isBoolean() ? null : "on must be true or false";
            case "sampling" -> {
                JsonNode ms = arguments.path("interval_ms");
                yield ms.isIntegralNumber() && ms.asLong() >= 100 && ms.asLong() <= 60_000 ? null : "interval_ms must be from 100 to 60000";
            }
            default -> "no command [" + name + "]";
        };
    }

    private boolean carryOut(String name, JsonNode arguments) {
        String before = reported();
        switch (name) {
            case "led" -> led = arguments.path("on").asBoolean();
            case "relay" -> {
                relay = arguments.path("on").asBoolean();
                switched++;
            }
            default -> intervalMs = arguments.path("interval_ms").asLong();
        }
        return !before.equals(reported());
    }
}
