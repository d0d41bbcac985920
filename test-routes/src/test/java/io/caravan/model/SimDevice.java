// SPDX-License-Identifier: Apache-2.0
package io.caravan.model;

import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Random;

/**
 * A device: it carries out what it gets, once per id as long as it remembers, and answers well, late, never, twice, or
 * nonsense. Used by one thread.
 */
final class SimDevice {
  final String id;
  /** Behind a broker, where nobody but its answers says that it has something. */
  final boolean viaBroker;
  /** Whether what it did survives a restart of it. */
  final boolean remembers;
  boolean connected = true;
  private final Map<String, List<String>> memory = new HashMap<>();

  SimDevice(String id, boolean viaBroker, boolean remembers) {
    this.id = id;
    this.viaBroker = viaBroker;
    this.remembers = remembers;
  }

  /** @return the payloads of its answers, in order */
  List<String> take(String commandId, Oracle oracle, Random random) {
    oracle.got(commandId);
    List<String> before = memory.get(commandId);
    if (before != null) {
      oracle.count("came again, remembered");
      return before;
    }
    List<String> answers = new ArrayList<>();
    if (random.nextInt(100) < 10) {
      // Not today; it does nothing.
      answers.add(answer(commandId, "rejected"));
    } else {
      oracle.ran(commandId, id);
      if (random.nextInt(100) < 40) {
        answers.add(answer(commandId, "received"));
      }
      boolean well = random.nextInt(100) < 80;
      int mood = random.nextInt(100);
      if (mood < 75) {
        answers.add(answer(commandId, well ? "succeeded" : "failed"));
      }
      if (mood >= 60 && mood < 70) {
        // Twice, now and then in contradiction.
        answers.add(answer(commandId, random.nextBoolean() ? "succeeded" : "failed"));
      } else if (mood >= 70 && mood < 75) {
        answers.add("{\"command_id\":\"" + commandId + "\",\"status\":\"exploded\"}");
        answers.add("{\"command_id\":\"no-such-" + commandId + "\",\"status\":\"succeeded\"}");
      }
    }
    memory.put(commandId, answers);
    return answers;
  }

  private static String answer(String commandId, String status) {
    return "{\"command_id\":\"" + commandId + "\",\"status\":\"" + status + "\"" + (status.equals("succeeded") ? ",\"result\":{\"ok\":true}" : "") + "}";
  }

  void restart() {
    if (!remembers) {
      memory.clear();
    }
  }
}
