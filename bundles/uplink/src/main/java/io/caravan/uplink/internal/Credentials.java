// SPDX-License-Identifier: Apache-2.0
package io.caravan.uplink.internal;

import io.caravan.uplink.UplinkClosedException;
import java.io.ByteArrayInputStream;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.NoSuchFileException;
import java.nio.file.Path;
import java.security.GeneralSecurityException;
import java.security.MessageDigest;
import java.security.cert.CertificateFactory;
import java.security.cert.X509Certificate;
import java.util.HexFormat;

/**
 * The files a gateway proves itself with, and what it trusts, as they are at one moment: token, authorities, client certificate
 * and key. Reads the disk: not for an event loop. Immutable.
 */
final class Credentials {

    private static final int MAX_BYTES = 1 << 20;

    private final Connection.Options options;
    private final byte[] token;
    final byte[] ca;
    final byte[] cert;
    final byte[] key;

    private Credentials(Connection.Options options) throws IOException {
        this.options = options;
        token = read(options.tokenFile());
        ca = read(options.caFile());
        cert = read(options.clientCert());
        key = read(options.clientKey());
    }

    static Credentials read(Connection.Options options) throws IOException {
        return new Credentials(options);
    }

    /** @return null: not configured, or not there */
    private static byte[] read(Path path) throws IOException {
        try {
            if (path == null) {
                return null;
            }
            if (Files.size(path) > MAX_BYTES) {
                throw new IOException("[" + path + "] must not exceed " + MAX_BYTES + " bytes");
            }
            return Files.readAllBytes(path);
        } catch (NoSuchFileException e) {
            return null;
        }
    }

    /** Equal for equal contents, and says nothing of them. */
    String fingerprint() {
        try {
            MessageDigest hash = MessageDigest.getInstance("SHA-256");
            for (byte[] file : new byte[][] {token, ca, cert, key}) {
                hash.update((byte) (file == null ? 0 : 1));
                hash.update(file == null ? new byte[0] : MessageDigest.getInstance("SHA-256").digest(file));
            }
            return HexFormat.of().formatHex(hash.digest());
        } catch (GeneralSecurityException e) {
            throw new IllegalStateException(e);
        }
    }

    /**
     * @return the token; null: there is none, and a client certificate stands in for it
     * @throws UplinkClosedException what is there cannot be used; says which file and why, and nothing of its content
     */
    String token() throws UplinkClosedException {
        if (token == null) {
            if (options.tokenFile() == null || options.clientCert() != null) {
                return null;
            }
            throw new UplinkClosedException("token file [" + options.tokenFile()
                + "] cannot be read: put the gateway's token there (uplink.token.file)");
        }
        String text = new String(token, StandardCharsets.UTF_8).strip();
        if (!text.matches("[!-~]{1,4096}")) {
            throw new UplinkClosedException("token file [" + options.tokenFile()
                + "] must hold one token of printable ASCII characters (uplink.token.file)");
        }
        return text;
    }

    /** @throws UplinkClosedException as {@link #token}, for all files */
    void check() throws UplinkClosedException {
        token();
        certificate(ca, options.caFile(), "uplink.ca.file");
        X509Certificate own = certificate(cert, options.clientCert(), "uplink.client.cert.file");
        if (own != null) {
            if (key == null) {
                throw new UplinkClosedException("uplink.client.key.file [" + options.clientKey() + "] cannot be read");
            }
            try {
                Pem.checkPair(own, key, "uplink.client.key.file [" + options.clientKey() + "]", "uplink.client.cert.file [" + options.clientCert() + "]");
            } catch (GeneralSecurityException e) {
                throw new UplinkClosedException(e.getMessage());
            }
        }
    }

    private static X509Certificate certificate(byte[] pem, Path path, String name) throws UplinkClosedException {
        if (path == null) {
            return null;
        }
        try {
            if (pem != null) {
                return (X509Certificate) CertificateFactory.getInstance("X.509").generateCertificates(new ByteArrayInputStream(pem))
                    .iterator().next();
            }
        } catch (GeneralSecurityException | RuntimeException e) {
            throw new UplinkClosedException(name + " [" + path + "] must hold certificates in PEM");
        }
        throw new UplinkClosedException(name + " [" + path + "] cannot be read");
    }
}
