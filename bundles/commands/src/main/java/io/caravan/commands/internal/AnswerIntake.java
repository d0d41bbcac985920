// SPDX-License-Identifier: Apache-2.0
package io.caravan.commands.internal;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.node.ObjectNode;
import io.caravan.commands.internal.SchemaSubset.Bad;
import io.caravan.commands.internal.TwinBook.Report;
import io.caravan.wal.StoreUnavailableException;
import java.sql.PreparedStatement;
import java.sql.SQLException;
import java.util.ArrayList;
import java.util.HashSet;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.TimeoutException;
import org.apache.camel.Body;
import org.apache.camel.Variable;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/**
 * Bean {@code answers}: what the log has of devices' answers, capabilities and reported state, applied in one transaction with the
 * cursor. A message that cannot be used is counted and never holds up the next one. Called by one thread, that of the route.
 */
public final class AnswerIntake {
  private static final Logger LOG = LoggerFactory.getLogger(AnswerIntake.class);
  private static final int MAX_RESULT = 16_384;
  private static final int MAX_MESSAGE = 500;
  private static final int MAX_BODY = 1 << 20;
  private static final long TURN_TIMEOUT_S = 60;
  private static final long LOG_EVERY_NS = TimeUnit.SECONDS.toNanos(10);
  private static final int SQLITE_CONSTRAINT = 19;
  private static final int SQLITE_TOOBIG = 18;
  private static final int SQLITE_MISMATCH = 20;

  /** One row that says something: all but the store's part is done. */
  private record Said(long seq, String deviceId, String kind, Answer answer, CapabilityForm form, Report report) {}

  private final Turns turns;
  private final CapabilityBook capabilities;
  private final TwinBook twins;
  private final Meters meters;
  private final Time time;
  private final int maxBehindRows;
  private final long maxBehindMs;
  /** From the cursor to here nothing is for us; the cursor itself is moved later, so that telemetry costs no transaction here. */
  private long seen;
  private long seenFrom = -1;
  private long seenSinceMs;
  private long loggedAtNs = System.nanoTime() - LOG_EVERY_NS;
  private int notLogged;

  /**
   * @param maxBehindRows how many rows the cursor may be behind what was looked at
   * @param maxBehindMs   and for how long
   */
  AnswerIntake(Turns turns, CapabilityBook capabilities, TwinBook twins, Meters meters, Time time, int maxBehindRows, long maxBehindMs) {
    this.turns = turns;
    this.capabilities = capabilities;
    this.twins = twins;
    this.meters = meters;
    this.time = time;
    this.maxBehindRows = maxBehindRows;
    this.maxBehindMs = maxBehindMs;
  }

  /** @return up to where the rows behind cursor {@link #seenFrom} have been looked at */
  public long seen() {
    return seen;
  }

  /** @return the cursor that {@link #seen} belongs to; -1: none */
  public long seenFrom() {
    return seenFrom;
  }

  /**
   * Applies what the rows say and moves the cursor.
   *
   * @param rows  seq, device_id, kind, observed_at_ms, received_at_ms, trace_context, body; in order, those that may be of interest
   * @param claim after: the cursor; last: where it is to be
   * @throws StoreUnavailableException nothing was kept, the same rows come again
   */
  public void apply(@Body List<Map<String, Object>> rows, @Variable("claim") Map<String, Object> claim) throws Exception {
    long after = ((Number) claim.get("after")).longValue();
    long last = ((Number) claim.get("last")).longValue();
    List<Said> all = new ArrayList<>(rows.size());
    Set<String> announcing = new HashSet<>();
    for (Map<String, Object> row : rows) {
      Said said = read(row, announcing);
      if (said != null) {
        all.add(said);
      }
    }
    if (all.isEmpty() && mayWait(after, last)) {
      return;
    }
    try {
      commit(all, after, last);
    } catch (RuntimeException | SQLException e) {
      if (!poison(e)) {
        throw e;
      }
      oneByOne(all, after, last);
    }
    seenFrom = -1;
  }

  private boolean mayWait(long after, long last) {
    if (seenFrom != after) {
      seenFrom = after;
      seenSinceMs = time.monoMs();
    }
    seen = last;
    return last - after < maxBehindRows && time.monoMs() - seenSinceMs < maxBehindMs;
  }

  // ---- reading

  /** @param announcing gets the devices of whose rows one announces something new: the next one may say again what is in force until then */
  private Said read(Map<String, Object> row, Set<String> announcing) {
    long seq = ((Number) row.get("seq")).longValue();
    String deviceId = (String) row.get("device_id");
    String kind = (String) row.get("kind");
    try {
      String body = (String) row.get("body");
      long receivedAtMs = ((Number) row.get("received_at_ms")).longValue();
      switch (kind) {
        case "command-status":
          return new Said(seq, deviceId, kind, answer(deviceId, Json.object(body, "the answer", MAX_BODY)), null, null);
        case "capabilities":
          CapabilityForm form = capabilities.parse(body);
          if (!announcing.contains(deviceId) && capabilities.knows(deviceId, form)) {
            count(kind, "unchanged");
            return null;
          }
          announcing.add(deviceId);
          return new Said(seq, deviceId, kind, null, form, null);
        default:
          ObjectNode patch = Json.object(body, "the reported state", MAX_BODY);
          patch.remove(CapabilityForm.ENVELOPE);
          return new Said(seq, deviceId, kind, null, null, new Report(deviceId, patch,
              Math.min(((Number) row.get("observed_at_ms")).longValue(), receivedAtMs), (String) row.get("trace_context")));
      }
    } catch (Bad | RuntimeException e) {
      refused(kind, deviceId, seq, e);
      return null;
    }
  }

  private static Answer answer(String deviceId, ObjectNode body) {
    JsonNode id = body.path("command_id");
    JsonNode status = body.path("status");
    if (!id.isTextual() || !status.isTextual()) {
      throw new IllegalArgumentException("command_id [" + Json.shown(id.toString()) + "] and status [" + Json.shown(status.toString())
          + "] must be text");
    }
    JsonNode result = body.get("result");
    String json = result == null || result.isNull() ? null : result.toString();
    String message = body.path("message").isTextual() ? plain(body.get("message").textValue()) : null;
    if (json != null && json.length() > MAX_RESULT) {
      // That it was carried out counts more than what it says.
      String left = "result of [" + json.length() + "] characters left out, at most " + MAX_RESULT;
      message = message == null ? left : plain(left + "; " + message);
      json = null;
    }
    return new Answer(deviceId, id.textValue(), status.textValue(), null, json, message);
  }

  private static String plain(String text) {
    StringBuilder plain = new StringBuilder(Math.min(text.length(), MAX_MESSAGE));
    text.codePoints().limit(MAX_MESSAGE).forEach(c -> plain.appendCodePoint(Character.isISOControl(c)
        || Character.getType(c) == Character.SURROGATE ? ' ' : c));
    return plain.toString();
  }

  // ---- writing

  private void commit(List<Said> all, long after, long last) throws SQLException {
    List<Runnable> counts = new ArrayList<>();
    write(turn -> {
      counts.clear(); // it may run twice
      Map<String, List<Report>> reports = new LinkedHashMap<>();
      for (Said said : all) {
        if (said.answer != null) {
          turn.answer(said.answer);
          counts.add(() -> count(said.kind, "taken"));
        } else if (said.form != null) {
          boolean changed = capabilities.announce(turn, said.deviceId, said.form, said.seq);
          counts.add(() -> count(said.kind, changed ? "taken" : "unchanged"));
        } else {
          reports.computeIfAbsent(said.deviceId, id -> new ArrayList<>()).add(said.report);
        }
      }
      for (Map.Entry<String, List<Report>> device : reports.entrySet()) {
        int refused = twins.report(turn, device.getKey(), device.getValue());
        int taken = device.getValue().size() - refused;
        counts.add(() -> {
          for (int i = 0; i < taken; i++) {
            count("reported", "taken");
          }
          for (int i = 0; i < refused; i++) {
            refused("reported", device.getKey(), last, new IllegalArgumentException(
                "the reported state would have more than " + TwinBook.MAX_CHARS + " characters"));
          }
        });
      }
      try {
        cursor(turn, after, last);
      } catch (SQLException e) {
        throw new CursorFailed(e.getMessage(), e);
      }
      return null;
    });
    counts.forEach(Runnable::run);
  }

  /** What cannot be applied, ever, is passed over; everything before and behind it is applied. */
  private void oneByOne(List<Said> all, long after, long last) throws SQLException {
    long from = after;
    for (Said said : all) {
      try {
        commit(List.of(said), from, said.seq);
      } catch (RuntimeException | SQLException e) {
        if (!poison(e)) {
          throw e;
        }
        LOG.error("row [{}] of the log, [{}] of [{}], cannot be applied and is passed over", said.seq, said.kind, said.deviceId, e);
        commit(List.of(), from, said.seq);
        count(said.kind, "error");
      }
      from = said.seq;
    }
    if (from < last) {
      commit(List.of(), from, last);
    }
  }

  /** What failed for what the rows are, and not for the store's, or the cursor's, sake. */
  private static boolean poison(Exception e) {
    if (e instanceof CursorFailed) {
      return false;
    }
    for (Throwable cause = e; cause != null; cause = cause.getCause()) {
      if (cause instanceof SQLException) {
        int code = ((SQLException) cause).getErrorCode() & 0xFF;
        return code == SQLITE_CONSTRAINT || code == SQLITE_TOOBIG || code == SQLITE_MISMATCH;
      }
    }
    return !(e instanceof StoreUnavailableException);
  }

  private static final class CursorFailed extends IllegalStateException {
    private static final long serialVersionUID = 1L;

    CursorFailed(String why, Throwable cause) {
      super("answers: the cursor could not be moved, the batch is rolled back: " + why, cause);
    }
  }

  /** As every consumer of the log keeps its books; rows that a damaged file has lost are counted. */
  private static void cursor(Turn turn, long after, long last) throws SQLException {
    PreparedStatement move = turn.statement("UPDATE sink_range SET acked_seq = ?1, inflight_seq = ?1 WHERE sink = 'answers' AND acked_seq = ?2");
    move.setLong(1, last);
    move.setLong(2, after);
    if (move.executeUpdate() != 1) {
      throw new CursorFailed("it is no longer at " + after, null);
    }
    PreparedStatement ledger = turn.statement("UPDATE sink SET delivered = delivered + (SELECT count(*) FROM wal WHERE seq > ?1 AND seq <= ?2),"
        + " attempts = 0, reason = NULL, failing_since_ms = NULL, last_success_at_ms = ?3, last_error = NULL WHERE name = 'answers'");
    ledger.setLong(1, after);
    ledger.setLong(2, last);
    ledger.setLong(3, turn.nowMs());
    ledger.executeUpdate();
    PreparedStatement lost = turn.statement("INSERT INTO discarded (sink, reason, row_count) SELECT 'answers', 'lost', n FROM"
        + " (SELECT ?2 - ?1 - (SELECT count(*) FROM wal WHERE seq > ?1 AND seq <= ?2) AS n) WHERE n > 0"
        + " ON CONFLICT (sink, reason) DO UPDATE SET row_count = row_count + excluded.row_count");
    lost.setLong(1, after);
    lost.setLong(2, last);
    lost.executeUpdate();
  }

  private void write(Turns.Work<Void> work) throws SQLException {
    try {
      turns.write(work).toCompletableFuture().get(TURN_TIMEOUT_S, TimeUnit.SECONDS);
    } catch (ExecutionException e) {
      Throwable cause = e.getCause();
      if (cause instanceof RuntimeException) {
        throw (RuntimeException) cause;
      }
      if (cause instanceof SQLException) {
        throw (SQLException) cause;
      }
      if (cause instanceof Error) {
        throw (Error) cause;
      }
      throw new StoreUnavailableException("the transaction failed: " + cause, 1, cause);
    } catch (TimeoutException e) {
      throw new StoreUnavailableException("no turn to write within " + TURN_TIMEOUT_S + " s", 1, e);
    } catch (InterruptedException e) {
      Thread.currentThread().interrupt();
      throw new StoreUnavailableException("interrupted while waiting for a turn to write", 1, e);
    }
  }

  // ---- counting

  private void count(String kind, String outcome) {
    meters.count("caravan.answers.messages", "What devices said: answers to commands, capabilities, reported state", "kind", kind, "outcome", outcome);
  }

  private void refused(String kind, String deviceId, long seq, Exception why) {
    count(kind, "refused");
    long now = System.nanoTime();
    if (now - loggedAtNs < LOG_EVERY_NS) {
      notLogged++;
      return;
    }
    LOG.warn("[{}] of device [{}], row [{}] of the log, is of no use and changes nothing: {}{}", kind, deviceId, seq, why.getMessage(),
        notLogged == 0 ? "" : " (and " + notLogged + " others since the last of these lines)");
    loggedAtNs = now;
    notLogged = 0;
  }
}
