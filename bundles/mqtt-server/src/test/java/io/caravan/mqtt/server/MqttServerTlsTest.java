// SPDX-License-Identifier: Apache-2.0
package io.caravan.mqtt.server;

import static java.nio.charset.StandardCharsets.UTF_8;
import static org.awaitility.Awaitility.await;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.hivemq.client.mqtt.MqttClientSslConfig;
import com.hivemq.client.mqtt.datatypes.MqttQos;
import com.hivemq.client.mqtt.mqtt5.Mqtt5BlockingClient;
import com.hivemq.client.mqtt.mqtt5.Mqtt5Client;
import com.hivemq.client.mqtt.mqtt5.exceptions.Mqtt5PubAckException;
import com.hivemq.client.mqtt.mqtt5.message.publish.puback.Mqtt5PubAckReasonCode;
import io.caravan.mqtt.server.internal.Listener;
import io.micrometer.core.instrument.simple.SimpleMeterRegistry;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.security.cert.X509Certificate;
import java.time.Duration;
import java.time.Instant;
import java.util.List;
import java.util.Map;
import java.util.Queue;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ConcurrentLinkedQueue;
import java.util.concurrent.TimeUnit;
import javax.net.ssl.SSLContext;
import org.apache.camel.builder.RouteBuilder;
import org.apache.camel.health.HealthCheck;
import org.apache.camel.health.HealthCheckRegistry;
import org.apache.camel.impl.DefaultCamelContext;
import org.apache.camel.impl.health.DefaultHealthCheckRegistry;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.ValueSource;

/** The listener with TLS, and clients whose certificates are in every way not in order. */
@Timeout(90)
class MqttServerTlsTest {
  private static final Duration RELOAD = Duration.ofSeconds(20);
  private static Pki pki;
  private static Pki other;
  @TempDir
  static Path common;
  @TempDir
  Path folder;
  private final SimpleMeterRegistry meters = new SimpleMeterRegistry();
  private final Queue<Authenticator.ConnectRequest> asked = new ConcurrentLinkedQueue<>();
  private final DefaultCamelContext context = new DefaultCamelContext();
  private int port;

  @BeforeAll
  static void certificates() throws Exception {
    pki = new Pki(Files.createDirectory(common.resolve("pki")));
    pki.certs("server", "server", "127.0.0.1", "localhost");
    pki.certs("client", "d1");
    pki.certs("client", "d2");
    pki.client("old", Instant.now().minusSeconds(7200), Instant.now().minusSeconds(3600));
    pki.client("future", Instant.now().plusSeconds(3600), Instant.now().plusSeconds(7200));
    pki.certs("client", "gone");
    // The script takes the files away; the thief has kept them.
    Files.copy(Path.of(pki.crt("gone")), common.resolve("gone.crt"));
    Files.copy(Path.of(pki.key("gone")), common.resolve("gone.key"));
    pki.certs("revoke", "gone");
    Files.move(common.resolve("gone.crt"), Path.of(pki.crt("gone")));
    Files.move(common.resolve("gone.key"), Path.of(pki.key("gone")));
    other = new Pki(Files.createDirectory(common.resolve("other")));
    other.certs("client", "d1");
    other.certs("server", "server", "127.0.0.1", "localhost");
  }

  @BeforeEach
  void files() throws Exception {
    for (String each : List.of("server.crt", "server.key", "ca.crt", "ca.crl")) {
      put(pki.folder.resolve(each), each);
    }
    context.getRegistry().bind("metricsRegistry", meters);
    context.getCamelContextExtension().addContextPlugin(HealthCheckRegistry.class, new DefaultHealthCheckRegistry());
  }

  /** As an operator does it: the new file takes the old one's place in one step. */
  private void put(Path from, String name) throws IOException {
    Path copy = Files.copy(from, folder.resolve(name + ".new"), StandardCopyOption.REPLACE_EXISTING);
    Files.move(copy, folder.resolve(name), StandardCopyOption.REPLACE_EXISTING, StandardCopyOption.ATOMIC_MOVE);
  }

  private void start(String options) throws Exception {
    context.addRoutes(new RouteBuilder() {
      @Override
      public void configure() {
        errorHandler(noErrorHandler());
        from("mqtt-server:tls?port=0&tlsCert=" + folder.resolve("server.crt") + "&tlsKey=" + folder.resolve("server.key") + options).routeId("tls")
            .setVariable("outcome", constant("durable"));
      }
    });
    context.start();
    port = ((Listener) context.getRoute("tls").getConsumer()).actualPort();
  }

  private void startWithCa(String options) throws Exception {
    start("&identity=own&tlsClientCa=" + folder.resolve("ca.crt") + options);
  }

  @AfterEach
  void stop() {
    context.stop();
  }

  private Mqtt5BlockingClient client(String certificate, String... protocols) throws Exception {
    var tls = MqttClientSslConfig.builder().trustManagerFactory(pki.trust()).handshakeTimeout(5, TimeUnit.SECONDS);
    if (certificate != null) {
      tls.keyManagerFactory(pki.keys(certificate));
    }
    if (protocols.length > 0) {
      tls.protocols(List.of(protocols));
    }
    return Mqtt5Client.builder().identifier("some-client").serverHost("127.0.0.1").serverPort(port).sslConfig(tls.build()).buildBlocking();
  }

  private static void publish(Mqtt5BlockingClient client, String device) {
    client.publishWith().topic("devices/" + device + "/telemetry").qos(MqttQos.AT_LEAST_ONCE).payload(new byte[] {'{', '}'}).send();
  }

  private RawClient raw(Pki of, String certificate, String... protocols) throws Exception {
    return RawClient.tls(port, pki.context(of, certificate), protocols);
  }

  // Connects and publishes: the device is served.
  private RawClient served(String device) throws Exception {
    RawClient client = raw(pki, device);
    assertEquals("00", client.ask(RawClient.connect(5, device, 60)).substring(6, 8), device);
    assertPublishes(client, device);
    return client;
  }

  private static void assertPublishes(RawClient client, String device) throws IOException {
    assertEquals("40020007", client.ask(RawClient.publish(5, "devices/" + device + "/telemetry", 1, 7, new byte[] {'{', '}'})));
  }

  private double refused(String reason) {
    return meters.get("caravan.mqtt.refused").tags("listener", "tls", "reason", reason).counter().count();
  }

  private HealthCheck.Result health() {
    return HealthCheckRegistry.get(context).getCheck("mqtt-server:tls").orElseThrow().call(Map.of());
  }

  private Connections connections() {
    return context.getRegistry().lookupByNameAndType("mqttConnections", Connections.class);
  }

  // ------------------------------------------------------------------------------------------------- who gets in

  @Test
  void anEncryptedListenerTakesMessages() throws Exception {
    start("");
    for (String protocol : List.of("TLSv1.2", "TLSv1.3")) {
      Mqtt5BlockingClient device = client(null, protocol);
      device.connect();
      publish(device, "d1");
      assertTrue(connections().list().get(0).tls());
      device.disconnect();
      await().until(() -> connections().count() == 0);
    }
    assertEquals(HealthCheck.State.UP, health().getState());
  }

  /** By openssl, because Java would not even send it. */
  @ParameterizedTest
  @ValueSource(strings = {"-tls1_1", "-tls1"})
  void olderTlsIsRefused(String version) throws Exception {
    start("");
    List<String> openssl = List.of("openssl", "s_client", version, "-cipher", "ALL:@SECLEVEL=0", "-connect", "127.0.0.1:" + port);
    assertThrows(IOException.class, () -> Pki.run(openssl));
    await().until(() -> refused("tls_version") == 1);
    // The same command is served where the version is one of today, so that it is the version that was refused.
    Pki.run(List.of("openssl", "s_client", "-tls1_2", "-cipher", "ALL:@SECLEVEL=0", "-connect", "127.0.0.1:" + port));
  }

  @Test
  void plainBytesAreNotAnswered() throws Exception {
    start("");
    for (byte[] bytes : List.of(RawClient.connect(5, "d1", 60), "GET / HTTP/1.1\r\n\r\n".getBytes(UTF_8))) {
      try (RawClient plain = new RawClient(port)) {
        assertFalse(plain.ask(bytes).startsWith("20"), "no CONNACK");
      }
    }
    await().until(() -> refused("plaintext") == 2);
    client(null).connect();
  }

  @Test
  void aClientCertificateIsCompulsoryAndNamesTheDevice() throws Exception {
    startWithCa("");
    assertThrows(Exception.class, () -> client(null).connect());
    await().until(() -> refused("no_certificate") == 1);
    Mqtt5BlockingClient device = client("d1");
    device.connectWith().simpleAuth().username("d1").applySimpleAuth().send();
    assertEquals("d1", connections().list().get(0).deviceId());
    publish(device, "d1");
    for (String foreign : List.of("d2", "some-client")) {
      assertEquals(Mqtt5PubAckReasonCode.NOT_AUTHORIZED,
          assertThrows(Mqtt5PubAckException.class, () -> publish(device, foreign)).getMqttMessage().getReasonCode());
    }
    device.disconnect();
  }

  @ParameterizedTest
  @CsvSource({"true, d1, untrusted", "false, old, certificate_expired", "false, future, certificate_expired", "false, gone, certificate_revoked",
      "false, server, untrusted"})
  void certificatesThatAreNotInOrder(boolean wrongCa, String name, String reason) throws Exception {
    startWithCa("&tlsCrl=" + folder.resolve("ca.crl"));
    try (RawClient good = served("d2")) {
      for (String protocol : List.of("TLSv1.2", "TLSv1.3")) {
        assertThrows(IOException.class, () -> {
          try (RawClient bad = raw(wrongCa ? other : pki, name, protocol)) {
            String answer = bad.ask(RawClient.connect(5, name, 60));
            if (answer.equals("closed")) {
              throw new IOException("refused");
            }
          }
        });
      }
      await().until(() -> refused(reason) == 2);
      assertPublishes(good, "d2");
      assertEquals(1, connections().count());
    }
  }

  @Test
  void anotherUserNameThanTheCertificateIsRefused() throws Exception {
    startWithCa("");
    try (RawClient bad = raw(pki, "d1")) {
      assertEquals("87", bad.ask(RawClient.connect(5, "c", "d2", "x")).substring(6, 8));
    }
    try (RawClient good = raw(pki, "d1")) {
      assertEquals("00", good.ask(RawClient.connect(5, "c", "d1", "x")).substring(6, 8));
    }
    assertEquals(1, refused("certificate_name"));
  }

  @ParameterizedTest
  @ValueSource(strings = {"/CN=d1/CN=d2", "/CN=d1+OU=x", "/CN=d1+CN=d2", "/OU=d1", "/CN=d1\\,CN=d2", "/CN=..\\/d1", "/CN=d 1", "/CN=\u0501d1", "/CN=d1\\\\00"})
  void aNameThatIsNotExactlyOneDeviceIsRefused(String subject) throws Exception {
    String name = "odd" + Math.abs(subject.hashCode());
    pki.subject(name, subject);
    startWithCa("");
    try (RawClient bad = raw(pki, name)) {
      assertEquals("87", bad.ask(RawClient.connect(5, "d1", 60)).substring(6, 8), pki.certificate(name).getSubjectX500Principal().getName());
    }
    assertEquals(1, refused("certificate_name"));
    try (RawClient good = served("d1")) {
      assertEquals(1, connections().count());
    }
  }

  @Test
  void withoutACertificateThePasswordDecidesWhereItIsOptional() throws Exception {
    Authenticator gate = request -> {
      asked.add(request);
      return CompletableFuture.completedFuture(Authenticator.Decision.accept("d1"));
    };
    context.getRegistry().bind("gate", Authenticator.class, gate);
    startWithCa("&tlsClientAuth=optional&authenticator=#gate");
    try (RawClient none = raw(pki, null)) {
      assertEquals("00", none.ask(RawClient.connect(5, "d1", "d1", "token")).substring(6, 8));
    }
    try (RawClient with = raw(pki, "d1")) {
      assertEquals("00", with.ask(RawClient.connect(4, "d1", 60)).substring(6, 8));
    }
    assertEquals("null d1", asked.stream().map(each -> String.valueOf(each.certificateName())).reduce((a, b) -> a + " " + b).orElseThrow());
    assertTrue(asked.stream().allMatch(Authenticator.ConnectRequest::tls));
    assertThrows(IOException.class, () -> raw(other, "d1", "TLSv1.2"));
    await().until(() -> refused("untrusted") == 1);
  }

  // ------------------------------------------------------------------------------------------------- time

  @Test
  void aHandshakeThatNeverEndsIsCut() throws Exception {
    start("&connectTimeoutMs=1500");
    try (RawClient mute = new RawClient(port); RawClient slow = new RawClient(port)) {
      // The head of a ClientHello of 512 bytes, then a byte now and then: what comes late does not count as progress.
      slow.send(new byte[] {22, 3, 1, 2, 0, 1, 0, 1, (byte) 0xFC, 3, 3});
      CompletableFuture<Void> trickle = CompletableFuture.runAsync(() -> {
        try {
          while (true) {
            slow.send(new byte[] {1});
            TimeUnit.MILLISECONDS.sleep(100);
          }
        } catch (IOException | InterruptedException e) {
          // Cut, as it should be.
        }
      });
      for (RawClient each : List.of(mute, slow)) {
        // At most an alert.
        String said = each.untilClosed();
        assertTrue(said.isEmpty() || said.startsWith("15"), said);
      }
      trickle.get(10, TimeUnit.SECONDS);
    }
    await().until(() -> refused("timeout") == 2);
    client(null).connect();
  }

  @Test
  void aCertificateThatExpiresEndsTheConnectionAndDoesNotResume() throws Exception {
    Instant end = Instant.now().plusSeconds(6);
    String name = "short" + end.getEpochSecond();
    pki.client(name, Instant.now().minusSeconds(3600), end);
    startWithCa("");
    SSLContext same = pki.context(pki, name);
    try (RawClient live = RawClient.tls(port, same, "TLSv1.2"); RawClient lasting = served("d1")) {
      byte[] id = live.tlsSession().getId();
      assertEquals("00", live.ask(RawClient.connect(5, name, 60)).substring(6, 8));
      assertEquals("98", live.receive().substring(4, 6), "it waits until the certificate ends");
      try (RawClient again = RawClient.tls(port, same, "TLSv1.2")) {
        assertEquals(java.util.HexFormat.of().formatHex(id), java.util.HexFormat.of().formatHex(again.tlsSession().getId()), "resumed");
        assertEquals("87", again.ask(RawClient.connect(5, name, 60)).substring(6, 8));
      }
      assertPublishes(lasting, "d1");
    }
    assertEquals(2, refused("certificate_expired"));
  }

  // ------------------------------------------------------------------------------------------------- files that change

  @Test
  void aRevocationEndsTheLiveConnectionWithoutClosingThePort() throws Exception {
    pki.certs("client", "thief");
    startWithCa("&tlsCrl=" + folder.resolve("ca.crl"));
    SSLContext kept = pki.context(pki, "thief");
    try (RawClient thief = served("thief"); RawClient good = served("d1")) {
      pki.certs("revoke", "thief");
      put(pki.folder.resolve("ca.crl"), "ca.crl");
      assertEquals("98", thief.receive().substring(4, 6));
      assertEquals("closed", thief.receive());
      assertThrows(IOException.class, () -> {
        try (RawClient again = RawClient.tls(port, kept, "TLSv1.2")) {
          assertNotEquals("00", again.ask(RawClient.connect(5, "thief", 60)).substring(6, 8));
        }
      });
      assertPublishes(good, "d1");
      try (RawClient another = served("d2")) {
        assertEquals(2, connections().count());
      }
    }
    assertEquals(2, refused("certificate_revoked"));
  }

  @Test
  void withoutAListInForceNobodyNewComesIn() throws Exception {
    Pki own = new Pki(Files.createDirectory(folder.resolve("own")));
    own.certs("client", "d1");
    put(own.folder.resolve("ca.crt"), "ca.crt");
    own.crl(Instant.now().plusSeconds(3600));
    put(own.folder.resolve("ca.crl"), "ca.crl");
    startWithCa("&tlsCrl=" + folder.resolve("ca.crl"));
    try (RawClient live = raw(own, "d1")) {
      assertEquals("00", live.ask(RawClient.connect(5, "d1", 60)).substring(6, 8));
      own.crl(Instant.now().minusSeconds(1));
      put(own.folder.resolve("ca.crl"), "ca.crl");
      await().atMost(RELOAD).until(() -> health().getState() == HealthCheck.State.DOWN);
      String message = health().getMessage().orElseThrow();
      assertTrue(message.contains("was good until") && message.contains("mosquitto/certs crl"), message);
      assertThrows(IOException.class, () -> raw(own, "d1", "TLSv1.2"));
      await().until(() -> refused("crl_unusable") == 1);
      assertPublishes(live, "d1");
      own.crl(Instant.now().plusSeconds(3600));
      put(own.folder.resolve("ca.crl"), "ca.crl");
      await().atMost(RELOAD).until(() -> health().getState() == HealthCheck.State.UP);
      raw(own, "d1").close();
    }
  }

  @Test
  void aNewServerCertificateIsTakenOverAndABrokenOneIsNot() throws Exception {
    startWithCa("");
    try (RawClient live = served("d1")) {
      String first = presented();
      // Half of a pair: the old one stays in force, and readiness says what is wrong.
      put(other.folder.resolve("server.crt"), "server.crt");
      await().atMost(RELOAD).until(() -> health().getState() == HealthCheck.State.DOWN);
      assertTrue(health().getMessage().orElseThrow().contains("is not the key of tlsCert"), health().getMessage().toString());
      assertEquals(first, presented());
      Files.writeString(folder.resolve("server.key"), "-----BEGIN PRIVATE KEY-----\ngarbage\n-----END PRIVATE KEY-----\n");
      await().atMost(RELOAD).until(() -> health().getMessage().orElseThrow().contains("must be a certificate chain and its key"));
      assertEquals(first, presented());
      put(other.folder.resolve("server.key"), "server.key");
      await().atMost(RELOAD).until(() -> health().getState() == HealthCheck.State.UP);
      assertNotEquals(first, presented());
      assertPublishes(live, "d1");
    }
  }

  /** Serial number of the certificate that a new connection sees. */
  private String presented() throws Exception {
    SSLContext anything = SSLContext.getInstance("TLS");
    anything.init(pki.keys("d1").getKeyManagers(), new javax.net.ssl.TrustManager[] {new javax.net.ssl.X509TrustManager() {
      @Override
      public void checkClientTrusted(X509Certificate[] chain, String authType) {}

      @Override
      public void checkServerTrusted(X509Certificate[] chain, String authType) {}

      @Override
      public X509Certificate[] getAcceptedIssuers() {
        return new X509Certificate[0];
      }
    }}, null);
    try (RawClient client = RawClient.tls(port, anything)) {
      return ((X509Certificate) client.tlsSession().getPeerCertificates()[0]).getSerialNumber().toString(16);
    }
  }

  @Test
  void anAuthorityThatIsTakenAwayEndsItsDevices() throws Exception {
    startWithCa("");
    try (RawClient live = served("d1")) {
      put(other.folder.resolve("ca.crt"), "ca.crt");
      assertEquals("98", live.receive().substring(4, 6));
      raw(other, "d1").close();
      assertThrows(IOException.class, () -> raw(pki, "d1", "TLSv1.2"));
    }
  }

  @ParameterizedTest
  @CsvSource({"otherCrl, that no authority in tlsClientCa", "otherKey, is not the key of tlsCert", "emptyCrl, has no revocation list", "auth, none; optional or required"})
  void whatCannotBeUsedDoesNotStart(String what, String said) throws Exception {
    String options = "&tlsCrl=" + folder.resolve("ca.crl");
    switch (what) {
      case "otherCrl" -> put(other.folder.resolve("ca.crl"), "ca.crl");
      case "otherKey" -> put(other.folder.resolve("server.key"), "server.key");
      case "emptyCrl" -> Files.writeString(folder.resolve("ca.crl"), "");
      default -> options += "&tlsClientAuth=maybe";
    }
    String all = options;
    Throwable failure = assertThrows(Exception.class, () -> startWithCa(all));
    StringBuilder messages = new StringBuilder();
    for (; failure != null; failure = failure.getCause()) {
      messages.append(failure.getMessage()).append('\n');
    }
    assertTrue(messages.toString().contains(said.replace(';', ',')), messages.toString());
  }
}
