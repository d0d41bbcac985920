// SPDX-License-Identifier: Apache-2.0
package io.caravan.mqtt.server.internal;

import io.netty.buffer.ByteBufAllocator;
import io.netty.handler.ssl.ClientAuth;
import io.netty.handler.ssl.NotSslRecordException;
import io.netty.handler.ssl.SslContext;
import io.netty.handler.ssl.SslContextBuilder;
import io.netty.handler.ssl.SslHandler;
import io.netty.handler.ssl.SslProvider;
import io.vertx.core.Vertx;
import io.vertx.core.buffer.Buffer;
import io.vertx.core.net.PemKeyCertOptions;
import java.io.ByteArrayInputStream;
import java.io.IOException;
import java.net.Socket;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.attribute.BasicFileAttributes;
import java.security.GeneralSecurityException;
import java.security.KeyStore;
import java.security.PrivateKey;
import java.security.Signature;
import java.security.cert.CRL;
import java.security.cert.Certificate;
import java.security.cert.CertificateException;
import java.security.cert.CertificateFactory;
import java.security.cert.X509CRL;
import java.security.cert.X509Certificate;
import java.time.Instant;
import java.util.ArrayList;
import java.util.Collection;
import java.util.Date;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import javax.naming.InvalidNameException;
import javax.naming.NamingException;
import javax.naming.directory.Attribute;
import javax.naming.ldap.LdapName;
import javax.naming.ldap.Rdn;
import javax.net.ssl.SSLEngine;
import javax.net.ssl.SSLHandshakeException;
import javax.net.ssl.TrustManager;
import javax.net.ssl.TrustManagerFactory;
import javax.net.ssl.X509ExtendedTrustManager;
import javax.net.ssl.X509KeyManager;
import javax.net.ssl.X509TrustManager;
import javax.security.auth.x500.X500Principal;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/**
 * The TLS of one listener: key, authorities and revocation list out of files that may change while it listens. New
 * connections get what was read last; what cannot be read leaves the one before in force.
 *
 * <p>Not Vert.x' own TLS, because that has no hook before the handshake (connections in it could not be bounded per
 * address), takes a revocation list that is expired or anybody's, and does not say why a certificate was refused.
 * Thread-safe; only the constructor and {@link #refresh} read files.
 */
final class Tls {
  private static final Logger LOG = LoggerFactory.getLogger(Tls.class);
  private static final long CLOSE_NOTIFY_MS = 1000;
  private static final List<String> KEY_TYPES = List.of("EC", "RSA", "EdDSA", "Ed25519", "RSASSA-PSS");

  private final String name;
  private final Settings settings;
  private final Vertx vertx;
  private volatile Material material;
  /** Why the files as they are now were not taken; null: they were. */
  private volatile String broken;
  private List<Object> stamps;
  private String logged;

  /** What is in force at one time. Immutable. */
  final class Material {
    private final SslContext context;
    private final X509Certificate server;
    /** Null without client certificates. */
    private final X509TrustManager authorities;
    private final Map<X500Principal, List<X509CRL>> revocations;

    private Material(SslContext context, X509Certificate server, X509TrustManager authorities, Map<X500Principal, List<X509CRL>> revocations) {
      this.context = context;
      this.server = server;
      this.authorities = authorities;
      this.revocations = revocations;
    }

    /** @throws Refused the certificate is not, or not any more, good for a connection */
    void verify(X509Certificate[] chain) throws Refused {
      Tls.this.verify(authorities, revocations, chain);
    }
  }

  /** A client certificate that is not accepted. */
  static final class Refused extends CertificateException {
    private static final long serialVersionUID = 1;
    final Refusal refusal;

    Refused(Refusal refusal, String message) {
      super(message);
      this.refusal = refusal;
    }
  }

  /** @throws IllegalArgumentException names the option, the file and the rule */
  Tls(String name, Settings settings, Vertx vertx) {
    this.name = name;
    this.settings = settings;
    this.vertx = vertx;
    stamps = stamps();
    try {
      material = read();
    } catch (IOException | GeneralSecurityException e) {
      throw new IllegalArgumentException("mqtt-server:" + name + " has TLS files that cannot be used: " + e.getMessage(), e);
    }
    tell();
  }

  /** Reads the files again if they changed. Blocks. */
  synchronized void refresh() {
    List<Object> now = stamps();
    if (!now.equals(stamps)) {
      // Noted first: what changes while it is read is read again with the next look.
      stamps = now;
      try {
        material = read();
        broken = null;
        LOG.info("mqtt-server:{} took over its changed TLS files; connections stay open, revoked ones excepted", name);
      } catch (IOException | GeneralSecurityException | RuntimeException e) {
        broken = e.getMessage() + "; what was read before stays in force";
      }
    }
    tell();
  }

  private void tell() {
    String trouble = trouble();
    if (!Objects.equals(trouble, logged)) {
      if (trouble != null) {
        LOG.error("mqtt-server:{} {}", name, trouble);
      } else {
        LOG.info("mqtt-server:{} has TLS files in order again", name);
      }
      logged = trouble;
    }
  }

  /** @return what is wrong with the files and what to do; null: nothing */
  String trouble() {
    String found = broken;
    if (found != null) {
      return found;
    }
    Material now = material;
    if (expired(now.server.getNotAfter())) {
      return "the certificate [" + settings.tlsCert + "] expired at " + now.server.getNotAfter().toInstant()
          + " and devices refuse it: replace it";
    }
    for (List<X509CRL> each : now.revocations.values()) {
      String unusable = unusable(each);
      if (unusable != null) {
        return unusable;
      }
    }
    return null;
  }

  Material material() {
    return material;
  }

  SslHandler handler(ByteBufAllocator allocator) {
    SslHandler handler = material.context.newHandler(allocator);
    // The session bounds the time until it is accepted as a whole.
    handler.setHandshakeTimeoutMillis(0);
    handler.setCloseNotifyFlushTimeoutMillis(CLOSE_NOTIFY_MS);
    return handler;
  }

  // ---------------------------------------------------------------------------------------------- reading

  private Material read() throws IOException, GeneralSecurityException {
    byte[] cert = bytes("tlsCert", settings.tlsCert);
    byte[] key = bytes("tlsKey", settings.tlsKey);
    PrivateKey privateKey = null;
    X509Certificate[] chain = null;
    try {
      X509KeyManager keys = (X509KeyManager) new PemKeyCertOptions().setCertValue(Buffer.buffer(cert)).setKeyValue(Buffer.buffer(key))
          .getKeyManagerFactory(vertx).getKeyManagers()[0];
      for (String type : KEY_TYPES) {
        String[] aliases = keys.getServerAliases(type, null);
        if (aliases != null && aliases.length > 0) {
          privateKey = keys.getPrivateKey(aliases[0]);
          chain = keys.getCertificateChain(aliases[0]);
          break;
        }
      }
    } catch (Exception e) {
      throw new GeneralSecurityException("tlsCert [" + settings.tlsCert + "] and tlsKey [" + settings.tlsKey
          + "] must be a certificate chain and its key (PKCS#8), both PEM: " + e.getMessage(), e);
    }
    if (privateKey == null || !belongs(privateKey, chain[0])) {
      throw new GeneralSecurityException("tlsKey [" + settings.tlsKey + "] is not the key of tlsCert [" + settings.tlsCert
          + "]: put the pair that was made together there");
    }
    SslContextBuilder builder = SslContextBuilder.forServer(privateKey, chain).sslProvider(SslProvider.JDK).protocols("TLSv1.3", "TLSv1.2")
        .clientAuth(settings.clientAuth().equals("required") ? ClientAuth.REQUIRE
            : settings.clientAuth().equals("optional") ? ClientAuth.OPTIONAL : ClientAuth.NONE);
    if (settings.clientAuth().equals("none")) {
      return new Material(builder.build(), chain[0], null, Map.of());
    }
    Collection<X509Certificate> cas = authorities();
    X509TrustManager authorities = trust(cas);
    Map<X500Principal, List<X509CRL>> revocations = Settings.blank(settings.tlsCrl) ? Map.of() : revocations(cas);
    return new Material(builder.trustManager(new Guard(authorities, revocations)).build(), chain[0], authorities, revocations);
  }

  private static boolean belongs(PrivateKey key, X509Certificate certificate) throws GeneralSecurityException {
    String algorithm = switch (key.getAlgorithm()) {
      case "EC" -> "SHA256withECDSA";
      case "RSA" -> "SHA256withRSA";
      case "EdDSA", "Ed25519", "Ed448" -> "EdDSA";
      default -> null;
    };
    if (algorithm == null) {
      return true;
    }
    if (!certificate.getPublicKey().getAlgorithm().equals(key.getAlgorithm())) {
      return false;
    }
    Signature signature = Signature.getInstance(algorithm);
    signature.initSign(key);
    signature.update((byte) 1);
    byte[] signed = signature.sign();
    signature.initVerify(certificate.getPublicKey());
    signature.update((byte) 1);
    return signature.verify(signed);
  }

  private Collection<X509Certificate> authorities() throws IOException, GeneralSecurityException {
    List<X509Certificate> found = new ArrayList<>();
    try {
      for (Certificate each : CertificateFactory.getInstance("X.509")
          .generateCertificates(new ByteArrayInputStream(bytes("tlsClientCa", settings.tlsClientCa)))) {
        found.add((X509Certificate) each);
      }
    } catch (CertificateException e) {
      throw new GeneralSecurityException("tlsClientCa [" + settings.tlsClientCa + "] must be PEM certificates: " + e.getMessage(), e);
    }
    if (found.isEmpty()) {
      throw new GeneralSecurityException("tlsClientCa [" + settings.tlsClientCa + "] has no certificate: it must be PEM");
    }
    return found;
  }

  private static X509TrustManager trust(Collection<X509Certificate> cas) throws IOException, GeneralSecurityException {
    KeyStore store = KeyStore.getInstance("PKCS12");
    store.load(null, null);
    int number = 0;
    for (X509Certificate each : cas) {
      store.setCertificateEntry("ca" + number++, each);
    }
    TrustManagerFactory factory = TrustManagerFactory.getInstance("PKIX");
    factory.init(store);
    for (TrustManager each : factory.getTrustManagers()) {
      if (each instanceof X509TrustManager found) {
        return found;
      }
    }
    throw new GeneralSecurityException("this Java has no PKIX trust manager");
  }

  private Map<X500Principal, List<X509CRL>> revocations(Collection<X509Certificate> cas) throws IOException, GeneralSecurityException {
    Map<X500Principal, List<X509CRL>> found = new HashMap<>();
    Collection<? extends CRL> all;
    try {
      all = CertificateFactory.getInstance("X.509").generateCRLs(new ByteArrayInputStream(bytes("tlsCrl", settings.tlsCrl)));
    } catch (GeneralSecurityException e) {
      throw new GeneralSecurityException("tlsCrl [" + settings.tlsCrl + "] must be a PEM revocation list: " + e.getMessage(), e);
    }
    for (CRL each : all) {
      X509CRL crl = (X509CRL) each;
      if (cas.stream().noneMatch(ca -> signed(ca, crl))) {
        throw new GeneralSecurityException("tlsCrl [" + settings.tlsCrl + "] has a list of [" + crl.getIssuerX500Principal()
            + "] that no authority in tlsClientCa [" + settings.tlsClientCa + "] signed: use the list of the same authority");
      }
      found.computeIfAbsent(crl.getIssuerX500Principal(), none -> new ArrayList<>()).add(crl);
    }
    if (found.isEmpty()) {
      throw new GeneralSecurityException("tlsCrl [" + settings.tlsCrl + "] has no revocation list: it must be PEM (mosquitto/certs crl makes one)");
    }
    return found;
  }

  private static boolean signed(X509Certificate ca, X509CRL crl) {
    try {
      if (!ca.getSubjectX500Principal().equals(crl.getIssuerX500Principal())) {
        return false;
      }
      crl.verify(ca.getPublicKey());
      return true;
    } catch (GeneralSecurityException e) {
      return false;
    }
  }

  private static byte[] bytes(String option, String file) throws IOException {
    try {
      return Files.readAllBytes(Path.of(file));
    } catch (IOException e) {
      throw new IOException(option + " [" + file + "] must be a readable PEM file (" + e + "): put it there or correct the path", e);
    }
  }

  /** What tells that a file is another one. */
  private List<Object> stamps() {
    List<Object> found = new ArrayList<>();
    for (String file : new String[] {settings.tlsCert, settings.tlsKey, settings.tlsClientCa, settings.tlsCrl}) {
      if (!Settings.blank(file)) {
        try {
          BasicFileAttributes attributes = Files.readAttributes(Path.of(file), BasicFileAttributes.class);
          found.add(List.of(attributes.lastModifiedTime(), attributes.size(), String.valueOf(attributes.fileKey())));
        } catch (IOException e) {
          found.add("unreadable");
        }
      }
    }
    return found;
  }

  // ---------------------------------------------------------------------------------------------- client certificates

  private void verify(X509TrustManager authorities, Map<X500Principal, List<X509CRL>> revocations, X509Certificate[] chain) throws Refused {
    if (chain == null || chain.length == 0) {
      throw new Refused(Refusal.NO_CERTIFICATE, "no certificate");
    }
    if (authorities == null) {
      throw new Refused(Refusal.UNTRUSTED, "no authorities");
    }
    // Asked here too: Java's trust manager does not look at the time of a certificate that is itself an authority.
    if (expired(chain[0].getNotAfter()) || chain[0].getNotBefore().getTime() > System.currentTimeMillis()) {
      throw new Refused(Refusal.CERTIFICATE_EXPIRED, "valid from " + chain[0].getNotBefore().toInstant() + " to " + chain[0].getNotAfter().toInstant());
    }
    try {
      authorities.checkClientTrusted(chain, chain[0].getPublicKey().getAlgorithm());
    } catch (CertificateException e) {
      throw new Refused(Refusal.UNTRUSTED, e.getMessage());
    }
    if (revocations.isEmpty()) {
      return;
    }
    for (int i = 0; i < chain.length; i++) {
      List<X509CRL> lists = revocations.get(chain[i].getIssuerX500Principal());
      if (lists != null) {
        for (X509CRL each : lists) {
          if (each.isRevoked(chain[i])) {
            throw new Refused(Refusal.CERTIFICATE_REVOKED, "serial number " + chain[i].getSerialNumber().toString(16));
          }
        }
        String unusable = unusable(lists);
        if (unusable != null) {
          throw new Refused(Refusal.CRL_UNUSABLE, unusable);
        }
      } else if (i == 0) {
        throw new Refused(Refusal.CRL_UNUSABLE, "tlsCrl [" + settings.tlsCrl + "] has no list of [" + chain[0].getIssuerX500Principal() + "]: add it");
      }
    }
  }

  /** One list of an authority that is in force is enough: an old one may stand beside the new one. */
  private String unusable(List<X509CRL> lists) {
    Instant newest = null;
    for (X509CRL each : lists) {
      if (each.getNextUpdate() == null || !expired(each.getNextUpdate())) {
        return null;
      }
      Instant until = each.getNextUpdate().toInstant();
      newest = newest == null || until.isAfter(newest) ? until : newest;
    }
    return "tlsCrl [" + settings.tlsCrl + "] of [" + lists.get(0).getIssuerX500Principal() + "] was good until " + newest
        + ": client certificates are refused until there is a new one (mosquitto/certs crl makes it)";
  }

  private static boolean expired(Date end) {
    return end.getTime() < System.currentTimeMillis();
  }

  /**
   * The device a certificate speaks for.
   *
   * @return its CN; null if there is not exactly one, if it shares its RDN with something else, or is no device id
   */
  static String deviceName(X509Certificate certificate) {
    String name = null;
    try {
      for (Rdn each : new LdapName(certificate.getSubjectX500Principal().getName()).getRdns()) {
        Attribute cn = each.toAttributes().get("CN");
        if (cn != null) {
          if (name != null || each.size() != 1 || cn.size() != 1 || !(cn.get() instanceof String value)) {
            return null;
          }
          name = value;
        }
      }
    } catch (InvalidNameException e) {
      return null;
    } catch (NamingException e) {
      return null;
    }
    return name != null && Topics.validDevice(name) ? name : null;
  }

  /** @return why a handshake failed; null: the client went away */
  static Refusal refusal(Throwable failure) {
    for (Throwable each = failure; each != null; each = each.getCause()) {
      if (each instanceof Refused refused) {
        return refused.refusal;
      }
      if (each instanceof NotSslRecordException) {
        return Refusal.PLAINTEXT;
      }
      if (each instanceof SSLHandshakeException && each.getMessage() != null) {
        // Java gives no other sign; a message that reads differently is counted as TLS.
        if (each.getMessage().contains("mpty client certificate") || each.getMessage().contains("mpty server certificate")) {
          return Refusal.NO_CERTIFICATE;
        }
        if (each.getMessage().contains("protocol version") || each.getMessage().contains("is not enabled or supported")) {
          return Refusal.TLS_VERSION;
        }
      }
      if (each instanceof IOException && !(each instanceof javax.net.ssl.SSLException)) {
        return null;
      }
    }
    return Refusal.TLS;
  }

  /** Asked during the handshake; a handshake that resumes an earlier one does not ask, so that the session asks again. */
  private final class Guard extends X509ExtendedTrustManager {
    private final X509TrustManager authorities;
    private final Map<X500Principal, List<X509CRL>> revocations;

    Guard(X509TrustManager authorities, Map<X500Principal, List<X509CRL>> revocations) {
      this.authorities = authorities;
      this.revocations = revocations;
    }

    @Override
    public void checkClientTrusted(X509Certificate[] chain, String authType) throws CertificateException {
      verify(authorities, revocations, chain);
    }

    @Override
    public void checkClientTrusted(X509Certificate[] chain, String authType, Socket socket) throws CertificateException {
      verify(authorities, revocations, chain);
    }

    @Override
    public void checkClientTrusted(X509Certificate[] chain, String authType, SSLEngine engine) throws CertificateException {
      verify(authorities, revocations, chain);
    }

    @Override
    public void checkServerTrusted(X509Certificate[] chain, String authType) throws CertificateException {
      throw new CertificateException("a listener trusts no servers");
    }

    @Override
    public void checkServerTrusted(X509Certificate[] chain, String authType, Socket socket) throws CertificateException {
      checkServerTrusted(chain, authType);
    }

    @Override
    public void checkServerTrusted(X509Certificate[] chain, String authType, SSLEngine engine) throws CertificateException {
      checkServerTrusted(chain, authType);
    }

    /** The names of the authorities, for the client to choose its certificate by. */
    @Override
    public X509Certificate[] getAcceptedIssuers() {
      return authorities.getAcceptedIssuers();
    }
  }
}
