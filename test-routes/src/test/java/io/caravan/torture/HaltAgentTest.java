// SPDX-License-Identifier: Apache-2.0
package io.caravan.torture;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;

import io.caravan.it.Child;
import java.io.InputStream;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.List;
import java.util.Map;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** The agent in a JVM of its own: it ends where it is told to, and only there. */
class HaltAgentTest {
  @TempDir
  Path folder;

  /** What is woven into. */
  public static final class Victim {
    /** Long enough for the agent to look once more. */
    public static void main(String[] args) throws Exception {
      Thread.sleep(200);
      System.out.println(middle(3));
      System.out.println("end");
    }

    static long middle(int n) {
      System.out.println("within");
      return n > 2 ? n : -n;
    }
  }

  private String run(String point) throws Exception {
    HaltPoints.agent(folder);
    Path file = folder.resolve("halt-point");
    if (point == null) {
      HaltPoints.disarm(folder);
    } else {
      HaltPoints.arm(folder, point);
    }
    Path log = folder.resolve(point + ".log");
    String name = Victim.class.getName();
    try (Child child = Child.start("victim", List.of(Path.of(System.getProperty("java.home"), "bin", "java").toString(), "-Xint",
        "-javaagent:" + folder.resolve("halt-agent.jar") + "=" + file + ";entered=" + name + ".middle<;left=" + name + ".middle>",
        "-cp", Path.of(Victim.class.getProtectionDomain().getCodeSource().getLocation().toURI()).toString(), name), Map.of(), folder, log)) {
      int exit = child.awaitExit(Duration.ofSeconds(60));
      return exit + ":" + child.output().replace("\n", " ").strip();
    }
  }

  @Test
  void endsWhereItIsToldTo() throws Exception {
    assertEquals("0:within 3 end", run(null));
    assertEquals("137:", run("entered"));
    assertEquals("137:within", run("left"));
    assertEquals("0:within 3 end", run("elsewhere"));
    assertEquals(List.of("entered", "left"), HaltPoints.woven(folder).stream().sorted().toList());
  }

  @Test
  void aPointThatIsNotThereIsNotNoted() throws Exception {
    try (InputStream in = Victim.class.getResourceAsStream("HaltAgentTest$Victim.class")) {
      byte[] bytes = in.readAllBytes();
      byte[] woven = HaltAgent.weave(bytes, Map.of("nowhere<", "nowhere"), folder.resolve("halt-point"));
      assertFalse(Files.exists(folder.resolve("halt-point.woven")));
      assertFalse(new String(woven, StandardCharsets.ISO_8859_1).contains("getSystemClassLoader"));
    }
  }

  /** Product code changes: the points must be found in what is built now. */
  @Test
  void everyPointIsInTheProduct() throws Exception {
    for (Map.Entry<String, String> point : HaltPoints.points().entrySet()) {
      String where = point.getValue();
      String owner = where.substring(0, where.lastIndexOf('.'));
      try (InputStream in = Thread.currentThread().getContextClassLoader().getResourceAsStream(owner.replace('.', '/') + ".class")) {
        HaltAgent.weave(in.readAllBytes(), Map.of(where.substring(owner.length() + 1), point.getKey()), folder.resolve("halt-point"));
      }
    }
    assertEquals(HaltPoints.names().stream().sorted().toList(), HaltPoints.woven(folder).stream().sorted().toList());
  }
}
