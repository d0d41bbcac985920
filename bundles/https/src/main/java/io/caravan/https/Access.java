// SPDX-License-Identifier: Apache-2.0
package io.caravan.https;

import io.caravan.wal.SinkException;
import io.caravan.wal.SinkException.Kind;
import io.vertx.core.http.HttpClientOptions;
import io.vertx.core.net.PemKeyCertOptions;
import io.vertx.core.net.PemTrustOptions;
import java.io.IOException;
import java.io.InputStream;
import java.net.InetAddress;
import java.net.URI;
import java.net.UnknownHostException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.cert.CertificateException;
import java.security.cert.CertificateFactory;
import java.util.List;
import java.util.Set;
import java.util.concurrent.TimeUnit;
import java.util.regex.Pattern;
import javax.net.ssl.SSLException;

/**
 * Where a sink may send to, whom it trusts there and how it shows who it is: what {@link HttpsSink} and {@link GrpcSink}
 * have in common. Thread-safe once its fields are set.
 */
final class Access {
    private static final int TOKEN_MAX_BYTES = 16_384;
    private static final int QUOTE_MAX = 200;
    /** Alerts that say what they think of us; others (internal_error, ..) may pass. */
    private static final Pattern REFUSES_US = Pattern.compile("fatal alert: (\\w*certificate\\w*|unknown_ca|access_denied|handshake_failure"
            + "|protocol_version|insufficient_security|unrecognized_name)");

    String keys = "";
    boolean loopbackHttp;
    Path tokenFile;
    Path caFile;
    Path certFile;
    Path keyFile;

    static Path path(String file) {
        return file == null || file.isBlank() ? null : Path.of(file.trim());
    }

    URI checked(URI uri) throws SinkException {
        String scheme = String.valueOf(uri.getScheme());
        if (uri.getHost() == null || uri.getRawUserInfo() != null || uri.getRawQuery() != null || uri.getRawFragment() != null) {
            throw misconfigured("url", uri.getScheme() + "://...", "be https://host[:port]/path, without user, query and fragment", null);
        }
        if (!scheme.equals("https") && !(scheme.equals("http") && loopbackHttp && loopback(uri.getHost()))) {
            throw misconfigured("url", uri, "begin with https://; http:// is for a loopback host only, and only with "
                    + keys + ".loopback.http = true", null);
        }
        return uri;
    }

    /** By the name alone: what a name resolves to is not ours to rely on. */
    private static boolean loopback(String host) {
        try {
            return host.equals("localhost") || host.matches("\\[.*]|[0-9.]+") && InetAddress.getByName(host).isLoopbackAddress();
        } catch (UnknownHostException e) {
            return false;
        }
    }

    /** @return the content of the token file as it is now, null: there is none to send */
    String token() throws SinkException {
        if (tokenFile == null) {
            return null;
        }
        try {
            if (Files.size(tokenFile) > TOKEN_MAX_BYTES) {
                throw misconfigured("token.file", tokenFile, "be no longer than " + TOKEN_MAX_BYTES + " bytes", null);
            }
            String token = Files.readString(tokenFile).strip();
            if (!token.matches("[\\x21-\\x7e]+")) {
                throw misconfigured("token.file", tokenFile, "hold one token of visible ASCII characters", null);
            }
            return token;
        } catch (IOException e) {
            throw misconfigured("token.file", tokenFile, "be readable", e);
        }
    }

    /** @return what tells one content of the certificate files from another without reading them */
    List<String> stamps() throws SinkException {
        if ((certFile == null) != (keyFile == null)) {
            throw misconfigured("client.cert.file", certFile, "be set together with " + keys + ".client.key.file", null);
        }
        return List.of(stamp("ca.file", caFile), stamp("client.cert.file", certFile), stamp("client.key.file", keyFile));
    }

    private String stamp(String key, Path file) throws SinkException {
        try {
            return file == null ? "" : file + " " + Files.readAttributes(file, "fileKey,size,lastModifiedTime");
        } catch (IOException e) {
            throw misconfigured(key, file, "be a readable PEM file", e);
        }
    }

    /** Sets TLS of a client to the certificate files as they are now. */
    <T extends HttpClientOptions> T secure(T options, int handshakeTimeoutMs) throws SinkException {
        certificates("ca.file", caFile);
        certificates("client.cert.file", certFile);
        options.setSslHandshakeTimeout(handshakeTimeoutMs).setSslHandshakeTimeoutUnit(TimeUnit.MILLISECONDS)
                .setEnabledSecureTransportProtocols(Set.of("TLSv1.2", "TLSv1.3"));
        if (caFile != null) {
            options.setTrustOptions(new PemTrustOptions().addCertPath(caFile.toString()));
        }
        if (certFile != null) {
            options.setKeyCertOptions(new PemKeyCertOptions().addCertPath(certFile.toString()).addKeyPath(keyFile.toString()));
        }
        return options;
    }

    /** Vert.x says of a file it cannot use neither which one nor that it is one. */
    private void certificates(String key, Path file) throws SinkException {
        if (file == null) {
            return;
        }
        try (InputStream in = Files.newInputStream(file)) {
            if (CertificateFactory.getInstance("X.509").generateCertificates(in).isEmpty()) {
                throw misconfigured(key, file, "be a readable PEM file with a certificate", null);
            }
        } catch (IOException | CertificateException e) {
            throw misconfigured(key, file, "be a readable PEM file with a certificate", e);
        }
    }

    SinkException misconfigured(String key, Object value, String rule, Exception cause) {
        return new SinkException(Kind.CONFIGURATION, "misconfigured", keys + "." + key + " [" + value + "] must " + rule
                + (cause == null ? "" : " (" + cause.getClass().getSimpleName() + ")"), 0, cause);
    }

    /** @return what a call that was not answered failed of */
    Exception failure(URI uri, Throwable error) {
        for (Throwable cause = error; cause != null; cause = cause.getCause()) {
            if (cause instanceof SSLException && REFUSES_US.matcher(String.valueOf(cause.getMessage())).find()) {
                return new SinkException(Kind.CONFIGURATION, "unauthorized", uri + " ended the TLS handshake: " + cause.getMessage()
                        + "; check " + keys + ".client.cert.file", 0, error);
            }
        }
        return error instanceof Exception ? (Exception) error : new IOException(error);
    }

    /** @return what an answer says, fit for an error message */
    static String quote(String said) {
        String text = said == null ? "" : said.replaceAll("[^\\x21-\\x7e]+", " ").strip();
        return text.length() > QUOTE_MAX ? text.substring(0, QUOTE_MAX) + "..." : text;
    }
}
