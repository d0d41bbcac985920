// SPDX-License-Identifier: Apache-2.0
package io.caravan.torture;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ObjectNode;
import io.caravan.torture.Campaign.Result;
import io.caravan.torture.Controls.Control;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;

/**
 * What a campaign has done so far, one line of JSON for each world that was compared to its end, so that it can be gone on with after a night, a reboot or a crash
 * ({@code --resume}). A world that was not compared is not in it, and is done again. Thread-safe.
 */
final class Journal {
  static final String FILE = "torture.jsonl";
  private static final ObjectMapper JSON = new ObjectMapper();

  private final Path file;

  private Journal(Path file) {
    this.file = file;
  }

  /** @return of a campaign that begins now, in the place of any other */
  static Journal begin(Path folder, Map<String, Object> what) throws IOException {
    Journal journal = new Journal(folder.resolve(FILE));
    Files.deleteIfExists(journal.file);
    journal.append("campaign", JSON.valueToTree(what));
    return journal;
  }

  /** @throws IllegalStateException there is none in this folder */
  static Journal open(Path folder) throws IOException {
    Journal journal = new Journal(folder.resolve(FILE));
    if (!Files.exists(journal.file)) {
      throw new IllegalStateException("--resume: no campaign in " + folder + ": there is no " + FILE + "; leave out --resume, or name its folder with --out");
    }
    String text = Files.readString(journal.file);
    int whole = text.lastIndexOf('\n') + 1;
    if (whole < text.length()) {
      // The machine went down while it was written: what it was about is done again.
      Files.writeString(journal.file, text.substring(0, whole));
    }
    return journal;
  }

  /** @return what the campaign was asked for when it began */
  JsonNode what() throws IOException {
    return lines().get(0).path("campaign");
  }

  /** @return what was done up to now, and in which parts */
  Result result() throws IOException {
    Result result = new Result();
    for (JsonNode line : lines()) {
      if (line.has("part")) {
        result.parts.add((ObjectNode) line.path("part"));
      } else if (line.has("control")) {
        JsonNode c = line.path("control");
        result.controls.add(new Control(c.path("name").asText(), c.path("does").asText(), c.path("found").asLong()));
      } else if (line.has("world")) {
        JsonNode world = line.path("world");
        world.path("cycles").forEach(c -> result.cycles.add(Cycle.of(c)));
        world.path("again").properties().forEach(e -> result.again.merge(e.getKey(), e.getValue().asLong(), Long::sum));
        world.path("counts").properties().forEach(e -> result.counts.merge(e.getKey(), e.getValue().asLong(), Long::sum));
        if (world.has("evidence")) {
          result.evidence.add(Path.of(world.path("evidence").asText()));
        }
        result.worlds = Math.max(result.worlds, world.path("number").asInt());
      } else if (line.has("ended")) {
        result.seconds += line.path("ended").path("seconds").asDouble();
      }
    }
    return result;
  }

  private List<JsonNode> lines() throws IOException {
    List<JsonNode> lines = new ArrayList<>();
    for (String text : Files.readAllLines(file)) {
      try {
        lines.add(JSON.readTree(text));
      } catch (IOException e) {
        throw new IOException(file + ", line " + (lines.size() + 1) + ", is not JSON: " + e.getMessage(), e);
      }
    }
    if (lines.isEmpty()) {
      throw new IOException(file + " is empty");
    }
    return lines;
  }

  /** A run of the program begins: when, where, of which commit. */
  void part(ObjectNode part) throws IOException {
    append("part", part);
  }

  /** ... and ends in order. */
  void ended(double seconds) throws IOException {
    append("ended", JSON.createObjectNode().put("seconds", seconds));
  }

  void control(Control control) throws IOException {
    append("control", JSON.createObjectNode().put("name", control.name()).put("does", control.does()).put("found", control.found()));
  }

  /** @param evidence folder that was kept; null: none */
  void world(int number, List<Cycle> cycles, Map<String, Long> again, Map<String, Long> counts, Path evidence) throws IOException {
    ObjectNode world = JSON.createObjectNode().put("number", number);
    cycles.forEach(c -> world.withArray("/cycles").add(c.json()));
    world.set("again", JSON.valueToTree(again));
    world.set("counts", JSON.valueToTree(counts));
    if (evidence != null) {
      world.put("evidence", evidence.toString());
    }
    append("world", world);
  }

  private synchronized void append(String name, JsonNode value) throws IOException {
    ObjectNode line = JSON.createObjectNode();
    line.set(name, value);
    Files.writeString(file, JSON.writeValueAsString(line) + "\n", StandardOpenOption.CREATE, StandardOpenOption.APPEND);
  }
}
