// SPDX-License-Identifier: Apache-2.0
package io.caravan.runtime.internal;

import io.micrometer.core.instrument.Counter;
import io.micrometer.core.instrument.MeterRegistry;
import io.netty.buffer.ByteBuf;
import io.netty.buffer.Unpooled;
import io.vertx.core.http.HttpServerResponse;
import java.nio.charset.StandardCharsets;
import java.util.Map;
import java.util.concurrent.ConcurrentHashMap;

/** What the HTTP server itself refuses: one form of answer, one counter. This class is thread-safe. */
final class Refusals {

    /** What is refused, by docs/contract.md section 4. */
    enum Refusal {
        BAD_REQUEST(400, "bad_request", "the request is not HTTP/1.1 as RFC 9112 has it"),
        BAD_PATH(400, "bad_request", "the path has a character, an escape or a segment that is not taken"),
        AMBIGUOUS(400, "bad_request", "the length of the body is given in more than one way, or in one that is not taken"),
        LINE_TOO_LONG(414, "bad_request", "the first line exceeds http.line.max.bytes"),
        HEADER_TOO_LARGE(431, "bad_request", "the header exceeds http.header.max.bytes"),
        EXPECTATION(417, "bad_request", "the only expectation that is taken is 100-continue"),
        TOO_LARGE(413, "invalid_payload\",\"reason\":\"too_large", "the body exceeds http.max.bytes"),
        HEADER_TIMEOUT(408, "timeout", "the header was not complete in time"),
        REQUEST_TIMEOUT(408, "timeout", "the body was not complete in time"),
        IDLE(408, "timeout", "no request came in time"),
        SLOW_READER(408, "timeout", "the answer was not read in time"),
        PIPELINE(503, "overloaded", "too many requests wait for their answers on this connection"),
        CONNECTIONS(503, "overloaded", "too many connections"),
        ADDRESS_CONNECTIONS(503, "overloaded", "too many connections from this address");

        private static final Map<Integer, String> TEXTS = Map.of(400, "Bad Request", 408, "Request Timeout", 503, "Service Unavailable");

        final int status;
        private final String body;

        Refusal(int status, String error, String message) {
            this.status = status;
            this.body = json(error, message);
        }

        String reason() {
            return name().toLowerCase(java.util.Locale.ROOT);
        }

        /** A whole answer, for where there is no request to answer yet. */
        ByteBuf bytes() {
            return Unpooled.copiedBuffer("HTTP/1.1 " + status + " " + TEXTS.get(status) + "\r\nContent-Type: application/json\r\n"
                    + (status == 503 ? "Retry-After: " + RETRY_AFTER_S + "\r\n" : "")
                    + "Cache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\nConnection: close\r\nContent-Length: " + body.length()
                    + "\r\n\r\n" + body, StandardCharsets.US_ASCII);
        }

        void answer(HttpServerResponse response) {
            response.setStatusCode(status).putHeader("Content-Type", "application/json").putHeader("Connection", "close").end(body);
        }
    }

    private static final int RETRY_AFTER_S = 5;

    private final MeterRegistry registry;
    private final Map<String, Counter> counters = new ConcurrentHashMap<>();

    Refusals(MeterRegistry registry) {
        this.registry = registry;
        for (Refusal refusal : Refusal.values()) {
            counter(refusal.reason());
        }
    }

    void count(Refusal refusal) {
        count(refusal.reason());
    }

    void count(String reason) {
        counter(reason).increment();
    }

    static String json(String error, String message) {
        return "{\"error\":\"" + error + "\",\"message\":\"" + message + "\"}";
    }

    private Counter counter(String reason) {
        return counters.computeIfAbsent(reason, r -> Counter.builder("caravan.http.refused").tag("reason", r)
                .description("Requests and connections that were refused").register(registry));
    }
}
