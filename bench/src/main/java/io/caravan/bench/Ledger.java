// SPDX-License-Identifier: Apache-2.0
package io.caravan.bench;

import java.io.BufferedWriter;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.util.Base64;

import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ObjectNode;

/**
 * What the simulated devices sent and what was promised to them: append-only NDJSON, a line per happening, flushed to the
 * operating system before the call returns. Kept by the observer, not by the device. Thread-safe.
 *
 * <pre>
 * {"t":"sent","key":"sim-1/b7/0000000000000042","kind":"telemetry","body":"{...}"}     before it is first published
 * {"t":"bad","id":"sim-1/bad/7","device":"sim-1","reason":"schema_violation","b64":"..."}  the same, bad on purpose
 * {"t":"again","key":"sim-1/b7/0000000000000042"}                                      published once more, same bytes
 * {"t":"ack","key":"sim-1/b7/0000000000000042","code":0}                               PUBACK and its reason code
 * {"t":"receipt","device":"sim-1","boot":"b7","seq":42}                                everything up to 42 is on disk
 * {"t":"command","what":"ran","device":"sim-1","id":"c-7","name":"led","at_ms":...}     got, then: ran, again (known), refused
 * {"t":"answer","device":"sim-1","id":"c-7","status":"succeeded","at_ms":...}          before it is first published
 * </pre>
 *
 * Whether a PUBACK is a promise depends on who gave it: a run that goes through a broker starts with
 * {@code {"t":"run","promise":"receipt"}}, one that does not with {@code "promise":"ack"}.
 */
final class Ledger implements AutoCloseable {
    private final ObjectMapper json = new ObjectMapper();
    private final BufferedWriter out;

    Ledger(Path file) throws IOException {
        out = Files.newBufferedWriter(file, StandardOpenOption.CREATE, StandardOpenOption.APPEND);
    }

    void run(boolean receiptsOnly, int devices, long seed) {
        line(entry("run").put("promise", receiptsOnly ? "receipt" : "ack").put("devices", devices).put("seed", seed)
                .put("at_ms", System.currentTimeMillis()));
    }

    void sent(String key, String kind, byte[] body) {
        line(entry("sent").put("key", key).put("kind", kind).put("body", new String(body, StandardCharsets.UTF_8)));
    }

    void bad(String id, String deviceId, String reason, byte[] body) {
        line(entry("bad").put("id", id).put("device", deviceId).put("reason", reason)
                .put("b64", Base64.getEncoder().encodeToString(body)));
    }

    void again(String key) {
        line(entry("again").put("key", key));
    }

    void ack(String key, int code) {
        line(entry("ack").put("key", key).put("code", code));
    }

    void receipt(String deviceId, String bootId, long deviceSeq) {
        line(entry("receipt").put("device", deviceId).put("boot", bootId).put("seq", deviceSeq));
    }

    void command(String what, String deviceId, String commandId, String name) {
        line(entry("command").put("what", what).put("device", deviceId).put("id", commandId).put("name", name).put("at_ms", System.currentTimeMillis()));
    }

    void answer(String deviceId, String commandId, String status) {
        line(entry("answer").put("device", deviceId).put("id", commandId).put("status", status).put("at_ms", System.currentTimeMillis()));
    }

    private ObjectNode entry(String type) {
        return json.createObjectNode().put("t", type);
    }

    private synchronized void line(ObjectNode entry) {
        try {
            out.write(entry.toString());
            out.write('\n');
            out.flush();
        } catch (IOException e) {
            throw new UncheckedIOException("ledger could not be written: it proves nothing", e);
        }
    }

    @Override
    public synchronized void close() throws IOException {
        out.close();
    }
}
