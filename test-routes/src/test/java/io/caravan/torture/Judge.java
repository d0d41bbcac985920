// SPDX-License-Identifier: Apache-2.0
package io.caravan.torture;

import io.caravan.torture.Cycle.Kind;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;

/**
 * Compares the gateway's log with what arrived at the far end of a sink, record by record: everything there, nothing twice where the
 * receiver does not tell repetitions apart, each device's records in the order of the log, and as they are in the log. What the
 * bench's oracle judges (what was promised is in the log, and in the cloud) is not judged again. Not thread-safe.
 */
final class Judge {
  /** A record of the log. */
  record Row(long seq, String key, String device, int bodyHash) { }

  /** A record at a receiver, in the order in which it came. */
  record Arrival(long seq, String key, String device, int bodyHash) { }

  /** @param seq of the row it is about; 0: of none */
  record Finding(Kind kind, long seq, String text) { }

  private final Map<String, Row> byKey = new HashMap<>();
  private final List<Row> rows;
  private final List<Finding> findings = new ArrayList<>();

  /** @param rows of the log, by seq */
  Judge(List<Row> rows) {
    this.rows = rows;
    rows.forEach(row -> byKey.put(row.key, row));
  }

  List<Finding> findings() {
    return findings;
  }

  /** Within the log: the numbers of a device whose name begins so rise with the rows, as the device sent them. */
  Judge order(String devices) {
    Map<String, Row> last = new HashMap<>();
    for (Row row : rows) {
      if (row.device.startsWith(devices) && KeySet.isNumbered(row.key)) {
        Row before = last.put(row.key.substring(0, row.key.lastIndexOf('/')), row);
        if (before != null && KeySet.number(before.key) > KeySet.number(row.key)) {
          found(Kind.ORDER, row.seq, "log: row " + row.seq + " is " + row.key + ", row " + before.seq + " before it is " + before.key);
        }
      }
    }
    return this;
  }

  /**
   * @param once whether a record that came twice is there twice: of files and objects; a consumer of Kafka and an HTTPS receiver tell
   *             them apart by message_key
   * @param dead rows that are dead letters of this sink: they need not be there
   * @return how many records came that had been there
   */
  long sink(String sink, List<Arrival> arrivals, boolean once, Set<Long> dead) {
    Set<String> there = new HashSet<>();
    Map<String, Long> last = new HashMap<>();
    long again = 0;
    for (Arrival a : arrivals) {
      Row row = byKey.get(a.key);
      if (row == null || row.seq != a.seq || !row.device.equals(a.device)) {
        found(Kind.ALTERED, a.seq, sink + ": has " + a.key + " of " + a.device + " as row " + a.seq + ", in the log it is " + row);
        continue;
      }
      if (row.bodyHash != a.bodyHash) {
        found(Kind.ALTERED, a.seq, sink + ": " + a.key + " has another body than in the log");
      }
      if (!there.add(a.key)) {
        again++;
        if (once) {
          found(Kind.DOUBLED, a.seq, sink + ": " + a.key + " is there twice");
        }
        continue;
      }
      Long before = last.put(a.device, a.seq);
      if (before != null && before > a.seq) {
        found(Kind.ORDER, a.seq, sink + ": row " + a.seq + " of " + a.device + " came behind row " + before);
      }
    }
    for (Row row : rows) {
      if (!there.contains(row.key) && !dead.contains(row.seq)) {
        found(Kind.LOST, row.seq, sink + ": " + row.key + " (row " + row.seq + ") is in the log and acked, it is not there");
      }
    }
    return again;
  }

  private void found(Kind kind, long seq, String text) {
    findings.add(new Finding(kind, seq, text));
  }

  /** @param line what a sink gets for a record (docs/contract.md, section 9) */
  static Arrival arrival(String line) {
    String body = ",\"body\":";
    int at = line.indexOf(body);
    if (!line.startsWith("{\"seq\":") || at < 0 || !line.endsWith("}")) {
      throw new IllegalArgumentException("a record must be as docs/contract.md, section 9, says, is [" + line + "]");
    }
    return new Arrival(Long.parseLong(line.substring(7, line.indexOf(','))), text(line, "message_key"), text(line, "device_id"),
        line.substring(at + body.length(), line.length() - 1).hashCode());
  }

  private static String text(String line, String field) {
    String name = "\"" + field + "\":\"";
    int from = line.indexOf(name) + name.length();
    return line.substring(from, line.indexOf('"', from));
  }
}
