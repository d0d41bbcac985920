// SPDX-License-Identifier: Apache-2.0
package io.caravan.runtime;

/** A command that the gateway itself took was not carried out, or was undone; the state is what the reason says. Immutable. */
public final class ControlException extends RuntimeException {

    /** Nothing was changed. */
    public static final String FAILED = "control_failed";
    /** It was changed, did not do, and everything is as it was before. */
    public static final String ROLLED_BACK = "rolled_back";

    private static final long serialVersionUID = 1L;

    private final String reason;
    private final String result;

    /** Nothing was changed. */
    public ControlException(String message) {
        this(FAILED, message, null, null);
    }

    /**
     * @param reason  {@link #FAILED} or {@link #ROLLED_BACK}
     * @param message for people
     * @param result  JSON text of an object with the particulars; null: none
     * @param cause   null: none
     */
    public ControlException(String reason, String message, String result, Throwable cause) {
        super(message, cause);
        this.reason = reason;
        this.result = result;
    }

    /** @return of the closed vocabulary of docs/contract.md */
    public String reason() {
        return reason;
    }

    /** @return JSON text of an object, or null */
    public String result() {
        return result;
    }
}
