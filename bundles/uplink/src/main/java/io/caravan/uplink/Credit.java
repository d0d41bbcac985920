// SPDX-License-Identifier: Apache-2.0
package io.caravan.uplink;

import java.util.Collection;
import java.util.List;
import java.util.Map;
import org.apache.camel.Exchange;

/**
 * How many rows of lane {@code historical} the gateway may send on the session there is: credit comes on one thread and is spent on another,
 * which a variable of the routes cannot do. What an older session was granted is gone with it. This class is thread-safe.
 */
public final class Credit {

    private String session = "";
    private boolean limited;
    private long rows;

    /**
     * The session of header CaravanSession was welcomed, variable {@code features} has the cloud's list. A cloud without feature
     * {@code credit} grants nothing: there the backlog goes as fast as it can.
     */
    public synchronized void open(Exchange exchange) {
        session = exchange.getMessage().getHeader(UplinkConsumer.SESSION, "", String.class);
        limited = exchange.getVariable("features") instanceof Collection<?> features && features.contains("credit");
        rows = 0;
    }

    /** The body is a frame {@code credit} of the session of header CaravanSession; one of another session grants nothing. */
    public synchronized void add(Exchange exchange) {
        if (session.equals(exchange.getMessage().getHeader(UplinkConsumer.SESSION)) && exchange.getMessage().getBody() instanceof Map<?, ?> frame
            && frame.get("rows") instanceof Number more && more.longValue() > 0) {
            // No sum of what a cloud grants runs over.
            rows = Math.min(Integer.MAX_VALUE, rows + Math.min(Integer.MAX_VALUE, more.longValue()));
        }
    }

    /** @return rows that may be sent now */
    public synchronized long room() {
        return limited ? rows : Integer.MAX_VALUE;
    }

    /** The body is the list of rows that are on their way on the session of variable {@code session}. */
    public synchronized void spend(Exchange exchange) {
        if (session.equals(exchange.getVariable("session")) && exchange.getMessage().getBody() instanceof List<?> sent) {
            rows = Math.max(0, rows - sent.size());
        }
    }

    /** @return whether the cloud grants credit, and so wants to know of a backlog */
    public synchronized boolean limited() {
        return limited;
    }
}
