// SPDX-License-Identifier: Apache-2.0
package io.caravan.devices.internal;

import io.caravan.devices.Devices;
import io.caravan.runtime.Audit;
import io.caravan.runtime.Task;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.file.Path;
import java.sql.SQLException;
import java.util.ArrayList;
import java.util.Collection;
import java.util.Comparator;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.NoSuchElementException;
import java.util.Optional;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.CopyOnWriteArrayList;
import java.util.concurrent.RejectedExecutionException;
import java.util.concurrent.ScheduledExecutorService;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.locks.ReentrantLock;
import java.util.function.Consumer;
import java.util.function.Function;
import java.util.function.LongSupplier;
import java.util.function.UnaryOperator;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/**
 * The registry in memory, where all decisions are made, and the order in which changes get there and to the disk.
 *
 * <p>What gives something is written, audited and then in force. What takes something away is in force, connections are cut,
 * and then it is written; a change that waits for the disk, a copy that is being made, a disk that is gone do not hold it up.
 * What could not be written is written as soon as it can be. Thread-safe.
 */
final class DeviceBook implements Devices, AutoCloseable {
  private static final Logger LOG = LoggerFactory.getLogger(DeviceBook.class);
  private static final long FLUSH_SEEN_MS = 600_000;
  private static final long RETRY_MS = 1_000;
  private static final long CLOSE_S = 5;
  /** Audit entries name this many devices of an import each. */
  private static final int IDS_PER_ENTRY = 100;

  /** How connections that a change ends are ended now, and not when they are next asked. */
  interface Sessions {
    /** Ends all of a device's connections. */
    void disconnect(String deviceId);

    /** Asks each of a device's connections whether its grant still holds. */
    void revalidate(String deviceId);
  }

  private final Registry registry;
  private final Audit audit;
  private final Sessions sessions;
  private final LongSupplier nowMs;
  private final LongSupplier nanos;
  private final ScheduledExecutorService worker;
  private final ScheduledExecutorService announcer;
  private final Map<String, Live> devices = new ConcurrentHashMap<>();
  private final List<Consumer<Change>> listeners = new CopyOnWriteArrayList<>();
  /** One change at a time from first to last; held while it is written. */
  private final ReentrantLock order = new ReentrantLock();
  /** Guards what is in force and the order of its announcements; never held while anything waits. */
  private final Object memory = new Object();
  /** Ids whose state on the disk is older than in memory, and why. */
  private final Map<String, String> unwritten = new ConcurrentHashMap<>();
  private volatile String copyProblem = "";
  private volatile boolean copyDue;
  private volatile boolean closed;

  /** @param worker, announcer of one thread each; ended with this */
  DeviceBook(Registry registry, Audit audit, Sessions sessions, LongSupplier nowMs, LongSupplier nanos,
      ScheduledExecutorService worker, ScheduledExecutorService announcer) throws IOException {
    this.registry = registry;
    this.audit = audit;
    this.sessions = sessions;
    this.nowMs = nowMs;
    this.nanos = nanos;
    this.worker = worker;
    this.announcer = announcer;
    for (Registry.Kept kept : registry.load()) {
      devices.put(kept.entry().id(), new Live(kept.entry(), kept.seen(), kept.seenMs(), nanos.getAsLong()));
    }
    worker.scheduleWithFixedDelay(this::flushSeen, FLUSH_SEEN_MS, FLUSH_SEEN_MS, TimeUnit.MILLISECONDS);
    copySoon();
  }

  // ---------------------------------------------------------------------------------------------- asking

  /** @return null: unknown, or removed */
  Live live(String deviceId) {
    return deviceId == null ? null : devices.get(deviceId);
  }

  @Override
  public List<Device> list() {
    return entries().stream().map(e -> Live.shown(e, devices.get(e.id()))).toList();
  }

  @Override
  public Optional<Device> find(String deviceId) {
    Live live = live(deviceId);
    Entry entry = live == null ? null : live.entry;
    return entry == null ? Optional.empty() : Optional.of(Live.shown(entry, live));
  }

  @Override
  public Optional<SigningPolicy> signingPolicy(String deviceId) {
    Live live = live(deviceId);
    Entry entry = live == null ? null : live.entry;
    if (entry == null || !entry.active()) {
      return Optional.empty();
    }
    if (entry.signing() == Signing.OFF) {
      return Optional.of(new SigningPolicy(Signing.OFF, List.of()));
    }
    long now = nowMs.getAsLong();
    List<byte[]> keys = new ArrayList<>(2);
    for (Credential token : entry.tokens()) {
      if (token.validAt(now)) {
        keys.add(token.signingKey());
      }
    }
    return Optional.of(new SigningPolicy(entry.signing(), keys));
  }

  @Override
  public List<BrokerCredential> brokerCredentials() {
    long now = nowMs.getAsLong();
    return entries().stream().map(e -> {
      Credential token = e.tokens().stream().filter(t -> t.validAt(now)).findFirst().orElse(null);
      return token == null ? new BrokerCredential(e.id(), e.status(), null, null, 0, e.controller())
          : new BrokerCredential(e.id(), e.status(), token.brokerHash(), token.brokerSalt(), token.brokerIterations(), e.controller());
    }).toList();
  }

  int count(Status status) {
    return (int) devices.values().stream().map(l -> l.entry).filter(e -> e != null && e.status() == status).count();
  }

  /** @return what is wrong; the empty string: nothing */
  String problem() {
    if (unwritten.isEmpty()) {
      return "";
    }
    Map.Entry<String, String> one = unwritten.entrySet().iterator().next();
    return unwritten.size() + " changes of devices are in force but not in [" + registry.file() + "], a restart would undo them: device ["
        + one.getKey() + "]: " + one.getValue() + "; free the disk or make it writable, it is tried every second";
  }

  /** @return why there is no fresh copy of the file; the empty string: there is one, or soon will be */
  String copyProblem() {
    return copyProblem;
  }

  private List<Entry> entries() {
    return devices.values().stream().map(l -> l.entry).filter(e -> e != null).sorted(Comparator.comparing(Entry::id)).toList();
  }

  // ---------------------------------------------------------------------------------------------- changing

  @Override
  public Enrolment add(NewDevice device) throws IOException {
    Minted minted = mint(device);
    String id = device.id();
    order.lock();
    try {
      if (devices.containsKey(id)) {
        throw new IllegalArgumentException("device [" + id + "] is there already: device:rotate " + id + " gives it a new token, device:remove "
            + id + " forgets it");
      }
      write("device.add", id, List.of(minted.entry), () -> audit.record("device.add", id, "ok", details(minted.entry)));
      enter(minted);
    } finally {
      order.unlock();
    }
    copySoon();
    return minted.enrolment();
  }

  @Override
  public Enrolment rotate(String deviceId, long overlapMs, Long notAfterMs) throws IOException {
    if (overlapMs < 0) {
      throw new IllegalArgumentException("overlap [" + overlapMs + "] must not be less than 0");
    }
    long now = nowMs.getAsLong();
    Rules.validity(null, notAfterMs, now);
    String token = Secrets.token();
    Entry after = give(deviceId, "device.rotate", Change.What.ROTATED, token, before -> {
      if (!before.active()) {
        throw new IllegalArgumentException("device [" + deviceId + "] is revoked: device:restore " + deviceId + " gives it a new token");
      }
      // The one in use: the newest that is valid. Older ones, and ones that are not valid yet, end here.
      Credential used = before.tokens().stream().filter(t -> t.validAt(now)).findFirst().orElse(null);
      return before.tokens(t -> t != used || overlapMs == 0 ? t.revoked(now) : t.until(now + overlapMs))
          .with(Secrets.kept(token, before.nextNumber(), now, null, notAfterMs));
    });
    return enrolment(after, token);
  }

  @Override
  public Enrolment restore(String deviceId) throws IOException {
    long now = nowMs.getAsLong();
    String token = Secrets.token();
    Entry after = give(deviceId, "device.restore", Change.What.RESTORED, token, before -> {
      if (before.active()) {
        throw new IllegalArgumentException("device [" + deviceId + "] is not revoked: device:rotate " + deviceId + " gives it a new token");
      }
      return before.status(Status.ACTIVE, null).tokens(t -> t.revoked(now)).with(Secrets.kept(token, before.nextNumber(), now, null, null));
    });
    return enrolment(after, token);
  }

  @Override
  public Device revoke(String deviceId) throws IOException {
    long now = nowMs.getAsLong();
    return shown(take(deviceId, "device.revoke", Change.What.REVOKED,
        before -> before.active() ? before.status(Status.REVOKED, now) : before, Map.of()));
  }

  @Override
  public Device revokeToken(String deviceId, String tokenId) throws IOException {
    long now = nowMs.getAsLong();
    return shown(take(deviceId, "device.revoke.token", Change.What.TOKEN_REVOKED, before -> {
      if (before.tokens().stream().noneMatch(t -> t.id().equals(tokenId))) {
        throw new IllegalArgumentException("token [" + Rules.shown(tokenId) + "] must be one of device [" + deviceId + "]: device:show "
            + deviceId + " lists them");
      }
      return before.tokens(t -> t.id().equals(tokenId) ? t.revoked(now) : t);
    }, Map.of("token", Rules.shown(tokenId))));
  }

  @Override
  public void remove(String deviceId) throws IOException {
    take(deviceId, "device.remove", Change.What.REMOVED, before -> null, Map.of());
  }

  @Override
  public Device allow(String deviceId, List<String> cidrs) throws IOException {
    List<Cidr> allow = Cidr.parse(cidrs);
    return change(deviceId, "device.allow", before -> before.allow(allow),
        Map.of("allow", allow.isEmpty() ? "any" : String.join(" ", Cidr.texts(allow))));
  }

  @Override
  public Device signing(String deviceId, Signing signing) throws IOException {
    if (signing == null) {
      throw new IllegalArgumentException("signing must be off, accept or require");
    }
    return change(deviceId, "device.signing", before -> Rules.controls(before.signing(signing)), Map.of("signing", signing.name().toLowerCase(Locale.ROOT)));
  }

  @Override
  public Device controller(String deviceId, boolean controller) throws IOException {
    return change(deviceId, "device.controller", before -> Rules.controls(before.controller(controller)),
        Map.of("controller", Boolean.toString(controller)));
  }

  @Override
  public boolean isController(String deviceId) {
    Live live = live(deviceId);
    Entry entry = live == null ? null : live.entry;
    return entry != null && entry.active() && entry.controller();
  }

  @Override
  public Device limits(String deviceId, Integer messagesPerS, Long bytesPerS) throws IOException {
    Integer messages = Rules.messagesPerS(messagesPerS);
    Long bytes = Rules.bytesPerS(bytesPerS);
    return change(deviceId, "device.limit", before -> before.limits(messages, bytes),
        Map.of("messages_per_s", String.valueOf(messages), "bytes_per_s", String.valueOf(bytes)));
  }

  @Override
  public Device capabilities(String deviceId, String capabilities) throws IOException {
    String json = Rules.capabilities(capabilities);
    return change(deviceId, "device.capabilities", before -> before.capabilities(json), Map.of());
  }

  @Override
  public Imported importFile(Path file, boolean dryRun, Task task) throws IOException {
    List<String> problems = new ArrayList<>();
    Map<String, NewDevice> asked = ImportFile.read(file, problems);
    Map<String, Minted> minted = new LinkedHashMap<>();
    List<String> unchanged = new ArrayList<>();
    task.total(asked.size());
    long seen = 0;
    order.lock();
    try {
      for (Map.Entry<String, NewDevice> line : asked.entrySet()) {
        task.progress(seen++);
        if (problems.size() >= ImportFile.MAX_PROBLEMS) {
          break;
        }
        NewDevice device = line.getValue();
        try {
          if (devices.containsKey(device.id())) {
            check(device);
            unchanged.add(device.id());
          } else if (dryRun || !problems.isEmpty()) {
            check(device);
          } else {
            minted.put(device.id(), mint(device));
          }
        } catch (IllegalArgumentException e) {
          problems.add(line.getKey() + ": " + e.getMessage());
        }
      }
      if (!problems.isEmpty() || dryRun || minted.isEmpty()) {
        return new Imported(List.of(), problems.isEmpty() ? unchanged : List.of(), problems);
      }
      List<String> ids = new ArrayList<>(minted.keySet());
      write("device.import", Rules.shown(file.toString()), minted.values().stream().map(m -> m.entry).toList(), () -> {
        for (int i = 0; i < ids.size(); i += IDS_PER_ENTRY) {
          List<String> some = ids.subList(i, Math.min(ids.size(), i + IDS_PER_ENTRY));
          audit.record("device.import", Rules.shown(file.toString()), "ok",
              Map.of("devices", String.join(" ", some), "of", Integer.toString(ids.size())));
        }
      });
      minted.values().forEach(this::enter);
    } finally {
      order.unlock();
    }
    copySoon();
    return new Imported(minted.values().stream().map(Minted::enrolment).toList(), unchanged, List.of());
  }

  /** A device that is not in the registry yet, with its secret. */
  private final class Minted {
    final Entry entry;
    final String token;

    Minted(Entry entry, String token) {
      this.entry = entry;
      this.token = token;
    }

    Enrolment enrolment() {
      return DeviceBook.this.enrolment(entry, token);
    }
  }

  private Minted mint(NewDevice device) {
    Entry bare = check(device);
    String token = Secrets.token();
    return new Minted(bare.with(Secrets.kept(token, 1, bare.createdAtMs(), device.notBeforeMs(), device.notAfterMs())), token);
  }

  /** @return without a token */
  private Entry check(NewDevice device) {
    long now = nowMs.getAsLong();
    String id = Rules.id(device.id());
    Rules.validity(device.notBeforeMs(), device.notAfterMs(), now);
    return Rules.controls(new Entry(id, Status.ACTIVE, List.of(), Cidr.parse(device.allow()), Rules.capabilities(device.capabilities()),
        device.signing() == null ? Signing.OFF : device.signing(), Rules.messagesPerS(device.messagesPerS()),
        Rules.bytesPerS(device.bytesPerS()), Rules.note(device.note()), now, null, Boolean.TRUE.equals(device.controller())));
  }

  private void enter(Minted minted) {
    synchronized (memory) {
      devices.put(minted.entry.id(), new Live(minted.entry, null, 0, nanos.getAsLong()));
      announce(new Change(minted.entry.id(), Change.What.ADDED, minted.token));
    }
  }

  /** A change of any kind: first in force if it takes something away, first written if not. */
  private Device change(String deviceId, String action, UnaryOperator<Entry> change, Map<String, ?> details) throws IOException {
    Entry before = known(deviceId).entry;
    boolean tightens = before != null && before.tightenedBy(change.apply(before));
    return shown(tightens ? take(deviceId, action, Change.What.CHANGED, change, details)
        : give(deviceId, action, Change.What.CHANGED, null, change, after -> details));
  }

  private Entry give(String deviceId, String action, Change.What what, String token, UnaryOperator<Entry> change) throws IOException {
    return give(deviceId, action, what, token, change, DeviceBook::details);
  }

  private Entry give(String deviceId, String action, Change.What what, String token, UnaryOperator<Entry> change,
      Function<Entry, Map<String, ?>> details) throws IOException {
    order.lock();
    try {
      while (true) {
        Live live = known(deviceId);
        Entry before = live.entry;
        if (before == null) {
          throw unknown(deviceId);
        }
        Entry after = change.apply(before);
        write(action, deviceId, List.of(after), () -> audit.record(action, deviceId, "ok", details.apply(after)));
        boolean current;
        synchronized (memory) {
          // Meanwhile something may have been taken away, which does not wait: then this is made once more on top of it.
          current = live.entry == before;
          if (current) {
            live.entry = after;
            announce(new Change(deviceId, what, token));
          }
        }
        if (current) {
          sessions.revalidate(deviceId);
          return after;
        }
      }
    } finally {
      order.unlock();
      copySoon();
    }
  }

  /** @param change to null: removes the device. @return what it is now, or was before it was removed */
  private Entry take(String deviceId, String action, Change.What what, UnaryOperator<Entry> change, Map<String, ?> details) throws IOException {
    Entry after;
    Entry before;
    synchronized (memory) {
      Live live = known(deviceId);
      before = live.entry;
      if (before == null) {
        throw unknown(deviceId);
      }
      after = change.apply(before);
      if (after == before) {
        return before;
      }
      live.entry = after;
      if (after == null) {
        devices.remove(deviceId, live);
      }
      announce(new Change(deviceId, what, null));
    }
    if (after == null || !after.active()) {
      sessions.disconnect(deviceId);
    } else {
      sessions.revalidate(deviceId);
    }
    try {
      order.lock();
      try {
        settle(deviceId);
      } finally {
        order.unlock();
      }
    } catch (SQLException e) {
      retrySoon();
      audited(action, deviceId, "in force but not written", details);
      throw new IOException(action + " of device [" + deviceId + "] is in force, but could not be written to [" + registry.file() + "]: "
          + e.getMessage() + "; it is tried again until it can be, do not restart the gateway before readiness is green", e);
    }
    audited(action, deviceId, "ok", details);
    copySoon();
    return after == null ? before : after;
  }

  /** For what is done, or has failed, whether or not it can be noted. */
  private void audited(String action, String deviceId, String outcome, Map<String, ?> details) {
    try {
      audit.record(action, deviceId, outcome, details);
    } catch (UncheckedIOException e) {
      LOG.error("{} of device [{}] was done, but is not in the audit log: {}", action, deviceId, e.getMessage());
    }
  }

  /** Writes what is in force of one device. */
  private void settle(String deviceId) throws SQLException {
    Live live = devices.get(deviceId);
    Entry entry = live == null ? null : live.entry;
    try {
      if (entry == null) {
        registry.delete(deviceId, () -> { });
      } else {
        registry.save(List.of(entry), () -> { });
      }
      Live now = devices.get(deviceId);
      if ((now == null ? null : now.entry) == entry) {
        unwritten.remove(deviceId);
      }
    } catch (SQLException e) {
      unwritten.put(deviceId, String.valueOf(e.getMessage()));
      throw e;
    }
  }

  private void write(String action, String subject, Collection<Entry> entries, Registry.Before before) throws IOException {
    try {
      registry.save(entries, before);
      entries.forEach(e -> unwritten.remove(e.id()));
    } catch (SQLException e) {
      audited(action, subject, "failed: not written", Map.of());
      throw new IOException("nothing was changed: " + action + " [" + subject + "] could not be written to [" + registry.file() + "]: "
          + e.getMessage() + "; free the disk or make it writable, and try again", e);
    }
  }

  private Live known(String deviceId) {
    Live live = live(deviceId);
    if (live == null) {
      throw unknown(deviceId);
    }
    return live;
  }

  private static NoSuchElementException unknown(String deviceId) {
    return new NoSuchElementException("device [" + Rules.shown(deviceId) + "] is not in the registry: device:list shows what is");
  }

  private Device shown(Entry entry) {
    return Live.shown(entry, devices.get(entry.id()));
  }

  private Enrolment enrolment(Entry entry, String token) {
    Credential newest = entry.tokens().get(0);
    return new Enrolment(shown(entry), newest.id(), token, Secrets.text(newest.signingKey()));
  }

  private static Map<String, ?> details(Entry entry) {
    Map<String, String> details = new LinkedHashMap<>();
    details.put("token", entry.tokens().get(0).id());
    details.put("allow", entry.allow().isEmpty() ? "any" : String.join(" ", Cidr.texts(entry.allow())));
    details.put("signing", entry.signing().name().toLowerCase(Locale.ROOT));
    if (entry.controller()) {
      details.put("controller", "true");
    }
    return details;
  }

  // ---------------------------------------------------------------------------------------------- afterwards

  @Override
  public AutoCloseable onChange(Consumer<Change> listener) {
    listeners.add(listener);
    return () -> listeners.remove(listener);
  }

  private void announce(Change change) {
    if (listeners.isEmpty()) {
      return;
    }
    later(announcer, 0, () -> listeners.forEach(listener -> {
      try {
        listener.accept(change);
      } catch (RuntimeException | LinkageError e) {
        LOG.error("{} could not be passed on", change, e);
      }
    }));
  }

  private void retrySoon() {
    later(worker, RETRY_MS, this::retry);
  }

  private void retry() {
    order.lock();
    try {
      for (String id : unwritten.keySet()) {
        settle(id);
        LOG.info("device [{}]: what could not be written before is written", id);
      }
      copySoon();
    } catch (SQLException e) {
      LOG.debug("still not written", e);
      retrySoon();
    } finally {
      order.unlock();
    }
  }

  /** Many changes make one copy. */
  private void copySoon() {
    if (!copyDue) {
      copyDue = true;
      later(worker, 0, this::copy);
    }
  }

  private void copy() {
    copyDue = false;
    try {
      registry.copy();
      copyProblem = "";
    } catch (IOException | SQLException | RuntimeException e) {
      String problem = "no fresh copy of the registry could be made: " + (e.getMessage() == null ? e.toString() : e.getMessage());
      if (!problem.equals(copyProblem)) {
        LOG.warn("{} ; the one before it is still there", problem);
      }
      copyProblem = problem;
    }
  }

  /** So that a restart does not forget when devices were there; often enough for people, seldom enough for an SD card. */
  void flushSeen() {
    Map<String, Live> toFlush = new LinkedHashMap<>();
    devices.forEach((id, live) -> {
      if (live.toFlush()) {
        toFlush.put(id, live);
      }
    });
    if (toFlush.isEmpty()) {
      return;
    }
    try {
      registry.seen(toFlush);
    } catch (SQLException e) {
      LOG.warn("when devices were last seen could not be written, later again: {}", e.getMessage());
    }
  }

  private void later(ScheduledExecutorService executor, long delayMs, Runnable task) {
    try {
      executor.schedule(task, delayMs, TimeUnit.MILLISECONDS);
    } catch (RejectedExecutionException e) {
      LOG.debug("not any more, the registry is closed");
    }
  }

  boolean closed() {
    return closed;
  }

  @Override
  public void close() throws InterruptedException {
    closed = true;
    // Without an interrupt: a copy that is being made is finished. What is due later is done here.
    announcer.shutdown();
    worker.shutdown();
    worker.awaitTermination(CLOSE_S, TimeUnit.SECONDS);
    announcer.awaitTermination(CLOSE_S, TimeUnit.SECONDS);
    order.lock();
    try {
      for (String id : unwritten.keySet()) {
        settle(id);
      }
    } catch (SQLException e) {
      LOG.error("changes of devices {} are lost, they could not be written to [{}]: {}", unwritten.keySet(), registry.file(), e.getMessage());
    } finally {
      order.unlock();
    }
    flushSeen();
    if (copyDue) {
      copy();
    }
    registry.close();
  }
}
