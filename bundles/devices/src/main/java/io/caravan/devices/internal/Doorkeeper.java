// SPDX-License-Identifier: Apache-2.0
package io.caravan.devices.internal;

import io.caravan.devices.Gate;
import io.caravan.mqtt.server.Authenticator;
import java.security.MessageDigest;
import java.util.Arrays;
import java.util.Map;
import java.util.concurrent.TimeUnit;
import java.util.function.BiConsumer;
import java.util.function.LongSupplier;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/**
 * The gate. For every attempt of a length that a token can have the same work is done, whether the device, the token or
 * neither is known: one SHA-256 and {@link Entry#MAX_TOKENS} comparisons in constant time. All of it in memory. Thread-safe.
 */
final class Doorkeeper implements Gate {
  private static final Logger LOG = LoggerFactory.getLogger(Doorkeeper.class);
  private static final long LOG_EVERY_NANOS = TimeUnit.SECONDS.toNanos(10);
  /** A pause is short, as a paused connection's pings are not answered; who owes this much waits longer. */
  private static final long MAX_PAUSE_MS = 1_000;
  private static final long MUCH_MS = 10_000;
  private static final byte[] NOTHING = new byte[0];

  private final DeviceBook devices;
  private final Meters meters;
  private final LongSupplier nowMs;
  private final LongSupplier nanos;
  private final BiConsumer<String, Map<String, String>> lockedOut;
  private final Lockouts<Address> addresses = new Lockouts<>();
  private final Lockouts<Claim> claims = new Lockouts<>();
  private volatile Settings settings;
  private long loggedAt;
  private long unlogged;

  /** @param id a valid id, or "" for all that are not: an attacker's text is not kept */
  private record Claim(Address peer, String id) {}

  /**
   * @param nowMs     wall clock, for validity of tokens
   * @param nanos     a clock that nobody sets, for lock-outs and limits
   * @param lockedOut told of each lock-out, on the thread of the attempt: must not block
   */
  Doorkeeper(DeviceBook devices, Settings settings, Meters meters, LongSupplier nowMs, LongSupplier nanos,
      BiConsumer<String, Map<String, String>> lockedOut) {
    this.devices = devices;
    this.settings = settings;
    this.meters = meters;
    this.nowMs = nowMs;
    this.nanos = nanos;
    this.lockedOut = lockedOut;
  }

  void settings(Settings next) {
    settings = next;
  }

  /** @return how many addresses, and pairs of address and claimed id, are locked now */
  int locked() {
    long now = nanos.getAsLong() / 1_000_000;
    return addresses.locked(settings.lockMs(), now) + claims.locked(settings.lockMs(), now);
  }

  /** @return keys that are remembered for lock-outs */
  int remembered() {
    return addresses.size() + claims.size();
  }

  @Override
  public Verdict check(Attempt attempt) {
    Verdict verdict;
    try {
      verdict = decide(attempt);
    } finally {
      if (attempt.token() != null) {
        Arrays.fill(attempt.token(), (byte) 0);
      }
    }
    meters.decided(attempt.transport(), verdict.outcome());
    if (verdict.outcome() != Outcome.ACCEPTED && verdict.outcome() != Outcome.TOO_FAST) {
      log(attempt, verdict.outcome());
    }
    return verdict;
  }

  private Verdict decide(Attempt attempt) {
    if (devices.closed()) {
      return refused(Outcome.UNAVAILABLE);
    }
    Settings now = settings;
    Address address = Address.parse(attempt.address());
    if (now.open()) {
      return address != null && address.loopback() ? new Verdict(Outcome.ACCEPTED, null, new Open(), 0) : refused(Outcome.ADDRESS);
    }
    String claimed = attempt.certificateName() != null ? attempt.certificateName() : attempt.deviceId();
    // What has no address, which no transport of ours produces, counts as one peer.
    Address peer = address == null ? new Address(0, 0) : address.peer();
    Claim claim = new Claim(peer, Rules.isId(claimed) ? claimed : "");
    long clock = nanos.getAsLong() / 1_000_000;
    long wait = Math.max(addresses.lockedMs(peer, now.lockMs(), clock), claims.lockedMs(claim, now.lockMs(), clock));
    if (wait > 0) {
      return new Verdict(Outcome.LOCKED_OUT, null, null, wait);
    }
    Verdict verdict = identify(attempt, claim.id, address);
    if (verdict.outcome() == Outcome.ACCEPTED) {
      claims.succeeded(claim);
    } else if (verdict.outcome() != Outcome.TOO_FAST) {
      failed(now, claim, verdict.outcome(), clock);
    }
    return verdict;
  }

  private Verdict identify(Attempt attempt, String id, Address address) {
    Live live = devices.live(id);
    Entry entry = live == null ? null : live.entry;
    Credential token = null;
    long time = nowMs.getAsLong();
    if (attempt.certificateName() == null) {
      byte[] presented = attempt.token() != null && attempt.token().length <= Secrets.MAX_PRESENTED ? attempt.token() : NOTHING;
      byte[] hash = Secrets.hash(presented);
      for (int i = 0; i < Entry.MAX_TOKENS; i++) {
        boolean there = entry != null && i < entry.tokens().size();
        boolean same = MessageDigest.isEqual(hash, there ? entry.tokens().get(i).hash() : Secrets.NOBODY);
        if (same && there) {
          token = entry.tokens().get(i);
        }
      }
      if (presented.length == 0 && attempt.token() == null) {
        return refused(Outcome.NO_CREDENTIAL);
      }
      if (entry == null) {
        return refused(Outcome.UNKNOWN_DEVICE);
      }
      if (token == null) {
        return refused(Outcome.WRONG_TOKEN);
      }
    } else if (entry == null) {
      return refused(Outcome.UNKNOWN_DEVICE);
    } else if (attempt.deviceId() != null && !attempt.deviceId().isEmpty() && !attempt.deviceId().equals(id)) {
      // The certificate is somebody else's.
      return refused(Outcome.WRONG_TOKEN);
    }
    Outcome outcome = standing(entry, token, address, time);
    if (outcome != Outcome.ACCEPTED) {
      return refused(outcome);
    }
    if (attempt.transport() == Transport.HTTP || attempt.transport() == Transport.HTTPS) {
      long owed = owed(live, 0);
      if (owed > 0) {
        return new Verdict(Outcome.TOO_FAST, null, null, owed);
      }
    }
    live.accepted(attempt.address(), attempt.transport(), time);
    return new Verdict(Outcome.ACCEPTED, id, new Held(live, token == null ? 0 : token.number(), address), 0);
  }

  /** @param token null: it came with a certificate */
  private static Outcome standing(Entry entry, Credential token, Address address, long timeMs) {
    if (!entry.active()) {
      return Outcome.REVOKED;
    }
    Outcome outcome = token == null ? Outcome.ACCEPTED : token.at(timeMs);
    return outcome != Outcome.ACCEPTED ? outcome : Cidr.allows(entry.allow(), address) ? Outcome.ACCEPTED : Outcome.ADDRESS;
  }

  private void failed(Settings now, Claim claim, Outcome outcome, long clockMs) {
    if (claims.failed(claim, now.lockFailures(), now.lockMs(), clockMs)) {
      lockedOut.accept(claim.id.isEmpty() ? "(no device id)" : loggable(claim.id), Map.of("address", text(claim.peer), "failures",
          Integer.toString(now.lockFailures()), "last", outcome.toString(), "lock_ms", Long.toString(now.lockMs())));
    }
    if (addresses.failed(claim.peer, now.lockAddressFailures(), now.lockMs(), clockMs)) {
      lockedOut.accept(text(claim.peer), Map.of("failures", Integer.toString(now.lockAddressFailures()), "last", outcome.toString(),
          "lock_ms", Long.toString(now.lockMs())));
    }
  }

  private static String text(Address peer) {
    return new Cidr(peer, peer.v4() ? 128 : 64, peer.v4()).toString();
  }

  private static Verdict refused(Outcome outcome) {
    return new Verdict(outcome, null, null, 0);
  }

  /** @param bytes with one message; 0: only ask. @return milliseconds */
  private long take(Live live, int bytes, boolean message) {
    Entry entry = live.entry;
    if (entry == null) {
      return 0;
    }
    Settings now = settings;
    long messagesPerS = entry.messagesPerS() == null ? now.messagesPerS() : entry.messagesPerS();
    long bytesPerS = entry.bytesPerS() == null ? now.bytesPerS() : entry.bytesPerS();
    long clock = nanos.getAsLong();
    long wait = Math.max(live.messages.take(message ? 1 : 0, messagesPerS, clock), live.bytes.take(bytes, bytesPerS, clock));
    return (wait + 999_999) / 1_000_000;
  }

  private long owed(Live live, int bytes) {
    return take(live, bytes, false);
  }

  /** What an accepted connection holds as long as the registry says so. */
  private final class Held implements Authenticator.Grant {
    private final Live live;
    private final int token;
    private final Address address;

    /** @param token its number; 0: it came with a certificate */
    Held(Live live, int token, Address address) {
      this.live = live;
      this.token = token;
      this.address = address;
    }

    @Override
    public boolean valid() {
      Entry entry = live.entry;
      if (entry == null || devices.closed()) {
        return false;
      }
      Credential now = null;
      for (Credential each : entry.tokens()) {
        if (each.number() == token) {
          now = each;
        }
      }
      return (token == 0 || now != null) && standing(entry, now, address, nowMs.getAsLong()) == Outcome.ACCEPTED;
    }

    @Override
    public boolean controller() {
      Entry entry = live.entry;
      return entry != null && entry.active() && entry.controller();
    }

    @Override
    public long take(int bytes) {
      live.heard(nowMs.getAsLong());
      long wait = Doorkeeper.this.take(live, bytes, true);
      return Math.min(wait, wait > MUCH_MS ? MUCH_MS : MAX_PAUSE_MS);
    }
  }

  /** {@code device.access=open}: until it is not any more. */
  private final class Open implements Authenticator.Grant {
    @Override
    public boolean valid() {
      return settings.open();
    }

    @Override
    public long take(int bytes) {
      return 0;
    }
  }

  /** One line now and then: how fast the log grows is not an attacker's to say, nor what stands in it. */
  private void log(Attempt attempt, Outcome outcome) {
    long more;
    synchronized (this) {
      long clock = nanos.getAsLong();
      if (loggedAt != 0 && clock - loggedAt < LOG_EVERY_NANOS) {
        unlogged++;
        return;
      }
      loggedAt = clock;
      more = unlogged;
      unlogged = 0;
    }
    String claimed = attempt.certificateName() != null ? attempt.certificateName() : attempt.deviceId();
    LOG.warn("{}: [{}] from {} was refused: {}{}", attempt.transport(), Rules.isId(claimed) ? loggable(claimed) : "(no device id)",
        Address.parse(attempt.address()) == null ? "(no address)" : attempt.address(), outcome,
        more == 0 ? "" : "; and " + more + " others since the last such line, see caravan_auth_total");
  }

  /** People paste a token where the user name belongs. */
  private static String loggable(String id) {
    return id.startsWith(Secrets.PREFIX) ? Secrets.PREFIX + "..." : id;
  }
}
