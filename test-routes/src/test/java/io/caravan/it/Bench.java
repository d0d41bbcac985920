// SPDX-License-Identifier: Apache-2.0
package io.caravan.it;

import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;

/** The load generator and the simulated devices, as processes of their own: what they noted does not die with what they test. */
public final class Bench {
  private Bench() { }

  /** @param log gets what it prints; its folder is the working directory */
  public static Child start(Path log, Object... arguments) {
    List<String> command = new ArrayList<>(List.of(Path.of(System.getProperty("java.home"), "bin", "java").toString(),
        "-XX:+UseSerialGC", "-XX:-UsePerfData", "-XX:TieredStopAtLevel=1", "-Xss512k", "-Xmx192m",
        "-cp", System.getProperty("java.class.path"), "io.caravan.bench.Main"));
    for (Object argument : arguments) {
      command.add(argument.toString());
    }
    return Child.start(arguments[0].toString(), command, Map.of(), log.getParent(), log);
  }
}
