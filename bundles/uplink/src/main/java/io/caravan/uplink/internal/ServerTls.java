// SPDX-License-Identifier: Apache-2.0
package io.caravan.uplink.internal;

import io.vertx.core.http.ClientAuth;
import io.vertx.core.http.HttpServerOptions;
import io.vertx.core.net.KeyCertOptions;
import io.vertx.core.net.TrustOptions;
import java.io.ByteArrayInputStream;
import java.io.IOException;
import java.net.Socket;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.GeneralSecurityException;
import java.security.KeyStore;
import java.security.Principal;
import java.security.PrivateKey;
import java.security.cert.CRL;
import java.security.cert.CertPathValidatorException;
import java.security.cert.CertStore;
import java.security.cert.Certificate;
import java.security.cert.CertificateException;
import java.security.cert.CertificateExpiredException;
import java.security.cert.CertificateFactory;
import java.security.cert.CollectionCertStoreParameters;
import java.security.cert.PKIXBuilderParameters;
import java.security.cert.PKIXRevocationChecker;
import java.security.cert.CertPathBuilder;
import java.security.cert.X509CRL;
import java.security.cert.X509CertSelector;
import java.security.cert.X509Certificate;
import java.time.Instant;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collection;
import java.util.EnumSet;
import java.util.List;
import java.util.Set;
import java.util.concurrent.TimeUnit;
import javax.net.ssl.CertPathTrustManagerParameters;
import javax.net.ssl.SSLEngine;
import javax.net.ssl.TrustManager;
import javax.net.ssl.TrustManagerFactory;
import javax.net.ssl.X509ExtendedKeyManager;
import javax.net.ssl.X509ExtendedTrustManager;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/**
 * The cloud's TLS: certificate, key, authorities of client certificates and their revocation lists, out of files that may
 * change at any time. TLS 1.2 and 1.3 only.
 *
 * <p>A client certificate must lead to one of our authorities, be within its time, be made for clients, and with a revocation
 * list not be on it; a list that is out of date refuses everybody who has a certificate, and so does one that is not signed by
 * the authority. New connections get what is in force when they come; there is no moment without, as there is while Vert.x replaces
 * a server's SSL options (4.5 drops connections then). Files that do not fit together (half of a change, usually) change nothing: what is in force stays, and
 * {@link #problem} says what is wrong. This class is thread-safe.
 */
public final class ServerTls {

    public static final Set<String> PROTOCOLS = Set.of("TLSv1.2", "TLSv1.3");

    private static final Logger LOG = LoggerFactory.getLogger(ServerTls.class);

    /** Paths as configured; {@code clientCa} and {@code crl} may be null. */
    public record Options(Path cert, Path key, Path clientCa, Path crl, ClientAuth clientAuth, long handshakeMs) { }

    /** What the files said at one moment. */
    private record Material(List<byte[]> files, X509Certificate[] chain, PrivateKey key, X509ExtendedTrustManager trust, Instant crlUntil, Instant certUntil) { }

    private final Options options;
    private final Refusals refusals;
    private volatile Material material;
    /** What a handshake began with is what it ends with. */
    private volatile Material before;
    private volatile String problem;
    private List<byte[]> tried;

    /** @throws IllegalArgumentException what the configuration names cannot be used */
    public ServerTls(Options options, Refusals refusals) {
        this.options = options;
        this.refusals = refusals;
        if (options.clientAuth != ClientAuth.NONE && options.clientCa == null) {
            throw new IllegalArgumentException("uplink.tls.client.ca.file must name the authorities of client certificates when"
                + " uplink.tls.client.auth is not none");
        }
        try {
            tried = read();
            material = material(tried);
        } catch (IOException | GeneralSecurityException | RuntimeException e) {
            throw new IllegalArgumentException(e.getMessage() + ": the uplink is never served without TLS", e);
        }
        said(material);
    }

    /** Reads the files again. @return whether something else is in force now */
    public synchronized boolean look() {
        List<byte[]> now;
        try {
            now = read();
            if (same(now, material.files)) {
                problem = aged(material);
                tried = now;
                return false;
            }
            if (same(now, tried)) {
                return false;
            }
            tried = now;
            Material made = material(now);
            before = material;
            material = made;
        } catch (IOException | GeneralSecurityException | RuntimeException e) {
            String said = "the uplink's TLS files changed and cannot be used, what was in force stays: " + e.getMessage();
            if (!said.equals(problem)) {
                LOG.error(said);
                problem = said;
            }
            return false;
        }
        said(material);
        return true;
    }

    /** @return what needs somebody's attention; null: nothing */
    public String problem() {
        return problem;
    }

    public HttpServerOptions apply(HttpServerOptions server) {
        server.setSsl(true).setKeyCertOptions(KeyCertOptions.wrap(new Own())).setEnabledSecureTransportProtocols(PROTOCOLS).setUseAlpn(false)
            .setSslHandshakeTimeout(options.handshakeMs).setSslHandshakeTimeoutUnit(TimeUnit.MILLISECONDS)
            .setClientAuth(options.clientAuth);
        return options.clientAuth == ClientAuth.NONE ? server : server.setTrustOptions(TrustOptions.wrap(new Counting()));
    }

    /** @return the reason a client certificate that was taken is not good any more; null: it still is */
    public String refusal(X509Certificate[] chain) {
        X509ExtendedTrustManager trust = material.trust;
        if (trust == null) {
            return "certificate_untrusted";
        }
        try {
            trust.checkClientTrusted(chain, chain[0].getPublicKey().getAlgorithm());
            return null;
        } catch (CertificateException e) {
            return reason(e);
        }
    }

    private void said(Material now) {
        problem = aged(now);
        LOG.info("uplink TLS: certificate until {}, client certificates {}{}", now.certUntil,
            options.clientAuth == ClientAuth.NONE ? "not asked for" : options.clientAuth == ClientAuth.REQUEST ? "optional" : "required",
            now.crlUntil == null ? "" : ", revocation list until " + now.crlUntil);
        if (problem != null) {
            LOG.error(problem);
        }
    }

    private String aged(Material now) {
        Instant at = Instant.now();
        if (now.crlUntil != null && !at.isBefore(now.crlUntil)) {
            return "uplink.tls.crl.file [" + options.crl + "] is out of date since " + now.crlUntil
                + ": no gateway with a client certificate can connect until there is a new one";
        }
        return at.isBefore(now.certUntil) ? null : "uplink.tls.cert [" + options.cert + "] expired at " + now.certUntil
            + ": no gateway can connect until there is a new one";
    }

    private List<byte[]> read() throws IOException {
        List<byte[]> files = new ArrayList<>();
        for (Path path : Arrays.asList(options.cert, options.key, options.clientCa, options.crl)) {
            try {
                files.add(path == null ? new byte[0] : Files.readAllBytes(path));
            } catch (IOException e) {
                throw new IOException((path == options.cert ? "uplink.tls.cert" : path == options.key ? "uplink.tls.key"
                    : path == options.clientCa ? "uplink.tls.client.ca.file" : "uplink.tls.crl.file") + " [" + path
                    + "] must be a readable PEM file (" + e + ")", e);
            }
        }
        return files;
    }

    private static boolean same(List<byte[]> a, List<byte[]> b) {
        for (int i = 0; i < a.size(); i++) {
            if (!Arrays.equals(a.get(i), b.get(i))) {
                return false;
            }
        }
        return true;
    }

    private Material material(List<byte[]> files) throws IOException, GeneralSecurityException {
        CertificateFactory x509 = CertificateFactory.getInstance("X.509");
        X509Certificate[] chain = certificates(x509, files.get(0), "uplink.tls.cert", options.cert).toArray(X509Certificate[]::new);
        X509Certificate own = chain[0];
        PrivateKey key = Pem.checkPair(own, files.get(1), "uplink.tls.key [" + options.key + "]", "uplink.tls.cert [" + options.cert + "]");
        if (options.clientAuth == ClientAuth.NONE) {
            return new Material(files, chain, key, null, null, own.getNotAfter().toInstant());
        }
        KeyStore anchors = KeyStore.getInstance(KeyStore.getDefaultType());
        anchors.load(null, null);
        int number = 0;
        for (Certificate authority : certificates(x509, files.get(2), "uplink.tls.client.ca.file", options.clientCa)) {
            anchors.setCertificateEntry("ca" + number++, authority);
        }
        PKIXBuilderParameters rules = new PKIXBuilderParameters(anchors, new X509CertSelector());
        rules.setRevocationEnabled(options.crl != null);
        Instant until = null;
        if (options.crl != null) {
            Collection<? extends CRL> lists;
            try {
                lists = x509.generateCRLs(new ByteArrayInputStream(files.get(3)));
            } catch (GeneralSecurityException e) {
                throw new GeneralSecurityException("uplink.tls.crl.file [" + options.crl + "] must be PEM: " + e.getMessage(), e);
            }
            if (lists.isEmpty()) {
                throw new GeneralSecurityException("uplink.tls.crl.file [" + options.crl + "] has no revocation list in it");
            }
            for (CRL list : lists) {
                Instant next = ((X509CRL) list).getNextUpdate() == null ? null : ((X509CRL) list).getNextUpdate().toInstant();
                until = next == null || until != null && until.isBefore(next) ? until : next;
            }
            PKIXRevocationChecker checker = (PKIXRevocationChecker) CertPathBuilder.getInstance("PKIX").getRevocationChecker();
            // The file and nothing else: no gateway waits for a server that is asked on the way.
            checker.setOptions(EnumSet.of(PKIXRevocationChecker.Option.PREFER_CRLS, PKIXRevocationChecker.Option.NO_FALLBACK));
            rules.addCertPathChecker(checker);
            rules.addCertStore(CertStore.getInstance("Collection", new CollectionCertStoreParameters(lists)));
        }
        TrustManagerFactory factory = TrustManagerFactory.getInstance("PKIX");
        factory.init(new CertPathTrustManagerParameters(rules));
        for (TrustManager manager : factory.getTrustManagers()) {
            if (manager instanceof X509ExtendedTrustManager trust) {
                return new Material(files, chain, key, trust, until, own.getNotAfter().toInstant());
            }
        }
        throw new GeneralSecurityException("this JVM has no X509ExtendedTrustManager");
    }

    private static List<Certificate> certificates(CertificateFactory x509, byte[] pem, String key, Path path) throws GeneralSecurityException {
        try {
            List<Certificate> all = new ArrayList<>(x509.generateCertificates(new ByteArrayInputStream(pem)));
            if (!all.isEmpty()) {
                return all;
            }
        } catch (CertificateException e) {
            throw new GeneralSecurityException(key + " [" + path + "] must hold certificates in PEM: " + e.getMessage(), e);
        }
        throw new GeneralSecurityException(key + " [" + path + "] has no certificate in it");
    }

    private static String reason(CertificateException error) {
        for (Throwable t = error; t != null; t = t.getCause()) {
            if (t instanceof CertificateExpiredException) {
                return "certificate_expired";
            }
            if (t instanceof CertPathValidatorException path) {
                if (path.getReason() == CertPathValidatorException.BasicReason.REVOKED) {
                    return "certificate_revoked";
                }
                if (path.getReason() == CertPathValidatorException.BasicReason.EXPIRED) {
                    return "certificate_expired";
                }
                if (path.getReason() == CertPathValidatorException.BasicReason.UNDETERMINED_REVOCATION_STATUS) {
                    return "certificate_unknown_status";
                }
            }
        }
        return "certificate_untrusted";
    }

    /** @return the CN, if there is exactly one; null otherwise */
    public static String commonName(X509Certificate certificate) {
        try {
            List<Object> names = new javax.naming.ldap.LdapName(certificate.getSubjectX500Principal().getName()).getRdns().stream()
                .filter(rdn -> rdn.getType().equalsIgnoreCase("CN")).map(javax.naming.ldap.Rdn::getValue).toList();
            return names.size() == 1 && names.get(0) instanceof String name ? name : null;
        } catch (javax.naming.InvalidNameException e) {
            return null;
        }
    }

    /** Our certificate; the alias names what it is out of. */
    private final class Own extends X509ExtendedKeyManager {

        @Override
        public String chooseEngineServerAlias(String keyType, Principal[] issuers, SSLEngine engine) {
            Material now = material;
            return keyType.equals(now.key.getAlgorithm()) ? alias(now) : null;
        }

        @Override
        public X509Certificate[] getCertificateChain(String alias) {
            Material named = named(alias);
            return named == null ? null : named.chain.clone();
        }

        @Override
        public PrivateKey getPrivateKey(String alias) {
            Material named = named(alias);
            return named == null ? null : named.key;
        }

        private Material named(String alias) {
            Material now = material;
            Material old = before;
            return alias.equals(alias(now)) ? now : old != null && alias.equals(alias(old)) ? old : null;
        }

        private static String alias(Material of) {
            return Integer.toHexString(System.identityHashCode(of));
        }

        @Override
        public String[] getServerAliases(String keyType, Principal[] issuers) {
            return new String[] {alias(material)};
        }

        @Override
        public String chooseServerAlias(String keyType, Principal[] issuers, Socket socket) {
            return chooseEngineServerAlias(keyType, issuers, null);
        }

        @Override
        public String[] getClientAliases(String keyType, Principal[] issuers) {
            return null;
        }

        @Override
        public String chooseClientAlias(String[] keyType, Principal[] issuers, Socket socket) {
            return null;
        }
    }

    /** Refuses as the one behind it does, and counts why: outside, a failed handshake is only a failed handshake. */
    private final class Counting extends X509ExtendedTrustManager {

        @Override
        public void checkClientTrusted(X509Certificate[] chain, String authType, SSLEngine engine) throws CertificateException {
            try {
                material.trust.checkClientTrusted(chain, authType, engine);
            } catch (CertificateException e) {
                String name = commonName(chain[0]);
                refusals.refused(reason(e), name, engine.getPeerHost(), "client certificate " + chain[0].getSerialNumber().toString(16));
                throw e;
            }
        }

        @Override
        public void checkClientTrusted(X509Certificate[] chain, String authType) throws CertificateException {
            material.trust.checkClientTrusted(chain, authType);
        }

        @Override
        public void checkClientTrusted(X509Certificate[] chain, String authType, Socket socket) throws CertificateException {
            material.trust.checkClientTrusted(chain, authType, socket);
        }

        @Override
        public void checkServerTrusted(X509Certificate[] chain, String authType) throws CertificateException {
            throw new CertificateException("only clients are checked here");
        }

        @Override
        public void checkServerTrusted(X509Certificate[] chain, String authType, Socket socket) throws CertificateException {
            throw new CertificateException("only clients are checked here");
        }

        @Override
        public void checkServerTrusted(X509Certificate[] chain, String authType, SSLEngine engine) throws CertificateException {
            throw new CertificateException("only clients are checked here");
        }

        @Override
        public X509Certificate[] getAcceptedIssuers() {
            return material.trust.getAcceptedIssuers();
        }
    }
}
