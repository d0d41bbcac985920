// SPDX-License-Identifier: Apache-2.0
package io.caravan.s3.internal;

import io.caravan.wal.SinkException;
import io.caravan.wal.SinkException.Kind;
import java.io.IOException;
import java.io.InterruptedIOException;
import java.security.cert.CertPathBuilderException;
import java.security.cert.CertificateException;
import javax.net.ssl.SSLPeerUnverifiedException;
import software.amazon.awssdk.awscore.exception.AwsServiceException;
import software.amazon.awssdk.core.exception.AbortedException;
import software.amazon.awssdk.core.exception.ApiCallAttemptTimeoutException;
import software.amazon.awssdk.core.exception.ApiCallTimeoutException;
import software.amazon.awssdk.core.exception.SdkClientException;

/**
 * What an exception of the S3 client means for a sink. Not left to the general rule for HTTP statuses, because a 400 of S3
 * is never about a row: the server does not look into objects, so nothing may become a dead letter by it.
 */
final class S3Failures {
    private S3Failures() {
    }

    /** @return what it means; null: nothing that S3 or its client has thrown */
    static SinkException of(Throwable error, String bucket) {
        for (Throwable cause = error; cause != null; cause = cause.getCause()) {
            if (cause instanceof SinkException known) {
                return known;
            }
            if (cause instanceof HotClient.SettingsException) {
                return new SinkException(Kind.CONFIGURATION, "misconfigured", cause.getMessage(), 0, error);
            }
            if (cause instanceof AwsServiceException answer) {
                return answered(answer, bucket);
            }
        }
        for (Throwable cause = error; cause != null; cause = cause.getCause()) {
            if (cause instanceof CertificateException || cause instanceof CertPathBuilderException
                    || cause instanceof SSLPeerUnverifiedException) {
                return new SinkException(Kind.CONFIGURATION, "misconfigured", "The server's certificate is not trusted ("
                        + cause.getMessage() + "): correct s3.ca.file or s3.endpoint", 0, error);
            }
            if (cause instanceof ApiCallTimeoutException || cause instanceof ApiCallAttemptTimeoutException
                    || cause instanceof InterruptedIOException || cause instanceof AbortedException
                    || cause instanceof InterruptedException) {
                return new SinkException(Kind.TRANSIENT, "timeout", text(error), 0, error);
            }
            if (cause instanceof IOException) {
                return new SinkException(Kind.TRANSIENT, "unavailable", text(error), 0, error);
            }
        }
        for (Throwable cause = error; cause != null; cause = cause.getCause()) {
            if (cause instanceof SdkClientException) {
                return String.valueOf(cause.getMessage()).contains("credentials")
                        ? new SinkException(Kind.CONFIGURATION, "unauthorized", "No credentials for S3: set s3.access.key and"
                                + " s3.secret.key, or s3.credentials.file", 0, error)
                        : new SinkException(Kind.TRANSIENT, "unavailable", text(error), 0, error);
            }
        }
        return null;
    }

    private static SinkException answered(AwsServiceException e, String bucket) {
        String code = e.awsErrorDetails() == null || e.awsErrorDetails().errorCode() == null ? "" : e.awsErrorDetails().errorCode();
        String text = "S3 answered [" + e.statusCode() + (code.isEmpty() ? "" : " " + code) + "] for bucket [" + bucket + "]";
        switch (code) {
            case "RequestTimeout":
                return new SinkException(Kind.TRANSIENT, "timeout", text, 0, e);
            case "BadDigest", "IncompleteBody", "XAmzContentSHA256Mismatch":
                return new SinkException(Kind.TRANSIENT, "error", text + ": damaged on the way", 0, e);
            case "EntityTooLarge":
                return new SinkException(Kind.RECORD, "too_large", text, 0, e);
            case "RequestTimeTooSkewed":
                return new SinkException(Kind.CONFIGURATION, "misconfigured", text + ": the gateway's clock is wrong, set it", 0, e);
            default:
        }
        int status = e.statusCode();
        if (status == 401 || status == 403) {
            return new SinkException(Kind.CONFIGURATION, "unauthorized", text + ": correct s3.access.key and s3.secret.key, or what they"
                    + " may do", 0, e);
        }
        if (status == 404) {
            return new SinkException(Kind.CONFIGURATION, "not_found", text + ": create the bucket, or correct its name or s3.endpoint", 0, e);
        }
        if (status == 413) {
            return new SinkException(Kind.RECORD, "too_large", text, 0, e);
        }
        if (status == 408) {
            return new SinkException(Kind.TRANSIENT, "timeout", text, 0, e);
        }
        if (status == 429 || code.equals("SlowDown") || e.isThrottlingException()) {
            return new SinkException(Kind.TRANSIENT, "throttled", text, retryAfterMs(e), e);
        }
        // Two writers of one key at once (409): the other one may fail yet.
        if (status == 409 || status >= 500 && status != 501) {
            return new SinkException(Kind.TRANSIENT, "server_error", text, retryAfterMs(e), e);
        }
        return new SinkException(Kind.CONFIGURATION, "misconfigured", text + ": "
                + (e.awsErrorDetails() == null ? e.getMessage() : e.awsErrorDetails().errorMessage()) + "; correct s3.endpoint, s3.region or s3.path.style", 0, e);
    }

    private static long retryAfterMs(AwsServiceException e) {
        if (e.awsErrorDetails() == null || e.awsErrorDetails().sdkHttpResponse() == null) {
            return 0;
        }
        String value = e.awsErrorDetails().sdkHttpResponse().firstMatchingHeader("Retry-After").orElse("");
        return value.matches("\\d{1,6}") ? Long.parseLong(value) * 1_000 : 0;
    }

    private static String text(Throwable error) {
        Throwable last = error;
        while (last.getCause() != null) {
            last = last.getCause();
        }
        return last == error ? String.valueOf(error.getMessage()) : error.getMessage() + ": " + last.getMessage();
    }
}
