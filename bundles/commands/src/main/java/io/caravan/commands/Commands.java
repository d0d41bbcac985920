// SPDX-License-Identifier: Apache-2.0
package io.caravan.commands;

import java.util.List;
import java.util.Optional;
import java.util.concurrent.CompletionStage;
import java.util.function.Consumer;

/**
 * Bean {@code commands} of the gateway: every command, from when it is kept until its end.
 *
 * <p>A command is published at most once, unless its capability says that it is idempotent; an expired one never. What may have
 * been published is on disk before it is published. All methods are thread-safe and do not block; stages complete after
 * COMMIT with fsync, and exceptionally with {@link io.caravan.wal.StoreUnavailableException} when the store cannot take it now
 * (nothing is kept then).
 */
public interface Commands {
  /** The device id under which the gateway itself takes commands (control plane). */
  String GATEWAY = "gateway";

  /**
   * @param id           1 to 64 of {@code A-Za-z0-9._-}; null: one is made. The same id with the same content is the same command
   * @param deviceId     whom it is for; {@link #GATEWAY}: the gateway itself
   * @param name         1 to 64, letter first, then {@code A-Za-z0-9_.-}
   * @param arguments    JSON object; null: {}
   * @param units        JSON object argument name to unit, checked against the capability's; null: none
   * @param precondition JSON object, docs/contract.md section 12; null: none
   * @param ttlMs        from now on; null: {@code command.ttl.default.ms}
   * @param origin       {@code cloud}, {@code shell} or {@code mqtt}
   * @param issuedBy     who asked, for people and audit, at most 128 characters
   * @param traceContext W3C traceparent; null: none
   */
  record Request(String id, String deviceId, String name, String arguments, String units, String precondition, Long ttlMs,
      String origin, String issuedBy, String traceContext) {}

  /**
   * @param reason    closed vocabulary, docs/contract.md section 12; null while all is well
   * @param detail    for people; null: nothing to say
   * @param result    what the device answered, JSON; null: nothing
   * @param revision  counts up by one with each change of status, from 1
   * @param attempts  how often it may have been published
   * @param events    its history, oldest first; empty in lists
   */
  record Command(String id, String deviceId, String name, String arguments, String origin, String issuedBy, Status status,
      String reason, String detail, String result, long revision, int attempts, long acceptedAtMs, long expiresAtMs,
      Long finalAtMs, List<Event> events) {}

  record Event(long revision, Status status, String reason, String detail, long atMs) {}

  /** @param deviceId null: all; @param status null: all; @param open only those that are not final */
  record Filter(String deviceId, Status status, boolean open) {}

  /**
   * Keeps commands, in one transaction. What breaks a rule is kept as REJECTED
   * and is no error.
   *
   * @return one per request in their order, after COMMIT; one that was known already as it is now; the same id with other
   *     content: a Command with status REJECTED, reason {@code conflict}, which is not stored, and the known one is untouched
   */
  CompletionStage<List<Command>> submit(List<Request> requests);

  /**
   * Takes a command back that may not have been published yet.
   *
   * @return its state afterwards: CANCELLED, or what it was already; empty: not known here
   */
  CompletionStage<Optional<Command>> cancel(String id, String by);

  Optional<Command> find(String id);

  /** @return newest first */
  List<Command> list(Filter filter, int limit);

  /**
   * @param listener called after COMMIT for each change of status, in their order, on one thread, with the command as it was then, its
   *                 only event the newest; must be short; what it throws is logged
   * @return ends it
   */
  AutoCloseable onChange(Consumer<Command> listener);
}
