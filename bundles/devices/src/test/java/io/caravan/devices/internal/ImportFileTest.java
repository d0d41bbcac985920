// SPDX-License-Identifier: Apache-2.0
package io.caravan.devices.internal;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.caravan.devices.Devices.Device;
import io.caravan.devices.Devices.Enrolment;
import io.caravan.devices.Devices.Imported;
import io.caravan.devices.Devices.Signing;
import io.caravan.devices.Gate.Outcome;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.stream.Collectors;
import java.util.stream.IntStream;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** Many devices at once: all of a file or nothing, and which line is wrong. */
class ImportFileTest {
  @TempDir
  Path folder;
  private Fixture box;

  @BeforeEach
  void open() throws Exception {
    box = new Fixture(folder);
  }

  @AfterEach
  void close() throws Exception {
    box.close();
  }

  private Path file(String text) throws IOException {
    return Files.writeString(folder.resolve("devices"), text);
  }

  private Imported read(String text) throws IOException {
    return box.devices.importFile(file(text), false);
  }

  private List<String> problems(String text) throws IOException {
    Imported imported = read(text);
    assertTrue(imported.created().isEmpty() && imported.unchanged().isEmpty());
    assertTrue(box.devices.list().isEmpty(), "nothing was imported");
    return imported.problems();
  }

  @Test
  void csvAndJsonSayTheSame() throws Exception {
    Imported csv = read("\uFEFFdevice_id,allow,capabilities,signing,messages_per_s,bytes_per_s,note,not_after\r\n"
        + "dev-1,10.0.0.0/8 fd00::/16,\"{\"\"valve\"\":1}\",require,5,0,\"a, \"\"b\"\"\",2027-11-21T10:00:00Z\r\n"
        + "\r\n"
        + "dev-2,,,,,,,");
    Imported json = read("""
        [{"device_id": "dev-3", "allow": ["10.0.0.0/8", "fd00::/16"], "capabilities": {"valve": 1}, "signing": "require", "messages_per_s": 5,
          "bytes_per_s": 0, "note": "a, \\"b\\"", "not_after": 1795255200000},
         {"device_id": "dev-4", "allow": "", "note": null}]""".replace("1795255200000", "1826791200000"));
    assertEquals(List.of(), csv.problems());
    assertEquals(List.of(), json.problems());
    Device one = box.devices.find("dev-1").orElseThrow();
    Device three = box.devices.find("dev-3").orElseThrow();
    assertEquals(List.of("10.0.0.0/8", "fd00:0:0:0:0:0:0:0/16"), one.allow());
    assertEquals("{\"valve\":1}", one.capabilities());
    assertEquals(Signing.REQUIRE, one.signing());
    assertEquals("a, \"b\"", one.note());
    assertEquals(1_826_791_200_000L, one.tokens().get(0).notAfterMs());
    assertEquals(List.of(one.allow(), one.capabilities(), one.signing(), one.messagesPerS(), one.bytesPerS(), one.note(), one.tokens().get(0).notAfterMs()),
        List.of(three.allow(), three.capabilities(), three.signing(), three.messagesPerS(), three.bytesPerS(), three.note(), three.tokens().get(0).notAfterMs()));
    for (Enrolment each : List.of(csv.created().get(1), json.created().get(1))) {
      assertEquals(Outcome.ACCEPTED, box.from(each.device().id(), each.token()));
      assertEquals(List.of(), each.device().allow());
    }
    assertTrue(box.audited.stream().anyMatch(a -> a.startsWith("device.import ") && a.contains("dev-1 dev-2")), box.audited.toString());
  }

  @Test
  void oneWrongLineAndNothingIsImported() throws Exception {
    List<String> problems = problems("device_id,allow,note\ndev-1,,\ndev/2,,\ndev-3,10.0.0.1/8,\ndev-1,,\ngateway,,\ndev-4,,a,b\n,,\n");
    assertEquals(7 - 1, problems.size(), problems.toString());
    for (String expected : List.of("line 3: device id [dev/2]", "line 4: address [10.0.0.1/8] has bits behind its prefix: write 10.0.0.0/8",
        "line 5: device [dev-1] stands there twice", "line 6: device id [gateway]", "line 7 has [4] fields", "line 8: device_id is missing")) {
      assertTrue(problems.stream().anyMatch(p -> p.startsWith(expected)), expected + " is not in " + problems);
    }
    problems = problems("[{\"device_id\":\"dev-1\"},{\"device_id\":\"dev-2\",\"signing\":\"yes\"},3,{\"id\":\"dev-3\"},{\"device_id\":{}},"
        + "{\"device_id\":\"dev-6\",\"allow\":[[]]},{\"device_id\":\"dev-7\",\"capabilities\":\"[]\"},{\"device_id\":\"dev-8\",\"messages_per_s\":-1},"
        + "{\"device_id\":\"dev-9\",\"not_after\":\"2020-01-01T00:00:00Z\"}]");
    for (int element : new int[] {2, 3, 4, 5, 6, 7, 8, 9}) {
      assertTrue(problems.stream().anyMatch(p -> p.startsWith("element " + element)), element + " is not in " + problems);
    }
  }

  @Test
  void linesAreCountedThroughQuotes() throws Exception {
    assertTrue(problems("device_id,capabilities\ndev-1,\"{\n\n}\"\n*,\n").get(0).startsWith("line 5: device id [*]"));
  }

  @Test
  void csvIsReadStrictly() throws Exception {
    for (String bad : List.of("", "\n\n", "dev-1\n", "allow\n10.0.0.0/8\n", "device_id,device_id\na,b\n", "device_id,colour\na,b\n", "device_id\n\"dev-1\n",
        "device_id\n\"dev-1\"x\n", "device_id\nde\"v-1\n", "device_id;allow\ndev-1;\n")) {
      assertEquals(1, Math.min(1, problems(bad).size()), "[" + bad + "] must be refused");
    }
  }

  @Test
  void whatIsNoSuchFileIsRefused() throws Exception {
    assertThrows(IOException.class, () -> read("[{\"device_id\":\"dev-1\"}"));
    assertThrows(IOException.class, () -> read("{\"device_id\":\"dev-1\"}"));
    assertThrows(IOException.class, () -> read("[] []"));
    assertThrows(IOException.class, () -> read("[{\"device_id\":\"dev-1\",\"device_id\":\"dev-2\"}]"));
    assertThrows(IOException.class, () -> read("[".repeat(100_000)));
    assertThrows(IOException.class, () -> box.devices.importFile(folder.resolve("none"), false));
    Files.write(folder.resolve("latin"), "device_id,note\ndev-1,M\u00fchle\n".getBytes(StandardCharsets.ISO_8859_1));
    assertTrue(assertThrows(IOException.class, () -> box.devices.importFile(folder.resolve("latin"), false)).getMessage().contains("UTF-8"));
    Files.write(folder.resolve("large"), new byte[ImportFile.MAX_BYTES + 1]);
    assertTrue(assertThrows(IOException.class, () -> box.devices.importFile(folder.resolve("large"), false)).getMessage().contains("in parts"));
    assertTrue(box.devices.list().isEmpty());
  }

  @Test
  void problemsAreNotEndless() throws Exception {
    assertEquals(100, problems("device_id\n" + "*\n".repeat(5_000)).size());
  }

  @Test
  void whoIsThereIsLeftAlone() throws Exception {
    String token = box.add("dev-1").token();
    Imported imported = read("device_id,note\ndev-1,other\ndev-2,\n");
    assertEquals(List.of("dev-1"), imported.unchanged());
    assertEquals(List.of("dev-2"), imported.created().stream().map(e -> e.device().id()).toList());
    assertEquals(Outcome.ACCEPTED, box.from("dev-1", token));
    assertEquals(null, box.devices.find("dev-1").orElseThrow().note());
  }

  @Test
  void aDryRunOnlyLooks() throws Exception {
    Imported imported = box.devices.importFile(file("device_id\ndev-1\n"), true);
    assertEquals(List.of(), imported.problems());
    assertEquals(1, box.devices.importFile(file("device_id\n*\n"), true).problems().size());
    assertTrue(box.devices.list().isEmpty() && box.audited.isEmpty());
  }

  @Test
  void aFileThatCannotBeWrittenIsNotImported() throws Exception {
    box.writable(false);
    assertThrows(IOException.class, () -> read("device_id\ndev-1\ndev-2\n"));
    assertTrue(box.devices.list().isEmpty());
    box.writable(true);
    box.auditFails = true;
    assertThrows(java.io.UncheckedIOException.class, () -> read("device_id\ndev-1\ndev-2\n"));
    assertTrue(box.devices.list().isEmpty() && box.registry.load().isEmpty());
  }

  @Test
  void aThousandDevicesAndTheirCredentials() throws Exception {
    Imported imported = read("device_id\n" + IntStream.range(0, 1_000).mapToObj(i -> "dev-" + i).collect(Collectors.joining("\n")));
    assertEquals(1_000, imported.created().size());
    assertEquals(1_000, imported.created().stream().map(Enrolment::token).distinct().count());
    assertEquals(10, box.audited.stream().filter(a -> a.startsWith("device.import")).count());
    box.reopen();
    assertEquals(1_000, box.devices.list().size());
    assertEquals(Outcome.ACCEPTED, box.from("dev-999", imported.created().get(999).token()));
  }
}
