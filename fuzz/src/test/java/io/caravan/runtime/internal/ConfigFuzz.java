// SPDX-License-Identifier: Apache-2.0
package io.caravan.runtime.internal;

import static io.caravan.fuzz.Invariant.bounded;
import static io.caravan.fuzz.Invariant.message;
import static io.caravan.fuzz.Invariant.same;
import static io.caravan.fuzz.Invariant.that;

import com.code_intelligence.jazzer.junit.DictionaryEntries;
import com.code_intelligence.jazzer.junit.FuzzTest;
import io.caravan.runtime.ConfigException;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import org.junit.jupiter.api.BeforeAll;

/** cfg files against the declared keys: a configuration in which every value keeps its rule, or every problem in words. */
class ConfigFuzz {
  private static final int MAX_PROBLEM = 20_000;
  private static final long PER_BYTE = 20_000;
  private static final String PID = "io.caravan.wal";
  private static Path folder;
  private static Path file;
  private static Path keyFolder;
  private static Keys keys;

  @BeforeAll
  static void start() throws IOException {
    folder = Files.createTempDirectory("fuzz-cfg");
    file = folder.resolve(PID + ".cfg");
    keyFolder = Path.of(System.getProperty("repo.dir", ".."), "bundles/runtime/src/test/resources/keys");
    keys = Keys.read(List.of(keyFolder));
  }

  @FuzzTest
  @DictionaryEntries({"wal.max.bytes", "wal.path", "wal.sync", "wal.lanes", "wal.token", "wal.greeting", "wal.other", "wal.unset", "http.port", "audit.file", "live,historical", "true", "false", "file:",
      "\\u0000", "\\u00e9", "\\ud800", "9223372036854775808", "-1", "+5", "data/", "../../", "~", "#", "!", "\\"})
  void cfg(byte[] input) throws Exception {
    LayeredConfig config = read(input);
    if (config == null) {
      return;
    }
    Map<String, String> values = new HashMap<>();
    Properties again = new Properties();
    for (Key key : keys.all()) {
      String value = config.get(key.name());
      // A secret in a file may be anything.
      that(key.type() == Key.Type.SECRET || key.broken(value) == null, key.name() + " [" + value + "] must " + key.broken(value));
      values.put(key.name(), value);
      if (key.pid().equals(PID) && key.type() != Key.Type.SECRET) {
        again.setProperty(key.name(), value);
      }
    }
    ByteArrayOutputStream bytes = new ByteArrayOutputStream();
    again.store(bytes, null);
    LayeredConfig second = read(bytes.toByteArray());
    that(second != null, "what was accepted is accepted when it is written down: " + again);
    again.stringPropertyNames().forEach(name -> same(second.get(name), values.get(name), name));
  }

  private static LayeredConfig read(byte[] input) throws Exception {
    Files.write(file, input);
    try {
      return bounded(input.length, PER_BYTE, () -> new LayeredConfig(List.of(keyFolder), folder, folder, Map.of(), Map.of()));
    } catch (ConfigException e) {
      that(!e.problems().isEmpty(), "a refusal has a problem");
      e.problems().forEach(problem -> message(problem, MAX_PROBLEM));
      return null;
    }
  }
}
