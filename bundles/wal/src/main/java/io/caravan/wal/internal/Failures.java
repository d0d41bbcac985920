// SPDX-License-Identifier: Apache-2.0
package io.caravan.wal.internal;

import io.caravan.wal.SinkException;
import io.caravan.wal.SinkException.Kind;
import java.lang.reflect.Method;
import java.time.Instant;
import java.time.ZonedDateTime;
import java.time.format.DateTimeFormatter;
import java.time.format.DateTimeParseException;
import java.util.ArrayList;
import java.util.Collections;
import java.util.HashMap;
import java.util.IdentityHashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;

/**
 * What an exception of a delivery means. By HTTP status where an exception in the cause chain has one, then by the names
 * of exceptions: their classes belong to bundles this one must not depend on, and which may not be installed. What is
 * not known is transient: to try again for ever loses nothing, to give up does.
 */
final class Failures {
    private static final Map<String, SinkException> NAMES = new HashMap<>();
    private static final int MESSAGE_MAX = 500;

    static {
        put(Kind.CONFIGURATION, "unauthorized", "TopicAuthorizationException", "ClusterAuthorizationException",
                "GroupAuthorizationException", "AuthorizationException", "SaslAuthenticationException", "SslAuthenticationException",
                "AuthenticationException", "AccessDeniedException", "MqttSecurityException");
        put(Kind.CONFIGURATION, "not_found", "UnknownTopicOrPartitionException", "InvalidTopicException", "NoSuchBucketException",
                "NoSuchFileException");
        put(Kind.CONFIGURATION, "misconfigured", "UnsupportedVersionException", "ConfigException", "ResolveEndpointFailedException",
                "NoSuchEndpointException", "NoSuchBeanException", "CertificateException", "CertPathBuilderException",
                "CertPathValidatorException", "CertificateExpiredException", "CertificateNotYetValidException", "ValidatorException",
                "SunCertPathBuilderException", "SSLPeerUnverifiedException", "ClassNotFoundException", "NoClassDefFoundError");
        put(Kind.RECORD, "too_large", "RecordTooLargeException", "RecordBatchTooLargeException");
        put(Kind.RECORD, "refused", "SerializationException", "InvalidRecordException");
        put(Kind.TRANSIENT, "timeout", "SocketTimeoutException", "TimeoutException", "HttpTimeoutException",
                "ExchangeTimedOutException", "ApiCallTimeoutException", "ApiCallAttemptTimeoutException", "HttpConnectTimeoutException",
                "NoStackTraceTimeoutException", "ConnectTimeoutException", "InterruptedException", "SslHandshakeTimeoutException");
        put(Kind.TRANSIENT, "unavailable", "ConnectException", "UnknownHostException", "NoRouteToHostException", "SocketException",
                "ClosedChannelException", "EOFException", "FileSystemException", "IOException", "SdkClientException",
                "DisconnectException", "NetworkException", "NotEnoughReplicasException", "HttpClosedException",
                "DirectConsumerNotAvailableException", "UnresolvedAddressException");
    }

    private Failures() {}

    private static void put(Kind kind, String reason, String... names) {
        for (String name : names) {
            NAMES.put(name, new SinkException(kind, reason, null, 0, null));
        }
    }

    static SinkException of(Throwable error) {
        List<Throwable> chain = chain(error);
        for (Throwable cause : chain) {
            if (cause instanceof SinkException) {
                return (SinkException) cause;
            }
        }
        for (Throwable cause : chain) {
            int status = status(cause);
            if (status > 0) {
                return http(status, cause, error, System.currentTimeMillis());
            }
        }
        // What says most decides: a certificate that is refused is wrapped into a broken connection, not the other way round;
        // among equals the innermost, which is the cause.
        for (Kind kind : new Kind[] {Kind.CONFIGURATION, Kind.RECORD, Kind.TRANSIENT}) {
            for (int i = chain.size() - 1; i >= 0; i--) {
                SinkException known = named(chain.get(i));
                if (known != null && known.kind() == kind) {
                    return new SinkException(kind, known.reason(), text(chain), 0, error);
                }
            }
        }
        return new SinkException(Kind.TRANSIENT, "error", text(chain), 0, error);
    }

    private static SinkException named(Throwable cause) {
        for (Class<?> type = cause.getClass(); type != null && type != Exception.class; type = type.getSuperclass()) {
            SinkException known = NAMES.get(type.getSimpleName());
            if (known != null) {
                return known;
            }
        }
        return null;
    }

    static SinkException http(int status, Throwable cause, Throwable error, long nowMs) {
        String text = "HTTP status " + status + ": " + text(chain(error));
        if (status == 401 || status == 403 || status == 407) {
            return new SinkException(Kind.CONFIGURATION, "unauthorized", text, 0, error);
        }
        if (status == 404 || status == 405) {
            return new SinkException(Kind.CONFIGURATION, "not_found", text, 0, error);
        }
        if (status == 429 || status == 408 || status == 425 || status == 503) {
            return new SinkException(Kind.TRANSIENT, status == 408 ? "timeout" : status == 503 ? "server_error" : "throttled", text,
                    retryAfterMs(cause, nowMs), error);
        }
        if (status >= 400 && status < 500) {
            return new SinkException(Kind.RECORD, status == 413 ? "too_large" : "refused", text, 0, error);
        }
        if (status >= 300 && status < 400) {
            return new SinkException(Kind.CONFIGURATION, "misconfigured", text + "; redirects are not followed, configure the new address", 0, error);
        }
        return new SinkException(Kind.TRANSIENT, "server_error", text, retryAfterMs(cause, nowMs), error);
    }

    /** Camel's and the AWS SDK's exceptions have it under one of two names. 0: has none. */
    private static int status(Throwable cause) {
        for (String method : new String[] {"getStatusCode", "statusCode"}) {
            Object value = call(cause, method);
            if (value instanceof Integer && (Integer) value >= 100 && (Integer) value < 600) {
                return (Integer) value;
            }
        }
        return 0;
    }

    private static long retryAfterMs(Throwable cause, long nowMs) {
        Object headers = call(cause, "getResponseHeaders");
        if (headers instanceof Map) {
            for (Map.Entry<?, ?> header : ((Map<?, ?>) headers).entrySet()) {
                if ("retry-after".equalsIgnoreCase(String.valueOf(header.getKey()))) {
                    return retryAfterMs(String.valueOf(header.getValue()), nowMs);
                }
            }
        }
        return 0;
    }

    /** @param value seconds, or an HTTP date; anything else is no wish */
    static long retryAfterMs(String value, long nowMs) {
        String trimmed = value.trim();
        if (trimmed.matches("\\d{1,9}")) {
            return Long.parseLong(trimmed) * 1_000;
        }
        try {
            Instant at = ZonedDateTime.parse(trimmed, DateTimeFormatter.RFC_1123_DATE_TIME).toInstant();
            return Math.max(0, at.toEpochMilli() - nowMs);
        } catch (DateTimeParseException e) {
            return 0;
        }
    }

    private static Object call(Throwable cause, String method) {
        try {
            Method found = cause.getClass().getMethod(method);
            found.trySetAccessible(); // the class may be private to its bundle, the method is public all the same
            return found.invoke(cause);
        } catch (ReflectiveOperationException | RuntimeException e) {
            return null; // has no such method, or it is nobody's business
        }
    }

    private static List<Throwable> chain(Throwable error) {
        Set<Throwable> seen = Collections.newSetFromMap(new IdentityHashMap<>());
        List<Throwable> chain = new ArrayList<>();
        for (Throwable cause = error; cause != null && seen.add(cause); cause = cause.getCause()) {
            chain.add(cause);
        }
        return chain;
    }

    /** One line: the outermost message and the innermost, which mostly names the cause. */
    private static String text(List<Throwable> chain) {
        String first = one(chain.get(0));
        String last = one(chain.get(chain.size() - 1));
        String text = first.contains(last) || chain.size() == 1 ? first : first + ": " + last;
        text = text.replaceAll("\\s+", " ").trim();
        return text.length() > MESSAGE_MAX ? text.substring(0, MESSAGE_MAX) : text;
    }

    private static String one(Throwable error) {
        String message = error.getMessage();
        return message == null || message.isBlank() ? error.getClass().getSimpleName() : message;
    }
}
