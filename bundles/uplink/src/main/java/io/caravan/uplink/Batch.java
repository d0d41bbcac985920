// SPDX-License-Identifier: Apache-2.0
package io.caravan.uplink;

import org.apache.camel.AggregationStrategy;
import org.apache.camel.Exchange;
import org.apache.camel.Message;

/**
 * Aggregation strategy: joins rows, each JSON text, to the inside of one JSON list, with a comma between.
 *
 * <p>A row's exchange has headers CaravanAfter (the sequence before it) and CaravanLastSeq (its own); the joined one
 * keeps the first row's CaravanAfter, the last row's CaravanLastSeq, and has CaravanRows and CaravanBytes (characters
 * joined so far), and the last row's CaravanFlush, for the completion predicate. This class is thread-safe, as the aggregator calls it under its lock.
 */
public final class Batch implements AggregationStrategy {

    static final String BYTES = "CaravanBytes";
    static final String FLUSH = "CaravanFlush";

    @Override
    public Exchange aggregate(Exchange batch, Exchange row) {
        String text = row.getMessage().getBody(String.class);
        if (batch == null) {
            row.getMessage().setBody(new StringBuilder(text));
            count(row.getMessage(), 1);
            return row;
        }
        Message message = batch.getMessage();
        ((StringBuilder) message.getBody()).append(',').append(text);
        message.setHeader(FLUSH, row.getMessage().getHeader(FLUSH));
        message.setHeader(UplinkConsumer.LAST_SEQ, row.getMessage().getHeader(UplinkConsumer.LAST_SEQ));
        count(message, message.getHeader(UplinkConsumer.ROWS, Integer.class) + 1);
        return batch;
    }

    @Override
    public void onCompletion(Exchange batch) {
        batch.getMessage().setBody(batch.getMessage().getBody().toString());
    }

    private static void count(Message message, int rows) {
        message.setHeader(UplinkConsumer.ROWS, rows);
        message.setHeader(BYTES, ((StringBuilder) message.getBody()).length());
    }
}
