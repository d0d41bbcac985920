// SPDX-License-Identifier: Apache-2.0
package io.caravan.broker.internal;

import io.caravan.broker.internal.Plan.Step;
import io.caravan.devices.Devices;
import io.caravan.mqtt.client.ControlMqttClient;
import io.caravan.runtime.Audit;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.file.FileAlreadyExistsException;
import java.nio.file.Files;
import java.nio.file.StandardOpenOption;
import java.time.Instant;
import java.util.ArrayList;
import java.util.Collection;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeMap;
import java.util.TreeSet;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.RejectedExecutionException;
import java.util.concurrent.ScheduledThreadPoolExecutor;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicBoolean;
import java.util.function.Supplier;
import java.util.stream.Collectors;
import org.apache.camel.CamelContext;
import org.apache.camel.util.json.JsonObject;
import org.eclipse.paho.mqttv5.common.MqttMessage;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/**
 * Keeps the users and rights of a mosquitto as the registry says: each change goes to the broker when it is made, everything is
 * compared on each connection and every {@code broker.reconcile.ms}, and the state file is always complete, so that a broker which
 * starts from it is right also without the gateway. What takes rights away is not kept waiting by what gives them.
 *
 * <p>Works on one thread of its own; thread-safe. What fails is tried again; {@link #trouble} tells what.
 */
public final class Driver implements AutoCloseable {
  private static final Logger LOG = LoggerFactory.getLogger(Driver.class);
  private static final long TICK_MS = 1_000;
  /** The plugin writes its whole file for each command, and the broker stands still meanwhile. */
  private static final int COMMANDS = 20;
  private static final int DEVICES = COMMANDS / 2;
  /** More new users than this come by a start of the broker: by commands it would stand still for seconds, again and again. */
  private static final int BULK = 100;
  private static final int PAGE = 200;
  /** A role with long names has 5 kB, and an answer must fit into mosquitto.conf's max_packet_size. */
  private static final int ROLES_PAGE = 25;
  private static final int NAMES = 20;
  /** Longer than a broker needs to start and the driver to connect to it. */
  private static final long ASK_AGAIN_NS = TimeUnit.SECONDS.toNanos(30);
  private static final long CLOSE_S = 5;

  private final Settings settings;
  private final Supplier<Devices> lookup;
  private final Audit audit;
  private final CamelContext context;
  private final StateFile file;
  private final Meters meters;
  private final ScheduledThreadPoolExecutor loop = new ScheduledThreadPoolExecutor(1, task -> {
    Thread thread = new Thread(task, "caravan-broker");
    thread.setDaemon(true);
    return thread;
  });

  /** Devices that changed and were not looked after yet. */
  private final Set<String> changed = ConcurrentHashMap.newKeySet();
  /** The newest token of a device, from its enrolment until the broker has it. */
  private final Map<String, String> tokens = new ConcurrentHashMap<>();
  private final AtomicBoolean reconcileNow = new AtomicBoolean();
  private volatile String trouble = "not started yet";
  private volatile Set<String> unset = Set.of();

  // Set on the loop's thread, and ended by close() although that may be stuck: whoever sets one looks at closed afterwards.
  private volatile AutoCloseable subscription;
  private volatile ControlMqttClient client;
  private volatile boolean closed;

  // Of the loop's thread.
  private Devices devices;
  private Control control;
  private long reconciledAt = System.nanoTime();
  private long askedAt = System.nanoTime() - ASK_AGAIN_NS;
  /** When a start was asked for because of many new users; 0: not. */
  private long bulkAskedAt;
  private String logged;

  /**
   * @param lookup  the registry, null while it is not there yet
   * @param context for meters; null: none
   */
  public Driver(Settings settings, Supplier<Devices> lookup, Audit audit, CamelContext context) {
    this.settings = settings;
    this.lookup = lookup;
    this.audit = audit;
    this.context = context;
    file = new StateFile(settings.stateFile());
    meters = Meters.of(context, () -> unset.size());
    loop.setExecuteExistingDelayedTasksAfterShutdownPolicy(false);
    loop.scheduleWithFixedDelay(guarded(this::tick), 0, TICK_MS, TimeUnit.MILLISECONDS);
  }

  /** @return null: the broker has what the registry says, else why not */
  public String trouble() {
    return trouble;
  }

  public String url() {
    return settings.url();
  }

  /** Waits up to 5 s for what is being done. The connection is ended afterwards in any case, and none is made any more. */
  @Override
  public void close() {
    loop.shutdown();
    try {
      if (!loop.awaitTermination(CLOSE_S, TimeUnit.SECONDS)) {
        loop.shutdownNow();
      }
    } catch (InterruptedException e) {
      loop.shutdownNow();
      Thread.currentThread().interrupt();
    }
    end();
    meters.close();
    tokens.clear();
  }

  /** Not on the loop, which may be stuck: a client that is left behind would connect for ever, against the next one with its id. */
  private void end() {
    closed = true;
    AutoCloseable heard = subscription;
    if (heard != null) {
      try {
        heard.close();
      } catch (Exception e) {
        LOG.warn("The subscription to the registry of devices did not close cleanly", e);
      }
    }
    ControlMqttClient connected = client;
    if (connected != null) {
      connected.stop();
    }
  }

  // ---- what happens

  private void changed(Devices.Change change) {
    if (change.token() != null) {
      tokens.put(change.deviceId(), change.token());
    } else if (change.what() == Devices.Change.What.REVOKED || change.what() == Devices.Change.What.REMOVED) {
      tokens.remove(change.deviceId());
    }
    changed.add(change.deviceId());
    run(this::work);
  }

  private final class Ear implements ControlMqttClient.Listener {
    @Override
    public void connected() {
      reconcileNow.set(true);
      run(Driver.this::work);
    }

    @Override
    public void received(String topic, byte[] payload) {
      control.received(payload);
    }

    @Override
    public void lost() {
      control.lost();
    }
  }

  private interface Task {
    void run() throws Exception;
  }

  private void run(Task task) {
    try {
      loop.execute(guarded(task));
    } catch (RejectedExecutionException e) {
      LOG.debug("The driver of the broker has stopped");
    }
  }

  private Runnable guarded(Task task) {
    return () -> {
      try {
        task.run();
      } catch (InterruptedException e) {
        Thread.currentThread().interrupt();
      } catch (Exception e) {
        trouble(e.getMessage() == null ? e.toString() : e.getMessage());
        LOG.debug("The driver of the broker", e);
      }
    };
  }

  private void trouble(String text) {
    trouble = text;
    if (text != null && !text.equals(logged)) {
      LOG.warn("{}: {}", settings.url(), text);
    } else if (text == null && logged != null) {
      LOG.info("{}: users and rights are as the registry says", settings.url());
    }
    logged = text;
  }

  private void tick() throws Exception {
    open();
    if (client.trouble() != null) {
      trouble("no connection: " + client.trouble());
      if (client.refused()) {
        askForRestart("it refuses the user " + settings.user());
      }
    } else if (reconcileNow.get() || !changed.isEmpty() || trouble != null
        || System.nanoTime() - reconciledAt > TimeUnit.MILLISECONDS.toNanos(settings.reconcileMs())) {
      reconcileNow.set(true);
      work();
    }
  }

  /** Registry, state file and connection, as far as they are not there yet. */
  private void open() throws Exception {
    Devices now = lookup.get();
    if (now == null) {
      throw new IllegalStateException("the registry of devices (module devices) is not there yet");
    }
    if (now != devices) {
      if (subscription != null) {
        subscription.close();
      }
      subscription = now.onChange(this::changed);
      goOn();
      devices = now;
      reconcileNow.set(true);
    }
    if (client == null) {
      file.write(wanted().file());
      ControlMqttClient made = new ControlMqttClient("broker", Control.RESPONSES, new Ear());
      made.setCamelContext(context);
      made.setUrl(settings.url());
      made.setClientId(settings.clientId());
      if (settings.passwordFile() != null) {
        made.setUserName(settings.user());
        made.setPasswordFile(settings.passwordFile().toString());
      }
      made.setCaFile(settings.caFile());
      made.setCertFile(settings.certFile());
      made.setKeyFile(settings.keyFile());
      made.setKeepAliveSeconds(settings.keepAliveSeconds());
      made.setConnectTimeoutMs(settings.connectTimeoutMs());
      made.setReconnectMinMs(settings.reconnectMinMs());
      made.setReconnectMaxMs(settings.reconnectMaxMs());
      control = new Control((topic, payload) -> made.publish(topic, new MqttMessage(payload)));
      made.start();
      client = made;
      goOn();
      trouble("not connected yet");
    }
  }

  /** @throws IllegalStateException it was closed meanwhile; what was opened is closed again */
  private void goOn() {
    if (closed) {
      end();
      throw new IllegalStateException("the driver of the broker is closed");
    }
  }

  private Wanted wanted() throws IOException {
    String gateway = settings.readGatewayPassword();
    String admin = settings.readPassword();
    return new Wanted(devices.brokerCredentials(), settings.gatewayId(), settings.gatewayUser(), gateway == null ? null : file.secret(settings.gatewayUser(), gateway),
        settings.user(), admin == null ? null : file.secret(settings.user(), admin));
  }

  /** Everything that is to be done, until nothing is left. */
  private void work() throws Exception {
    open();
    while (!changed.isEmpty() || reconcileNow.get()) {
      if (client.trouble() != null) {
        changed.clear(); // compared with everything else on the next connection
        file.write(wanted().file());
        return;
      }
      if (!changed.isEmpty()) {
        follow();
      } else {
        reconcile();
      }
    }
  }

  /** Brings what changed to the broker: first what was taken away, then some of the rest. */
  private void follow() throws Exception {
    // Before the registry is asked: what it says then is at least as new as these, and what comes later is looked after again.
    List<String> all = changed.stream().sorted().toList();
    changed.removeAll(Set.copyOf(all));
    Wanted wanted = wanted();
    List<String> gone = all.stream().filter(device -> !wanted.users.containsKey(device)).toList();
    List<String> others = all.stream().filter(wanted.users::containsKey).toList();
    if (others.size() > BULK) {
      others = List.of();
      reconcileNow.set(true);
    }
    changed.addAll(others.subList(Math.min(DEVICES, others.size()), others.size()));
    try {
      for (int i = 0; i < gone.size(); i += DEVICES) {
        control.call(gone.subList(i, Math.min(gone.size(), i + DEVICES)).stream().flatMap(device -> Plan.cut(device).stream()).toList());
      }
      if (changed.isEmpty()) {
        file.write(wanted.file());
      }
      List<String> known = others.stream().limit(DEVICES).filter(device -> wanted.users.get(device).role().equals(Acl.DEVICE + device)).toList();
      if (!known.isEmpty()) {
        Plan plan = Plan.of(known, wanted, some(known), this::password);
        List<Step> done = new ArrayList<>();
        apply(plan.steps, done);
        if (done.size() < plan.steps.size()) {
          changed.addAll(known);
        }
        if (plan.needsRestart()) {
          reconcileNow.set(true);
        }
      }
    } catch (IOException e) {
      reconcileNow.set(true);
      throw e;
    }
  }

  /** Compares everything; gives way to changes, and is begun again then. */
  private void reconcile() throws Exception {
    Wanted wanted = wanted();
    file.write(wanted.file());
    Plan plan = Plan.whole(wanted, all(), settings.user(), this::password);
    String many = bulk(plan);
    List<Step> done = new ArrayList<>();
    try {
      apply(plan.steps, done);
    } finally {
      report(done);
    }
    if (done.size() < plan.steps.size()) {
      return;
    }
    reconcileNow.set(false);
    reconciledAt = System.nanoTime();
    unset = plan.unset;
    if (many != null || plan.needsRestart()) {
      String why = many != null ? many : plan.unset.isEmpty() ? "a group of its plugin cannot be deleted otherwise"
          : "it lacks the token of " + plan.unset.size() + " devices (" + names(plan.unset) + ")";
      askForRestart(why);
      trouble("must be started anew, " + why + ": " + (Files.exists(settings.restartFile()) ? "mosquitto/run is asked to by ["
          + settings.restartFile() + "]; where that does not run, restart mosquitto after copying the state file over the plugin's"
          : "it is being done"));
    } else {
      trouble(null);
    }
  }

  /** @return why the new users are left to a start of the broker; null: they are made by commands, because nobody starts it, or they are few */
  private String bulk(Plan plan) {
    long missing = plan.steps.stream().filter(step -> step.what() == Plan.What.USER_MISSING).count();
    long now = System.nanoTime();
    if (missing <= BULK) {
      bulkAskedAt = 0;
      return null;
    }
    if (bulkAskedAt == 0) {
      bulkAskedAt = now;
      askedAt = now - ASK_AGAIN_NS;
    } else if (now - bulkAskedAt > ASK_AGAIN_NS) {
      return null;
    }
    plan.steps.removeIf(step -> step.what() == Plan.What.USER_MISSING || step.what() == Plan.What.ROLE_MISSING);
    return "it lacks " + missing + " users";
  }

  private String password(String user, Secret secret) {
    try {
      String password = user.equals(settings.gatewayUser()) ? settings.readGatewayPassword() : tokens.get(user);
      return password != null && secret.matches(password) ? password : null;
    } catch (IOException e) {
      throw new UncheckedIOException(e);
    }
  }

  /** @param done gets what was done; not all if something changed meanwhile */
  private void apply(List<Step> steps, List<Step> done) throws Exception {
    int next = 0;
    while (next < steps.size() && (next == 0 || changed.isEmpty())) {
      List<Step> batch = new ArrayList<>();
      int commands = 0;
      while (next < steps.size() && (commands == 0 || commands + steps.get(next).commands().size() <= COMMANDS)) {
        commands += steps.get(next).commands().size();
        batch.add(steps.get(next++));
      }
      List<JsonObject> answers = control.call(batch.stream().flatMap(step -> step.commands().stream()).toList());
      List<String> errors = answers.stream().filter(answer -> answer.containsKey("error"))
          .map(answer -> answer.getString("command") + ": " + answer.getString("error")).distinct().toList();
      if (!errors.isEmpty()) {
        // Somebody else changes users too: the next look at everything finds out.
        throw new IOException("the broker refused " + errors + " for " + names(batch.stream().map(Step::subject).toList()));
      }
      batch.stream().filter(step -> step.settles() != null).forEach(step -> tokens.computeIfPresent(step.subject(),
          (device, token) -> step.settles().matches(token) ? null : token));
      done.addAll(batch);
    }
  }

  private Found some(List<String> devices) throws Exception {
    List<JsonObject> questions = devices.stream().flatMap(device -> List.of(Plan.command("getClient", "username", device),
        Plan.command("getRole", "rolename", Acl.DEVICE + device)).stream()).toList();
    Found found = new Found();
    for (JsonObject answer : control.call(questions)) {
      // Without data there is no such thing.
      if (answer.get("data") instanceof JsonObject data) {
        if (data.get("client") instanceof JsonObject user) {
          found.user(user);
        } else if (data.get("role") instanceof JsonObject role) {
          found.role(role);
        }
      }
    }
    return found;
  }

  private Found all() throws Exception {
    Found found = new Found();
    List<JsonObject> answers = data(List.of(Plan.command("getDefaultACLAccess"), Plan.command("listGroups"), Plan.command("getAnonymousGroup")));
    for (Object access : Found.list(answers.get(0), "acls")) {
      found.defaults.put(((JsonObject) access).getString("acltype"), ((JsonObject) access).getBoolean("allow"));
    }
    Found.list(answers.get(1), "groups").forEach(group -> found.groups.add(group.toString()));
    if (answers.get(2).get("group") instanceof JsonObject group && group.getString("groupname") != null) {
      found.anonymousGroup = group.getString("groupname");
    }
    pages("listClients", "clients", PAGE).forEach(found::user);
    pages("listRoles", "roles", ROLES_PAGE).forEach(found::role);
    return found;
  }

  private List<JsonObject> pages(String command, String key, int count) throws Exception {
    List<JsonObject> all = new ArrayList<>();
    Collection<?> page;
    do {
      JsonObject question = Plan.command(command);
      question.put("verbose", true);
      question.put("count", count);
      question.put("offset", all.size());
      page = Found.list(data(List.of(question)).get(0), key);
      page.forEach(element -> all.add((JsonObject) element));
    } while (page.size() == count);
    return all;
  }

  private List<JsonObject> data(List<JsonObject> questions) throws Exception {
    List<JsonObject> data = new ArrayList<>();
    for (JsonObject answer : control.call(questions)) {
      if (!(answer.get("data") instanceof JsonObject object)) {
        throw new IOException("the broker refused [" + answer.getString("command") + "]: " + answer.getString("error"));
      }
      data.add(object);
    }
    return data;
  }

  private void report(List<Step> repairs) {
    if (repairs.isEmpty()) {
      return;
    }
    Map<String, List<String>> details = new TreeMap<>();
    for (Step step : repairs) {
      meters.repaired(step.what());
      details.computeIfAbsent(step.what().toString(), what -> new ArrayList<>()).add(step.subject());
    }
    Map<String, String> texts = new TreeMap<>();
    details.forEach((what, subjects) -> texts.put(what, names(subjects)));
    LOG.info("{} differed from the registry and was mended: {}", settings.url(), texts);
    record("broker.repair", texts);
  }

  private void record(String action, Map<String, String> details) {
    try {
      audit.record(action, settings.url(), "ok", details);
    } catch (UncheckedIOException e) {
      LOG.warn("{} is not in the audit log: {}", action, e.getMessage()); // a broker that is right matters more
    }
  }

  private static String names(Collection<String> names) {
    return names.stream().limit(NAMES).collect(Collectors.joining(", ")) + (names.size() > NAMES ? " and " + (names.size() - NAMES) + " more" : "");
  }

  /** Once, and again if it has not helped. */
  private void askForRestart(String why) throws IOException {
    long now = System.nanoTime();
    if (now - askedAt < ASK_AGAIN_NS || Files.exists(settings.restartFile())) {
      return;
    }
    file.write(wanted().file());
    askedAt = now;
    try {
      Files.writeString(settings.restartFile(), Instant.now() + " " + why + "\n", StandardOpenOption.CREATE_NEW);
    } catch (FileAlreadyExistsException e) {
      return; // asked already
    }
    LOG.warn("{}: mosquitto/run is asked to start the broker anew from {}: {}", settings.url(), settings.stateFile(), why);
    meters.restartAsked();
    record("broker.restart", Map.of("reason", why));
  }
}
