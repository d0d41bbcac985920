// SPDX-License-Identifier: Apache-2.0
package io.caravan.desk;

import java.util.List;
import java.util.Optional;
import java.util.concurrent.CompletionStage;
import java.util.function.Consumer;

/**
 * Bean {@code commandDesk} of the cloud: commands as people give them, until the gateway has them, and what gateways say about
 * them.
 *
 * <p>What is accepted is on disk. It reaches the gateway at least once; the gateway, which knows ids, carries it out at most once.
 * Several replicas may share one store: each hands over to the gateways whose connections it holds. Thread-safe; stages
 * complete after COMMIT with fsync, and exceptionally with {@link DeskException}, or with
 * {@link io.caravan.wal.StoreUnavailableException} when nothing was kept because the store cannot take it now.
 */
public interface CommandDesk {
  /** The device id under which a gateway itself takes commands. */
  String GATEWAY = "gateway";

  /**
   * @param id           as a device id, docs/contract.md section 1; null: one is made. The same id with the same content is the same command
   * @param arguments    JSON object; null: {}
   * @param units        JSON object, argument name to unit; null: none
   * @param precondition JSON object, docs/contract.md section 12; null: none
   * @param ttlMs        milliseconds from now on; null: {@code expiresAtMs}, or {@code command.ttl.default.ms}
   * @param expiresAtMs  milliseconds since 1970; null: as {@code ttlMs} says; not both
   * @param origin       {@code cloud} or {@code shell}
   * @param issuedBy     who asked, at most 128 characters
   * @param traceContext W3C traceparent; null: none
   */
  record Request(String gatewayId, String deviceId, String id, String name, String arguments, String units, String precondition,
      Long ttlMs, Long expiresAtMs, String origin, String issuedBy, String traceContext) {}

  /**
   * Times in milliseconds since 1970, texts JSON where the name says what.
   *
   * @param seq           position in lists
   * @param status        as {@code io.caravan.commands.Status}
   * @param reason        of the closed vocabulary of docs/contract.md section 12; null: all is well
   * @param transmissions how often it was handed to a connection of the gateway
   * @param gatewayRevision newest event of the gateway that was applied; 0: it has said nothing
   * @param finalAtMs     null: not final
   * @param events        oldest first; empty in lists
   */
  record Command(long seq, String gatewayId, String id, String deviceId, String name, String arguments, String units,
      String precondition, String origin, String issuedBy, String status, String reason, String detail, String result,
      long createdAtMs, long expiresAtMs, int transmissions, Long cancelRequestedAtMs, long gatewayRevision, long updatedAtMs,
      Long finalAtMs, List<Event> events) {}

  /** @param id counts up over all commands; @param revision of the gateway; null: this cloud says it */
  record Event(long id, String gatewayId, String deviceId, String commandId, Long revision, String status, String reason,
      String detail, String result, long atMs) {}

  /** @param known it was there already: the same again */
  record Accepted(Command command, boolean known) {}

  /** What came of the wish to take a command back. */
  enum Outcome {
    /** It was not handed over, and will not be. */
    CANCELLED,
    /** The gateway is asked: its next event says whether in time. */
    ASKED,
    /** It has left for the device, or is final. */
    TOO_LATE,
    NOT_FOUND
  }

  /** @param command empty with NOT_FOUND */
  record Cancel(Outcome outcome, Optional<Command> command) {}

  /** Null: any. @param open only what is not final */
  record Filter(String gatewayId, String deviceId, String status, boolean open) {
    public static final Filter ALL = new Filter(null, null, null, false);
  }

  /** JSON objects; @param delta what is desired and not, or otherwise, reported */
  record Twin(String gatewayId, String deviceId, String desired, long desiredVersion, String reported, long reportedVersion,
      String delta, long updatedAtMs) {}

  CompletionStage<Accepted> submit(Request request);

  /** @param by who asks, at most 128 characters */
  CompletionStage<Cancel> cancel(String gatewayId, String id, String by);

  Optional<Command> find(String gatewayId, String id);

  /** @param commands newest first; @param more there are more behind the last one */
  record Page(List<Command> commands, boolean more) {}

  /** @param after seq of the last one of the page before; 0: from the newest on; @return at most so many, fewer where they are large */
  Page list(Filter filter, long after, int limit);

  Optional<Twin> twin(String gatewayId, String deviceId);

  /** @return ordered by device */
  List<Twin> twins(String gatewayId);

  /**
   * Has the gateway change what is desired of a device: its command {@code twin.desire}.
   *
   * @param patch    JSON merge patch (RFC 7396), an object
   * @param expected only if the desired version is that when the gateway does it; null: any
   * @param id       as of a command; null: one is made
   */
  CompletionStage<Accepted> desire(String gatewayId, String deviceId, String patch, Long expected, String id, String origin, String by);

  /**
   * Tells events as they are committed, by this replica or another one, in the order of their ids.
   *
   * @param after id of the last event that is known; -1: only what comes from now on
   * @param each  called on one thread at a time; must be quick; what it throws ends the watch
   * @return ends it
   */
  AutoCloseable watch(Filter filter, long after, Consumer<Event> each);

  /**
   * Does now what is due: commands to the gateways that are connected here, and the end of those whose time is over.
   *
   * @return completes when it is committed and handed to the connections
   */
  CompletionStage<Void> pass();
}
