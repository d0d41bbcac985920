// SPDX-License-Identifier: Apache-2.0
package io.caravan.commands.internal;

import java.sql.SQLException;
import java.util.concurrent.CompletionStage;

/**
 * Writes of this bundle: one thread, many pieces of work in one transaction on {@code writer}. Whatever changes tables command,
 * command_event, capability or twin goes through here, so that nobody else's change has to be expected. Thread-safe, does not block.
 */
public interface Turns {

  /** @param <T> what the caller gets after COMMIT */
  interface Work<T> {
    /**
     * Runs on the engine's thread within the open transaction: short, without waiting for anything. It may be run a second time, alone,
     * when what shared its transaction failed; so nothing but the transaction may be changed here: see {@link Turn#afterCommit}.
     */
    T run(Turn turn) throws SQLException;
  }

  /**
   * @return completes after COMMIT with fsync, on the engine's thread: continuations must be short. Fails with what the work threw, then
   *     nothing of it is kept; with StoreUnavailableException when the store cannot take it now
   */
  <T> CompletionStage<T> write(Work<T> work);
}
