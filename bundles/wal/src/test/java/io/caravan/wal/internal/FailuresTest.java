// SPDX-License-Identifier: Apache-2.0
package io.caravan.wal.internal;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertSame;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.caravan.wal.SinkException;
import io.caravan.wal.SinkException.Kind;
import java.io.IOException;
import java.net.ConnectException;
import java.net.SocketTimeoutException;
import java.security.cert.CertificateException;
import java.util.Map;
import java.util.concurrent.TimeoutException;
import javax.net.ssl.SSLHandshakeException;
import org.junit.jupiter.api.Test;

class FailuresTest {
    private static final long NOW = 1_800_000_000_000L;

    @Test
    void statusesOfHttp() {
        assertEquals("CONFIGURATION unauthorized", of(new Http(401, Map.of())));
        assertEquals("CONFIGURATION unauthorized", of(new Http(403, Map.of())));
        assertEquals("CONFIGURATION not_found", of(new Http(404, Map.of())));
        assertEquals("CONFIGURATION misconfigured", of(new Http(302, Map.of())));
        assertEquals("TRANSIENT timeout", of(new Http(408, Map.of())));
        assertEquals("TRANSIENT throttled", of(new Http(429, Map.of())));
        assertEquals("TRANSIENT server_error", of(new Http(500, Map.of())));
        assertEquals("TRANSIENT server_error", of(new Http(503, Map.of())));
        assertEquals("RECORD too_large", of(new Http(413, Map.of())));
        assertEquals("RECORD refused", of(new Http(400, Map.of())));
        assertEquals("RECORD refused", of(new RuntimeException("wrapped", new Http(422, Map.of()))));
    }

    @Test
    void causesThatSayMostDecide() {
        assertEquals("TRANSIENT unavailable", of(new ConnectException("Connection refused")));
        assertEquals("TRANSIENT timeout", of(new IOException(new SocketTimeoutException("Read timed out"))));
        assertEquals("TRANSIENT timeout", of(new TimeoutException()));
        assertEquals("CONFIGURATION misconfigured", of(new SSLHandshakeException("PKIX") {
            private static final long serialVersionUID = 1L;

            @Override
            public synchronized Throwable getCause() {
                return new CertificateException("expired");
            }
        }));
        assertEquals("TRANSIENT unavailable", of(new SSLHandshakeException("Remote host terminated the handshake")));
        assertEquals("TRANSIENT error", of(new IllegalStateException("who knows")));
        assertEquals("CONFIGURATION unauthorized", of(new TopicAuthorizationException()));
        assertEquals("RECORD too_large", of(new RuntimeException(new RecordTooLargeException())));
    }

    @Test
    void whatADeliverRouteSaysWins() {
        SinkException said = new SinkException(Kind.CONFIGURATION, "misconfigured", "because", 0, null);
        assertSame(said, Failures.of(new RuntimeException(new Http(500, Map.of())) {
            private static final long serialVersionUID = 1L;

            @Override
            public synchronized Throwable getCause() {
                return said;
            }
        }));
    }

    @Test
    void retryAfterInSecondsOrAsADate() {
        assertEquals(7_000, Failures.http(429, new Http(429, Map.of("retry-after", "7")), new Http(429, Map.of()), NOW).retryAfterMs());
        assertEquals(7_000, Failures.retryAfterMs(" 7 ", NOW));
        assertEquals(90_000, Failures.retryAfterMs("Fri, 15 Jan 2027 08:01:30 GMT", NOW));
        assertEquals(0, Failures.retryAfterMs("Fri, 15 Jan 2027 07:00:00 GMT", NOW), "in the past");
        assertEquals(0, Failures.retryAfterMs("soon", NOW));
    }

    @Test
    void anErrorIsOneLineOfBoundedLength() {
        SinkException failure = Failures.of(new IOException("a\nb " + "x".repeat(10_000)));
        assertTrue(failure.getMessage().length() <= 500 && !failure.getMessage().contains("\n"), failure.getMessage());
    }

    @Test
    void aChainThatBitesItsTailEnds() {
        assertEquals("TRANSIENT error", of(new RuntimeException("round") {
            private static final long serialVersionUID = 1L;

            @Override
            public synchronized Throwable getCause() {
                return this;
            }
        }));
    }

    private static String of(Throwable error) {
        SinkException failure = Failures.of(error);
        return failure.kind() + " " + failure.reason();
    }

    /** As Camel's HTTP components throw it; not public, as a class may be in another bundle. */
    private static final class Http extends Exception {
        private static final long serialVersionUID = 1L;
        private final int status;
        private final transient Map<String, String> headers;

        Http(int status, Map<String, String> headers) {
            super("HTTP operation failed");
            this.status = status;
            this.headers = headers;
        }

        @SuppressWarnings("unused")
        public int getStatusCode() {
            return status;
        }

        @SuppressWarnings("unused")
        public Map<String, String> getResponseHeaders() {
            return headers;
        }
    }

    /** Known by name. */
    private static final class TopicAuthorizationException extends RuntimeException {
        private static final long serialVersionUID = 1L;
    }

    private static final class RecordTooLargeException extends RuntimeException {
        private static final long serialVersionUID = 1L;
    }
}
