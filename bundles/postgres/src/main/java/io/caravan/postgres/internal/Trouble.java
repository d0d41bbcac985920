// SPDX-License-Identifier: Apache-2.0
package io.caravan.postgres.internal;

import java.sql.SQLException;

/** What an error of the database means and what to do about it; remembers one that says the database takes nothing. Thread-safe. */
final class Trouble {
  private final String place;
  private volatile String refusing;

  /** @param place the database's address, for people */
  Trouble(String place) {
    this.place = place;
  }

  /** Looks at every error of a pooled connection. */
  void seen(SQLException error) {
    String state = state(error);
    if (state.startsWith("53") && !state.equals("53300") || state.startsWith("58") || state.equals("25006")) {
      refusing = describe(error);
    }
  }

  /** A write has succeeded. */
  void gone() {
    refusing = null;
  }

  /** @return why the database takes nothing; null: nothing is known against it */
  String refusing() {
    return refusing;
  }

  /** @return what is wrong, with the database's address, and what to do next */
  String describe(Throwable error) {
    SQLException sql = deepest(error);
    String said = oneLine(sql == null ? String.valueOf(error.getMessage()) : sql.getMessage());
    return "store [" + place + "] " + (sql == null ? "fails: " + said : meaning(state(sql), said));
  }

  private static String meaning(String state, String said) {
    switch (state) {
      case "28000":
      case "28P01":
        return "does not let us in (" + said + "): check store.user, store.password and the server's pg_hba.conf";
      case "3D000":
        return "does not exist (" + said + "): create the database (createdb -E UTF8), or change store.url";
      case "3F000":
        return "lacks the schema that connections are to use (" + said + "): create it, or change currentSchema in store.url";
      case "42501":
        return "does not allow it (" + said + "): store.user must own the tables and may create some (GRANT CREATE, USAGE ON SCHEMA)";
      case "53100":
        return "is full (" + said + "): give the server more disk, or keep less (store.keep.ms); nothing that was acknowledged is lost";
      case "53200":
        return "is out of memory (" + said + "): see the server's log";
      case "53300":
        return "takes no more connections (" + said + "): raise the server's max_connections, or lower store.pool.writers, store.pool.readers and store.pool.api";
      case "25006":
        return "is read-only (" + said + "): it is a standby, or was made read-only; store.url must lead to the primary"
            + " (several hosts and targetServerType=primary do)";
      case "57P03":
        return "is starting or stopping (" + said + "): tried again";
      case "57P01":
      case "57P02":
        return "has ended the connection (" + said + "): it is being stopped; tried again";
      case "58030":
      case "58P01":
        return "has trouble with its disk (" + said + "): see the server's log";
      case "XX001":
      case "XX002":
        return "is damaged (" + said + "): stop writing to it, see the server's log, and restore a backup (docs/operations.md)";
      default:
        return state.startsWith("08") ? "cannot be reached (" + said + "): check store.url, the network, and whether the server runs"
            : "fails: " + said + " (SQLSTATE " + (state.isEmpty() ? "none" : state) + ")";
    }
  }

  /** The pool's own errors carry what the server said as their cause. */
  private static SQLException deepest(Throwable error) {
    SQLException found = null;
    for (Throwable cause = error; cause != null && cause != cause.getCause(); cause = cause.getCause()) {
      if (cause instanceof SQLException sql && (found == null || sql.getSQLState() != null)) {
        found = sql;
      }
    }
    return found;
  }

  private static String state(SQLException error) {
    return error.getSQLState() == null ? "" : error.getSQLState();
  }

  private static String oneLine(String text) {
    return String.valueOf(text).replaceAll("\\s+", " ").strip().replaceFirst("\\.$", "");
  }
}
