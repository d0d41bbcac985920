// SPDX-License-Identifier: Apache-2.0
package io.caravan.uplink;

/** A frame that cannot be taken; the session is closed with {@link #reason()}. This class is immutable. */
public final class FrameException extends Exception {

    private static final long serialVersionUID = 1L;

    private final String reason;

    /** @param reason one of docs/contract.md section 7: {@code gap}, {@code bad_frame}, {@code not_authorized}, {@code replaced} */
    public FrameException(String reason, String message) {
        super(message);
        this.reason = reason;
    }

    public String reason() {
        return reason;
    }
}
