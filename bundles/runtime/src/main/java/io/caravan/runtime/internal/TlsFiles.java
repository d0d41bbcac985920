// SPDX-License-Identifier: Apache-2.0
package io.caravan.runtime.internal;

import io.caravan.runtime.Config;
import io.caravan.runtime.ConfigException;
import io.vertx.core.Vertx;
import io.vertx.core.http.ClientAuth;
import io.vertx.core.http.HttpServerOptions;
import io.vertx.core.net.KeyCertOptions;
import io.vertx.core.net.PemKeyCertOptions;
import io.vertx.core.net.TrustOptions;
import java.io.IOException;
import java.io.InputStream;
import java.net.Socket;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.GeneralSecurityException;
import java.security.KeyStore;
import java.security.Principal;
import java.security.PrivateKey;
import java.security.Signature;
import java.security.SignatureException;
import java.security.cert.CRL;
import java.security.cert.CertPathBuilder;
import java.security.cert.CertStore;
import java.security.cert.Certificate;
import java.security.cert.CertificateException;
import java.security.cert.CertificateFactory;
import java.security.cert.CollectionCertStoreParameters;
import java.security.cert.PKIXBuilderParameters;
import java.security.cert.PKIXRevocationChecker;
import java.security.cert.X509CertSelector;
import java.security.cert.X509Certificate;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collection;
import java.util.EnumSet;
import java.util.List;
import java.util.Set;
import java.util.UUID;
import java.util.concurrent.TimeUnit;
import javax.naming.InvalidNameException;
import javax.naming.ldap.LdapName;
import javax.naming.ldap.Rdn;
import javax.net.ssl.CertPathTrustManagerParameters;
import javax.net.ssl.SSLEngine;
import javax.net.ssl.SSLPeerUnverifiedException;
import javax.net.ssl.SSLSession;
import javax.net.ssl.TrustManagerFactory;
import javax.net.ssl.X509ExtendedKeyManager;
import javax.net.ssl.X509ExtendedTrustManager;
import javax.net.ssl.X509KeyManager;

/**
 * The PEM files of the HTTP server. Vert.x gets managers that ask for what is in force, and not the files: it drops connections
 * that come in while it takes new files, and takes none any more after a bad one. Thread-safe.
 */
final class TlsFiles {

    private static final String CHECKED = "caravan.checked";
    /** A certificate that was good may have expired since. */
    private static final long RECHECK_NS = TimeUnit.MINUTES.toNanos(1);

    /** @param mark distinguishes its aliases from those of the files before: a handshake ends with what it began with */
    private record Keys(String mark, X509ExtendedKeyManager manager) { }

    /** Which client certificates are taken; another object whenever the files have changed. */
    private record Trust(X509ExtendedTrustManager manager) { }

    private record Checked(Trust by, long atNs, boolean good) { }

    private final String certificate;
    private final String key;
    private final String clientCa;
    private final String crl;
    private final Vertx vertx;
    private String seen;
    private volatile Keys keys;
    private volatile Keys before;
    private volatile Trust trust;

    private TlsFiles(Config config, Vertx vertx) {
        this.vertx = vertx;
        this.certificate = required(config, "http.tls.cert.file");
        this.key = required(config, "http.tls.key.file");
        this.clientCa = optional(config, "http.tls.client.ca.file");
        this.crl = optional(config, "http.tls.crl.file");
        if (crl != null && clientCa == null) {
            throw new ConfigException(List.of("http.tls.crl.file is set, but http.tls.client.ca.file is not: whose certificates does it revoke?"));
        }
        this.seen = state();
        String broken = load();
        if (broken != null) {
            throw new ConfigException(List.of(broken));
        }
    }

    /**
     * @return null without {@code http.tls.enabled}
     * @throws ConfigException a file is not named or cannot be read
     */
    static TlsFiles of(Config config, Vertx vertx) {
        return config.getBoolean("http.tls.enabled") ? new TlsFiles(config, vertx) : null;
    }

    void apply(HttpServerOptions options) {
        options.setSsl(true).setEnabledSecureTransportProtocols(Set.of("TLSv1.2", "TLSv1.3")).setKeyCertOptions(KeyCertOptions.wrap(new Own()));
        if (clientCa != null) {
            // A device without a certificate may have a token.
            options.setClientAuth(ClientAuth.REQUEST).setTrustOptions(TrustOptions.wrap(new Clients()));
        }
    }

    /**
     * Reads the files and puts them in force. Not for an event loop.
     *
     * @return what is wrong with them, then nothing has changed; or null
     */
    String load() {
        String file = "http.tls.cert.file [" + certificate + "] and http.tls.key.file [" + key + "]";
        try {
            X509ExtendedKeyManager pair = (X509ExtendedKeyManager) new PemKeyCertOptions().setCertPath(certificate).setKeyPath(key)
                    .getKeyManagerFactory(vertx).getKeyManagers()[0];
            if (!pair(pair)) {
                return file + " do not belong together: replace both";
            }
            Trust clients = null;
            if (clientCa != null) {
                file = "http.tls.client.ca.file [" + clientCa + "]";
                PKIXBuilderParameters rules = authorities();
                if (crl != null) {
                    file = "http.tls.crl.file [" + crl + "]";
                    if (!revocation(rules)) {
                        return file + " must hold a revocation list in PEM";
                    }
                }
                TrustManagerFactory factory = TrustManagerFactory.getInstance("PKIX");
                factory.init(new CertPathTrustManagerParameters(rules));
                clients = new Trust((X509ExtendedTrustManager) factory.getTrustManagers()[0]);
            }
            before = keys;
            keys = new Keys(UUID.randomUUID() + " ", pair);
            trust = clients;
            return null;
        } catch (Exception e) {
            return file + " must be PEM, the key PKCS #8: " + Causes.text(e);
        }
    }

    private PKIXBuilderParameters authorities() throws IOException, GeneralSecurityException {
        KeyStore anchors = KeyStore.getInstance(KeyStore.getDefaultType());
        anchors.load(null, null);
        try (InputStream in = Files.newInputStream(Path.of(clientCa))) {
            int number = 0;
            for (Certificate authority : CertificateFactory.getInstance("X.509").generateCertificates(in)) {
                anchors.setCertificateEntry("ca" + number++, authority);
            }
        }
        PKIXBuilderParameters rules = new PKIXBuilderParameters(anchors, new X509CertSelector());
        rules.setRevocationEnabled(false);
        return rules;
    }

    /** A list must be signed by the authority and not be out of date: else nobody with a certificate is let in. */
    private boolean revocation(PKIXBuilderParameters rules) throws IOException, GeneralSecurityException {
        Collection<? extends CRL> lists;
        try (InputStream in = Files.newInputStream(Path.of(crl))) {
            lists = CertificateFactory.getInstance("X.509").generateCRLs(in);
        }
        PKIXRevocationChecker checker = (PKIXRevocationChecker) CertPathBuilder.getInstance("PKIX").getRevocationChecker();
        // The file and nothing else: no device waits for a server that is asked on the way.
        checker.setOptions(EnumSet.of(PKIXRevocationChecker.Option.PREFER_CRLS, PKIXRevocationChecker.Option.NO_FALLBACK));
        rules.setRevocationEnabled(true);
        rules.addCertPathChecker(checker);
        rules.addCertStore(CertStore.getInstance("Collection", new CollectionCertStoreParameters(lists)));
        return !lists.isEmpty();
    }

    /**
     * Of a request's connection, looked at again when the files have changed and now and then: connections stay open, and sessions
     * that are resumed are not asked for their certificate.
     *
     * @return the only CN of the client certificate; null without one, or if it is not in force any more
     */
    String clientName(SSLSession session) {
        X509Certificate[] chain;
        try {
            chain = (X509Certificate[]) session.getPeerCertificates();
        } catch (SSLPeerUnverifiedException e) {
            return null;
        }
        Trust now = trust;
        long at = System.nanoTime();
        Checked checked = (Checked) session.getValue(CHECKED);
        if (checked == null || checked.by != now || at - checked.atNs > RECHECK_NS) {
            checked = new Checked(now, at, now != null && good(now, chain));
            session.putValue(CHECKED, checked);
        }
        return checked.good ? commonName(chain[0]) : null;
    }

    private static boolean good(Trust trust, X509Certificate[] chain) {
        try {
            trust.manager.checkClientTrusted(chain, chain[0].getPublicKey().getAlgorithm());
            return true;
        } catch (CertificateException e) {
            return false;
        }
    }

    private static String commonName(X509Certificate certificate) {
        try {
            List<Object> names = new LdapName(certificate.getSubjectX500Principal().getName()).getRdns().stream()
                    .filter(rdn -> rdn.getType().equalsIgnoreCase("CN")).map(Rdn::getValue).toList();
            return names.size() == 1 && names.get(0) instanceof String name ? name : null;
        } catch (InvalidNameException e) {
            return null;
        }
    }

    private final class Own extends X509ExtendedKeyManager {

        @Override
        public String chooseEngineServerAlias(String type, Principal[] issuers, SSLEngine engine) {
            Keys now = keys;
            String alias = now.manager.chooseEngineServerAlias(type, issuers, engine);
            return alias == null ? null : now.mark + alias;
        }

        @Override
        public X509Certificate[] getCertificateChain(String alias) {
            Keys of = of(alias);
            return of == null ? null : of.manager.getCertificateChain(alias.substring(of.mark.length()));
        }

        @Override
        public PrivateKey getPrivateKey(String alias) {
            Keys of = of(alias);
            return of == null ? null : of.manager.getPrivateKey(alias.substring(of.mark.length()));
        }

        private Keys of(String alias) {
            Keys now = keys;
            Keys old = before;
            return alias.startsWith(now.mark) ? now : old != null && alias.startsWith(old.mark) ? old : null;
        }

        @Override
        public String[] getServerAliases(String type, Principal[] issuers) {
            Keys now = keys;
            String[] all = now.manager.getServerAliases(type, issuers);
            return all == null ? null : Arrays.stream(all).map(alias -> now.mark + alias).toArray(String[]::new);
        }

        @Override
        public String chooseServerAlias(String type, Principal[] issuers, Socket socket) {
            throw new UnsupportedOperationException("Vert.x works with engines");
        }

        @Override
        public String[] getClientAliases(String type, Principal[] issuers) {
            return null;
        }

        @Override
        public String chooseClientAlias(String[] types, Principal[] issuers, Socket socket) {
            return null;
        }
    }

    private final class Clients extends X509ExtendedTrustManager {

        @Override
        public void checkClientTrusted(X509Certificate[] chain, String type, SSLEngine engine) throws CertificateException {
            trust.manager.checkClientTrusted(chain, type, engine);
        }

        @Override
        public void checkClientTrusted(X509Certificate[] chain, String type, Socket socket) throws CertificateException {
            trust.manager.checkClientTrusted(chain, type, socket);
        }

        @Override
        public void checkClientTrusted(X509Certificate[] chain, String type) throws CertificateException {
            trust.manager.checkClientTrusted(chain, type);
        }

        @Override
        public X509Certificate[] getAcceptedIssuers() {
            return trust.manager.getAcceptedIssuers();
        }

        @Override
        public void checkServerTrusted(X509Certificate[] chain, String type, SSLEngine engine) throws CertificateException {
            checkServerTrusted(chain, type);
        }

        @Override
        public void checkServerTrusted(X509Certificate[] chain, String type, Socket socket) throws CertificateException {
            checkServerTrusted(chain, type);
        }

        @Override
        public void checkServerTrusted(X509Certificate[] chain, String type) throws CertificateException {
            throw new CertificateException("a server asks nobody for a server's certificate");
        }
    }

    /** What one signs the other verifies. */
    private static boolean pair(X509KeyManager keys) throws GeneralSecurityException {
        for (String type : List.of("RSA", "EC", "EdDSA")) {
            String[] aliases = keys.getServerAliases(type, null);
            for (String alias : aliases == null ? new String[0] : aliases) {
                Signature signature = Signature.getInstance(type.equals("RSA") ? "SHA256withRSA" : type.equals("EC") ? "SHA256withECDSA" : type);
                signature.initSign(keys.getPrivateKey(alias));
                signature.update((byte) 1);
                byte[] signed = signature.sign();
                signature.initVerify(keys.getCertificateChain(alias)[0].getPublicKey());
                signature.update((byte) 1);
                try {
                    return signature.verify(signed);
                } catch (SignatureException e) {
                    return false;
                }
            }
        }
        return false;
    }

    /** @return whether a file is another one than at the last call; a file that is being replaced is looked at again */
    boolean changed() {
        String now = state();
        boolean changed = now != null && !now.equals(seen);
        seen = now == null ? seen : now;
        return changed;
    }

    private String state() {
        List<String> state = new ArrayList<>();
        for (String file : new String[] {certificate, key, clientCa, crl}) {
            try {
                state.add(file == null ? "" : Files.getLastModifiedTime(Path.of(file)) + " " + Files.size(Path.of(file)) + " "
                        + Files.readAttributes(Path.of(file), java.nio.file.attribute.BasicFileAttributes.class).fileKey());
            } catch (IOException e) {
                return null;
            }
        }
        return state.toString();
    }

    private static String required(Config config, String name) {
        String file = optional(config, name);
        if (file == null) {
            throw new ConfigException(List.of(name + " is not set, but http.tls.enabled is true: name a PEM file"));
        }
        return file;
    }

    private static String optional(Config config, String name) {
        if (config.get(name).isEmpty()) {
            return null;
        }
        Path file = config.getPath(name);
        if (!Files.isReadable(file)) {
            throw new ConfigException(List.of(name + " [" + file + "] must be a file that can be read: create it or change " + name));
        }
        return file.toString();
    }
}
