// SPDX-License-Identifier: Apache-2.0
package io.caravan.ingest;

/** A device's message breaks a rule; sending it again will not help. Has no stack trace: it is an answer, not a fault. */
public final class RejectedException extends Exception {
  private static final long serialVersionUID = 1;

  private final Reason reason;
  private final String field;

  /**
   * @param field   JSON pointer of the offending field, or null
   * @param message what broke which rule
   */
  public RejectedException(Reason reason, String field, String message) {
    super(message, /* cause= */ null, /* enableSuppression= */ false, /* writableStackTrace= */ false);
    this.reason = reason;
    this.field = field;
  }

  public Reason reason() {
    return reason;
  }

  public String field() {
    return field;
  }
}
