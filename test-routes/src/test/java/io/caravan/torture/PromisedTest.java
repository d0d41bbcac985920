// SPDX-License-Identifier: Apache-2.0
package io.caravan.torture;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.util.ArrayList;
import java.util.List;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** What devices noted is read while they write it: whole lines, each once, and only what is a promise. */
class PromisedTest {
  @TempDir
  Path folder;

  @Test
  void linesOfALogAreReadOnceAndWhole() throws Exception {
    Path log = folder.resolve("acks");
    Promised promised = new Promised().ackLog(log);
    List<String> told = new ArrayList<>();
    assertEquals(0, promised.read(told::add));
    Files.writeString(log, "#sent d b 1000\nd/b/0000000000000001\nd/b/00000000");
    assertEquals(1, promised.read(told::add));
    Files.writeString(log, "00000002\nd/b/0000000000000002\n", StandardOpenOption.APPEND);
    assertEquals(2, promised.read(told::add));
    assertEquals(List.of("d/b/0000000000000001", "d/b/0000000000000002"), told);
    assertTrue(promised.keys().has("d/b/0000000000000002") && !promised.keys().has("d/b/0000000000000003"));
  }

  @Test
  void behindABrokerOnlyReceiptsArePromises() throws Exception {
    Path ledger = folder.resolve("ledger");
    Files.writeString(ledger, """
        {"t":"run","promise":"receipt"}
        {"t":"ack","key":"d/b/0000000000000001","code":0}
        {"t":"receipt","device":"d","boot":"b","seq":3}
        {"t":"receipt","device":"d","boot":"b","seq":2}
        """);
    assertEquals(3, new Promised().ledger(ledger).read(key -> { }));
    Files.writeString(ledger, """
        {"t":"run","promise":"ack"}
        {"t":"ack","key":"d/b/0000000000000001","code":0}
        {"t":"ack","key":"d/b/0000000000000002","code":135}
        """);
    assertEquals(1, new Promised().ledger(ledger).read(key -> { }));
  }
}
