// SPDX-License-Identifier: Apache-2.0
package io.caravan.desk;

/** A request that breaks a rule; nothing was kept. */
public final class DeskException extends RuntimeException {
  private static final long serialVersionUID = 1L;

  private final String error;
  private final String field;

  /**
   * @param error   {@code bad_request}, {@code conflict}, {@code not_found} or {@code too_many}
   * @param field   JSON pointer into the request; null: none
   * @param message what [value] broke which rule, and what to do
   */
  public DeskException(String error, String field, String message) {
    super(message, null, false, false);
    this.error = error;
    this.field = field;
  }

  public String error() {
    return error;
  }

  /** JSON pointer; null: none. */
  public String field() {
    return field;
  }
}
