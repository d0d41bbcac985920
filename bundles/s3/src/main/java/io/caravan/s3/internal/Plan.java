// SPDX-License-Identifier: Apache-2.0
package io.caravan.s3.internal;

import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.List;
import org.apache.camel.util.json.DeserializationException;
import org.apache.camel.util.json.JsonArray;
import org.apache.camel.util.json.JsonObject;
import org.apache.camel.util.json.Jsoner;

/**
 * Which objects of the sink make one object of the archive. Written down in the archive before its object is, so that what
 * a crash interrupted is finished with the same objects; rewritten with what was counted when that was read back.
 *
 * @param object   name of the archive's object without folder, from the sources alone
 * @param sources  in the order in which they are joined
 * @param verified whether the archive's object was read back and holds every source, whole
 * @param rows     lines in it; 0 until verified
 * @param etag     of the archive's object; empty until verified
 */
record Plan(String object, List<Source> sources, boolean verified, long rows, String etag) {
    /** An object of the sink. */
    record Source(String key, long bytes, String etag) {
        /** @return first 16 hexadecimal digits of the SHA-256 of what it holds, unpacked: part of its name */
        String contentHash() {
            return key.substring(key.length() - ".ndjson.gz".length() - 16, key.length() - ".ndjson.gz".length());
        }
    }

    static Plan of(List<Source> sources) {
        StringBuilder names = new StringBuilder();
        for (Source source : sources) {
            names.append(source.key()).append(' ').append(source.bytes()).append('\n');
        }
        String hash = S3Objects.sha256(names.toString().getBytes(StandardCharsets.UTF_8)).substring(0, 16);
        return new Plan(seq(sources.get(0), 0) + "-" + seq(sources.get(sources.size() - 1), 1) + "-" + hash + ".ndjson.gz",
                List.copyOf(sources), false, 0, "");
    }

    Plan verified(long counted, String stored) {
        return new Plan(object, sources, true, counted, stored);
    }

    long bytes() {
        return sources.stream().mapToLong(Source::bytes).sum();
    }

    byte[] json() {
        JsonArray list = new JsonArray();
        for (Source source : sources) {
            JsonObject one = new JsonObject();
            one.put("key", source.key());
            one.put("bytes", source.bytes());
            one.put("etag", source.etag());
            list.add(one);
        }
        JsonObject json = new JsonObject();
        json.put("object", object);
        json.put("verified", verified);
        json.put("bytes", bytes());
        json.put("rows", rows);
        json.put("etag", etag);
        json.put("sources", list);
        return (Jsoner.serialize(json) + "\n").getBytes(StandardCharsets.UTF_8);
    }

    /** @throws IllegalStateException it is no plan; the message names it */
    static Plan read(String key, byte[] json) {
        try {
            JsonObject map = (JsonObject) Jsoner.deserialize(new String(json, StandardCharsets.UTF_8));
            List<Source> sources = new ArrayList<>();
            for (Object one : map.<JsonArray>getCollection("sources")) {
                JsonObject source = (JsonObject) one;
                sources.add(new Source(source.getString("key"), source.getLong("bytes"), source.getString("etag")));
            }
            return new Plan(map.getString("object"), sources, map.getBoolean("verified"), map.getLong("rows"), map.getString("etag"));
        } catch (DeserializationException | RuntimeException e) {
            throw new IllegalStateException("[" + key + "] is not a plan of the archive (" + e + "): compare it with the objects beside it,"
                    + " and remove it if it is none; nothing of its day is archived until then", e);
        }
    }

    private static String seq(Source source, int which) {
        String name = source.key().substring(source.key().lastIndexOf('/') + 1);
        return name.split("-")[which];
    }
}
