// SPDX-License-Identifier: Apache-2.0
package io.caravan.uplink.internal;

import com.fasterxml.jackson.core.JsonFactory;
import com.fasterxml.jackson.core.JsonProcessingException;
import com.fasterxml.jackson.core.StreamReadConstraints;
import com.fasterxml.jackson.core.StreamReadFeature;
import com.fasterxml.jackson.databind.DeserializationFeature;
import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.json.JsonMapper;
import com.fasterxml.jackson.databind.node.ArrayNode;
import com.fasterxml.jackson.databind.node.DecimalNode;
import com.fasterxml.jackson.databind.node.JsonNodeFactory;
import com.fasterxml.jackson.databind.node.ObjectNode;
import io.caravan.runtime.Traceparent;
import io.caravan.runtime.Traces;
import io.caravan.uplink.FrameException;
import java.io.ByteArrayInputStream;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.InputStream;
import java.math.BigDecimal;
import java.nio.ByteBuffer;
import java.nio.charset.CharacterCodingException;
import java.nio.charset.StandardCharsets;
import java.util.HashSet;
import java.util.Iterator;
import java.util.LinkedHashSet;
import java.util.Map;
import java.util.Set;
import java.util.regex.Pattern;
import java.util.zip.GZIPInputStream;

/**
 * Reads frames of gateways and refuses what breaks the contract: JSON that is not strict, duplicate or unknown fields,
 * wrong types, rows out of order, more rows or bytes than allowed. Memory is bounded by {@code maxInflatedBytes} and a
 * small multiple of it. This class is thread-safe.
 */
public final class Frames {

    private static final Pattern ID = Pattern.compile("[A-Za-z0-9](?:[A-Za-z0-9_-]|\\.(?!\\.)){0,63}");
    private static final Pattern LOG_ID = Pattern.compile("[A-Za-z0-9-]{1,64}");
    private static final Pattern KIND = Pattern.compile("[a-z][a-z_-]{0,31}");
    private static final int RANGES_MAX = 1_000;
    private static final int FEATURES_MAX = 32;
    private static final long BACKLOG_MAX = 1_000_000_000_000L;
    /** Far from what a clock says, and from where two of them no longer add up. */
    private static final long TIME_MAX = 1_000_000_000_000_000_000L;
    /** Beyond what a double has, as {@code bundles/commands} has it. */
    private static final int EXPONENT_MAX = 400;
    private static final Set<String> RANGE = Set.of("first_seq", "acked_seq");
    private static final Set<String> BATCH = Set.of("type", "log_id", "lane", "first_seq", "after", "last", "rows");
    private static final Set<String> ROW = Set.of("seq", "kind", "device_id", "message_key", "observed_at_ms", "body", "trace_context");

    /** What the gateway said of itself; {@code ranges} is the JSON text of the list; {@code features}: what it can beyond batches. */
    public record Hello(String logId, String version, String ranges, Set<String> features) { }

    /**
     * A batch that keeps the rules; {@code commands}: rows about commands; {@code text} is the frame's JSON, for the database to take apart;
     * {@code traces}: what sampled rows have as trace context, some of many.
     */
    public record Batch(String logId, String lane, long firstSeq, long after, long last, int rows, int commands, String text, Set<String> traces) { }

    private final int maxInflatedBytes;
    private final int maxRows;
    private final Traces tracing;
    private final JsonMapper json;

    public Frames(int maxInflatedBytes, int maxRows, Traces tracing) {
        this.tracing = tracing;
        this.maxInflatedBytes = maxInflatedBytes;
        this.maxRows = maxRows;
        this.json = JsonMapper.builder(JsonFactory.builder()
                .streamReadConstraints(StreamReadConstraints.builder()
                    // Never less than what ingest lets in: a row that the cloud refuses would hold up all behind it.
                    .maxNestingDepth(64).maxNumberLength(500).maxNameLength(maxInflatedBytes).maxStringLength(maxInflatedBytes).build())
                .enable(StreamReadFeature.STRICT_DUPLICATE_DETECTION).build())
            .enable(DeserializationFeature.FAIL_ON_TRAILING_TOKENS)
            // Only looked at: the database reads the text. A double would turn 1e999 into something that is no JSON.
            .enable(DeserializationFeature.USE_BIG_DECIMAL_FOR_FLOATS)
            // Where one row is written anew, 1.0 of the others stays 1.0.
            .nodeFactory(JsonNodeFactory.withExactBigDecimals(true))
            .build();
    }

    public static boolean isId(String text) {
        return text != null && ID.matcher(text).matches();
    }

    /** @return a text frame as JSON object with a {@code type} */
    public JsonNode control(String text) throws FrameException {
        JsonNode node = parse(text);
        check(node.path("type").isTextual(), "type must be a text");
        return node;
    }

    public Hello hello(JsonNode node, String gatewayId) throws FrameException {
        // Other fields are those of a newer gateway: it must be able to connect.
        check(Connection.PROTOCOL.equals(text(node, "protocol")), "hello.protocol must be " + Connection.PROTOCOL);
        check(gatewayId.equals(text(node, "gateway_id")), "hello.gateway_id must be the one of the path");
        String version = text(node, "version");
        check(version.length() <= 64, "hello.version must not exceed 64 characters");
        JsonNode ranges = node.path("ranges");
        check(ranges.isArray() && ranges.size() <= RANGES_MAX, "hello.ranges must be a list of at most " + RANGES_MAX);
        Set<Long> firsts = new HashSet<>();
        for (JsonNode range : ranges) {
            only(range, RANGE, "hello.ranges");
            long first = whole(range, "first_seq");
            check(first >= 1 && whole(range, "acked_seq") >= first - 1 && firsts.add(first),
                "hello.ranges must have each first_seq once, from 1, and acked_seq from first_seq - 1");
        }
        return new Hello(logId(node), version, ranges.toString(), features(node.path("features")));
    }

    /** @return the rows a {@code backlog} tells of */
    public long rows(JsonNode node) throws FrameException {
        long rows = whole(node, "rows");
        check(rows >= 0 && rows <= BACKLOG_MAX, "backlog.rows must be 0 to " + BACKLOG_MAX);
        return rows;
    }

    private static Set<String> features(JsonNode list) throws FrameException {
        check(list.isMissingNode() || list.isArray() && list.size() <= FEATURES_MAX, "hello.features must be a list of at most " + FEATURES_MAX);
        Set<String> features = new HashSet<>();
        for (JsonNode feature : list) {
            check(feature.isTextual() && feature.textValue().length() <= 64, "hello.features must be texts of at most 64 characters");
            features.add(feature.textValue());
        }
        return Set.copyOf(features);
    }

    public Batch batch(byte[] gzip) throws FrameException {
        String text = inflate(gzip);
        JsonNode node = parse(text);
        only(node, BATCH, "batch");
        check("batch".equals(text(node, "type")), "a binary frame must be of type batch");
        String lane = text(node, "lane");
        check(lane.equals("live") || lane.equals("historical"), "batch.lane must be live or historical");
        long first = whole(node, "first_seq");
        long after = whole(node, "after");
        long last = whole(node, "last");
        check(first >= 1 && after >= first - 1 && last > after, "batch must have 1 <= first_seq <= after + 1 <= last");
        JsonNode rows = node.path("rows");
        check(rows.isArray() && rows.size() >= 1 && rows.size() <= maxRows, "batch.rows must be 1 to " + maxRows + " rows");
        long seq = after;
        int commands = 0;
        boolean changed = false;
        Set<String> traces = null;
        for (JsonNode row : rows) {
            only(row, ROW, "batch.rows");
            check(whole(row, "seq") > seq, "batch.rows must be in order of seq and above after");
            seq = whole(row, "seq");
            String kind = text(row, "kind");
            check(KIND.matcher(kind).matches(), "row.kind must be a short lower case name");
            commands += kind.equals("command") || kind.equals("twin") ? 1 : 0;
            check(isId(text(row, "device_id")), "row.device_id must be a device id");
            int key = text(row, "message_key").length();
            check(key >= 1 && key <= 512, "row.message_key must be 1 to 512 characters");
            long observed = whole(row, "observed_at_ms");
            check(observed > -TIME_MAX && observed < TIME_MAX, "row.observed_at_ms [" + observed + "] must be within 10^18 of 0");
            check(row.has("body"), "row.body must be there");
            changed |= shortened(row);
            JsonNode trace = row.path("trace_context");
            check(trace.isMissingNode() || trace.isNull() || trace.isTextual() && trace.textValue().length() <= 256,
                "row.trace_context must be null or a text of at most 256 characters");
            if (trace.isTextual()) {
                String given = trace.textValue();
                String valid = tracing.received(given);
                if (!given.equals(valid)) {
                    // Not refused: the row is worth more than its trace.
                    ((ObjectNode) row).put("trace_context", valid);
                    changed = true;
                }
                if (Traceparent.sampled(valid) && tracing.on() && (traces == null || traces.size() < Traces.BATCH_MAX)) {
                    traces = traces == null ? new LinkedHashSet<>() : traces;
                    traces.add(valid);
                }
            }
        }
        check(seq == last, "batch.last must be the seq of its last row");
        return new Batch(logId(node), lane, first, after, last, rows.size(), commands, changed ? node.toString() : text,
            traces == null ? Set.of() : traces);
    }

    /**
     * A database that has decimals writes them in full: one of six characters becomes as long as its exponent says. What is beyond every
     * double is made 0, or 1e400. Not refused: the row is worth more than such a number, and older gateways have let it in.
     */
    private static boolean shortened(JsonNode parent) {
        boolean changed = false;
        if (parent instanceof ObjectNode object) {
            for (Map.Entry<String, JsonNode> field : object.properties()) {
                JsonNode shorter = shorter(field.getValue());
                if (shorter != null) {
                    field.setValue(shorter);
                }
                changed |= shorter != null || shortened(field.getValue());
            }
        } else if (parent instanceof ArrayNode array) {
            for (int i = 0; i < array.size(); i++) {
                JsonNode shorter = shorter(array.get(i));
                if (shorter != null) {
                    array.set(i, shorter);
                }
                changed |= shorter != null || shortened(array.get(i));
            }
        }
        return changed;
    }

    /** @return null: it may stay */
    private static JsonNode shorter(JsonNode node) {
        if (!node.isBigDecimal()) {
            return null;
        }
        BigDecimal value = node.decimalValue();
        // Of its first digit.
        long exponent = (value.signum() == 0 ? 0L : value.precision() - 1L) - value.scale();
        if (exponent >= -EXPONENT_MAX && exponent < EXPONENT_MAX) {
            return null;
        }
        return DecimalNode.valueOf(value.signum() == 0 || exponent < 0 ? BigDecimal.ZERO : BigDecimal.valueOf(value.signum(), -EXPONENT_MAX));
    }

    /** Never holds more than maxInflatedBytes, whatever the frame claims to become. */
    private String inflate(byte[] gzip) throws FrameException {
        ByteArrayOutputStream out = new ByteArrayOutputStream(Math.min(maxInflatedBytes, gzip.length * 4 + 1024));
        byte[] buffer = new byte[16_384];
        try (InputStream in = new GZIPInputStream(new ByteArrayInputStream(gzip))) {
            for (int n = in.read(buffer); n >= 0; n = in.read(buffer)) {
                if (out.size() + n > maxInflatedBytes) {
                    throw new FrameException("bad_frame", "batch must not become more than " + maxInflatedBytes
                        + " bytes (uplink.max.inflated.bytes)");
                }
                out.write(buffer, 0, n);
            }
            return StandardCharsets.UTF_8.newDecoder().decode(ByteBuffer.wrap(out.toByteArray())).toString();
        } catch (CharacterCodingException e) {
            throw new FrameException("bad_frame", "batch must be UTF-8");
        } catch (IOException e) {
            throw new FrameException("bad_frame", "batch must be gzip: " + e.getMessage());
        }
    }

    private JsonNode parse(String text) throws FrameException {
        try {
            JsonNode node = json.readTree(text);
            check(node != null && node.isObject(), "frame must be a JSON object");
            return node;
        } catch (JsonProcessingException e) {
            throw new FrameException("bad_frame", "frame must be JSON: " + shown(e.getOriginalMessage(), 200));
        } catch (NumberFormatException e) {
            // What Jackson throws at an exponent of more than ten digits.
            throw new FrameException("bad_frame", "frame must not have a number with such an exponent: " + shown(e.getMessage(), 200));
        }
    }

    private static String logId(JsonNode node) throws FrameException {
        String id = text(node, "log_id");
        check(LOG_ID.matcher(id).matches(), "log_id must be 1 to 64 letters, digits or hyphens");
        return id;
    }

    private static String text(JsonNode node, String field) throws FrameException {
        JsonNode value = node.path(field);
        check(value.isTextual(), field + " must be a text");
        return value.textValue();
    }

    private static long whole(JsonNode node, String field) throws FrameException {
        JsonNode value = node.path(field);
        check(value.isIntegralNumber() && value.canConvertToLong(), field + " must be a whole number");
        return value.longValue();
    }

    private static void only(JsonNode node, Set<String> fields, String where) throws FrameException {
        check(node.isObject(), where + " must be an object");
        for (Iterator<String> names = node.fieldNames(); names.hasNext();) {
            String name = names.next();
            check(fields.contains(name), where + " must not have field [" + shown(name, 64) + "]");
        }
    }

    /** What a gateway wrote, fit for a log and for the frame that answers it. */
    private static String shown(String text, int max) {
        return (text.length() > max ? text.substring(0, max) : text).replaceAll("[^ -~]", "?");
    }

    private static void check(boolean holds, String rule) throws FrameException {
        if (!holds) {
            throw new FrameException("bad_frame", rule);
        }
    }
}
