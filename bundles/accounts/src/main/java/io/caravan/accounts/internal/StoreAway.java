// SPDX-License-Identifier: Apache-2.0
package io.caravan.accounts.internal;

/** The store cannot be asked now; nothing was changed. */
final class StoreAway extends IllegalStateException {
  private static final long serialVersionUID = 1L;

  StoreAway(Throwable cause) {
    super("the store cannot be used now, nothing was changed: " + cause.getMessage(), cause);
  }
}
