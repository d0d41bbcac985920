// SPDX-License-Identifier: Apache-2.0
package io.caravan.runtime.internal;

import io.caravan.runtime.Config;
import io.caravan.runtime.ConfigException;
import io.vertx.core.Vertx;
import io.vertx.core.http.ClientAuth;
import io.vertx.core.http.HttpServerOptions;
import io.vertx.core.net.PemKeyCertOptions;
import io.vertx.core.net.PemTrustOptions;
import java.io.IOException;
import java.io.InputStream;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.GeneralSecurityException;
import java.security.Signature;
import java.security.SignatureException;
import java.security.cert.CertificateFactory;
import java.util.ArrayList;
import java.util.List;
import java.util.Set;
import javax.net.ssl.X509KeyManager;

/** The PEM files of the HTTP server. Looked through before Vert.x gets them, which takes no connection any more after a bad one. */
final class TlsFiles {

    private final String certificate;
    private final String key;
    private final String clientCa;
    private final String crl;
    private String seen;

    private final Vertx vertx;

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
        String broken = broken();
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
        options.setSsl(true).setEnabledSecureTransportProtocols(Set.of("TLSv1.2", "TLSv1.3"))
                .setKeyCertOptions(new PemKeyCertOptions().setCertPath(certificate).setKeyPath(key));
        if (clientCa != null) {
            // A device without a certificate may have a token.
            options.setClientAuth(ClientAuth.REQUEST).setTrustOptions(new PemTrustOptions().addCertPath(clientCa));
        }
        if (crl != null) {
            options.addCrlPath(crl);
        }
    }

    /** @return what is wrong with the files, or null. Reads them; not for an event loop. */
    String broken() {
        String file = "http.tls.cert.file [" + certificate + "] and http.tls.key.file [" + key + "]";
        try {
            X509KeyManager keys = (X509KeyManager) new PemKeyCertOptions().setCertPath(certificate).setKeyPath(key)
                    .getKeyManagerFactory(vertx).getKeyManagers()[0];
            if (!pair(keys)) {
                return file + " do not belong together: replace both";
            }
            if (clientCa != null) {
                file = "http.tls.client.ca.file [" + clientCa + "]";
                new PemTrustOptions().addCertPath(clientCa).getTrustManagerFactory(vertx);
            }
            if (crl != null) {
                file = "http.tls.crl.file [" + crl + "]";
                try (InputStream in = Files.newInputStream(Path.of(crl))) {
                    if (CertificateFactory.getInstance("X.509").generateCRLs(in).isEmpty()) {
                        return file + " must hold a revocation list in PEM";
                    }
                }
            }
            return null;
        } catch (Exception e) {
            return file + " must be PEM, the key PKCS #8: " + Causes.text(e);
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
