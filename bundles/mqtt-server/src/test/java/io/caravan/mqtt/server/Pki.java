// SPDX-License-Identifier: Apache-2.0
package io.caravan.mqtt.server;

import static java.nio.charset.StandardCharsets.UTF_8;

import java.io.ByteArrayInputStream;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.KeyFactory;
import java.security.KeyStore;
import java.security.PrivateKey;
import java.security.cert.CertificateFactory;
import java.security.cert.X509Certificate;
import java.security.spec.PKCS8EncodedKeySpec;
import java.time.Instant;
import java.time.ZoneOffset;
import java.time.format.DateTimeFormatter;
import java.util.ArrayList;
import java.util.Base64;
import java.util.List;
import java.util.Map;
import java.util.concurrent.TimeUnit;
import javax.net.ssl.KeyManagerFactory;
import javax.net.ssl.SSLContext;
import javax.net.ssl.TrustManagerFactory;

/** An authority made by mosquitto/certs, as an operator makes it, and certificates that script would not issue. */
final class Pki {
  private static final char[] PASSWORD = "changeit".toCharArray();
  private static final DateTimeFormatter OPENSSL = DateTimeFormatter.ofPattern("yyyyMMddHHmmss'Z'").withZone(ZoneOffset.UTC);
  final Path folder;

  Pki(Path folder) throws Exception {
    this.folder = folder;
    certs("init");
  }

  void certs(String command, String... arguments) throws Exception {
    List<String> words = new ArrayList<>(List.of("../../mosquitto/certs", command, folder.toString()));
    words.addAll(List.of(arguments));
    run(words);
  }

  /** The authority's list, good until then. */
  void crl(Instant until) throws Exception {
    Path made = folder.resolve("crl.made");
    run(List.of("openssl", "ca", "-config", folder.resolve("ca.cnf").toString(), "-gencrl", "-crl_lastupdate",
        OPENSSL.format(Instant.now().minusSeconds(3600)), "-crl_nextupdate", OPENSSL.format(until), "-out", made.toString()));
    Files.move(made, folder.resolve("ca.crl"), java.nio.file.StandardCopyOption.REPLACE_EXISTING);
  }

  /** A client certificate as the script makes it, for another time. */
  void client(String cn, Instant from, Instant until) throws Exception {
    Path extensions = Files.writeString(folder.resolve("ext"), "basicConstraints=critical,CA:FALSE\nkeyUsage=critical,digitalSignature\nextendedKeyUsage=clientAuth\n");
    request(cn, "/CN=" + cn);
    run(List.of("openssl", "ca", "-batch", "-notext", "-config", folder.resolve("ca.cnf").toString(), "-extfile", extensions.toString(), "-startdate",
        OPENSSL.format(from), "-enddate", OPENSSL.format(until), "-in", folder.resolve(cn + ".csr").toString(), "-out", crt(cn)));
  }

  /** A client certificate with any subject, in openssl's notation. */
  void subject(String name, String subject) throws Exception {
    Path extensions = Files.writeString(folder.resolve("ext"), "extendedKeyUsage=clientAuth\n");
    request(name, subject);
    run(List.of("openssl", "x509", "-req", "-days", "2", "-CA", crt("ca"), "-CAkey", key("ca"), "-CAcreateserial", "-extfile", extensions.toString(), "-in",
        folder.resolve(name + ".csr").toString(), "-out", crt(name)));
  }

  private void request(String name, String subject) throws Exception {
    run(List.of("openssl", "req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", key(name), "-subj", subject,
        "-out", folder.resolve(name + ".csr").toString()));
  }

  String crt(String name) {
    return folder.resolve(name + ".crt").toString();
  }

  String key(String name) {
    return folder.resolve(name + ".key").toString();
  }

  X509Certificate certificate(String name) throws Exception {
    return (X509Certificate) CertificateFactory.getInstance("X.509").generateCertificate(new ByteArrayInputStream(Files.readAllBytes(Path.of(crt(name)))));
  }

  KeyManagerFactory keys(String name) throws Exception {
    KeyStore store = KeyStore.getInstance("PKCS12");
    store.load(null, null);
    if (name != null) {
      byte[] der = Base64.getMimeDecoder().decode(Files.readString(Path.of(key(name)), UTF_8).replaceAll("-----[^-]*-----", ""));
      PrivateKey key = KeyFactory.getInstance("EC").generatePrivate(new PKCS8EncodedKeySpec(der));
      store.setKeyEntry(name, key, PASSWORD, new X509Certificate[] {certificate(name)});
    }
    KeyManagerFactory factory = KeyManagerFactory.getInstance(KeyManagerFactory.getDefaultAlgorithm());
    factory.init(store, PASSWORD);
    return factory;
  }

  TrustManagerFactory trust() throws Exception {
    KeyStore store = KeyStore.getInstance("PKCS12");
    store.load(null, null);
    store.setCertificateEntry("ca", certificate("ca"));
    TrustManagerFactory factory = TrustManagerFactory.getInstance("PKIX");
    factory.init(store);
    return factory;
  }

  /** Of a client that trusts this authority and has the certificate of that name; null: none. */
  SSLContext context(Pki certificateOf, String name) throws Exception {
    SSLContext context = SSLContext.getInstance("TLS");
    context.init(certificateOf.keys(name).getKeyManagers(), trust().getTrustManagers(), null);
    return context;
  }

  static String run(List<String> command) throws IOException, InterruptedException {
    return run(command, Map.of());
  }

  static String run(List<String> command, Map<String, String> environment) throws IOException, InterruptedException {
    ProcessBuilder builder = new ProcessBuilder(command).redirectErrorStream(true).redirectInput(ProcessBuilder.Redirect.from(new java.io.File("/dev/null")));
    builder.environment().putAll(environment);
    Process process = builder.start();
    String output = new String(process.getInputStream().readAllBytes(), UTF_8);
    if (!process.waitFor(30, TimeUnit.SECONDS) || process.exitValue() != 0) {
      throw new IOException(command + " failed: " + output);
    }
    return output;
  }
}
