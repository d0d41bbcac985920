// SPDX-License-Identifier: Apache-2.0
package io.caravan.devices.internal;

import static io.caravan.fuzz.Invariant.bounded;
import static io.caravan.fuzz.Invariant.message;
import static io.caravan.fuzz.Invariant.same;
import static io.caravan.fuzz.Invariant.that;

import com.code_intelligence.jazzer.junit.DictionaryEntries;
import com.code_intelligence.jazzer.junit.FuzzTest;
import com.fasterxml.jackson.databind.node.ArrayNode;
import com.fasterxml.jackson.databind.node.ObjectNode;
import io.caravan.devices.Devices.NewDevice;
import io.caravan.fuzz.Invariant;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.BeforeAll;

/** Files of device:import. */
class ImportFuzz {
  private static final int MAX_PROBLEM = 600;
  private static final long PER_BYTE = 2_000;
  private static Path folder;
  private static Path file;

  @BeforeAll
  static void start() throws IOException {
    folder = Files.createTempDirectory("fuzz-import");
    file = folder.resolve("devices");
  }

  @AfterAll
  static void stop() throws IOException {
    Files.deleteIfExists(file);
    Files.delete(folder);
  }

  /** CSV or JSON: what is accepted is the same when it is written down and read again in either form. */
  @FuzzTest
  @DictionaryEntries({"device_id", "allow", "capabilities", "signing", "messages_per_s", "bytes_per_s", "note", "not_before", "not_after", "controller", "off", "accept",
      "require", "true", "false", "10.0.0.0/8", "fe80::/10", "2026-11-21T10:00:00Z", "+999999999-12-31T23:59:59-18:00", "-999999999-01-01T00:00:00+18:00",
      "999999999999999", "999999999999999999", "\"\"", "\"", "\\r\\n", "\ufeff", "[{\"device_id\":\"", "},{", "\u2028", "\\u0000"})
  void file(byte[] input) throws Exception {
    List<String> problems = new ArrayList<>();
    Map<String, NewDevice> read = read(input, problems);
    if (read == null) {
      return;
    }
    that(problems.size() <= ImportFile.MAX_PROBLEMS, "problems are bounded");
    problems.forEach(problem -> message(problem, MAX_PROBLEM));
    if (!problems.isEmpty() || read.isEmpty()) {
      return;
    }
    List<NewDevice> devices = List.copyOf(read.values());
    List<String> none = new ArrayList<>();
    same(List.copyOf(read(json(devices), none).values()), devices, "written as JSON");
    same(List.copyOf(read(csv(devices), none).values()), devices, "written as CSV");
    same(none, List.of(), "problems of what was accepted");
  }

  private static Map<String, NewDevice> read(byte[] input, List<String> problems) throws Exception {
    Files.write(file, input);
    try {
      return bounded(input.length, PER_BYTE, () -> ImportFile.read(file, problems));
    } catch (IOException e) {
      message(e.getMessage(), MAX_PROBLEM);
      return null;
    }
  }

  private static byte[] json(List<NewDevice> devices) throws IOException {
    ArrayNode array = Invariant.STRICT.createArrayNode();
    for (NewDevice device : devices) {
      ObjectNode object = array.addObject();
      object.put("device_id", device.id());
      device.allow().forEach(object.putArray("allow")::add);
      object.put("capabilities", device.capabilities());
      object.put("signing", device.signing() == null ? null : device.signing().name().toLowerCase(Locale.ROOT));
      object.put("messages_per_s", device.messagesPerS());
      object.put("bytes_per_s", device.bytesPerS());
      object.put("note", device.note());
      object.put("not_before", time(device.notBeforeMs()));
      object.put("not_after", time(device.notAfterMs()));
      object.put("controller", device.controller());
    }
    return Invariant.STRICT.writeValueAsBytes(array);
  }

  private static byte[] csv(List<NewDevice> devices) {
    StringBuilder text = new StringBuilder(String.join(",", ImportFile.FIELDS)).append("\r\n");
    for (NewDevice device : devices) {
      List<String> fields = new ArrayList<>();
      for (Object each : new Object[] {device.id(), device.allow().isEmpty() ? null : String.join(" ", device.allow()), device.capabilities(),
          device.signing() == null ? null : device.signing().name().toLowerCase(Locale.ROOT), device.messagesPerS(), device.bytesPerS(), device.note(),
          time(device.notBeforeMs()), time(device.notAfterMs()), device.controller()}) {
        fields.add(each == null ? "" : '"' + each.toString().replace("\"", "\"\"") + '"');
      }
      text.append(String.join(",", fields)).append("\r\n");
    }
    return text.toString().getBytes(java.nio.charset.StandardCharsets.UTF_8);
  }

  private static String time(Long ms) {
    return ms == null ? null : java.time.Instant.ofEpochMilli(ms).atOffset(java.time.ZoneOffset.UTC).toString();
  }
}
