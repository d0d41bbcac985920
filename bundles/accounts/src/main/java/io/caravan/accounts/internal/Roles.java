// SPDX-License-Identifier: Apache-2.0
package io.caravan.accounts.internal;

import io.caravan.accounts.Accounts;
import java.util.Map;
import java.util.TreeMap;

/** Roles per site, as maps. */
final class Roles {

  private Roles() {}

  static int rank(String role) {
    return role == null ? -1 : Accounts.ROLES.indexOf(role);
  }

  /** @return the role there; null: none */
  static String at(Map<String, String> roles, String site) {
    return higher(roles.get(site), roles.get(Accounts.ALL));
  }

  static String higher(String a, String b) {
    return rank(a) >= rank(b) ? a : b;
  }

  private static String lower(String a, String b) {
    return rank(a) <= rank(b) ? a : b;
  }

  /** @return what both have */
  static Map<String, String> both(Map<String, String> a, Map<String, String> b) {
    Map<String, String> result = new TreeMap<>();
    a.forEach((site, role) -> put(result, site, lower(role, at(b, site))));
    b.forEach((site, role) -> put(result, site, lower(role, at(a, site))));
    return result;
  }

  static void put(Map<String, String> roles, String site, String role) {
    if (role != null) {
      roles.merge(site, role, Roles::higher);
    }
  }
}
