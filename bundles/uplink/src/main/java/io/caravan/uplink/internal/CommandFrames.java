// SPDX-License-Identifier: Apache-2.0
package io.caravan.uplink.internal;

import com.fasterxml.jackson.databind.JsonNode;
import io.micrometer.core.instrument.Counter;
import io.micrometer.core.instrument.MeterRegistry;
import java.nio.charset.StandardCharsets;
import java.util.ArrayDeque;
import java.util.ArrayList;
import java.util.Deque;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.atomic.AtomicLong;
import java.util.regex.Pattern;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/**
 * Reads the cloud's frames {@code command} and {@code command-cancel} at the gateway, and bounds them.
 *
 * <p>A frame that breaks the contract is dropped, counted in {@code caravan_uplink_commands_refused_total} and logged, and so is a
 * command without a usable id and device id, for nothing can be said about it. One that breaks another rule is handed on with a
 * {@code problem}, so that the gateway can keep it as rejected and say so. This class is thread-safe.
 */
public final class CommandFrames {

    public static final int BYTES_MAX = 65_536;
    public static final int LIST_MAX = 256;

    static final int DEPTH_MAX = 32;

    private static final int BY_MAX = 128;

    private static final long LOG_NS = 1_000_000_000L;
    private static final Pattern ID = Pattern.compile("[A-Za-z0-9._-]{1,64}");
    private static final Logger LOG = LoggerFactory.getLogger(CommandFrames.class);

    private final String name;
    private final MeterRegistry meters;
    private final AtomicLong logged = new AtomicLong(System.nanoTime() - LOG_NS);

    CommandFrames(String name, MeterRegistry meters) {
        this.name = name;
        this.meters = meters;
    }

    boolean isOne(JsonNode frame) {
        String type = frame.path("type").asText();
        return type.equals("command") || type.equals("command-cancel");
    }

    /**
     * To be called as soon as the frame is there: the commands' time counts from now, wherever they wait afterwards.
     *
     * @return null: dropped. {@code type} and {@code commands}: a list of Maps with {@code id}, {@code device_id}, {@code name}, {@code arguments},
     *     {@code units}, {@code precondition} (the JSON text of each), {@code ttl_ms} (Long), {@code issued_by}, {@code trace_context}, each left out
     *     where absent, {@code received_mono_ms} (Long: now, {@link System#nanoTime} in milliseconds), and {@code problem} where something is
     *     wrong; or {@code type}, {@code by} and {@code ids}: a list of texts
     */
    Map<String, Object> read(String text, JsonNode frame) {
        long receivedMonoMs = System.nanoTime() / 1_000_000;
        // Characters first: whoever sends a megabyte does not have it encoded.
        if (text.length() > BYTES_MAX || text.getBytes(StandardCharsets.UTF_8).length > BYTES_MAX) {
            return refused("too_large", "a frame of commands must not exceed " + BYTES_MAX + " bytes");
        }
        boolean cancel = frame.path("type").asText().equals("command-cancel");
        JsonNode list = frame.path(cancel ? "ids" : "commands");
        if (!list.isArray()) {
            return refused("malformed", cancel ? "ids must be a list" : "commands must be a list");
        }
        if (list.size() > LIST_MAX) {
            return refused("too_many", "[" + list.size() + "] in one frame must not exceed " + LIST_MAX);
        }
        Map<String, Object> read = new HashMap<>();
        read.put("type", frame.path("type").asText());
        List<Object> items = new ArrayList<>(list.size());
        int bad = 0;
        for (JsonNode item : list) {
            Object one = cancel ? id(item) : command(item, receivedMonoMs);
            if (one == null) {
                bad++;
            } else {
                items.add(one);
            }
        }
        if (bad > 0) {
            refused("bad_id", (cancel ? "each of ids" : "id and device_id of a command") + " must be 1 to 64 characters out of A-Z a-z 0-9 . _ -; "
                + bad + " of " + list.size() + " are not");
        }
        if (items.isEmpty()) {
            return null;
        }
        read.put(cancel ? "ids" : "commands", items);
        if (cancel) {
            read.put("by", by(frame.path("by")));
        }
        return read;
    }

    private static Map<String, Object> command(JsonNode item, long receivedMonoMs) {
        String id = id(item.path("id"));
        String device = item.path("device_id").textValue();
        if (id == null || !Frames.isId(device)) {
            return null;
        }
        Map<String, Object> command = new HashMap<>();
        command.put("id", id);
        command.put("device_id", device);
        command.put("received_mono_ms", receivedMonoMs);
        command.put("issued_by", by(item.path("issued_by")));
        String problem = null;
        if (item.path("name").isTextual() && item.path("name").textValue().length() <= 64) {
            command.put("name", item.path("name").textValue());
        } else {
            problem = "name must be a text of at most 64 characters";
        }
        for (String field : List.of("arguments", "units", "precondition")) {
            JsonNode value = item.path(field);
            if (value.isMissingNode() || value.isNull()) {
                continue;
            }
            if (!value.isObject() || deep(value)) {
                problem = field + " must be an object of at most " + DEPTH_MAX + " levels";
            } else {
                command.put(field, value.toString());
            }
        }
        // Without it nobody knows until when the command is wanted.
        JsonNode ttl = item.path("ttl_ms");
        if (ttl.isIntegralNumber() && ttl.canConvertToLong()) {
            command.put("ttl_ms", ttl.longValue());
        } else {
            problem = "ttl_ms must be a whole number of milliseconds";
        }
        JsonNode trace = item.path("trace_context");
        if (trace.isTextual() && trace.textValue().length() <= 256) {
            command.put("trace_context", trace.textValue());
        }
        if (problem != null) {
            command.put("problem", problem);
        }
        return command;
    }

    private static String id(JsonNode node) {
        return node.isTextual() && ID.matcher(node.textValue()).matches() ? node.textValue() : null;
    }

    /** For people: what cannot be shown to them is left out. */
    private static String by(JsonNode node) {
        StringBuilder by = new StringBuilder();
        String text = node.isTextual() ? node.textValue() : "";
        for (int i = 0; i < text.length();) {
            int c = text.codePointAt(i);
            i += Character.charCount(c);
            if (by.length() + Character.charCount(c) <= BY_MAX && readable(c)) {
                by.appendCodePoint(c);
            }
        }
        return by.toString().isBlank() ? "cloud" : by.toString();
    }

    private static boolean readable(int c) {
        return switch (Character.getType(c)) {
            // Of format characters are also those that turn the direction of what stands around them.
            case Character.CONTROL, Character.FORMAT, Character.SURROGATE, Character.LINE_SEPARATOR, Character.PARAGRAPH_SEPARATOR -> false;
            default -> true;
        };
    }

    /** Not by recursion: it is the other side that says how deep. */
    private static boolean deep(JsonNode root) {
        Deque<JsonNode> level = new ArrayDeque<>(List.of(root));
        for (int depth = 0; !level.isEmpty(); depth++) {
            if (depth >= DEPTH_MAX) {
                return true;
            }
            Deque<JsonNode> next = new ArrayDeque<>();
            for (JsonNode node : level) {
                node.forEach(child -> {
                    if (child.isContainerNode()) {
                        next.add(child);
                    }
                });
            }
            level = next;
        }
        return false;
    }

    private Map<String, Object> refused(String reason, String rule) {
        Counter.builder("caravan.uplink.commands.refused").description("Frames with commands that broke the contract and were dropped").tags("reason", reason).register(meters).increment();
        long last = logged.get();
        long now = System.nanoTime();
        // Counted each time, told once a second: the log is not the other side's to fill.
        if (now - last >= LOG_NS && logged.compareAndSet(last, now)) {
            LOG.warn("uplink [{}] the cloud sent commands that are dropped: {}", name, rule);
        }
        return null;
    }
}
