// SPDX-License-Identifier: Apache-2.0
package io.caravan.torture;

import io.caravan.bench.Oracle;
import io.caravan.it.Distribution;
import io.caravan.it.Load;
import io.caravan.it.Mosquitto;
import io.caravan.it.Pair;
import io.caravan.it.Store;
import io.caravan.parts.HttpsPart;
import io.caravan.parts.KafkaPart;
import io.caravan.parts.S3Part;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.net.URI;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.sql.SQLException;
import java.time.Duration;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.HashSet;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.Callable;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.locks.LockSupport;

/**
 * What faults happen to: the gateway and the cloud as processes, a mosquitto, the far ends of four sinks (files, Kafka, S3,
 * HTTPS), a network between gateway and cloud, and devices that go on through everything and note what they were promised: some
 * at the gateway's own listener, some behind the broker. Used by one thread.
 */
public final class World implements AutoCloseable {
  /** Of the gateway's log; each must have everything in the end. */
  static final List<String> SINKS = List.of("analytics", "file", "kafka", "s3");
  /** On shared cores a start may take long; who is not back after that does not come back. */
  static final Duration BACK = Distribution.START.plusSeconds(60);
  /** As a rate: as much as is acknowledged. */
  static final int FLOOD = 0;
  /** As shipped, and without C2: in a process that lives for ten seconds it costs a quarter of the campaign, and gains nothing. */
  private static final String FLAGS = "-Xms64m -Xmx256m -Xss512k -XX:+UseSerialGC -XX:NewRatio=1 -XX:SurvivorRatio=4 -XX:-UsePerfData -XX:TieredStopAtLevel=1";

  private final String name;
  private final Pair pair;
  private final Parts parts;
  private final Mosquitto broker;
  private final Proxy uplink;
  private final Proxy toS3;
  private final Proxy toHttps;
  private final Promised promised = new Promised();
  private final List<Load> loads = new ArrayList<>();
  private final List<Path> ownAckLogs = new ArrayList<>();
  private final Map<String, String> shipped = new HashMap<>();
  private final KeySet stored = new KeySet();
  private final List<String> unchecked = new ArrayList<>();
  private long storedSeq;
  private long restartedAt = Long.MIN_VALUE;

  /**
   * Unpacks both distributions and starts everything; returns when devices are being promised things and every sink runs.
   *
   * @param base        folder in which the world has its folders
   * @param name        of lower-case letters, digits and hyphens: topic, bucket and folders are named after it
   * @param environment of the gateway's every start
   * @param settings    of the gateway's every start
   * @param rate        messages per second of the numbered devices
   */
  World(Path base, String name, Parts parts, Map<String, String> environment, Map<String, String> settings, int rate) throws Exception {
    this.name = name;
    this.parts = parts;
    pair = new Pair(base, name);
    broker = new Mosquitto(pair.folder.resolve("mosquitto"), pair.brokerPort);
    uplink = new Proxy(pair.uplinkPort);
    toS3 = new Proxy(URI.create(parts.s3.endpoint()).getPort());
    toHttps = new Proxy(parts.https.port());
    try {
      broker.start();
      configure();
      parts.https.reset();
      parts.kafka.createTopic(name, 3, Map.of());
      parts.s3.createBucket(name);
      pair.gateway.with("ingest.mqtt.enabled", true).with("mqtt.client.url", "tcp://127.0.0.1:" + pair.brokerPort)
          .with("mqtt.client.reconnect.min.ms", 100).with("mqtt.client.reconnect.max.ms", 1_000).with("mqtt.client.redelivery.delay.ms", 500)
          .with("uplink.url", "wss://localhost:" + uplink.port()).with("uplink.ack.timeout.ms", 5_000).with("uplink.ping.ms", 1_000)
          .with("uplink.probe.ms", 1_000).with("uplink.connect.timeout.ms", 5_000)
          // Fewer windows than tests have that look at windows: what is pressed here is not the rollup.
          .with("rollup.window.ms", 5_000)
          // Windows that a wrong clock put into the future are emitted when nothing was added for so long.
          .with("rollup.idle.ms", 20_000)
          .with("sink.retry.min.ms", 100).with("sink.retry.max.ms", 500).with("sink.probe.ms", 500);
      environment.forEach(pair.gateway::withEnvironment);
      settings.forEach(pair.gateway::with);
      pair.gateway.withEnvironment("JAVA_OPTS", FLAGS + " " + HaltPoints.agent(pair.folder));
      pair.cloud.withEnvironment("JAVA_OPTS", FLAGS);
      pair.start();
      pair.gateway.shell("feature:install caravan-sink-kafka caravan-sink-s3 caravan-sink-file caravan-sink-analytics");
      Load direct = new Load(Files.createDirectories(pair.folder.resolve("direct")), pair.mqttPort).devices("--devices", 2, "--interval", "100ms");
      if (rate == FLOOD) {
        direct.flood();
      } else {
        direct.numbered(rate);
      }
      loads.add(direct);
      Load behind = new Load(Files.createDirectories(pair.folder.resolve("behind-broker")), pair.brokerPort)
          .devices("--devices", 2, "--interval", "200ms", "--require-receipts", "--receipt-timeout", "3s", "--prefix", "behind");
      loads.add(behind);
      promised.ackLog(direct.ackLog()).ledger(direct.ledger()).ledger(behind.ledger());
      awaitPromises(10);
      await("all sinks run", () -> Store.number(gatewayDb(), "SELECT count(*) FROM sink WHERE name IN (" + quoted() + ")") == SINKS.size());
    } catch (Throwable e) {
      close();
      throw e;
    }
  }

  private static String quoted() {
    return "'" + String.join("', '", SINKS) + "'";
  }

  private void configure() throws IOException {
    write("io.caravan.sink.kafka.cfg", Map.of("sink.kafka.topic", name, "sink.kafka.brokers", parts.kafka.brokers(),
        "sink.kafka.connect.timeout.ms", "2000", "sink.kafka.request.timeout.ms", "1000", "sink.kafka.delivery.timeout.ms", "3000"));
    write("io.caravan.s3.cfg", Map.of("s3.endpoint", "http://127.0.0.1:" + toS3.port(), "s3.access.key", S3Part.ACCESS_KEY, "s3.secret.key", S3Part.SECRET_KEY,
        "s3.connect.timeout.ms", "1000", "s3.socket.timeout.ms", "1500", "s3.attempt.timeout.ms", "2000", "s3.call.timeout.ms", "3000"));
    write("io.caravan.sink.s3.cfg", Map.of("sink.s3.bucket", name, "sink.s3.linger.ms", "200", "sink.s3.batch.rows", "500"));
    write("io.caravan.sink.file.cfg", Map.of("sink.file.directory", files().toString(), "sink.file.linger.ms", "200"));
    write("io.caravan.sink.analytics.cfg", Map.of("sink.analytics.url", "https://localhost:" + toHttps.port() + "/rows", "sink.analytics.ca.file", parts.https.ca().toString(),
        "sink.analytics.answer.timeout.ms", "1500", "sink.analytics.connect.timeout.ms", "1000", "sink.analytics.linger.ms", "100"));
  }

  // ---- what there is

  /** @return what topic, bucket and folders are named after */
  public String name() {
    return name;
  }

  public Distribution gateway() {
    return pair.gateway;
  }

  public Distribution cloud() {
    return pair.cloud;
  }

  public Mosquitto broker() {
    return broker;
  }

  /** @return the network between gateway and cloud */
  public Proxy uplink() {
    return uplink;
  }

  /** @return the network between the gateway and S3 */
  public Proxy toS3() {
    return toS3;
  }

  /** @return the network between the gateway and the HTTPS receiver */
  public Proxy toHttps() {
    return toHttps;
  }

  /** @return TCP port of the cloud behind {@link #uplink} */
  public int uplinkPort() {
    return pair.uplinkPort;
  }

  public KafkaPart kafka() {
    return parts.kafka;
  }

  public S3Part s3() {
    return parts.s3;
  }

  public HttpsPart https() {
    return parts.https;
  }

  /** @return of everything but the unpacked distributions */
  public Path folder() {
    return pair.folder;
  }

  /** @return what sink-file writes to */
  public Path files() {
    return pair.folder.resolve("sink-file");
  }

  public Path gatewayDb() {
    return pair.gatewayDb;
  }

  public Path cloudDb() {
    return pair.cloudDb;
  }

  /** @return of the gateway's own listener */
  public int mqttPort() {
    return pair.mqttPort;
  }

  // ---- what devices were promised

  /** @return how many messages devices have been promised so far, as far as they noted it */
  public long promises() throws IOException {
    return promised.read(unchecked::add);
  }

  /** @return message keys of all that was promised; as many as {@link #promises} */
  public Set<String> promisedKeys() throws IOException {
    promises();
    Set<String> all = new HashSet<>();
    promised.keys().forEach(all::add);
    return all;
  }

  /** Waits until so many more messages were promised. */
  public void awaitPromises(int more) throws Exception {
    long from = promises();
    await(more + " more promises", () -> promises() >= from + more);
  }

  /** From now on what is in this file was promised, too: lines as in the ack log of the bench's load. */
  void alsoPromised(Path ackLog) {
    ownAckLogs.add(ackLog);
    promised.ackLog(ackLog);
  }

  // ---- what faults do

  /** What networks do by chance they do by this seed from now on. */
  void seed(long seed) {
    List.of(uplink, toS3, toHttps).forEach(network -> network.seed(seed));
  }

  /** SIGKILL; returns when it is gone. */
  public void killGateway() {
    pair.gateway.kill();
  }

  /** Starts it; that devices are promised something again is timed from here. Returns when it is ready. */
  public void restartGateway() {
    restartedAt = System.nanoTime();
    pair.gateway.start().awaitReady();
  }

  /** The fault stays for so long: nothing is waited for. */
  public void pause(Duration time) {
    for (long end = System.nanoTime() + time.toNanos(), left; (left = end - System.nanoTime()) > 0;) {
      LockSupport.parkNanos(left);
    }
  }

  /** Waits, and fails with what was waited for. */
  public void await(String what, Callable<Boolean> condition) throws Exception {
    await(what, BACK, condition);
  }

  /** Waits, and fails with what was waited for. */
  public void await(String what, Duration limit, Callable<Boolean> condition) throws Exception {
    for (long end = System.nanoTime() + limit.toNanos(); !condition.call();) {
      if (System.nanoTime() > end) {
        throw new IllegalStateException("not within " + limit.toSeconds() + " s: " + what);
      }
      LockSupport.parkNanos(5_000_000);
    }
  }

  /** Writes a file of the gateway's etc, as an editor saves. The file's other lines stay as they were shipped. */
  public void write(String file, Map<String, String> keys) throws IOException {
    Path etc = pair.gateway.home.resolve("etc").resolve(file);
    if (!shipped.containsKey(file)) {
      shipped.put(file, Files.exists(etc) ? Files.readString(etc) : "");
    }
    StringBuilder text = new StringBuilder(shipped.get(file)).append('\n');
    new LinkedHashMap<>(keys).forEach((key, value) -> text.append(key).append(" = ").append(value).append('\n'));
    Path saved = Files.writeString(pair.gateway.home.resolve(file + ".saved"), text);
    Files.move(saved, etc, StandardCopyOption.REPLACE_EXISTING, StandardCopyOption.ATOMIC_MOVE);
  }

  /** @return how often a sink's current batch has been tried in vain; -1: there is no such sink */
  public long attempts(String sink) throws SQLException {
    List<String> rows = Store.rows(gatewayDb(), "SELECT attempts FROM sink WHERE name = '" + sink + "'");
    return rows.isEmpty() ? -1 : Long.parseLong(rows.get(0));
  }

  /** @return state and reason, as {@code running,timeout} */
  public String state(String sink) throws SQLException {
    return String.join("", Store.rows(gatewayDb(), "SELECT state || ',' || coalesce(reason, '') FROM sink WHERE name = '" + sink + "'"));
  }

  /** Waits until these sinks have everything that is stored at the moment of the call. */
  public void awaitDelivered(Set<String> sinks) throws Exception {
    awaitDelivered("log = 'wal' AND s.name IN ('" + String.join("', '", sinks) + "')", highestSeq());
  }

  // ---- after a fault

  long highestSeq() throws SQLException {
    return Store.number(gatewayDb(), "SELECT coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'wal'), 0)");
  }

  /**
   * Waits until all is as if nothing had been: ready, promising, and everything that is stored now is with every sink and in the cloud.
   *
   * @param healedAt nanoTime; where the gateway was restarted since {@code begunAt}, its start counts instead
   * @return seconds until the first promise
   */
  double settle(long begunAt, long healedAt) throws Exception {
    long from = restartedAt >= begunAt ? restartedAt : healedAt;
    long before = promises();
    await("a promise to a device", () -> promises() > before);
    double recovery = (System.nanoTime() - from) / 1e9;
    CompletableFuture.allOf(CompletableFuture.runAsync(pair.gateway::awaitReady), CompletableFuture.runAsync(pair.cloud::awaitReady)).get();
    awaitDelivered("log = 'wal'", highestSeq());
    awaitDelivered("log = 'outbox'", Store.number(gatewayDb(), "SELECT coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'outbox'), 0)"));
    return recovery;
  }

  private void awaitDelivered(String which, long upTo) throws Exception {
    String behind = "SELECT s.name || ' ' || s.state || ' ' || coalesce(s.reason, '') || ' [' || coalesce(s.last_error, '') || '], acked up to ' || r.acked_seq FROM sink s JOIN sink_range r"
        + " ON r.sink = s.name WHERE s." + which + " AND r.acked_seq < min(coalesce(r.last_seq, " + upTo + "), " + upTo + ")";
    List<List<String>> last = new ArrayList<>(List.of(List.of()));
    try {
      await("", () -> {
        last.set(0, Store.rows(gatewayDb(), behind));
        if (!last.get(0).isEmpty()) {
          LockSupport.parkNanos(50_000_000);
        }
        return last.get(0).isEmpty();
      });
    } catch (IllegalStateException late) {
      throw new IllegalStateException("not within " + BACK.toSeconds() + " s: sinks with " + which + " have all up to " + upTo + ", behind are " + last.get(0));
    }
  }

  /** @return keys that were promised since the last call and are not in the log */
  List<String> missing() throws Exception {
    promises();
    for (String row : Store.rows(gatewayDb(), "SELECT seq, message_key FROM wal WHERE seq > " + storedSeq + " ORDER BY seq")) {
      int comma = row.indexOf(',');
      stored.add(row.substring(comma + 1));
      storedSeq = Long.parseLong(row.substring(0, comma));
    }
    List<String> missing = unchecked.stream().filter(key -> !stored.has(key)).toList();
    unchecked.clear();
    return missing;
  }

  /** Ends the load: every device gets rid of what it still holds. */
  void finish() {
    loads.forEach(Load::finish);
  }

  /** Ends the load as it is: devices keep what they still hold. */
  void abandon() {
    loads.forEach(Load::close);
  }

  /** The bench's oracle, with all that devices noted. */
  Oracle oracle() {
    return oracle(gatewayDb(), cloudDb());
  }

  /** As above, of other stores. */
  Oracle oracle(Path gatewayDb, Path cloudDb) {
    Oracle oracle = Oracle.of(gatewayDb, cloudDb);
    loads.forEach(load -> load.evidence(oracle));
    ownAckLogs.forEach(oracle::ackLog);
    return oracle;
  }

  @Override
  public void close() {
    loads.forEach(Load::close);
    pair.close();
    broker.close();
    try {
      uplink.close();
      toS3.close();
      toHttps.close();
    } catch (IOException e) {
      throw new UncheckedIOException(e);
    }
  }
}
