// SPDX-License-Identifier: Apache-2.0
package io.caravan.broker.internal;

import static org.awaitility.Awaitility.await;

import io.caravan.devices.Devices;
import io.caravan.devices.Devices.Enrolment;
import io.caravan.devices.internal.DevicesService;
import io.caravan.runtime.Audit;
import io.caravan.runtime.Config;
import java.io.ByteArrayInputStream;
import java.io.IOException;
import java.io.InputStream;
import java.net.InetAddress;
import java.net.ServerSocket;
import java.net.Socket;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.KeyFactory;
import java.security.KeyStore;
import java.security.PrivateKey;
import java.security.cert.CertificateFactory;
import java.security.cert.X509Certificate;
import java.security.spec.PKCS8EncodedKeySpec;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Base64;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.CopyOnWriteArrayList;
import java.util.concurrent.ThreadLocalRandom;
import java.util.concurrent.TimeUnit;
import java.util.function.Consumer;
import java.util.regex.Pattern;
import javax.net.ssl.KeyManagerFactory;
import javax.net.ssl.SSLContext;
import javax.net.ssl.TrustManagerFactory;
import org.apache.camel.impl.DefaultCamelContext;

/**
 * A real registry, a real driver and a real mosquitto, started by {@code mosquitto/run} with the shipped {@code mosquitto.conf},
 * its three listeners on free ports of this machine.
 */
final class Box implements AutoCloseable {
  static final Path MOSQUITTO = Client.repo().resolve("mosquitto");
  static final Duration WAIT = Duration.ofSeconds(30);

  final Path folder;
  final Path state;
  final Path certs;
  final int localPort;
  final int plainPort;
  final int tlsPort;
  final List<String> audited = new CopyOnWriteArrayList<>();
  private final DefaultCamelContext context = new DefaultCamelContext();
  private final List<Client> clients = new ArrayList<>();
  private AutoCloseable registry;
  Driver driver;
  Process run;

  Box(Path folder) throws Exception {
    this.folder = folder;
    state = Files.createDirectories(folder.resolve("state"));
    certs = folder.resolve("certs");
    localPort = freePort();
    plainPort = freePort();
    tlsPort = freePort();
    certs("init");
    certs("server", "mosquitto", "localhost", "127.0.0.1");
    Files.createDirectories(folder.resolve("data"));
    Files.writeString(folder.resolve("mosquitto.conf"), conf());
    Audit audit = (action, subject, outcome, details) -> audited.add(action + " " + subject + " " + details);
    context.getRegistry().bind("audit", Audit.class, audit);
  }

  /** What an administrator does by hand: the commented listeners come in, names become those of this machine. */
  private String conf() throws IOException {
    String conf = Files.readString(MOSQUITTO.resolve("mosquitto.conf"));
    conf = replace(conf, "^user .*", "user " + System.getProperty("user.name"));
    conf = replace(conf, "^persistence_location .*", "persistence_location " + folder.resolve("data") + "/");
    conf = replace(conf, "^plugin_opt_config_file .*", "plugin_opt_config_file " + pluginFile());
    conf = replace(conf, "^listener 1883 .*", "listener " + localPort + " 127.0.0.1");
    conf = replace(conf, "^# listener 1883 .*\n# use_username_as_clientid", "listener " + plainPort + " 127.0.0.1\nuse_username_as_clientid");
    conf = replace(conf, "^# listener 8883 .*", "listener " + tlsPort + " 127.0.0.1");
    for (String setting : List.of("use_username_as_clientid", "cafile", "certfile", "keyfile", "crlfile", "require_certificate",
        "use_identity_as_username", "tls_version")) {
      conf = replace(conf, "^# (" + setting + " .*)", "$1");
    }
    return conf.replace("/etc/mosquitto/certs", certs.toString());
  }

  private static String replace(String text, String pattern, String by) {
    String replaced = Pattern.compile(pattern, Pattern.MULTILINE).matcher(text).replaceFirst(by);
    if (replaced.equals(text)) {
      throw new AssertionError("mosquitto.conf has no [" + pattern + "] any more");
    }
    return replaced;
  }

  Path pluginFile() {
    return folder.resolve("data/dynamic-security.json");
  }

  // ---- the three parts

  Box startBroker() throws Exception {
    run = new ProcessBuilder(MOSQUITTO.resolve("run").toString(), "--state", state.toString(), "--conf", folder.resolve("mosquitto.conf").toString())
        .redirectErrorStream(true).redirectOutput(ProcessBuilder.Redirect.appendTo(folder.resolve("broker.log").toFile())).start();
    await("mosquitto listens").atMost(WAIT).until(() -> {
      if (!run.isAlive()) {
        throw new AssertionError("mosquitto ended: " + log());
      }
      return listens(localPort) && listens(plainPort) && listens(tlsPort);
    });
    return this;
  }

  void stopBroker() throws Exception {
    run.destroy();
    if (!run.waitFor(20, TimeUnit.SECONDS)) {
      throw new AssertionError("mosquitto/run did not stop");
    }
  }

  Devices startRegistry() throws Exception {
    registry = DevicesService.start(context, new Values(folder));
    return devices();
  }

  Devices devices() {
    return context.getRegistry().lookupByNameAndType("devices", Devices.class);
  }

  Box startDriver() {
    driver = new Driver(settings(), this::devices, context.getRegistry().lookupByNameAndType("audit", Audit.class), context);
    return this;
  }

  Settings settings() {
    return new Settings("tcp://127.0.0.1:" + localPort, "gateway-1", "caravan-gateway-broker", "_admin", state.resolve("admin.password"), "gateway",
        state.resolve("gateway.password"), null, "", "", "", 10, 5_000, 20, 100, state.resolve("dynamic-security.json"), 3_600_000);
  }

  void stopDriver() {
    driver.close();
  }

  /** Registry, broker and driver, all at peace. */
  Box start() throws Exception {
    startRegistry();
    startBroker();
    startDriver();
    settled();
    audited.clear(); // the gateway's own user came in
    return this;
  }

  /** Waits until the broker has what the registry says. */
  Box settled() {
    await("driver: " + driver.trouble()).atMost(WAIT).until(() -> driver.trouble() == null);
    return this;
  }

  Enrolment add(String id) throws IOException {
    return devices().add(new Devices.NewDevice(id, null, null, null, null, null, null, null, null));
  }

  // ---- clients

  Client plain(String user, String password) throws Exception {
    return keep(Client.connect("tcp://127.0.0.1:" + plainPort, user, user, password, null));
  }

  /** Tries until the broker lets it in: the driver is at work. */
  Client comes(String user, String password) {
    Client[] client = new Client[1];
    await("[" + user + "] gets in").atMost(WAIT).ignoreExceptions().until(() -> (client[0] = plain(user, password)) != null);
    return client[0];
  }

  Client local(String user, String password, String clientId) throws Exception {
    return keep(Client.connect("tcp://127.0.0.1:" + localPort, clientId, user, password, null));
  }

  Client gateway(String clientId) throws Exception {
    return local("gateway", Files.readString(state.resolve("gateway.password")), clientId);
  }

  Client tls(SSLContext tls) throws Exception {
    return keep(Client.connect("ssl://localhost:" + tlsPort, "whatever", null, null, tls));
  }

  Client keep(Client client) {
    clients.add(client);
    return client;
  }

  /** An administrator with mosquitto_ctrl. */
  String ctrl(String... arguments) throws Exception {
    List<String> command = new ArrayList<>(List.of("mosquitto_ctrl", "-h", "127.0.0.1", "-p", String.valueOf(localPort), "-u", "_admin",
        "-P", Files.readString(state.resolve("admin.password")), "dynsec"));
    command.addAll(List.of(arguments));
    return execute(command.toArray(String[]::new));
  }

  void certs(String command, String... arguments) throws Exception {
    List<String> all = new ArrayList<>(List.of(MOSQUITTO.resolve("certs").toString(), command, certs.toString()));
    all.addAll(List.of(arguments));
    execute(all.toArray(String[]::new));
  }

  /** The running mosquitto reads certificates and revocation list again. */
  void hup() throws Exception {
    execute("kill", "-HUP", String.valueOf(run.pid()));
  }

  SSLContext identity(String name) throws Exception {
    return identity(certs, name, certs.resolve("ca.crt"));
  }

  /** @param name null: no certificate */
  static SSLContext identity(Path certs, String name, Path ca) throws Exception {
    KeyStore trusted = KeyStore.getInstance("PKCS12");
    trusted.load(null, null);
    trusted.setCertificateEntry("ca", certificate(ca));
    TrustManagerFactory trust = TrustManagerFactory.getInstance(TrustManagerFactory.getDefaultAlgorithm());
    trust.init(trusted);
    KeyManagerFactory keys = KeyManagerFactory.getInstance(KeyManagerFactory.getDefaultAlgorithm());
    KeyStore own = KeyStore.getInstance("PKCS12");
    own.load(null, null);
    if (name != null) {
      String pem = Files.readString(certs.resolve(name + ".key")).replaceAll("-----[A-Z ]+-----", "");
      PrivateKey key = KeyFactory.getInstance("EC").generatePrivate(new PKCS8EncodedKeySpec(Base64.getMimeDecoder().decode(pem)));
      own.setKeyEntry("own", key, new char[0], new X509Certificate[] {certificate(certs.resolve(name + ".crt"))});
    }
    keys.init(own, new char[0]);
    SSLContext context = SSLContext.getInstance("TLS");
    context.init(keys.getKeyManagers(), trust.getTrustManagers(), null);
    return context;
  }

  private static X509Certificate certificate(Path file) throws Exception {
    try (InputStream in = new ByteArrayInputStream(Files.readAllBytes(file))) {
      return (X509Certificate) CertificateFactory.getInstance("X.509").generateCertificate(in);
    }
  }

  String log() throws IOException {
    return Files.readString(folder.resolve("broker.log"));
  }

  static String execute(String... command) throws Exception {
    Process process = new ProcessBuilder(command).redirectErrorStream(true).start();
    process.getOutputStream().close();
    String said = new String(process.getInputStream().readAllBytes());
    if (!process.waitFor(30, TimeUnit.SECONDS) || process.exitValue() != 0) {
      throw new AssertionError(command[0] + " failed: " + said);
    }
    return said;
  }

  private static boolean listens(int port) {
    try (Socket probe = new Socket(InetAddress.getLoopbackAddress(), port)) {
      return true;
    } catch (IOException e) {
      return false;
    }
  }

  static int freePort() throws IOException {
    for (int i = 0; i < 100; i++) {
      int port = ThreadLocalRandom.current().nextInt(20_001, 31_000);
      try (ServerSocket probe = new ServerSocket(port, 1, InetAddress.getLoopbackAddress())) {
        return port;
      } catch (IOException e) {
        continue;
      }
    }
    throw new IOException("no free port from 20001 to 31000");
  }

  /** The broker is stopped whatever else goes wrong. */
  @Override
  public void close() throws Exception {
    try {
      clients.forEach(Client::close);
      if (driver != null) {
        driver.close();
      }
      if (registry != null) {
        registry.close();
      }
      context.close();
    } finally {
      if (run != null) {
        boolean ended = !run.isAlive();
        stopBroker();
        if (ended) {
          throw new AssertionError("mosquitto ended by itself [" + run.exitValue() + "]: " + log());
        }
      }
    }
  }

  /** The keys the registry asks for. */
  private record Values(Path folder) implements Config {
    private static final Map<String, String> VALUES = Map.of("device.access", "registry", "device.lock.failures", "10",
        "device.lock.address.failures", "100", "device.lock.ms", "60000", "device.messages.per.s", "0", "device.bytes.per.s", "0",
        "device.signature.window", "10000");

    @Override
    public String get(String key) {
      return VALUES.getOrDefault(key, "");
    }

    @Override
    public long getLong(String key) {
      return Long.parseLong(get(key));
    }

    @Override
    public boolean getBoolean(String key) {
      return Boolean.parseBoolean(get(key));
    }

    @Override
    public Path getPath(String key) {
      return folder.resolve("registry.db");
    }

    @Override
    public List<String> getList(String key) {
      return List.of();
    }

    @Override
    public AutoCloseable onChange(Consumer<Set<String>> listener) {
      return () -> { };
    }
  }
}
