// SPDX-License-Identifier: Apache-2.0
package io.caravan.bench;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.TimeUnit;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

/** What bench/run cannot do it says before it does anything. */
class RunArgumentsTest {
    private static final Path RUN = Path.of("../bench/run").toAbsolutePath().normalize();

    @TempDir Path dir;

    @ParameterizedTest
    @CsvSource(delimiter = '|', value = {
        "ingest --seconds 0 | --seconds [0] must be a whole number from 1 to 999999999",
        "ingest --seconds abc | --seconds [abc] must be a whole number from 1 to 999999999",
        "ingest --seconds 08 | --seconds [08] must be",
        "ingest --seconds 1.5 | --seconds [1.5] must be",
        "ingest --warmup -1 | --warmup [-1] must be a whole number from 0",
        "peers --warmup 0 | --warmup [0] must be a whole number from 1",
        "cost --warmup 0 | --warmup [0] must be a whole number from 1",
        "ingest --connections 0 | --connections [0] must be",
        "ingest --window 0 | --window [0] must be",
        "boot --runs 0 | --runs [0] must be",
        "backlog --rows 9 | --rows [9] must be a whole number from 10",
        "drain-s3 --rate 0 | --rate [0] must be",
        "isolation --phase 0 | --phase [0] must be",
        "memory --idle x | --idle [x] must be a whole number from 0",
        "commands --commands 0 | --commands [0] must be",
        "fleet --gateways 2001 | --gateways [2001] must be a whole number from 1 to 2000",
        "peers --cell 0 | --cell [0] must be",
        "peers --cuts x | --cuts [x] must be a whole number from 0",
        "peers --publishers 1,0 | --publishers [0] must be a whole number from 1",
        "peers --publishers , | --publishers [,] must be whole numbers, separated by commas",
        "soak --hours 0.05 | --hours [0.05] must be a number of hours from 0.1",
        "soak --hours long | --hours [long] must be",
        "soak --soak-rate 0 | --soak-rate [0] must be",
        "fleet --bus redis | --bus [redis] has [redis], which is none of [embedded kafka]",
        "fleet --bus kafka,kafka | --bus [kafka,kafka] has [kafka] twice",
        "fleet --bus , | --bus [,] must be some of [embedded kafka], separated by commas",
        "peers --peers caravan,nat | --peers [caravan,nat] has [nat], which is none of [caravan mosquitto ",
        "ingest --second 1 | option [--second] is unknown",
        "ingest --seconds | option [--seconds] is unknown or needs a value",
        "injest | case [injest] is unknown",
    })
    void whatCannotBeMeantIsRefused(String words, String said) throws Exception {
        List<String> command = new ArrayList<>(List.of(RUN.toString()));
        command.addAll(List.of(words.split(" ")));
        Path out = dir.resolve("out");
        Process process = new ProcessBuilder(command).redirectErrorStream(true).redirectOutput(out.toFile()).start();
        if (!process.waitFor(60, TimeUnit.SECONDS)) {
            process.destroy();
            process.waitFor();
        }
        String told = Files.readString(out);
        assertEquals(2, process.exitValue(), told);
        assertTrue(told.startsWith("run: " + said), told);
    }
}
