// SPDX-License-Identifier: Apache-2.0
package io.caravan.https;

import io.caravan.wal.Batch;
import io.caravan.wal.SinkException;
import io.caravan.wal.SinkException.Kind;
import io.vertx.core.Future;
import io.vertx.core.Promise;
import io.vertx.core.Vertx;
import io.vertx.core.buffer.Buffer;
import io.vertx.core.http.HttpClient;
import io.vertx.core.http.HttpClientOptions;
import io.vertx.core.http.HttpClientRequest;
import io.vertx.core.http.HttpClientResponse;
import io.vertx.core.http.HttpMethod;
import io.vertx.core.http.HttpVersion;
import io.vertx.core.http.RequestOptions;
import io.vertx.core.http.StreamResetException;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.net.URI;
import java.net.URISyntaxException;
import java.net.URLDecoder;
import java.nio.charset.StandardCharsets;
import java.util.List;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.TimeoutException;
import java.util.regex.Pattern;
import java.util.zip.GZIPOutputStream;

/**
 * Pushes batches to a gRPC receiver: {@code caravan.v1.TelemetryIngest/Push} of {@code telemetry-ingest.proto}, a unary call
 * per batch.
 *
 * <p>Java because no component can: camel-grpc's producer wants a client certificate for any TLS, sets no deadline, and
 * knows no token of a file. A unary call is a POST with trailers over HTTP/2, which the container's Vert.x speaks, so
 * that gRPC's own libraries are not needed.
 *
 * <p>OK with {@code accepted} = rows of the batch is the acknowledgement. A call ends with an answer or at its deadline, which
 * the receiver is told; whatever was not answered in full ends the connection, and the next call begins with a new one. TLS 1.2
 * or later, the host name is verified; token and certificate files as in {@link HttpsSink}. Of the answer 64 KiB are read.
 * Thread-safe once its properties are set; each instance has a connection of its own.
 */
public final class GrpcSink implements AutoCloseable {
    private static final String METHOD = "/caravan.v1.TelemetryIngest/Push";
    private static final int PREFIX_BYTES = 5; // compressed or not, and the length of the message
    private static final int ANSWER_MAX_BYTES = 65_536;
    private static final List<String> STATUSES = List.of("OK", "CANCELLED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND",
            "ALREADY_EXISTS", "PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION", "ABORTED", "OUT_OF_RANGE", "UNIMPLEMENTED",
            "INTERNAL", "UNAVAILABLE", "DATA_LOSS", "UNAUTHENTICATED");
    /** What gRPC's libraries say, with status RESOURCE_EXHAUSTED, of a message above their limit: no time will make it shorter. */
    private static final Pattern TOO_LARGE = Pattern.compile("message (larger than max|exceeds maximum)", Pattern.CASE_INSENSITIVE);

    private final Access access = new Access();
    private Vertx vertx;
    private String url;
    private String gatewayId;
    private int deadlineMs = 20_000;
    private int maxMessageBytes = 4_194_304;
    private boolean gzip = true;

    private HttpClient client;     // guarded by this, as the next
    private List<String> stamps;   // of the certificate files the client has read

    public void setVertx(Vertx container) {
        vertx = container;
    }

    /** @param prefix of the configuration keys that errors name, for example {@code sink.analytics.grpc} */
    public void setKeys(String prefix) {
        access.keys = prefix;
    }

    /** @param address {@code https://host[:port]}; looked at when a batch is pushed */
    public void setUrl(String address) {
        url = address.trim();
    }

    /** @param allowed whether http (HTTP/2 without TLS) is taken when the host is a loopback address; never for any other */
    public void setLoopbackHttp(boolean allowed) {
        access.loopbackHttp = allowed;
    }

    /** @param file whose content, without white space around it, is sent as bearer token; empty: none is sent */
    public void setTokenFile(String file) {
        access.tokenFile = Access.path(file);
    }

    /** @param file PEM, the only authorities the receiver's certificate may come from; empty: those of the JVM */
    public void setCaFile(String file) {
        access.caFile = Access.path(file);
    }

    /** @param file PEM, the client's certificate chain; empty: none */
    public void setCertFile(String file) {
        access.certFile = Access.path(file);
    }

    /** @param file PEM, PKCS#8, not encrypted */
    public void setKeyFile(String file) {
        access.keyFile = Access.path(file);
    }

    /** @param id of this gateway, as the receiver is told */
    public void setGatewayId(String id) {
        gatewayId = id;
    }

    /** @param ms for a whole call: connection, TLS handshake, upload and answer */
    public void setDeadlineMs(int ms) {
        deadlineMs = ms;
    }

    /** @param bytes that a message may have before compression; a batch that makes a longer one is not sent but halved */
    public void setMaxMessageBytes(int bytes) {
        maxMessageBytes = bytes;
    }

    /** @param name {@code gzip} or {@code none} */
    public void setCompression(String name) {
        gzip = name.equals("gzip");
    }

    /**
     * Returns when the receiver has said that it has all rows.
     *
     * @throws SinkException        the receiver does not want the batch, a file that is needed is not there, or the deadline is over
     * @throws IOException          there was no answer
     * @throws InterruptedException whoever called gave up; the call is ended
     */
    public void push(Batch batch) throws Exception {
        long deadline = System.nanoTime() + TimeUnit.MILLISECONDS.toNanos(deadlineMs);
        URI to = address();
        byte[] message = PushMessages.request(gatewayId, batch);
        if (message.length > maxMessageBytes) {
            throw new SinkException(Kind.RECORD, "too_large", batch.size() + " rows make a message of [" + message.length
                    + "] bytes, " + access.keys + ".max.message.bytes allows " + maxMessageBytes, 0, null);
        }
        HttpClient current = client();
        String token = access.token();
        RequestOptions target = new RequestOptions().setMethod(HttpMethod.POST).setHost(to.getHost().replaceAll("[\\[\\]]", ""))
                .setPort(to.getPort() >= 0 ? to.getPort() : to.getScheme().equals("https") ? 443 : 80)
                .setSsl(to.getScheme().equals("https")).setURI(METHOD);
        Buffer framed = framed(message);
        Future<Answer> call = current.request(target).compose(request -> send(request, token, batch.key(), deadline, framed));
        Answer answer;
        try {
            answer = call.toCompletionStage().toCompletableFuture().get(deadline - System.nanoTime(), TimeUnit.NANOSECONDS);
        } catch (TimeoutException e) {
            discard(current);
            throw new SinkException(Kind.TRANSIENT, "timeout", url + " did not answer within " + deadlineMs + " ms ("
                    + access.keys + ".deadline.ms)", 0, e);
        } catch (InterruptedException e) {
            discard(current);
            throw e;
        } catch (ExecutionException e) {
            discard(current);
            throw e.getCause() instanceof StreamResetException ? new IOException(url + " ended the call: " + e.getCause().getMessage(), e.getCause())
                    : access.failure(to, e.getCause());
        }
        judge(answer, batch.size());
    }

    /** Closes its connection; a call that is on its way fails. */
    @Override
    public synchronized void close() {
        if (client != null) {
            client.close();
            client = null;
        }
    }

    // -- call ---------------------------------------------------------------------------------------------------------

    private URI address() throws SinkException {
        URI to;
        try {
            to = access.checked(new URI(url));
        } catch (URISyntaxException e) {
            throw access.misconfigured("url", url, "be https://host[:port]", e);
        }
        if (!to.getRawPath().matches("/?")) {
            throw access.misconfigured("url", to, "have no path: the service is caravan.v1.TelemetryIngest", null);
        }
        return to;
    }

    private synchronized HttpClient client() throws SinkException {
        List<String> now = access.stamps();
        if (client == null || !now.equals(stamps)) {
            HttpClientOptions options = access.secure(new HttpClientOptions().setProtocolVersion(HttpVersion.HTTP_2).setUseAlpn(true)
                    .setHttp2ClearTextUpgrade(false).setHttp2MaxPoolSize(1).setConnectTimeout(deadlineMs), deadlineMs);
            close();
            client = vertx.createHttpClient(options);
            stamps = now;
        }
        return client;
    }

    private synchronized void discard(HttpClient old) {
        if (client == old) {
            client = null;
        }
        old.close();
    }

    private Buffer framed(byte[] message) {
        byte[] body = message;
        if (gzip) {
            ByteArrayOutputStream packed = new ByteArrayOutputStream(message.length / 4 + 64);
            try (GZIPOutputStream out = new GZIPOutputStream(packed)) {
                out.write(message);
            } catch (IOException e) {
                throw new UncheckedIOException(e); // an array takes everything
            }
            body = packed.toByteArray();
        }
        return Buffer.buffer(PREFIX_BYTES + body.length).appendByte((byte) (gzip ? 1 : 0)).appendInt(body.length).appendBytes(body);
    }

    private Future<Answer> send(HttpClientRequest request, String token, String key, long deadline, Buffer framed) {
        if (request.version() != HttpVersion.HTTP_2) {
            return Future.failedFuture(access.misconfigured("url", url, "be a gRPC server: this one does not speak HTTP/2", null));
        }
        request.exceptionHandler(error -> { }); // it is in the future as well; without this Vert.x logs an ERROR
        request.putHeader("content-type", "application/grpc").putHeader("te", "trailers").putHeader("user-agent", "caravan")
                .putHeader("grpc-timeout", Math.max(1, TimeUnit.NANOSECONDS.toMillis(deadline - System.nanoTime())) + "m")
                .putHeader("idempotency-key", key);
        if (gzip) {
            request.putHeader("grpc-encoding", "gzip");
        }
        if (token != null) {
            request.putHeader("authorization", "Bearer " + token);
        }
        return request.send(framed).compose(response -> read(request, response));
    }

    private Future<Answer> read(HttpClientRequest request, HttpClientResponse response) {
        Promise<Answer> answer = Promise.promise();
        Buffer body = Buffer.buffer();
        response.exceptionHandler(answer::tryFail);
        response.handler(data -> {
            if (body.length() + data.length() <= ANSWER_MAX_BYTES) {
                body.appendBuffer(data);
            } else if (answer.tryFail(new IOException(url + " answered more than " + ANSWER_MAX_BYTES + " bytes"))) {
                request.reset();
            }
        });
        response.endHandler(end -> answer.tryComplete(new Answer(response, body)));
        return answer.future();
    }

    /** An answer that ended. */
    private static final class Answer {
        private final HttpClientResponse response;
        private final Buffer body;

        Answer(HttpClientResponse response, Buffer body) {
            this.response = response;
            this.body = body;
        }

        /** Without a message the trailers are where the headers are. */
        String trailer(String name) {
            String value = response.getTrailer(name);
            return value != null ? value : response.getHeader(name);
        }
    }

    // -- answer -------------------------------------------------------------------------------------------------------

    private void judge(Answer answer, int rows) throws SinkException {
        String status = answer.trailer("grpc-status");
        if (status == null || !status.matches("\\d{1,2}") || Integer.parseInt(status) >= STATUSES.size()) {
            throw notGrpc(answer, status);
        }
        if (!status.matches("0+")) {
            throw refusal(Integer.parseInt(status), answer);
        }
        long accepted;
        try {
            Buffer body = answer.body;
            if (body.length() < PREFIX_BYTES || body.getByte(0) != 0 || body.getInt(1) != body.length() - PREFIX_BYTES) {
                throw new IOException("not one message, not compressed");
            }
            accepted = PushMessages.accepted(body.getBytes(), PREFIX_BYTES, body.length() - PREFIX_BYTES);
        } catch (IOException e) {
            throw new SinkException(Kind.CONFIGURATION, "misconfigured", url + " answered OK and [" + answer.body.length()
                    + "] bytes that must be a PushReply (" + e.getMessage() + "); check the receiver", 0, e);
        }
        if (accepted != rows) {
            throw new SinkException(Kind.CONFIGURATION, "misconfigured", url + " answered OK with accepted [" + accepted + "], which must be "
                    + rows + ", the rows of the batch; check the receiver", 0, null);
        }
    }

    /** What gRPC says of an HTTP status without one of gRPC: mostly a proxy's. */
    private SinkException notGrpc(Answer answer, String status) {
        int http = answer.response.statusCode();
        String message = url + " answered HTTP status " + http + (status == null ? " without grpc-status" : " with grpc-status [" + Access.quote(status)
                + "]") + " [" + Access.quote(answer.body.toString()) + "]";
        switch (http) {
            case 401:
            case 403:
                return new SinkException(Kind.CONFIGURATION, "unauthorized", message, 0, null);
            case 404:
                return new SinkException(Kind.CONFIGURATION, "not_found", message, 0, null);
            case 429:
                return new SinkException(Kind.TRANSIENT, "throttled", message, 0, null);
            default:
                String type = String.valueOf(answer.response.getHeader("content-type"));
                // 5xx, or a gRPC server that broke off; anything else is no gRPC server.
                return http / 100 == 5 || type.startsWith("application/grpc") ? new SinkException(Kind.TRANSIENT, "server_error", message, 0, null)
                        : new SinkException(Kind.CONFIGURATION, "misconfigured", message + "; check " + access.keys + ".url", 0, null);
        }
    }

    private SinkException refusal(int status, Answer answer) {
        String said = said(answer.trailer("grpc-message"));
        String message = url + " answered " + STATUSES.get(status) + " [" + said + "]";
        switch (STATUSES.get(status)) {
            case "INVALID_ARGUMENT":
            case "OUT_OF_RANGE":
                return new SinkException(Kind.RECORD, "refused", message, 0, null);
            case "UNAUTHENTICATED":
            case "PERMISSION_DENIED":
                return new SinkException(Kind.CONFIGURATION, "unauthorized", message, 0, null);
            case "NOT_FOUND":
            case "UNIMPLEMENTED":
                return new SinkException(Kind.CONFIGURATION, "not_found", message, 0, null);
            // About the request or the receiver's state, and no acknowledgement either: no row is given up for them.
            case "ALREADY_EXISTS":
            case "FAILED_PRECONDITION":
                return new SinkException(Kind.CONFIGURATION, "misconfigured", message + "; check the receiver", 0, null);
            case "RESOURCE_EXHAUSTED":
                return TOO_LARGE.matcher(said).find() ? new SinkException(Kind.RECORD, "too_large", message, 0, null)
                        : new SinkException(Kind.TRANSIENT, "throttled", message, pushbackMs(answer), null);
            case "ABORTED":
                return new SinkException(Kind.TRANSIENT, "throttled", message, pushbackMs(answer), null);
            case "DEADLINE_EXCEEDED":
                return new SinkException(Kind.TRANSIENT, "timeout", message, pushbackMs(answer), null);
            case "UNAVAILABLE":
                return new SinkException(Kind.TRANSIENT, "unavailable", message, pushbackMs(answer), null);
            default: // CANCELLED, UNKNOWN, INTERNAL, DATA_LOSS
                return new SinkException(Kind.TRANSIENT, "server_error", message, pushbackMs(answer), null);
        }
    }

    /** gRPC's Retry-After. */
    private static long pushbackMs(Answer answer) {
        String value = answer.trailer("grpc-retry-pushback-ms");
        return value != null && value.matches("\\d{1,9}") ? Long.parseLong(value) : 0;
    }

    private static String said(String message) {
        try {
            return Access.quote(message == null ? null : URLDecoder.decode(message.replace("+", "%2B"), StandardCharsets.UTF_8));
        } catch (IllegalArgumentException e) {
            return Access.quote(message); // a percent sign that is none of the encoding
        }
    }
}
