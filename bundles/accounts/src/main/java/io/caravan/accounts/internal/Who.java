// SPDX-License-Identifier: Apache-2.0
package io.caravan.accounts.internal;

import java.util.Map;

/**
 * A caller whose credential is good.
 *
 * @param user        {@code anna}, {@code token:name}, {@code oidc:name}, {@code local}; at most 128 characters
 * @param how         {@code cookie}, {@code token}, {@code jwt}, {@code basic}, {@code local}
 * @param roles       site id to role
 * @param expiresAtMs null: never by itself
 * @param key         hash of the credential; null: basic, local
 */
record Who(String user, String how, Map<String, String> roles, Long expiresAtMs, String key) {

  boolean over(long nowMs) {
    return expiresAtMs != null && expiresAtMs <= nowMs;
  }
}
