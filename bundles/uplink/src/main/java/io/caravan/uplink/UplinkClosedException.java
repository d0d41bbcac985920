// SPDX-License-Identifier: Apache-2.0
package io.caravan.uplink;

import java.io.IOException;

/**
 * The session a frame was meant for is gone, or ended before the frame's {@code ack} came. Nothing is known about
 * whether the other side has the frame: send it again on the next session.
 */
public class UplinkClosedException extends IOException {

    private static final long serialVersionUID = 1L;

    public UplinkClosedException(String message) {
        super(message);
    }

    public UplinkClosedException(String message, Throwable cause) {
        super(message, cause);
    }
}
