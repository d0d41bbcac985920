// SPDX-License-Identifier: Apache-2.0
package io.caravan.it;

import static org.awaitility.Awaitility.await;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.sun.tools.attach.VirtualMachine;
import java.io.IOException;
import java.lang.reflect.Array;
import java.net.URI;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.nio.file.attribute.PosixFilePermissions;
import java.security.MessageDigest;
import java.util.ArrayList;
import java.util.Base64;
import java.util.HexFormat;
import java.util.LinkedHashMap;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeSet;
import java.util.UUID;
import java.util.stream.Stream;
import java.util.zip.ZipEntry;
import java.util.zip.ZipInputStream;
import javax.management.MBeanAttributeInfo;
import javax.management.MBeanServerConnection;
import javax.management.ObjectName;
import javax.management.openmbean.CompositeData;
import javax.management.openmbean.TabularData;
import javax.management.remote.JMXConnector;
import javax.management.remote.JMXConnectorFactory;
import javax.management.remote.JMXServiceURL;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.MethodOrderer;
import org.junit.jupiter.api.Order;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.TestMethodOrder;

/**
 * Who may do what to a gateway, and what it tells whom: the real distribution, run by a user of its own, asked by real users
 * of the machine. Needs root, for these users.
 */
@TestMethodOrder(MethodOrderer.OrderAnnotation.class)
class OperationIT {
  private static final int EX_CONFIG = 78;
  private static final String SERVICE = "caravan-it";
  private static final String VIEWER = "caravan-it-v";
  private static final String OPERATOR = "caravan-it-o";
  private static final String ADMIN = "caravan-it-a";
  private static final String STRANGER = "caravan-it-s";
  private static final String GROUP = "caravan-it-g";
  private static final int MQTT_PORT = Ports.free();
  /** What must show nowhere, by where it was put. */
  private static final Map<String, String> SECRETS = new LinkedHashMap<>();
  /** What must show, so that the search is known to find something. */
  private static final String NO_SECRET = "north-" + UUID.randomUUID();

  private static Path folder;
  private static Path audit;
  private static Distribution gateway;

  private record Ran(int exit, String output) { }

  @BeforeAll
  static void start() throws Exception {
    for (String user : List.of(SERVICE, VIEWER, OPERATOR, ADMIN, STRANGER)) {
      if (run("id", user).exit != 0) {
        must("useradd", "--system", "--user-group", "--no-create-home", "--home-dir", "/nonexistent", "--shell", "/usr/sbin/nologin", user);
      }
    }
    if (run("getent", "group", GROUP).exit != 0) {
      must("groupadd", "--system", GROUP);
    }
    for (String user : List.of(SERVICE, VIEWER, OPERATOR, ADMIN, STRANGER)) {
      must("usermod", "-aG", GROUP, user);
    }
    folder = Files.createTempDirectory("caravan-it");
    Files.setPosixFilePermissions(folder, PosixFilePermissions.fromString("rwxr-xr-x"));
    gateway = Distribution.unpack("gateway", folder.resolve("gateway"));
    for (String name : List.of("uplink token", "password in the environment", "password in a file", "token of an own key")) {
      SECRETS.put(name, "s3cr3t-" + UUID.randomUUID());
    }
    Path etc = gateway.home.resolve("etc");
    append(etc.resolve("shell.access"), VIEWER + " = viewer\n" + OPERATOR + " = operator\n" + ADMIN + " = admin\nsocket.group = " + GROUP + "\n");
    append(etc.resolve("io.caravan.user.cfg"), "user.api.token = " + SECRETS.get("token of an own key") + "\nuser.site = " + NO_SECRET + "\n");
    append(etc.resolve("org.ops4j.pax.logging.cfg"), "\nlog4j2.logger.caravan.name = io.caravan\nlog4j2.logger.caravan.level = DEBUG\n");
    must("chown", SERVICE, etc.resolve("io.caravan.user.cfg").toString());
    Files.setPosixFilePermissions(etc.resolve("io.caravan.user.cfg"), PosixFilePermissions.fromString("rw-------"));
    // The disk of the audit log is its own, so that it can be full without the store being so.
    audit = gateway.home.resolve("data/audit");
    Files.createDirectories(audit);
    Files.setPosixFilePermissions(audit.getParent(), PosixFilePermissions.fromString("rwxr-x---"));
    must("chown", SERVICE + ":", gateway.home.resolve("data").toString());
    must("mount", "-t", "tmpfs", "-o", "size=128k,mode=0700,uid=" + id(SERVICE, "-u") + ",gid=" + id(SERVICE, "-g"), "caravan-it", audit.toString());
    gateway.with("uplink.url", "wss://localhost:" + Ports.free()).with("uplink.token.file", secretFile("uplink token"))
        .with("sink.kafka.password", "file:" + secretFile("password in a file")).with("mqtt.server.port", MQTT_PORT)
        .with("device.access", "registry").with("admin.login", "always")
        .withEnvironment("CARAVAN_MQTT_CLIENT_PASSWORD", SECRETS.get("password in the environment"))
        .withEnvironment("CARAVAN_USER", SERVICE).start().awaitReady();
    await().atMost(Distribution.START).until(() -> Files.exists(gateway.home.resolve("data/admin.password")));
    SECRETS.put("first password", Files.readString(gateway.home.resolve("data/admin.password")).strip());
  }

  @AfterAll
  static void stop() throws IOException {
    if (gateway != null) {
      gateway.close();
    }
    if (audit != null) {
      run("umount", audit.toString());
    }
    if (folder != null) {
      Distribution.delete(folder);
    }
  }

  @Test
  @Order(1)
  void runsAsAUserWhoCanWriteItsDataFolderOnly() throws IOException {
    assertEquals(SERVICE, run("ps", "-o", "user:32=", "-p", "" + gateway.pid()).output.strip());
    String status = Files.readString(Path.of("/proc/" + gateway.pid() + "/status"));
    assertTrue(status.contains("CapEff:\t0000000000000000"), status);
    assertTrue(status.contains("NoNewPrivs:\t1"), status);
    assertFalse(gateway.console().contains("running as root"), gateway.console());
    try (Stream<Path> tree = Files.walk(gateway.home)) {
      for (Path path : tree.filter(p -> !p.startsWith(gateway.home.resolve("data")) && !p.endsWith("io.caravan.user.cfg")).toList()) {
        assertFalse(Files.getOwner(path).getName().equals(SERVICE), path + " belongs to the service");
      }
    }
    Path data = gateway.home.resolve("data");
    assertEquals("rwxr-x--x", mode(data), "others come through it to the socket, and see nothing of it");
    for (String file : List.of("admin.password", "users.properties", "registry.db", "audit/audit.log")) {
      assertEquals("rw-------", mode(data.resolve(file)), file);
    }
    assertEquals("rwx------", mode(data.resolve("caravan")));
    try (Stream<Path> tree = Files.walk(data)) {
      for (Path path : tree.filter(p -> !Files.isSymbolicLink(p) && !p.equals(data)).toList()) {
        assertTrue(mode(path).endsWith("---"), path + " has mode " + mode(path));
      }
    }
  }

  @Test
  @Order(2)
  void listensOnWhatIsConfiguredAndOnNothingElse() throws IOException {
    assertEquals(new TreeSet<>(Set.of("127.0.0.1:" + gateway.httpPort, "127.0.0.1:" + MQTT_PORT)), listening(gateway.pid()));
  }

  @Test
  @Order(3)
  void eachRoleMayDoItsCommandsAndNoOthers() {
    Map<String, String> lowest = new LinkedHashMap<>();
    for (String command : List.of("gateway:info", "gateway:diagnose", "sink:list", "dead:list", "wal:status", "wal:ledger", "route:list", "device:list",
        "gateway:watch --count 1",
        "route:diff", "route:topology", "config:list", "bundle:list", "feature:list", "help", "shell:info", "command:list", "twin:show", "capability:show gateway")) {
      lowest.put(command, VIEWER);
    }
    for (String command : List.of("sink:pause uplink", "sink:resume uplink", "dead:requeue --all --yes", "audit:list", "audit:verify", "wal:verify", "log:get",
        "shell:threads")) {
      lowest.put(command, OPERATOR);
    }
    for (String command : List.of("device:add --json it-1", "device:revoke it-1 --yes", "device:controller it-1 off", "command:send gateway ping", "capability:clear it-1", "dead:discard --all --reason test --yes", "wal:compact", "route:check no-such.camel.yaml", "user:list", "log:set INFO org.example",
        "shell:exec true", "bundle:list; shell:cat " + gateway.home.resolve("data/admin.password"), "shell:echo x > " + gateway.home.resolve("data/x"),
        "x = { user:list } ; x", "shell:each [1] { user:list }", "shell:eval user:list", "echo $(user:list)", "($.commandSession class) classLoader",
        "shell:echo x | shell:cat", "feature:install no-such-feature-or-other", "system:property a b", "shell:addCommand x y")) {
      lowest.put(command, ADMIN);
    }
    List<String> order = List.of(VIEWER, OPERATOR, ADMIN);
    List<String> wrong = new ArrayList<>();
    lowest.forEach((command, least) -> order.forEach(user -> {
      Ran ran = shell(user, command);
      boolean refused = ran.exit != 0 && (ran.output.contains("Command not found") || ran.output.contains("Insufficient credentials"));
      boolean may = order.indexOf(user) >= order.indexOf(least);
      // Whether an admin's nonsense succeeds is another matter.
      if (may ? refused && !command.startsWith("system:") || ran.exit != 0 && !least.equals(ADMIN) : !refused) {
        wrong.add(user + ": " + command + " -> " + ran);
      }
    }));
    assertEquals(List.of(), wrong);
    Ran stranger = shell(STRANGER, "gateway:info");
    assertEquals(77, stranger.exit, stranger.output);
    assertTrue(stranger.output.contains("has no role in this shell"), stranger.output);
    assertEquals(4, shell("nobody", "gateway:info").exit, "who is not in the group cannot open the socket");
    assertEquals(0, shell("root", "user:list").exit);
    assertEquals(0, shell(SERVICE, "user:list").exit);
  }

  @Test
  @Order(4)
  void whatPeopleDoIsInTheAuditLogWithTheirNames() throws IOException {
    shell(OPERATOR, "sink:pause uplink");
    shell(OPERATOR, "sink:resume uplink");
    shell(VIEWER, "wal:compact");
    shell(VIEWER, "sink:list");
    assertEquals("ok", last(OPERATOR, "sink:pause uplink").path("outcome").asText());
    assertTrue(last(VIEWER, "wal:compact").path("outcome").asText().startsWith("failed: Command not found"));
    assertTrue(entries("--actor " + VIEWER).stream().noneMatch(e -> e.path("subject").asText().equals("sink:list")), "reading is no change");
    JsonNode start = entries("--action container.start").get(0);
    assertEquals(SERVICE, start.path("details").path("user").asText());
    assertTrue(entries("--action route.inventory").get(0).path("details").path("ingest").asText().matches("feature [0-9a-f]{64}"));
    assertEquals("admin", entries("--action user.add").get(0).path("subject").asText());
    assertEquals(List.of(), entries("--from 2020-01-01T00:00:00Z --to 2020-01-02T00:00:00Z"));
  }

  /** From the operating system's shell: the status says how it ended, and nothing is for a terminal. */
  @Test
  @Order(5)
  void commandsRunFromOutside() throws Exception {
    ObjectMapper json = new ObjectMapper();
    for (String command : List.of("gateway:info", "gateway:diagnose", "gateway:watch --count 1 --interval 100ms", "route:list", "route:show rollup --resolved", "route:diff", "route:topology",
        "sink:list", "dead:list", "wal:status", "wal:ledger", "wal:incidents", "device:list", "command:list", "twin:show", "user:list", "audit:list", "config:list", "task:list")) {
      Ran people = shell("root", command);
      assertEquals(0, people.exit, command + ": " + people.output);
      assertFalse(people.output.contains("\u001b"), command);
      Ran program = shell("root", command + " --json");
      assertTrue(program.exit == 0 && json.readTree(program.output).isContainerNode(), command + ": " + program);
    }
    assertTrue(shell("root", "gateway:info").output.lines().count() <= 24);
    Ran help = shell("root", "sink:pause --help");
    assertTrue(help.exit == 0 && help.output.contains("sink:pause kafka") && !help.output.contains("\u001b"), help.output);
    assertEquals(1, shell("root", "sink:pause nosuch").exit);
    Ran svg = shell("root", "route:topology --format svg");
    javax.xml.parsers.DocumentBuilderFactory.newInstance().newDocumentBuilder().parse(new java.io.ByteArrayInputStream(svg.output.getBytes(StandardCharsets.UTF_8)));
    assertTrue(svg.output.contains(">ingest<") && svg.output.contains(">rollup<"), svg.output);

    String shipped = shell("root", "route:show rollup").output;
    Path copy = Files.writeString(folder.resolve("rollup.camel.yaml"), shipped);
    assertEquals(0, shell("root", "route:check " + copy).exit);
    Files.writeString(copy, shipped.replace("direct:", "nosuch:"));
    Ran bad = shell("root", "route:check " + copy);
    assertTrue(bad.exit == 1 && bad.output.contains(copy.toString()) && bad.output.contains("-> "), bad.output);
    Ran refused = shell("root", "route:edit rollup");
    assertTrue(refused.exit == 1 && refused.output.contains("route:show rollup"), "deploy/ is not this user's: " + refused.output);
  }

  @Test
  @Order(5)
  void changesOfConfigurationAndRoutesAreInTheAuditLogButNoSecret() throws Exception {
    Path cfg = gateway.home.resolve("etc/io.caravan.user.cfg");
    String secret = "s3cr3t-" + UUID.randomUUID();
    SECRETS.put("another token of an own key", secret);
    Files.writeString(cfg, Files.readString(cfg).replace("user.api.token = ", "user.api.token = " + secret).replace("user.site = ", "user.site = far-"));
    await().atMost(Distribution.START).until(() -> !entries("--action config.change").isEmpty());
    JsonNode change = entries("--action config.change").get(0);
    assertEquals("user.api.token user.site", change.path("subject").asText());
    assertEquals("[***] -> [***]", change.path("details").path("user.api.token").asText());
    assertEquals("[" + NO_SECRET + "] -> [far-" + NO_SECRET + "]", change.path("details").path("user.site").asText());

    Path route = gateway.home.resolve("deploy/it-hello.camel.yaml");
    Files.writeString(route, "- route:\n    id: it-hello\n    from:\n      uri: direct:it-hello\n      steps:\n        - setBody:\n            constant: one\n");
    String text = Files.readString(route);
    await().atMost(Distribution.START).until(() -> entries("--subject it-hello").size() == 1);
    Files.writeString(route, text.replace("one", "two"));
    await().atMost(Distribution.START).until(() -> entries("--subject it-hello").size() == 2);
    Files.delete(route);
    await().atMost(Distribution.START).until(() -> entries("--subject it-hello").size() == 3);
    List<JsonNode> all = entries("--subject it-hello");
    assertEquals(List.of("route.deploy", "route.replace", "route.undeploy"), all.stream().map(e -> e.path("action").asText()).toList());
    assertEquals(HexFormat.of().formatHex(MessageDigest.getInstance("SHA-256").digest(text.getBytes(StandardCharsets.UTF_8))),
        all.get(0).path("details").path("sha256").asText());
    assertEquals("deploy " + all.get(0).path("details").path("sha256").asText(), all.get(1).path("details").path("before").asText());
    assertFalse(all.get(0).path("details").path("sha256").asText().equals(all.get(1).path("details").path("sha256").asText()));
  }

  @Test
  @Order(6)
  void peopleLogInOverHttpWithThePasswordOfTheFirstStart() throws Exception {
    assertEquals(401, login("/metrics", null, null));
    assertEquals(401, login("/metrics", "admin", "admin"));
    assertEquals(401, login("/metrics", "karaf", "karaf"));
    assertEquals(200, login("/metrics", "admin", SECRETS.get("first password")));
    JsonNode made = new ObjectMapper().readTree(shell("root", "user:add it-user viewer --json").output);
    SECRETS.put("password of a user", made.path("password").asText());
    assertEquals(200, login("/metrics", "it-user", made.path("password").asText()));
    assertEquals(0, shell("root", "user:remove it-user").exit);
    assertEquals(401, login("/metrics", "it-user", made.path("password").asText()));
    assertTrue(shell("root", "user:remove admin").exit != 0, "the last admin stays");
  }

  @Test
  @Order(7)
  void whatCannotBeAuditedIsNotGranted() throws IOException {
    assertEquals(0, shell("root", "user:add it-first viewer").exit);
    Path filler = audit.resolve("filler");
    // What is left of a page of the log itself would still take an entry or two.
    byte[] page = new byte[4096];
    try {
      for (int i = 0; i < 100; i++) {
        Files.write(filler, page, StandardOpenOption.CREATE, StandardOpenOption.APPEND);
      }
    } catch (IOException full) {
      // As intended.
    }
    await().atMost(Distribution.START).until(() -> {
      shell("root", "log:set INFO org.example");
      return !check("audit").equals("UP");
    });
    Ran refused = shell("root", "user:add it-second viewer");
    assertTrue(refused.exit != 0 && refused.output.contains("must not be done"), refused.toString());
    assertEquals(0, shell("root", "user:remove it-first").exit, "taking rights away goes on");
    String users = shell("root", "user:list").output;
    assertFalse(users.contains("it-second") || users.contains("it-first"), users);
    Files.delete(filler);
    await().atMost(Distribution.START).until(() -> check("audit").equals("UP"));
    assertTrue(entries("--action audit.missed").stream().anyMatch(e -> e.path("subject").asText().equals("it-first")
        && e.path("details").path("action").asText().equals("user.remove")));
    assertEquals(0, shell("root", "user:add it-second viewer").exit);
    assertEquals(0, shell("root", "user:remove it-second").exit);
    Ran verified = shell("root", "audit:verify");
    assertEquals(0, verified.exit, verified.output);
  }

  @Test
  @Order(8)
  void noSecretShowsAnywhere() throws Exception {
    Map<String, String> shown = new LinkedHashMap<>();
    shown.put("console", gateway.console());
    for (String command : List.of("config:list", "config:list --json", "gateway:info", "gateway:diagnose", "gateway:diagnose --deep", "shell:info", "shell:threads",
        "log:display -n 100000", "audit:list --limit 0 --json", "user:list --json", "device:list --json", "bundle:list", "shell:echo $.processor",
        "shell:set", "bundle:services 0", "log:get", "route:list", "feature:list")) {
      Ran ran = shell("root", command);
      shown.put(command, ran.output);
    }
    assertEquals(0, shell("root", "gateway:bundle").exit);
    try (Stream<Path> zips = Files.list(gateway.home.resolve("data/diagnostics"))) {
      for (Path zip : zips.toList()) {
        try (ZipInputStream in = new ZipInputStream(Files.newInputStream(zip))) {
          for (ZipEntry entry = in.getNextEntry(); entry != null; entry = in.getNextEntry()) {
            shown.put(zip.getFileName() + "!" + entry.getName(), new String(in.readAllBytes(), StandardCharsets.ISO_8859_1));
          }
        }
      }
    }
    try (Stream<Path> data = Files.walk(gateway.home.resolve("data"))) {
      for (Path file : data.filter(Files::isRegularFile).filter(p -> !p.endsWith("admin.password") && !p.toString().endsWith(".jar")).toList()) {
        shown.put(file.toString(), Files.readString(file, StandardCharsets.ISO_8859_1));
      }
    }
    shown.put("ps", run("ps", "-ww", "-o", "args=", "-p", "" + gateway.pid()).output);
    shown.put("MBeans", mbeans());
    List<String> found = new ArrayList<>();
    SECRETS.forEach((name, secret) -> shown.forEach((place, text) -> {
      if (text.contains(secret)) {
        found.add(name + " in " + place);
      }
    }));
    assertEquals(List.of(), found);
    // Else nothing was looked at.
    assertTrue(shown.get("config:list").contains(NO_SECRET), shown.get("config:list"));
    assertTrue(shown.get("config:list").contains("user.api.token"), shown.get("config:list"));
    assertTrue(shown.get("MBeans").contains("io.caravan:type=Recovery"), "MBeans were read");
    assertTrue(shown.get("MBeans").contains("caravan.uplink.token.file"), "and so were the arguments of the process");
    assertTrue(gateway.log().contains(" DEBUG "), "and the log is as talkative as it gets");
  }

  @Test
  @Order(9)
  void anAlteredAuditLogIsNamedAndGoneOnFrom() throws IOException {
    assertEquals(0, shell("root", "audit:verify").exit);
    assertEquals(0, gateway.stop());
    Path file = audit.resolve("audit.log");
    List<String> lines = new ArrayList<>(Files.readAllLines(file));
    assertTrue(lines.get(lines.size() - 1).contains("\"container.stop\""), lines.get(lines.size() - 1));
    int altered = lines.size() / 2;
    lines.set(altered, lines.get(altered).replaceFirst("\"actor\":\"[^\"]*\"", "\"actor\":\"somebody-else\""));
    Files.write(file, lines);
    gateway.start().awaitReady();
    Ran verified = shell("root", "audit:verify");
    assertEquals(1, verified.exit, verified.output);
    assertTrue(verified.output.contains("BROKEN: audit.log line " + (altered + 2) + " "), verified.output);
    assertEquals(1, verified.output.lines().filter(l -> l.startsWith("BROKEN")).count(), verified.output);
    assertEquals(1, entries("--action user.add --subject admin").size(), "the second start makes no other first user");
    assertEquals(0, gateway.stop());
  }

  @Test
  @Order(10)
  void aSecretOnTheCommandLineRefusesTheStart() {
    gateway.with("sink.kafka.password", "on-the-command-line");
    gateway.start();
    assertEquals(EX_CONFIG, gateway.awaitExit());
    assertTrue(gateway.console().contains("sink.kafka.password must not stand on the command line"), gateway.console());
    assertFalse(gateway.log().contains("on-the-command-line"));
    gateway.without("sink.kafka.password");
  }

  // ---- what is used above

  private static String secretFile(String name) throws Exception {
    Path file = folder.resolve(name.replace(' ', '-'));
    Files.createFile(file, PosixFilePermissions.asFileAttribute(PosixFilePermissions.fromString("rw-------")));
    Files.writeString(file, SECRETS.get(name) + "\n");
    must("chown", SERVICE, file.toString());
    return file.toString();
  }

  private static void append(Path file, String text) throws IOException {
    Files.writeString(file, text, StandardOpenOption.CREATE, StandardOpenOption.APPEND);
  }

  private static String mode(Path file) throws IOException {
    return PosixFilePermissions.toString(Files.getPosixFilePermissions(file));
  }

  private static String id(String user, String option) {
    return must("id", option, user).output.strip();
  }

  private static Ran must(String... command) {
    Ran ran = run(command);
    if (ran.exit != 0) {
      throw new AssertionError(String.join(" ", command) + ": " + ran + "; this test needs root");
    }
    return ran;
  }

  private static Ran run(String... command) {
    try {
      Process process = new ProcessBuilder(command).redirectErrorStream(true).start();
      process.getOutputStream().close();
      String output = new String(process.getInputStream().readAllBytes(), StandardCharsets.UTF_8);
      return new Ran(process.waitFor(), output);
    } catch (IOException | InterruptedException e) {
      throw new IllegalStateException(e);
    }
  }

  /** A command in the gateway's shell, by a user of the machine. */
  private static Ran shell(String user, String command) {
    return run("setpriv", "--reuid=" + id(user, "-u"), "--regid=" + id(user, "-g"), "--init-groups", "--",
        gateway.home.resolve("bin/caravan").toString(), "shell", command);
  }

  private static List<JsonNode> entries(String filter) throws IOException {
    List<JsonNode> entries = new ArrayList<>();
    Ran ran = shell("root", "audit:list --json --limit 0 " + filter);
    assertEquals(0, ran.exit, ran.output);
    new ObjectMapper().readTree(ran.output).forEach(entries::add);
    return entries;
  }

  private static JsonNode last(String actor, String line) throws IOException {
    List<JsonNode> all = entries("--actor " + actor + " --action shell.command");
    return all.stream().filter(e -> e.path("subject").asText().equals(line)).reduce((a, b) -> b).orElseThrow(() -> new AssertionError(all.toString()));
  }

  private static String check(String name) throws IOException {
    for (JsonNode check : new ObjectMapper().readTree(shell("root", "gateway:info --json").output).path("checks")) {
      if (check.path("name").asText().equals(name)) {
        return check.path("status").asText();
      }
    }
    return "absent";
  }

  private static int login(String path, String user, String password) throws Exception {
    HttpRequest.Builder request = HttpRequest.newBuilder(URI.create("http://127.0.0.1:" + gateway.httpPort + path));
    if (user != null) {
      request.header("Authorization", "Basic " + Base64.getEncoder().encodeToString((user + ":" + password).getBytes(StandardCharsets.UTF_8)));
    }
    HttpResponse<String> response = gateway.send(request);
    return response.statusCode();
  }

  /** Every TCP socket the process listens on, every UDP socket it has, by the tables of the kernel. */
  private static Set<String> listening(long pid) throws IOException {
    Set<String> inodes = new LinkedHashSet<>();
    try (Stream<Path> files = Files.list(Path.of("/proc/" + pid + "/fd"))) {
      for (Path file : files.toList()) {
        try {
          String target = Files.readSymbolicLink(file).toString();
          if (target.startsWith("socket:[")) {
            inodes.add(target.substring(8, target.length() - 1));
          }
        } catch (IOException closedMeanwhile) {
          continue;
        }
      }
    }
    Set<String> sockets = new TreeSet<>();
    for (String table : List.of("tcp", "tcp6", "udp", "udp6")) {
      for (String line : Files.readAllLines(Path.of("/proc/" + pid + "/net/" + table))) {
        String[] columns = line.strip().split("\\s+");
        boolean listens = columns.length > 9 && (table.startsWith("udp") || columns[3].equals("0A"));
        if (listens && inodes.contains(columns[9])) {
          sockets.add(address(columns[1]) + (table.startsWith("udp") ? "/udp" : ""));
        }
      }
    }
    return sockets;
  }

  /** The kernel writes words of the machine's byte order. */
  private static String address(String hex) {
    String[] parts = hex.split(":");
    String port = ":" + Integer.parseInt(parts[1], 16);
    String last = parts[0].substring(parts[0].length() - 8);
    boolean v4 = parts[0].length() == 8 || parts[0].startsWith("0000000000000000FFFF0000");
    if (!v4) {
      return "[" + parts[0] + "]" + port;
    }
    StringBuilder address = new StringBuilder();
    for (int i = 6; i >= 0; i -= 2) {
      address.append(Integer.parseInt(last.substring(i, i + 2), 16)).append(i == 0 ? "" : ".");
    }
    return address + port;
  }

  /** All attributes of all MBeans, as whoever can attach to the process sees them: its own user and root. */
  private static String mbeans() throws Exception {
    VirtualMachine process = VirtualMachine.attach("" + gateway.pid());
    StringBuilder text = new StringBuilder();
    try (JMXConnector connector = JMXConnectorFactory.connect(new JMXServiceURL(process.startLocalManagementAgent()))) {
      MBeanServerConnection server = connector.getMBeanServerConnection();
      for (ObjectName name : server.queryNames(null, null)) {
        text.append(name).append('\n');
        for (MBeanAttributeInfo attribute : server.getMBeanInfo(name).getAttributes()) {
          try {
            text.append("  ").append(attribute.getName()).append(" = ").append(readable(server.getAttribute(name, attribute.getName()))).append('\n');
          } catch (Exception e) {
            text.append("  ").append(attribute.getName()).append(" cannot be read: ").append(e).append('\n');
          }
        }
      }
    } finally {
      process.detach();
    }
    return text.toString();
  }

  private static String readable(Object value) {
    if (value != null && value.getClass().isArray()) {
      StringBuilder text = new StringBuilder();
      for (int i = 0; i < Array.getLength(value); i++) {
        text.append(readable(Array.get(value, i))).append(' ');
      }
      return text.toString();
    }
    if (value instanceof TabularData table) {
      return readable(table.values().toArray());
    }
    return value instanceof CompositeData data ? readable(data.values().toArray()) : String.valueOf(value);
  }
}
