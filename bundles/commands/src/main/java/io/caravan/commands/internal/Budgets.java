// SPDX-License-Identifier: Apache-2.0
package io.caravan.commands.internal;

import io.caravan.commands.Capabilities.Budget;
import io.caravan.commands.Capabilities.Capability;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.util.Arrays;
import java.util.HashMap;
import java.util.List;
import java.util.Map;

/**
 * When commands that have a budget were published. In memory; what was before this process is read when it is first asked for. What
 * cannot be dated exactly counts as made at the latest moment it can have been. The engine's thread only.
 */
final class Budgets {
  /** From the time that is in the store until it was really published. */
  private static final long SLACK_MS = 1_000;
  private static final int ROWS = 1_000;
  /** What {@link #at} reads. */
  static final String COLUMNS = "os_boot_id, attempts, attempted_mono_ms, answer_until_mono_ms - timeout_ms";
  // By seq and not by time: seq is the order of publication, the wall clock need not be.
  private static final String SELECT = "SELECT " + Budgets.COLUMNS + " FROM command"
      + " INDEXED BY command_device WHERE device_id = ? AND name = ? AND attempts > 0 ORDER BY seq DESC LIMIT " + ROWS;

  private final Map<String, Window> windows = new HashMap<>();
  private final String bootId;

  Budgets(String bootId) {
    this.bootId = bootId;
  }

  /** Forgets what was read: the store has it. */
  void clear() {
    windows.clear();
  }

  /**
   * @param more publications that are still to come and have room already
   * @return the budget that leaves no room for one now; null: there is room
   */
  Budget exceeded(Transaction turn, Entry entry, Capability capability, int more) throws SQLException {
    List<Budget> budgets = capability.budgets();
    if (budgets.isEmpty()) {
      windows.remove(key(entry)); // would miss publications from now on
      return null;
    }
    Window window = window(turn, entry);
    long longest = 0;
    for (Budget budget : budgets) {
      longest = Math.max(longest, budget.perMs());
      if (window.since(turn.monoMs() - budget.perMs()) + more >= budget.count()) {
        return budget;
      }
    }
    window.forget(turn.monoMs() - longest);
    return null;
  }

  /** To be called after {@link #exceeded}. */
  void published(Entry entry, long atMono) {
    Window window = windows.get(key(entry));
    if (window != null) {
      window.add(atMono);
    }
  }

  /** What was published with time {@code recorded} left at {@code atMono}, or not at all. */
  void left(String deviceId, String name, long recorded, Long atMono) {
    Window window = windows.get(deviceId + '\0' + name);
    if (window != null && window.remove(recorded) && atMono != null) {
      window.add(Math.max(recorded, atMono));
    }
  }

  private Window window(Transaction turn, Entry entry) throws SQLException {
    String key = key(entry);
    Window window = windows.get(key);
    if (window == null) {
      window = new Window();
      PreparedStatement select = turn.statement(SELECT);
      select.setString(1, entry.deviceId);
      select.setString(2, entry.name);
      try (ResultSet row = select.executeQuery()) {
        while (row.next()) {
          long at = at(row, turn.monoMs());
          for (int i = row.getInt(2); i > 0; i--) {
            window.add(at);
          }
        }
      }
      windows.put(key, window);
    }
    return window;
  }

  /** @return when a row, whose first columns are {@link #COLUMNS}, counts as published */
  private long at(ResultSet row, long mono) throws SQLException {
    if (row.getObject(3) == null) {
      return mono; // salvaged: it may have been, and nobody knows when
    }
    // Of another start of the machine: not later than this one's, whatever the wall clock says.
    return Math.min(mono, !bootId.equals(row.getString(1)) ? 0 : Math.max(row.getLong(3), row.getInt(2) > 1 ? row.getLong(4) : 0) + SLACK_MS);
  }

  /**
   * Whether a row must stay, because it would be missing when the store is read the next time.
   *
   * @param row first {@link #COLUMNS}
   */
  boolean counts(ResultSet row, List<Budget> budgets, long mono) throws SQLException {
    if (row.getInt(2) > 0) {
      for (Budget budget : budgets) {
        if (at(row, mono) > mono - budget.perMs()) {
          return true;
        }
      }
    }
    return false;
  }

  private static String key(Entry entry) {
    return entry.deviceId + '\0' + entry.name;
  }

  /** Times in ascending order. */
  private static final class Window {
    private long[] times = new long[4];
    private int size;

    void add(long at) {
      if (size == times.length) {
        times = Arrays.copyOf(times, 2 * size);
      }
      int i = size++;
      for (; i > 0 && times[i - 1] > at; i--) {
        times[i] = times[i - 1];
      }
      times[i] = at;
    }

    boolean remove(long at) {
      int i = Arrays.binarySearch(times, 0, size, at);
      if (i < 0) {
        return false;
      }
      System.arraycopy(times, i + 1, times, i, --size - i);
      return true;
    }

    int since(long after) {
      int count = 0;
      while (count < size && times[size - 1 - count] > after) {
        count++;
      }
      return count;
    }

    void forget(long until) {
      int gone = size - since(until);
      System.arraycopy(times, gone, times, 0, size - gone);
      size -= gone;
    }
  }
}
