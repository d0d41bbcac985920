// SPDX-License-Identifier: Apache-2.0
package io.caravan.mqtt.server;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.hivemq.client.mqtt.MqttClientSslConfig;
import com.hivemq.client.mqtt.datatypes.MqttQos;
import com.hivemq.client.mqtt.mqtt5.Mqtt5BlockingClient;
import com.hivemq.client.mqtt.mqtt5.Mqtt5Client;
import com.hivemq.client.mqtt.mqtt5.exceptions.Mqtt5PubAckException;
import com.hivemq.client.mqtt.mqtt5.message.publish.puback.Mqtt5PubAckReasonCode;
import io.caravan.mqtt.server.internal.Listener;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.KeyStore;
import java.util.Base64;
import java.util.List;
import java.util.concurrent.TimeUnit;
import javax.net.ssl.KeyManagerFactory;
import javax.net.ssl.TrustManagerFactory;
import org.apache.camel.builder.RouteBuilder;
import org.apache.camel.impl.DefaultCamelContext;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.io.TempDir;

@Timeout(60)
class MqttServerTlsTest {
  private static final char[] PASSWORD = "changeit".toCharArray();
  @TempDir
  static Path folder;
  private final DefaultCamelContext context = new DefaultCamelContext();
  private int port;

  /** Self-signed, so that each is its own authority; keytool is in every JDK. */
  @BeforeAll
  static void certificates() throws Exception {
    for (String name : List.of("server", "d1", "stranger")) {
      Path store = folder.resolve(name + ".p12");
      Process keytool = new ProcessBuilder(Path.of(System.getProperty("java.home"), "bin", "keytool").toString(), "-genkeypair", "-alias", name,
          "-dname", "CN=" + name, "-ext", "san=ip:127.0.0.1", "-keyalg", "EC", "-groupname", "secp256r1", "-validity", "2", "-storetype", "PKCS12",
          "-keystore", store.toString(), "-storepass", new String(PASSWORD)).inheritIO().start();
      assertTrue(keytool.waitFor(30, TimeUnit.SECONDS));
      assertEquals(0, keytool.exitValue());
      Files.writeString(folder.resolve(name + ".crt"), pem("CERTIFICATE", store(name).getCertificate(name).getEncoded()));
      Files.writeString(folder.resolve(name + ".key"), pem("PRIVATE KEY", store(name).getKey(name, PASSWORD).getEncoded()));
    }
  }

  private static String pem(String type, byte[] der) {
    return "-----BEGIN " + type + "-----\n" + Base64.getMimeEncoder(64, new byte[] {'\n'}).encodeToString(der) + "\n-----END " + type + "-----\n";
  }

  private static KeyStore store(String name) throws Exception {
    return KeyStore.getInstance(folder.resolve(name + ".p12").toFile(), PASSWORD);
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

  @AfterEach
  void stop() {
    context.stop();
  }

  private Mqtt5BlockingClient client(String certificate, String... protocols) throws Exception {
    KeyStore trusted = KeyStore.getInstance("PKCS12");
    trusted.load(null, null);
    trusted.setCertificateEntry("server", store("server").getCertificate("server"));
    TrustManagerFactory trust = TrustManagerFactory.getInstance(TrustManagerFactory.getDefaultAlgorithm());
    trust.init(trusted);
    var tls = MqttClientSslConfig.builder().trustManagerFactory(trust).handshakeTimeout(5, TimeUnit.SECONDS);
    if (certificate != null) {
      KeyManagerFactory keys = KeyManagerFactory.getInstance(KeyManagerFactory.getDefaultAlgorithm());
      keys.init(store(certificate), PASSWORD);
      tls.keyManagerFactory(keys);
    }
    if (protocols.length > 0) {
      tls.protocols(List.of(protocols));
    }
    return Mqtt5Client.builder().identifier("some-client").serverHost("127.0.0.1").serverPort(port).sslConfig(tls.build()).buildBlocking();
  }

  private static void publish(Mqtt5BlockingClient client, String device) {
    client.publishWith().topic("devices/" + device + "/telemetry").qos(MqttQos.AT_LEAST_ONCE).payload(new byte[] {'{', '}'}).send();
  }

  @Test
  void anEncryptedListenerTakesMessages() throws Exception {
    start("");
    for (String protocol : List.of("TLSv1.2", "TLSv1.3")) {
      Mqtt5BlockingClient device = client(null, protocol);
      device.connect();
      publish(device, "d1");
      assertTrue(connection().tls());
      device.disconnect();
    }
    assertThrows(Exception.class, () -> client(null, "TLSv1.1").connect());
  }

  @Test
  void plainBytesAreNotAnswered() throws Exception {
    start("");
    try (RawClient plain = new RawClient(port)) {
      plain.send(RawClient.connect(5, "d1", 60));
      assertFalse(plain.receive().startsWith("20"), "no CONNACK");
    }
  }

  @Test
  void aClientCertificateIsCompulsoryAndNamesTheDevice() throws Exception {
    start("&identity=own&tlsClientCa=" + folder.resolve("d1.crt"));
    assertThrows(Exception.class, () -> client(null).connect());
    assertThrows(Exception.class, () -> client("stranger").connect());
    Mqtt5BlockingClient device = client("d1");
    // A user name does not outrank the certificate.
    device.connectWith().simpleAuth().username("d2").applySimpleAuth().send();
    assertEquals("d1", connection().deviceId());
    publish(device, "d1");
    for (String other : List.of("d2", "some-client")) {
      assertEquals(Mqtt5PubAckReasonCode.NOT_AUTHORIZED,
          assertThrows(Mqtt5PubAckException.class, () -> publish(device, other)).getMqttMessage().getReasonCode());
    }
    device.disconnect();
  }

  private Connections.Connection connection() {
    return context.getRegistry().lookupByNameAndType("mqttConnections", Connections.class).list().get(0);
  }
}
