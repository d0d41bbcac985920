// SPDX-License-Identifier: Apache-2.0
package io.caravan.commands.internal;

import java.sql.Connection;
import java.sql.PreparedStatement;
import java.sql.SQLException;

/** One transaction of {@link Turns}, for the piece of work that got it. Not for other threads, not for later. */
public interface Turn {

  /** The transaction's, for what {@link #statement} does not do; no commit, no rollback. */
  Connection connection();

  /** @return prepared once per transaction; do not close it */
  PreparedStatement statement(String sql) throws SQLException;

  /** Wall clock, milliseconds, the same for the whole transaction. */
  long nowMs();

  /** Monotonic clock, milliseconds, the same for the whole transaction. */
  long monoMs();

  /** A row for the cloud; the outbox is signalled after COMMIT. */
  void outbox(String kind, String deviceId, String messageKey, String traceContext, String body);

  /** What a device, or the gateway itself, said about a command. Never fails for its content: what does not fit is counted. */
  void answer(Answer answer) throws SQLException;

  /** In the order of the calls; not if the transaction is rolled back. Short, must not throw. */
  void afterCommit(Runnable action);
}
