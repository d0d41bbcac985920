// SPDX-License-Identifier: Apache-2.0
package io.caravan.bench;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

/** What a peer behind a broker is offered, and how it is said; the measuring itself is RunIT's. */
class PeersTest {
    private static final Path REPO = Path.of(System.getProperty("repo.dir", "..")).toAbsolutePath().normalize();

    @TempDir Path dir;

    /** The peer takes what is offered up to its capacity, and of more than that next to nothing. */
    @ParameterizedTest
    @CsvSource({"100000, 24000, 24000, '[6000,12000,24000]'", "10000, 9000, null, '[6000,12000,9000,10500]'", "1000, 937, null, '[6000,3000,1500,750,1125,937]'",
        "10, 5, null, '[6000,3000,1500,750]'"})
    void theMostThatIsKeptUpWithIsLookedFor(int capacity, long value, String all, String offered) throws Exception {
        JsonNode found = new ObjectMapper().readTree(bash("""
                file_step() {
                    loaded="{\\"rate\\":$1}"
                    cpu=$1
                    steps=$(jq -c --argjson rate "$1" --argjson most %d '. + [{offered: $rate, value: (if $rate <= $most then $rate else $most / 2 | floor end), kept_up: ($rate <= $most)}]' <<<"$steps")
                }
                file_load
                jq -nc --argjson value "$value" --argjson cpu "$cpu" --argjson all "$offered" --argjson load "$loaded" --argjson steps "$steps" \\
                    '{value: $value, cpu: $cpu, all: $all, load: $load.rate, offered: [$steps[].offered]}'
                """.formatted(capacity)));
        assertEquals(value, found.get("value").asLong(), found.toString());
        assertEquals(all, found.get("all").asText(), found.toString());
        assertEquals(offered, found.get("offered").toString());
        assertEquals(found.get("load"), found.get("cpu"), "load and CPU are of the same step: " + found);
    }

    @Test
    void theTableSaysThatItKeptUpWithEverything() throws Exception {
        String row = "{\"peer\":\"%s\",\"publishers\":1,\"window\":%d,\"value\":%d,\"all_of_offered\":%s,\"rss_mb\":1,\"load_average\":1}\n";
        Files.writeString(dir.resolve("peers.jsonl"), row.formatted("node-red", 100, 23_900, "24000") + row.formatted("node-red", 1000, 9_000, "null"));
        Files.writeString(dir.resolve("kills.jsonl"), "{\"peer\":\"node-red\",\"killed\":{\"lost\":0,\"acked\":1},\"cut\":null}\n");
        String table = bash("environment={}; publishers_of=1; left_out=(); peers_table");
        assertTrue(table.contains("| node-red | 23900 (all of 24000 offered) | 9000 |"), table);
    }

    private String bash(String script) throws Exception {
        Path out = dir.resolve("out");
        Process process = new ProcessBuilder("bash", "-c", ". \"$1/bin/lib.sh\"; . \"$1/bench/cases/peers.sh\"; work=$2\n" + script, "peers", REPO.toString(), dir.toString())
                .redirectErrorStream(true).redirectOutput(out.toFile()).start();
        assertEquals(0, process.waitFor(), () -> read(out));
        return read(out);
    }

    private static String read(Path file) {
        try {
            return Files.readString(file);
        } catch (IOException e) {
            return e.toString();
        }
    }
}
