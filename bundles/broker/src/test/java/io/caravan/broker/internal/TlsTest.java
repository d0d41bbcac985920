// SPDX-License-Identifier: Apache-2.0
package io.caravan.broker.internal;

import static org.awaitility.Awaitility.await;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.caravan.devices.Devices.Enrolment;
import java.math.BigInteger;
import java.nio.file.Path;
import java.security.cert.X509Certificate;
import javax.net.ssl.SSLContext;
import javax.net.ssl.SSLSocket;
import org.eclipse.paho.mqttv5.common.MqttException;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.io.TempDir;

/** The listener with client certificates: CN = device id. */
@Timeout(180)
class TlsTest {
  private static final int NOT_AUTHORIZED = 0x87;
  private static final int ADMINISTRATIVE_ACTION = 0x98;

  @TempDir
  Path folder;
  private Box box;

  @BeforeEach
  void start() throws Exception {
    box = new Box(folder);
    box.certs("client", "dev-1");
    box.certs("client", "dev-2");
    box.start();
  }

  @AfterEach
  void close() throws Exception {
    box.close();
  }

  @Test
  void theCertificateIsTheIdentity() throws Exception {
    Enrolment one = box.add("dev-1");
    Enrolment two = box.add("dev-2");
    box.comes("dev-1", one.token()).close();
    box.comes("dev-2", two.token()).close();
    Client device = box.tls(box.identity("dev-1"));
    assertEquals(0, device.publish("devices/dev-1/telemetry", "x"));
    assertEquals(NOT_AUTHORIZED, device.publish("devices/dev-2/telemetry", "x"));
    assertEquals(NOT_AUTHORIZED, device.subscribe("devices/dev-2/commands"));
    // Another user's name and token beside it do not count.
    Client both = box.keep(Client.connect("ssl://localhost:" + box.tlsPort, "dev-2", "dev-2", two.token(), box.identity("dev-1")));
    assertEquals(NOT_AUTHORIZED, both.publish("devices/dev-2/telemetry", "x"));
    assertEquals(0, both.publish("devices/dev-1/telemetry", "x"));
  }

  /** mosquitto 2.0 lets every certificate of its authority in; who is not in the registry may do nothing there. */
  @Test
  void revocationCutsAndLeavesNoRights() throws Exception {
    Client unknown = box.tls(box.identity("dev-2"));
    assertEquals(NOT_AUTHORIZED, unknown.publish("devices/dev-2/telemetry", "x"));
    assertEquals(NOT_AUTHORIZED, unknown.subscribe("devices/dev-2/commands"));

    Enrolment one = box.add("dev-1");
    box.comes("dev-1", one.token()).close();
    Client device = box.tls(box.identity("dev-1"));
    assertEquals(0, device.publish("devices/dev-1/telemetry", "x"));

    // Why the driver deletes and does not disable: a disabled one with a certificate comes back with all rights.
    box.ctrl("disableClient", "dev-1");
    assertEquals(ADMINISTRATIVE_ACTION, device.cut());
    device = box.tls(box.identity("dev-1"));
    assertEquals(0, device.publish("devices/dev-1/telemetry", "x"));

    box.devices().revoke("dev-1");
    assertEquals(ADMINISTRATIVE_ACTION, device.cut());
    device = box.tls(box.identity("dev-1"));
    assertEquals(NOT_AUTHORIZED, device.publish("devices/dev-1/telemetry", "x"));
    assertEquals(NOT_AUTHORIZED, device.subscribe("devices/dev-1/commands"));
  }

  @Test
  void aRevokedCertificateIsRefusedAfterSighup() throws Exception {
    Enrolment one = box.add("dev-1");
    box.comes("dev-1", one.token()).close();
    SSLContext revoked = box.identity("dev-1");
    box.tls(revoked).close();
    box.certs("revoke", "dev-1");
    box.tls(revoked).close(); // negative control: the list counts once it is read
    box.hup();
    awaitRefused(revoked);
    box.certs("client", "dev-1");
    assertEquals(0, box.tls(box.identity("dev-1")).publish("devices/dev-1/telemetry", "renewed"));

    // The broker's own certificate is renewed the same way, and nobody is cut.
    Client device = box.tls(box.identity("dev-1"));
    BigInteger before = served();
    box.certs("revoke", "mosquitto");
    box.certs("server", "mosquitto", "localhost", "127.0.0.1");
    box.hup();
    await().atMost(Box.WAIT).until(() -> !before.equals(served()));
    assertEquals(0, device.publish("devices/dev-1/telemetry", "still there"));
  }

  @Test
  void anExpiredRevocationListRefusesEverybody() throws Exception {
    box.tls(box.identity("dev-1")).close();
    // openssl ca takes no end in the past: the list says it was good until long ago.
    Path crl = box.certs.resolve("ca.crl");
    Box.execute("openssl", "ca", "-config", box.certs.resolve("ca.cnf").toString(), "-gencrl", "-crl_lastupdate", "20240101000000Z",
        "-crl_nextupdate", "20240201000000Z", "-out", crl.toString());
    box.hup();
    awaitRefused(box.identity("dev-1"));
    box.certs("crl");
    box.hup();
    await().atMost(Box.WAIT).ignoreExceptions().until(() -> box.tls(box.identity("dev-1")) != null);
  }

  @Test
  void otherAuthoritiesExpiredAndMissingCertificatesAreRefused() throws Exception {
    Path others = folder.resolve("others");
    String script = Box.MOSQUITTO.resolve("certs").toString();
    Box.execute(script, "init", others.toString());
    Box.execute(script, "client", others.toString(), "dev-1");
    Path ca = box.certs.resolve("ca.crt");
    SSLContext wrongAuthority = Box.identity(others, "dev-1", ca);
    assertThrows(MqttException.class, () -> box.tls(wrongAuthority).close());
    assertThrows(MqttException.class, () -> box.tls(Box.identity(box.certs, null, ca)).close());

    // An hour's certificate of yesterday.
    Box.execute("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout",
        folder.resolve("expired.key").toString(), "-out", folder.resolve("self.crt").toString(), "-subj", "/CN=dev-1", "-days", "1");
    Box.execute("openssl", "req", "-new", "-key", folder.resolve("expired.key").toString(), "-subj", "/CN=dev-1", "-out",
        folder.resolve("expired.csr").toString());
    Box.execute("openssl", "ca", "-batch", "-notext", "-config", box.certs.resolve("ca.cnf").toString(), "-startdate", "20240101000000Z",
        "-enddate", "20240102000000Z", "-in", folder.resolve("expired.csr").toString(), "-out", folder.resolve("expired.crt").toString());
    assertThrows(MqttException.class, () -> box.tls(Box.identity(folder, "expired", ca)).close());

    // And the device trusts only the broker of its authority.
    assertThrows(MqttException.class, () -> box.tls(Box.identity(box.certs, "dev-1", others.resolve("ca.crt"))).close());
    box.tls(box.identity("dev-1")).close(); // negative control: the right one gets in
  }

  @Test
  void plaintextAndOldTlsAreRefused() throws Exception {
    assertThrows(MqttException.class,
        () -> Client.connect("tcp://127.0.0.1:" + box.tlsPort, "dev-1", "dev-1", "x", null).close());
    // Not by Java, which has switched TLS 1.1 off by itself; and openssl speaks it only when told that its security does not matter.
    String old = speak("-tls1_1");
    assertTrue(old.contains("alert protocol version") || old.contains("wrong version number"), old);
    String now = speak("-tls1_2"); // negative control
    assertTrue(now.contains("Verify return code: 0 (ok)"), now);
  }

  private void awaitRefused(SSLContext identity) {
    await().atMost(Box.WAIT).until(() -> {
      try {
        box.tls(identity).close();
        return false;
      } catch (MqttException e) {
        return true;
      }
    });
  }

  private String speak(String version) throws Exception {
    Path certs = box.certs;
    Process process = new ProcessBuilder("openssl", "s_client", "-connect", "127.0.0.1:" + box.tlsPort, "-CAfile", certs.resolve("ca.crt").toString(),
        "-cert", certs.resolve("dev-1.crt").toString(), "-key", certs.resolve("dev-1.key").toString(), version, "-cipher", "ALL:@SECLEVEL=0")
        .redirectErrorStream(true).start();
    process.getOutputStream().close();
    String said = new String(process.getInputStream().readAllBytes());
    process.waitFor();
    return said;
  }

  private BigInteger served() throws Exception {
    try (SSLSocket socket = (SSLSocket) box.identity("dev-2").getSocketFactory().createSocket("localhost", box.tlsPort)) {
      socket.startHandshake();
      return ((X509Certificate) socket.getSession().getPeerCertificates()[0]).getSerialNumber();
    }
  }
}
