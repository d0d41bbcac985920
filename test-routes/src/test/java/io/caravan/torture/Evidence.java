// SPDX-License-Identifier: Apache-2.0
package io.caravan.torture;

import io.caravan.it.Store;
import io.caravan.parts.S3Part;
import io.caravan.torture.Judge.Arrival;
import io.caravan.torture.Judge.Row;
import java.io.ByteArrayInputStream;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.sql.SQLException;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.HashSet;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeMap;
import java.util.stream.Stream;
import java.util.zip.GZIPInputStream;

/** The log of a world and what arrived at the far ends of its sinks, read when all is delivered. */
record Evidence(List<Row> rows, Map<String, List<Arrival>> arrivals, Map<String, Set<Long>> dead) {
  /** Of these sinks a record that is there twice counts twice. */
  static final Set<String> ONCE = Set.of("file", "s3");

  /** Devices whose name begins so send in order, and again in order. */
  static final String BOARDS = "sim-";

  static Evidence of(World world) throws Exception {
    List<Row> rows = new ArrayList<>();
    for (String row : Store.rows(world.gatewayDb(), "SELECT seq, message_key, device_id, CAST(body AS TEXT) FROM wal ORDER BY seq")) {
      String[] columns = row.split(",", 4);
      rows.add(new Row(Long.parseLong(columns[0]), columns[1], columns[2], columns[3].hashCode()));
    }
    Map<String, List<Arrival>> arrivals = new TreeMap<>();
    arrivals.put("file", file(world.files()));
    arrivals.put("s3", s3(world));
    arrivals.put("kafka", kafka(world));
    arrivals.put("analytics", analytics(world));
    Map<String, Set<Long>> dead = new LinkedHashMap<>();
    for (String sink : World.SINKS) {
      dead.put(sink, deadOf(world, sink));
    }
    return new Evidence(rows, arrivals, dead);
  }

  /** Of {@code name}, with a change: for controls. */
  Evidence with(String sink, List<Arrival> instead) {
    Map<String, List<Arrival>> other = new TreeMap<>(arrivals);
    other.put(sink, instead);
    return new Evidence(rows, other, dead);
  }

  /** @return what is wrong; {@code again} gets how many records came once more, per sink */
  List<Judge.Finding> judge(Map<String, Long> again) {
    Judge judge = new Judge(rows).order(BOARDS);
    arrivals.forEach((sink, records) -> again.put(sink, judge.sink(sink, records, ONCE.contains(sink), dead.get(sink))));
    return judge.findings();
  }

  private static Set<Long> deadOf(World world, String sink) throws SQLException {
    Set<Long> dead = new HashSet<>();
    Store.rows(world.gatewayDb(), "SELECT seq FROM dead_letter WHERE sink = '" + sink + "' AND state <> 'requeued'")
        .forEach(seq -> dead.add(Long.parseLong(seq)));
    return dead;
  }

  /**
   * Files in the order of their names, which is that of the rows, whatever folder they are in: a folder is a day, and the gateway's clock
   * may have been set back. Those that begin with a dot are not finished.
   */
  private static List<Arrival> file(Path folder) throws IOException {
    List<Arrival> arrivals = new ArrayList<>();
    try (Stream<Path> all = Files.walk(folder)) {
      for (Path file : all.filter(p -> p.toString().endsWith(".ndjson") && !p.getFileName().toString().startsWith("."))
          .sorted(Comparator.comparing(Path::getFileName)).toList()) {
        Files.readAllLines(file).forEach(line -> arrivals.add(Judge.arrival(line)));
      }
    }
    return arrivals;
  }

  /** Objects in the order of their first rows: a batch may hold rows of several days. */
  private static List<Arrival> s3(World world) throws IOException {
    Map<Long, List<Arrival>> objects = new TreeMap<>();
    for (S3Part.Listed object : world.s3().list(world.name(), "")) {
      try (GZIPInputStream in = new GZIPInputStream(new ByteArrayInputStream(world.s3().get(world.name(), object.key()).body()))) {
        List<Arrival> lines = new String(in.readAllBytes(), StandardCharsets.UTF_8).lines().map(Judge::arrival).toList();
        objects.computeIfAbsent(lines.get(0).seq(), s -> new ArrayList<>()).addAll(lines);
      }
    }
    return objects.values().stream().flatMap(List::stream).toList();
  }

  /** By partition: the devices of one are not those of another. */
  private static List<Arrival> kafka(World world) {
    List<Arrival> arrivals = new ArrayList<>();
    world.kafka().forEach(world.name(), record -> arrivals.add(Judge.arrival(new String(record.value(), StandardCharsets.UTF_8))));
    return arrivals;
  }

  /** What one request to the HTTPS receiver held, and how it was answered. */
  record Request(int answer, List<Arrival> rows) { }

  private static List<Arrival> analytics(World world) {
    return taken(world.https().requests().stream().map(r -> new Request(r.answer(), r.body().lines().map(Judge::arrival).toList())).toList());
  }

  /** Of requests in the order in which they came: rows of those that were taken. One that was refused has not arrived, though its rows may later. */
  static List<Arrival> taken(List<Request> requests) {
    return requests.stream().filter(r -> r.answer() / 100 == 2).flatMap(r -> r.rows().stream()).toList();
  }
}
