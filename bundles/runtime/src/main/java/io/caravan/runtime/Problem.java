// SPDX-License-Identifier: Apache-2.0
package io.caravan.runtime;

import java.util.Map;
import org.apache.camel.Exchange;
import org.apache.camel.Message;

/** An error as the HTTP API answers it: RFC 9457, with the member {@code error} out of the closed vocabulary of docs/contract.md section 8. */
public final class Problem {
    public static final String TYPE = "application/problem+json";

    private static final Map<Integer, String> TITLES = Map.ofEntries(Map.entry(400, "Bad Request"), Map.entry(401, "Unauthorized"),
            Map.entry(403, "Forbidden"), Map.entry(404, "Not Found"), Map.entry(405, "Method Not Allowed"), Map.entry(406, "Not Acceptable"),
            Map.entry(408, "Request Timeout"), Map.entry(409, "Conflict"), Map.entry(410, "Gone"), Map.entry(412, "Precondition Failed"),
            Map.entry(413, "Content Too Large"), Map.entry(415, "Unsupported Media Type"), Map.entry(429, "Too Many Requests"),
            Map.entry(500, "Internal Server Error"), Map.entry(503, "Service Unavailable"));

    private Problem() {}

    /**
     * @param field  JSON pointer to what it is about; null: none
     * @param detail what [value] broke which rule, and what to do; any text
     */
    public static String json(int status, String error, String field, String detail) {
        StringBuilder json = new StringBuilder(160 + detail.length()).append("{\"type\":\"about:blank\",\"title\":");
        text(json, TITLES.getOrDefault(status, "Error"));
        json.append(",\"status\":").append(status).append(",\"error\":");
        text(json, error);
        if (field != null) {
            text(json.append(",\"field\":"), field);
        }
        text(json.append(",\"detail\":"), detail);
        return json.append('}').toString();
    }

    /** Makes the whole answer of it: headers that were there are gone. As {@link #json}. */
    public static void answer(Exchange exchange, int status, String error, String field, String detail) {
        Message message = exchange.getMessage();
        message.removeHeaders("*");
        message.setHeader(Exchange.HTTP_RESPONSE_CODE, status);
        message.setHeader(Exchange.CONTENT_TYPE, TYPE);
        message.setBody(json(status, error, field, detail));
    }

    private static void text(StringBuilder json, String text) {
        json.append('"');
        for (int i = 0; i < text.length(); i++) {
            char c = text.charAt(i);
            if (c == '"' || c == '\\') {
                json.append('\\').append(c);
            } else if (c < ' ' || Character.isSurrogate(c)) {
                json.append(String.format("\\u%04x", (int) c));
            } else {
                json.append(c);
            }
        }
        json.append('"');
    }
}
