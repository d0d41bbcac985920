// SPDX-License-Identifier: Apache-2.0
package io.caravan.bench;

import java.io.BufferedReader;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Base64;
import java.util.BitSet;
import java.util.HashMap;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;

import com.fasterxml.jackson.core.JsonProcessingException;
import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;

/** What the devices' side says: what it sent, and what it was promised. Not thread-safe. */
final class Evidence {
    /** A device's numbered messages of one boot. Bit n stands for device_seq n. */
    static final class Boot {
        final BitSet sent = new BitSet();
        final BitSet promised = new BitSet();
    }

    record Sent(String kind, String body) { }

    record Bad(String id, String deviceId, String reason, ByteBuffer body) { }

    /** What a device noted about a command. */
    static final class Told {
        String device;
        int got;
        int ran;
        final Set<String> answers = new HashSet<>();
    }

    /** By {@code device/boot/}. */
    final Map<String, Boot> boots = new HashMap<>();
    /** Bodies of simulated devices, by key; the load generator's are not kept. */
    final Map<String, Sent> bodies = new HashMap<>();
    final Map<String, Bad> bad = new HashMap<>();
    final Set<String> badAcked = new HashSet<>();
    /** Good messages that were answered with a refusal. */
    final List<String> refused = new ArrayList<>();
    /** By command id. */
    final Map<String, Told> commands = new HashMap<>();
    private final ObjectMapper json = new ObjectMapper();

    boolean isEmpty() {
        return boots.isEmpty() && bad.isEmpty();
    }

    /** The simulator's ledger (see {@link Ledger}). A torn last line is what a killed writer leaves: it is left out. */
    void readLedger(Path file) throws IOException {
        boolean ackIsPromise = true;
        long number = 0;
        try (BufferedReader in = Files.newBufferedReader(file)) {
            String next = in.readLine();
            while (next != null) {
                String line = next;
                next = in.readLine();
                number++;
                JsonNode e;
                try {
                    e = json.readTree(line);
                } catch (JsonProcessingException torn) {
                    if (next == null) {
                        return;
                    }
                    throw new IOException("ledger [" + file + "] line " + number + " must be JSON", torn);
                }
                switch (e.path("t").asText()) {
                    case "run" -> ackIsPromise = !"receipt".equals(e.path("promise").asText());
                    case "sent" -> {
                        mark(e.path("key").asText()).sent.set(seq(e.path("key").asText()));
                        bodies.put(e.path("key").asText(), new Sent(e.path("kind").asText(), e.path("body").asText()));
                    }
                    case "bad" -> bad.put(e.path("id").asText(), new Bad(e.path("id").asText(), e.path("device").asText(),
                            e.path("reason").asText(), ByteBuffer.wrap(Base64.getDecoder().decode(e.path("b64").asText()))));
                    case "ack" -> acked(e.path("key").asText(), e.path("code").asInt(), ackIsPromise);
                    case "receipt" -> receipted(e.path("device").asText() + "/" + e.path("boot").asText() + "/", e.path("seq").asInt());
                    case "again" -> { }
                    case "command" -> {
                        Told told = told(e);
                        told.got += e.path("what").asText().equals("got") ? 1 : 0;
                        told.ran += e.path("what").asText().equals("ran") ? 1 : 0;
                    }
                    case "answer" -> told(e).answers.add(e.path("status").asText());
                    default -> throw new IOException("ledger [" + file + "] line " + number + " has an unknown type [" + e.path("t").asText() + "]");
                }
            }
        }
    }

    private Told told(JsonNode e) {
        Told told = commands.computeIfAbsent(e.path("id").asText(), id -> new Told());
        told.device = e.path("device").asText();
        return told;
    }

    /** @return devices whose ledger this is */
    Set<String> devices() {
        Set<String> devices = new HashSet<>();
        boots.keySet().forEach(prefix -> devices.add(prefix.substring(0, prefix.indexOf('/'))));
        return devices;
    }

    private void acked(String key, int code, boolean promise) {
        if (bad.containsKey(key)) {
            if (promise) {
                badAcked.add(key);
            }
        } else if (code >= 0x80) {
            refused.add(key + " (reason code 0x" + Integer.toHexString(code) + ")");
        } else if (promise) {
            mark(key).promised.set(seq(key));
        }
    }

    private void receipted(String prefix, int upTo) {
        // A receipt of an earlier boot of the device may come too: it promises what that run's ledger has.
        Boot boot = boots.computeIfAbsent(prefix, p -> new Boot());
        boot.promised.set(1, upTo + 1);
    }

    /** The load generator's log (see {@link AckLog}). */
    void readAckLog(Path file) throws IOException {
        try (BufferedReader in = Files.newBufferedReader(file)) {
            String next = in.readLine();
            while (next != null) {
                String line = next;
                next = in.readLine();
                if (line.startsWith("#sent ")) {
                    String[] words = line.split(" ");
                    if (words.length == 4) {
                        boots.computeIfAbsent(words[1] + "/" + words[2] + "/", p -> new Boot()).sent.set(1, Integer.parseInt(words[3]) + 1);
                    }
                } else if (next != null || line.length() - cut(line) == Keys.DIGITS) {
                    mark(line).promised.set(seq(line));
                }
            }
        }
    }

    private Boot mark(String key) {
        int cut = cut(key);
        if (cut < 0) {
            throw new IllegalArgumentException("key [" + key + "] must be device/boot/ and " + Keys.DIGITS + " digits");
        }
        return boots.computeIfAbsent(key.substring(0, cut), p -> new Boot());
    }

    /** Where the number begins; -1 when the key is not that of a numbered message. */
    static int cut(String key) {
        int cut = key.length() - Keys.DIGITS;
        return cut > 1 && key.charAt(cut - 1) == '/' ? cut : -1;
    }

    static int seq(String key) {
        return seq(key, cut(key));
    }

    private static int seq(String key, int cut) {
        try {
            return Integer.parseInt(key.substring(cut));
        } catch (NumberFormatException e) {
            return 0;   // never sent: numbers start at 1
        }
    }
}
