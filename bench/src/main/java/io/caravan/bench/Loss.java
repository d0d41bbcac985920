// SPDX-License-Identifier: Apache-2.0
package io.caravan.bench;

import com.fasterxml.jackson.core.JsonProcessingException;
import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.io.BufferedReader;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.sql.Connection;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.Statement;
import java.util.concurrent.Callable;
import picocli.CommandLine.ArgGroup;
import picocli.CommandLine.Command;
import picocli.CommandLine.Option;

/**
 * The same question to every system: of what the devices were told is safe, what does the application not get? Knows nothing of how a system
 * stores. A message that is there though nobody was told (it was on its way when the system died) is no fault; one that is there twice is a
 * double, which a consumer of QoS 1 must expect.
 */
@Command(name = "loss", mixinStandardHelpOptions = true, sortOptions = false,
        description = "Compares the acknowledged keys of load --ack-log with what arrived; exit 1 when one is missing, 2 when nothing can be told.")
final class Loss implements Callable<Integer> {
    @Option(names = "--acked", required = true, paramLabel = "FILE", description = "written by load --ack-log")
    Path acked;

    @ArgGroup(multiplicity = "1") Arrived arrived;

    static final class Arrived {
        @Option(names = "--lines", paramLabel = "FILE", description = "bodies, one a line, as consume --to writes them")
        Path lines;

        @Option(names = "--db", paramLabel = "FILE", description = "a gateway's store")
        Path db;

        @Option(names = "--files", paramLabel = "DIR", description = "folder of the file sink")
        Path files;
    }

    record Result(long acked, long received, long distinct, long lost, String example) {
        ObjectNode json() {
            return new ObjectMapper().createObjectNode().put("acked", acked).put("received", received).put("distinct", distinct)
                    .put("doubled", received - distinct).put("lost", lost).put("lost_example", example);
        }
    }

    @Override
    public Integer call() throws Exception {
        KeySet keys = new KeySet();
        Result result = compare(acked, arrived.db != null ? ofStore(arrived.db, keys)
                : arrived.files != null ? ofFiles(arrived.files, keys) : ofLines(arrived.lines, keys), keys);
        System.out.println(result.json());
        return result.lost == 0 ? 0 : 1;
    }

    /** @throws IOException the log has no acknowledged key: then nothing that is missing could be missed */
    static Result compare(Path acked, long received, KeySet keys) throws IOException {
        long promised = 0;
        long lost = 0;
        String example = null;
        try (BufferedReader in = Files.newBufferedReader(acked)) {
            String next = in.readLine();
            while (next != null) {
                String line = next;
                next = in.readLine();
                // The generator may have been killed in its last line.
                if (line.startsWith("#") || Evidence.cut(line) < 0) {
                    continue;
                }
                promised++;
                if (!keys.contains(line)) {
                    lost++;
                    example = line;
                }
            }
        }
        if (promised == 0) {
            throw new IOException("[" + acked + "] has no acknowledged key: it proves nothing");
        }
        return new Result(promised, received, keys.distinct(), lost, example);
    }

    /** A line that is no JSON is what a killed writer leaves; it is not counted as arrived. */
    static long ofLines(Path file, KeySet keys) throws IOException {
        ObjectMapper json = new ObjectMapper();
        long received = 0;
        if (!Files.exists(file)) {
            return 0;
        }
        try (BufferedReader in = Files.newBufferedReader(file)) {
            for (String line = in.readLine(); line != null; line = in.readLine()) {
                JsonNode body;
                try {
                    body = json.readTree(line);
                } catch (JsonProcessingException torn) {
                    continue;
                }
                if (body.path("device_seq").canConvertToLong() && body.has("boot_id")) {
                    received++;
                    keys.add(Keys.numbered(body.path("device_id").asText(), body.path("boot_id").asText(), body.path("device_seq").asLong()));
                }
            }
        }
        return received;
    }

    private static long ofFiles(Path folder, KeySet keys) throws IOException {
        long[] received = new long[1];
        FileRows.keys(folder, key -> {
            received[0]++;
            keys.add(key);
        });
        return received[0];
    }

    static long ofStore(Path db, KeySet keys) throws SQLException {
        long received = 0;
        try (Connection c = Databases.readOnly(db); Statement s = c.createStatement(); ResultSet r = s.executeQuery("SELECT message_key FROM wal")) {
            while (r.next()) {
                received++;
                keys.add(r.getString(1));
            }
        }
        return received;
    }
}
