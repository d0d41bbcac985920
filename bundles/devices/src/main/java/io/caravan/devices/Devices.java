// SPDX-License-Identifier: Apache-2.0
package io.caravan.devices;

import io.caravan.runtime.Task;
import java.io.IOException;
import java.nio.file.Path;
import java.util.List;
import java.util.Optional;
import java.util.function.Consumer;

/**
 * Bean {@code devices}: the registry. A device that is not in it may do nothing.
 *
 * <p>Every change is durable when the method returns and in force for the next decision; a change that takes something
 * away (revocation, a shorter allow-list) is in force even if it could not be written, and the method then throws. Of a
 * token only hashes are kept; the one time it can be seen is {@link Enrolment}. Thread-safe.
 */
public interface Devices {

  enum Status { ACTIVE, REVOKED }

  /** What is asked of a message's signature: ignored, checked if there is one, compulsory. */
  enum Signing { OFF, ACCEPT, REQUIRE }

  /**
   * @param id            device id, docs/contract.md section 1; {@code gateway} is reserved
   * @param tokens        newest first; revoked and expired ones included
   * @param allow         addresses (CIDR, IPv4 or IPv6) it may come from; empty: any
   * @param capabilities  what it can do, as JSON; null if nothing was declared
   * @param messagesPerS  0: no limit; null: {@code device.messages.per.s}
   * @param bytesPerS     payload bytes; 0: no limit; null: {@code device.bytes.per.s}
   * @param note          free text for people; null if none
   * @param lastSeenMs    of the last accepted connection, request or message, wall-clock milliseconds; null: never
   * @param lastAddress   numeric address then
   * @param lastTransport then
   * @param controller    whether it may give commands to the gateway and, through it, to other devices
   */
  record Device(String id, Status status, List<Token> tokens, List<String> allow, String capabilities, Signing signing,
      Integer messagesPerS, Long bytesPerS, String note, long createdAtMs, Long revokedAtMs, Long lastSeenMs,
      String lastAddress, Gate.Transport lastTransport, boolean controller) {}

  /**
   * @param id         8 characters, no secret: names the token in commands and in the audit log
   * @param notAfterMs null: does not expire
   */
  record Token(String id, long createdAtMs, long notBeforeMs, Long notAfterMs, Long revokedAtMs) {}

  /**
   * What a board needs. The only place where its secrets can be seen.
   *
   * @param token      256 bits, {@code cvn_} and 43 characters of base64url; the password of MQTT, the bearer token of HTTP
   * @param signingKey 256 bits, base64url, derived from the token one way: the key of the message signature
   */
  record Enrolment(Device device, String tokenId, String token, String signingKey) {
    /** Leaves the secrets out. */
    @Override
    public String toString() {
      return "Enrolment[device=" + device.id() + ", tokenId=" + tokenId + "]";
    }
  }

  /** What to enrol; null is "as usual" except for id. Fields as in {@link Device} and {@link Token}. */
  record NewDevice(String id, List<String> allow, String capabilities, Signing signing, Integer messagesPerS, Long bytesPerS,
      String note, Long notBeforeMs, Long notAfterMs, Boolean controller) {
    /** No controller. */
    public NewDevice(String id, List<String> allow, String capabilities, Signing signing, Integer messagesPerS, Long bytesPerS,
        String note, Long notBeforeMs, Long notAfterMs) {
      this(id, allow, capabilities, signing, messagesPerS, bytesPerS, note, notBeforeMs, notAfterMs, null);
    }
  }

  /** @param keys signing keys of the device's tokens that are valid now, newest first */
  record SigningPolicy(Signing signing, List<byte[]> keys) {}

  /**
   * @param what  what happened to the device
   * @param token the new token, only with ADDED, ROTATED and RESTORED and only for who drives a broker; null else
   */
  record Change(String deviceId, What what, String token) {
    public enum What { ADDED, ROTATED, TOKEN_REVOKED, REVOKED, RESTORED, CHANGED, REMOVED }

    /** Leaves the token out. */
    @Override
    public String toString() {
      return "Change[" + deviceId + " " + what + "]";
    }
  }

  /**
   * A broker's copy of the newest valid token: PBKDF2-HMAC-SHA512 over it, as mosquitto keeps it.
   *
   * @param hash       64 bytes; null: the device has no valid token
   * @param iterations of PBKDF2
   * @param controller as in {@link Device}
   */
  record BrokerCredential(String deviceId, Status status, byte[] hash, byte[] salt, int iterations, boolean controller) {}

  /**
   * @param created      devices that were new, with their secrets
   * @param unchanged    ids that were there already and were left alone
   * @param problems     one line each: line or index, what [value] broke which rule; with one of them nothing was imported
   */
  record Imported(List<Enrolment> created, List<String> unchanged, List<String> problems) {}

  /** @return sorted by id */
  List<Device> list();

  Optional<Device> find(String deviceId);

  /**
   * All methods that change a device throw NoSuchElementException if it is not in the registry.
   *
   * @throws IllegalArgumentException      the id or another value breaks its rule, or the device is there already
   * @throws IOException                   it could not be written: nothing was changed
   * @throws java.io.UncheckedIOException  it could not be audited: nothing was changed
   */
  Enrolment add(NewDevice device) throws IOException;

  /**
   * Gives a device a new token. The one in use stays valid for {@code overlapMs}, older ones end at once: two are valid.
   *
   * @param overlapMs  0: the old token ends at once and connections made with it are cut
   * @param notAfterMs of the new token; null: does not expire
   */
  Enrolment rotate(String deviceId, long overlapMs, Long notAfterMs) throws IOException;

  /**
   * Refuses the device and cuts its connections, before it is written. Undone by {@link #restore}.
   *
   * @throws IOException in force, but not on the disk yet; it is written as soon as it can be, readiness is red until then
   */
  Device revoke(String deviceId) throws IOException;

  /** Refuses one token and cuts connections made with it. */
  Device revokeToken(String deviceId, String tokenId) throws IOException;

  /** Makes a revoked device active again with a new token; all older tokens stay revoked. */
  Enrolment restore(String deviceId) throws IOException;

  /** Forgets a device; its data stays. The same id can be added again. */
  void remove(String deviceId) throws IOException;

  /** @param cidrs replaces the list; empty: any address */
  Device allow(String deviceId, List<String> cidrs) throws IOException;

  /** @throws IllegalArgumentException REQUIRE for a controller */
  Device signing(String deviceId, Signing signing) throws IOException;

  /**
   * Says whether a device may give commands, docs/contract.md section 2. Taken away it is at once, as with {@link #revoke}.
   *
   * @throws IllegalArgumentException its signing is REQUIRE: control messages carry no signature
   */
  Device controller(String deviceId, boolean controller) throws IOException;

  /** @return whether it is known, active and a controller now */
  boolean isController(String deviceId);

  /** @param messagesPerS, bytesPerS as in {@link Device} */
  Device limits(String deviceId, Integer messagesPerS, Long bytesPerS) throws IOException;

  /** @param capabilities a JSON object; null: none */
  Device capabilities(String deviceId, String capabilities) throws IOException;

  /**
   * Enrols all devices of a CSV or JSON file in one transaction (docs/operations.md says the form), or none.
   *
   * @param dryRun only check
   * @throws IOException the file cannot be read, is no such file, or the devices could not be written: nothing was changed
   */
  default Imported importFile(Path file, boolean dryRun) throws IOException {
    return importFile(file, dryRun, Task.NONE);
  }

  /**
   * As above.
   *
   * @param task told how many devices of the file are made; when it is cancelled none is enrolled
   */
  Imported importFile(Path file, boolean dryRun, Task task) throws IOException;

  /** @return empty if the device is unknown or revoked */
  Optional<SigningPolicy> signingPolicy(String deviceId);

  /** @return of every device, revoked ones included, sorted by id */
  List<BrokerCredential> brokerCredentials();

  /** @param listener called after each change, in order, on one thread; what it throws is logged */
  AutoCloseable onChange(Consumer<Change> listener);
}
