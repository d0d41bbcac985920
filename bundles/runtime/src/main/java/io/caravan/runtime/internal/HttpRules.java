// SPDX-License-Identifier: Apache-2.0
package io.caravan.runtime.internal;

import io.caravan.runtime.internal.Refusals.Refusal;
import io.vertx.core.MultiMap;
import io.vertx.core.http.HttpServerRequest;
import io.vertx.core.http.HttpVersion;
import java.util.List;

/** What a request must keep beyond what the decoder asks for, so that nobody on the way could have read it differently. */
final class HttpRules {

    private static final int MAX_PATH = 1024;

    private HttpRules() {
    }

    /** @return why it is refused, or null */
    static Refusal broken(HttpServerRequest request) {
        MultiMap headers = request.headers();
        if (headers.contains("Transfer-Encoding")) {
            List<String> codings = headers.getAll("Transfer-Encoding");
            if (codings.size() != 1 || !codings.get(0).equalsIgnoreCase("chunked") || headers.contains("Content-Length")
                    || request.version() != HttpVersion.HTTP_1_1) {
                return Refusal.AMBIGUOUS;
            }
        } else if (headers.contains("Content-Length")) {
            List<String> lengths = headers.getAll("Content-Length");
            if (lengths.size() != 1 || !digits(lengths.get(0))) {
                return Refusal.AMBIGUOUS;
            }
        }
        if (headers.contains("Host") && headers.getAll("Host").size() != 1) {
            return Refusal.BAD_REQUEST;
        }
        return plain(Call.rawPath(request.uri())) ? null : Refusal.BAD_PATH;
    }

    private static boolean digits(String length) {
        return !length.isEmpty() && length.chars().allMatch(c -> c >= '0' && c <= '9');
    }

    /**
     * Whether every reader sees the same segments: no {@code .} or {@code ..} segment, no empty one, nothing but ASCII, and no escape
     * of a character that would make one of these ({@code / \ . %} and controls), so that decoding twice changes nothing.
     */
    static boolean plain(String path) {
        if (path.length() > MAX_PATH || !path.startsWith("/")) {
            return false;
        }
        for (int i = 0; i < path.length(); i++) {
            char c = path.charAt(i);
            if (c <= ' ' || c >= 127 || c == '\\' || c == '#') {
                return false;
            }
            if (c == '%') {
                int high = i + 2 < path.length() ? Character.digit(path.charAt(i + 1), 16) : -1;
                int low = i + 2 < path.length() ? Character.digit(path.charAt(i + 2), 16) : -1;
                int decoded = high * 16 + low;
                if (high < 0 || low < 0 || decoded < ' ' || decoded == 127 || "/\\.%".indexOf(decoded) >= 0) {
                    return false;
                }
            }
            if (c == '/' && i + 1 < path.length()) {
                String rest = path.substring(i + 1, Math.min(path.length(), i + 4));
                if (rest.startsWith("/") || rest.equals(".") || rest.equals("..") || rest.startsWith("./") || rest.startsWith("../")) {
                    return false;
                }
            }
        }
        return true;
    }
}
