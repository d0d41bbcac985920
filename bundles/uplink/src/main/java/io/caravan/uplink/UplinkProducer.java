// SPDX-License-Identifier: Apache-2.0
package io.caravan.uplink;

import com.fasterxml.jackson.databind.ObjectMapper;
import io.caravan.uplink.internal.Connection;
import java.io.InputStream;
import java.util.Map;
import java.util.concurrent.CompletionStage;
import org.apache.camel.AsyncCallback;
import org.apache.camel.Exchange;
import org.apache.camel.Message;
import org.apache.camel.support.DefaultAsyncProducer;

/** Sends one frame on the session that header CaravanSession names. This class is thread-safe. */
final class UplinkProducer extends DefaultAsyncProducer {

    private static final ObjectMapper JSON = new ObjectMapper();

    UplinkProducer(UplinkEndpoint endpoint) {
        super(endpoint);
    }

    @Override
    public UplinkEndpoint getEndpoint() {
        return (UplinkEndpoint) super.getEndpoint();
    }

    @Override
    public boolean process(Exchange exchange, AsyncCallback callback) {
        CompletionStage<Void> stage;
        try {
            stage = send(exchange);
        } catch (Exception e) {
            exchange.setException(e);
            callback.done(true);
            return true;
        }
        if (stage == null) {
            callback.done(true);
            return true;
        }
        stage.whenComplete((done, error) -> {
            if (error != null) {
                exchange.setException(error);
            }
            callback.done(false);
        });
        return false;
    }

    private CompletionStage<Void> send(Exchange exchange) throws Exception {
        UplinkEndpoint endpoint = getEndpoint();
        Message message = exchange.getMessage();
        String session = required(message, UplinkConsumer.SESSION, String.class);
        Connection connection = endpoint.getComponent().connection(endpoint.name());
        if (endpoint.getAction().equals("close")) {
            connection.disconnect(session, "closed by route " + exchange.getFromRouteId());
            return null;
        }
        if (endpoint.getAction().equals("stats")) {
            Map<String, Object> facts = StatsFacts.of(endpoint.getCamelContext());
            message.getMandatoryBody(Map.class).forEach((name, value) -> facts.put(String.valueOf(name), value));
            return connection.stats(session, facts);
        }
        Object body = frame(message);
        if (!message.getHeader(UplinkConsumer.AWAIT_ACK, endpoint.isAwaitAck(), boolean.class)) {
            return connection.send(session, body, null, endpoint.getReply());
        }
        return connection.send(session, body, new Connection.Awaited(
            required(message, UplinkConsumer.LOG_ID, String.class),
            required(message, UplinkConsumer.FIRST_SEQ, Long.class),
            required(message, UplinkConsumer.LAST_SEQ, Long.class),
            message.getHeader(UplinkConsumer.ROWS, 0L, Long.class)), endpoint.getReply());
    }

    private static Object frame(Message message) throws Exception {
        Object body = message.getBody();
        if (body instanceof byte[] || body instanceof String) {
            return body;
        }
        if (body instanceof InputStream) {
            return message.getMandatoryBody(byte[].class);
        }
        if (body instanceof Map<?, ?> map) {
            return JSON.writeValueAsString(map);
        }
        throw new IllegalArgumentException("uplink body of type ["
            + (body == null ? "null" : body.getClass().getName())
            + "] must be a Map or String (text frame), or byte[] or InputStream (binary frame): convert it in the step before");
    }

    private static <T> T required(Message message, String header, Class<T> type) {
        T value = message.getHeader(header, type);
        if (value == null) {
            throw new IllegalArgumentException("uplink header " + header + " must be set before sending");
        }
        return value;
    }
}
