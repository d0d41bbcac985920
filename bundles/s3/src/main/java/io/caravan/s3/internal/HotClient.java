// SPDX-License-Identifier: Apache-2.0
package io.caravan.s3.internal;

import io.caravan.runtime.Config;
import java.io.IOException;
import java.io.InputStream;
import java.lang.reflect.InvocationHandler;
import java.lang.reflect.InvocationTargetException;
import java.lang.reflect.Method;
import java.lang.reflect.Proxy;
import java.net.URI;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.GeneralSecurityException;
import java.security.KeyStore;
import java.security.cert.Certificate;
import java.security.cert.CertificateFactory;
import java.time.Duration;
import java.util.Collection;
import javax.net.ssl.TrustManager;
import javax.net.ssl.TrustManagerFactory;
import software.amazon.awssdk.auth.credentials.AwsBasicCredentials;
import software.amazon.awssdk.auth.credentials.AwsCredentialsProvider;
import software.amazon.awssdk.auth.credentials.AwsSessionCredentials;
import software.amazon.awssdk.auth.credentials.DefaultCredentialsProvider;
import software.amazon.awssdk.auth.credentials.ProfileCredentialsProvider;
import software.amazon.awssdk.auth.credentials.StaticCredentialsProvider;
import software.amazon.awssdk.awscore.retry.AwsRetryStrategy;
import software.amazon.awssdk.core.checksums.RequestChecksumCalculation;
import software.amazon.awssdk.core.checksums.ResponseChecksumValidation;
import software.amazon.awssdk.http.apache.ApacheHttpClient;
import software.amazon.awssdk.profiles.ProfileFile;
import software.amazon.awssdk.profiles.ProfileFileSupplier;
import software.amazon.awssdk.regions.Region;
import software.amazon.awssdk.services.s3.S3Client;
import software.amazon.awssdk.services.s3.S3ClientBuilder;
import software.amazon.awssdk.services.s3.S3Configuration;

/**
 * An S3 client that stays the same object while what it is made of changes: routes and endpoints keep the reference they
 * have. Made at the first call after a change; calls that are under way end on the client they began with.
 *
 * <p>Keys that make no client fail each call with {@link SettingsException}. This class is thread-safe.
 */
public final class HotClient implements AutoCloseable {
    private static final int ATTEMPTS = 2;
    private static final int CONNECTIONS = 8;

    /** What a key says makes no client; the message names the key. */
    static final class SettingsException extends RuntimeException {
        private static final long serialVersionUID = 1L;

        SettingsException(String message, Throwable cause) {
            super(message, cause);
        }
    }

    /** A client and how many calls use it; all fields guarded by the HotClient. */
    private static final class Lease {
        S3Client client;
        int users;
        boolean retired;
    }

    private final Config config;
    private final S3Client proxy;
    private Lease current;
    private boolean closed;

    /** @param config read at the first call after each {@link #renew} */
    public HotClient(Config config) {
        this.config = config;
        this.proxy = (S3Client) Proxy.newProxyInstance(S3Client.class.getClassLoader(), new Class<?>[] {S3Client.class},
                new Handler());
    }

    /** @return the client; closing it does nothing */
    public S3Client client() {
        return proxy;
    }

    /** The next call is made with what the keys say then. */
    public synchronized void renew() {
        if (current != null) {
            current.retired = true;
            closeIfUnused(current);
            current = null;
        }
    }

    /** Calls fail from now on. */
    @Override
    public synchronized void close() {
        closed = true;
        renew();
    }

    private final class Handler implements InvocationHandler {
        @Override
        public Object invoke(Object self, Method method, Object[] arguments) throws Throwable {
            switch (method.getName()) {
                case "close":
                    return null;
                case "toString":
                    return "S3Client[s3]";
                case "hashCode":
                    return System.identityHashCode(self);
                case "equals":
                    return self == arguments[0];
                default:
            }
            Lease lease = lease();
            try {
                return method.invoke(lease.client, arguments);
            } catch (InvocationTargetException e) {
                throw e.getCause();
            } finally {
                release(lease);
            }
        }
    }

    private synchronized Lease lease() {
        if (closed) {
            throw new IllegalStateException("The S3 client is closed: bundle io.caravan.s3 has stopped");
        }
        if (current == null) {
            Lease made = new Lease();
            made.client = make();
            current = made;
        }
        current.users++;
        return current;
    }

    private synchronized void release(Lease lease) {
        lease.users--;
        closeIfUnused(lease);
    }

    private static void closeIfUnused(Lease lease) {
        if (lease.retired && lease.users == 0) {
            lease.client.close();
        }
    }

    private S3Client make() {
        // The sink cuts a delivery that hangs: the client must have given up before, or what it was doing goes on unseen.
        long sink = config.getLong("sink.s3.timeout.ms");
        long call = Math.min(config.getLong("s3.call.timeout.ms"), sink * 9 / 10);
        long attempt = Math.min(config.getLong("s3.attempt.timeout.ms"), call);
        TrustManager[] trusted = trusted();
        ApacheHttpClient.Builder http = ApacheHttpClient.builder()
                .maxConnections(CONNECTIONS)
                .connectionTimeout(ms("s3.connect.timeout.ms"))
                .connectionAcquisitionTimeout(ms("s3.connect.timeout.ms"))
                .socketTimeout(ms("s3.socket.timeout.ms"))
                .tcpKeepAlive(true);
        if (trusted != null) {
            http.tlsTrustManagersProvider(() -> trusted);
        }
        S3ClientBuilder builder = S3Client.builder()
                .credentialsProvider(credentials())
                .region(Region.of(config.get("s3.region")))
                .forcePathStyle(config.getBoolean("s3.path.style"))
                // The route sends Content-MD5, which every server checks; newer checksums come as trailers of a chunked body,
                // which many servers do not take, and cost a pass over each object.
                .requestChecksumCalculation(RequestChecksumCalculation.WHEN_REQUIRED)
                .responseChecksumValidation(ResponseChecksumValidation.WHEN_REQUIRED)
                .serviceConfiguration(S3Configuration.builder().chunkedEncodingEnabled(false).build())
                .httpClientBuilder(http)
                .overrideConfiguration(o -> o
                        .apiCallTimeout(Duration.ofMillis(call))
                        .apiCallAttemptTimeout(Duration.ofMillis(attempt))
                        // The sink tries again for ever: one attempt more here spares it a dropped connection.
                        .retryStrategy(AwsRetryStrategy.standardRetryStrategy().toBuilder().maxAttempts(ATTEMPTS).build()));
        if (!config.get("s3.endpoint").isEmpty()) {
            builder.endpointOverride(endpoint());
        }
        return builder.build();
    }

    private Duration ms(String key) {
        return Duration.ofMillis(config.getLong(key));
    }

    private URI endpoint() {
        String text = config.get("s3.endpoint");
        URI uri;
        try {
            uri = URI.create(text);
        } catch (IllegalArgumentException e) {
            throw new SettingsException("s3.endpoint [" + text + "] is no URL: write https://host[:port]", e);
        }
        if (uri.getHost() == null || uri.getUserInfo() != null || uri.getQuery() != null
                || !"http".equals(uri.getScheme()) && !"https".equals(uri.getScheme())) {
            throw new SettingsException("s3.endpoint [" + uri.getScheme() + "://" + uri.getHost() + "] must be https://host[:port],"
                    + " without user and query: the credentials have keys of their own", null);
        }
        return uri;
    }

    private AwsCredentialsProvider credentials() {
        String access = config.get("s3.access.key");
        String secret = config.get("s3.secret.key");
        String token = config.get("s3.session.token");
        if (access.isEmpty() != secret.isEmpty()) {
            throw new SettingsException("s3.access.key and s3.secret.key must be set together, or neither; "
                    + (access.isEmpty() ? "s3.access.key" : "s3.secret.key") + " is missing", null);
        }
        if (!access.isEmpty()) {
            return StaticCredentialsProvider.create(token.isEmpty() ? AwsBasicCredentials.create(access, secret)
                    : AwsSessionCredentials.create(access, secret, token));
        }
        if (!config.get("s3.credentials.file").isEmpty()) {
            Path file = config.getPath("s3.credentials.file");
            if (!Files.isReadable(file)) {
                throw new SettingsException("s3.credentials.file [" + file + "] must be a readable file of AWS credentials:"
                        + " create it or correct the key", null);
            }
            return ProfileCredentialsProvider.builder().profileName(config.get("s3.credentials.profile"))
                    .profileFile(ProfileFileSupplier.reloadWhenModified(file, ProfileFile.Type.CREDENTIALS)).build();
        }
        return DefaultCredentialsProvider.builder().build();
    }

    /** @return null: whom the JVM trusts */
    private TrustManager[] trusted() {
        if (config.get("s3.ca.file").isEmpty()) {
            return null;
        }
        Path file = config.getPath("s3.ca.file");
        try (InputStream in = Files.newInputStream(file)) {
            KeyStore store = KeyStore.getInstance("PKCS12");
            store.load(null, null);
            Collection<? extends Certificate> found = CertificateFactory.getInstance("X.509").generateCertificates(in);
            if (found.isEmpty()) {
                throw new GeneralSecurityException("it holds no certificate");
            }
            int n = 0;
            for (Certificate certificate : found) {
                store.setCertificateEntry("ca-" + n++, certificate);
            }
            TrustManagerFactory factory = TrustManagerFactory.getInstance(TrustManagerFactory.getDefaultAlgorithm());
            factory.init(store);
            return factory.getTrustManagers();
        } catch (IOException | GeneralSecurityException e) {
            throw new SettingsException("s3.ca.file [" + file + "] must be a readable PEM file with certificates: " + e.getMessage(), e);
        }
    }
}
