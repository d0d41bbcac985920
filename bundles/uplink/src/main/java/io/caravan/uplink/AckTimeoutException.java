// SPDX-License-Identifier: Apache-2.0
package io.caravan.uplink;

/** No {@code ack} came within {@code ackTimeoutMs}; the connection has been closed because of it. */
public class AckTimeoutException extends UplinkClosedException {

    private static final long serialVersionUID = 1L;

    public AckTimeoutException(String message) {
        super(message);
    }
}
