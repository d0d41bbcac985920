// SPDX-License-Identifier: Apache-2.0
package io.caravan.torture;

import com.fasterxml.jackson.core.JsonProcessingException;
import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.IOException;
import java.io.RandomAccessFile;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.function.Consumer;

/**
 * What devices were promised, read from what they note while they go on noting: whole lines only, each once. Used by one thread.
 */
final class Promised {
  private record Log(Path file, boolean ledger) { }

  private static final ObjectMapper JSON = new ObjectMapper();

  private final List<Log> logs = new ArrayList<>();
  private final Map<Path, Long> read = new HashMap<>();
  private final Map<Path, Boolean> ackIsPromise = new HashMap<>();
  private final KeySet keys = new KeySet();
  private long count;

  /** @param file of bench's load: lines that begin with # are no promises */
  Promised ackLog(Path file) {
    logs.add(new Log(file, false));
    return this;
  }

  /** @param file of bench's simulator */
  Promised ledger(Path file) {
    logs.add(new Log(file, true));
    return this;
  }

  /** @return how many promises there are, after reading what is new; each new key is told */
  long read(Consumer<String> each) throws IOException {
    for (Log log : logs) {
      if (Files.exists(log.file)) {
        for (String line : lines(log.file)) {
          if (log.ledger) {
            entry(log.file, line, each);
          } else if (!line.startsWith("#")) {
            promised(line, each);
          }
        }
      }
    }
    return count;
  }

  KeySet keys() {
    return keys;
  }

  private void promised(String key, Consumer<String> each) {
    if (keys.add(key)) {
      count++;
      each.accept(key);
    }
  }

  private void entry(Path file, String line, Consumer<String> each) {
    JsonNode e;
    try {
      e = JSON.readTree(line);
    } catch (JsonProcessingException torn) {
      throw new IllegalStateException("ledger [" + file + "] must have a JSON object per line, has [" + line + "]", torn);
    }
    switch (e.path("t").asText()) {
      case "run" -> ackIsPromise.put(file, !"receipt".equals(e.path("promise").asText()));
      case "ack" -> {
        String key = e.path("key").asText();
        // Messages that are bad on purpose have other keys: for them there is the bench's oracle.
        if (e.path("code").asInt() < 0x80 && ackIsPromise.getOrDefault(file, true) && KeySet.isNumbered(key)) {
          promised(key, each);
        }
      }
      case "receipt" -> {
        String prefix = e.path("device").asText() + "/" + e.path("boot").asText() + "/";
        for (int n = keys.length(prefix) + 1; n <= e.path("seq").asInt(); n++) {
          promised(prefix + KeySet.padded(n), each);
        }
      }
      default -> { }
    }
  }

  private List<String> lines(Path file) throws IOException {
    List<String> lines = new ArrayList<>();
    try (RandomAccessFile in = new RandomAccessFile(file.toFile(), "r")) {
      long from = read.getOrDefault(file, 0L);
      byte[] more = new byte[(int) Math.min(in.length() - from, 64 << 20)];
      in.seek(from);
      in.readFully(more);
      int begin = 0;
      for (int i = 0; i < more.length; i++) {
        if (more[i] == '\n') {
          lines.add(new String(more, begin, i - begin, StandardCharsets.UTF_8));
          begin = i + 1;
        }
      }
      read.put(file, from + begin);
    }
    return lines;
  }
}
