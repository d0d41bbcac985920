// SPDX-License-Identifier: Apache-2.0
package io.caravan.commands.internal;

import io.caravan.runtime.Config;
import java.util.Set;
import org.slf4j.LoggerFactory;

/**
 * Keys {@code command.*} as they are now. Immutable.
 *
 * @param unsafe what is broken on purpose, so that tests can show that they notice
 */
public record Settings(long ttlDefaultMs, long ttlMaxMs, int queueMax, int openMax, int maxBytes, int window, long ackMs, long keepMs, int keepRows,
    boolean open, Set<String> unsafe) {
  static final Set<String> UNSAFE = Set.of("publish-before-commit", "forget-ids", "ignore-expiry", "ignore-budget",
      "delivered-without-evidence", "republish");

  /** @throws IllegalArgumentException command.unsafe names nothing that can be broken */
  public static Settings of(Config config) {
    Set<String> unsafe = Set.copyOf(config.getList("command.unsafe"));
    if (!unsafe.isEmpty()) {
      for (String what : unsafe) {
        if (!UNSAFE.contains(what)) {
          throw new IllegalArgumentException("command.unsafe [" + what + "] must be of " + UNSAFE + "; leave it empty");
        }
      }
      LoggerFactory.getLogger(Settings.class).warn("command.unsafe={} : commands are not safe; only for negative controls", unsafe);
    }
    return new Settings(config.getLong("command.ttl.default.ms"), config.getLong("command.ttl.max.ms"), (int) config.getLong("command.queue.max"),
        (int) config.getLong("command.open.max"), (int) config.getLong("command.max.bytes"), (int) config.getLong("command.window"),
        config.getLong("command.ack.ms"), config.getLong("command.keep.ms"), (int) config.getLong("command.keep.rows"),
        "open".equals(config.get("device.access")), unsafe);
  }
}
