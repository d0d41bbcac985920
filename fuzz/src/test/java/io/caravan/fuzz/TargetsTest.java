// SPDX-License-Identifier: Apache-2.0
package io.caravan.fuzz;

import static org.junit.jupiter.api.Assertions.assertEquals;

import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

/** Which targets bin/fuzz chooses. */
class TargetsTest {
  @ParameterizedTest
  @CsvSource(delimiter = '|', value = {
      "0 | IngestFuzz.json | IngestFuzz.json",
      "0 | IngestFuzz IngestFuzz.json MqttFuzz IngestFuzz | IngestFuzz.whole IngestFuzz.json IngestFuzz.protobuf MqttFuzz.bytes",
      "2 | IngestFuzz MqttFuz | fuzz: target [MqttFuz] is unknown: bin/fuzz --list tells which there are",
      "2 | IngestFuzz.jso | fuzz: target [IngestFuzz.jso] is unknown: bin/fuzz --list tells which there are",
      "2 | IngestFuzz --seconds 0 | fuzz: --seconds [0] must be a whole number from 1 to 999999999",
      "2 | --seconds | fuzz: --seconds [] must be a whole number from 1 to 999999999",
  })
  void eachHasOneTurnAndNoneIsDroppedInSilence(int status, String words, String said) throws Exception {
    List<String> command = new ArrayList<>(List.of(Path.of(System.getProperty("repo.dir"), "bin/fuzz").toString(), "--list"));
    command.addAll(List.of(words.split(" ")));
    Process process = new ProcessBuilder(command).redirectErrorStream(true).start();
    String told = new String(process.getInputStream().readAllBytes(), StandardCharsets.UTF_8).strip().replace('\n', ' ');
    assertEquals(status, process.waitFor(), told);
    assertEquals(said, told);
  }
}
