// SPDX-License-Identifier: Apache-2.0
package io.caravan.accounts.internal;

import io.caravan.runtime.Config;
import io.caravan.runtime.HttpCall;
import java.util.List;
import java.util.Set;

/** Where a browser's page came from that asks. */
final class Origins {
  private static final Set<String> READING = Set.of("GET", "HEAD", "OPTIONS");

  private Origins() {}

  static boolean changes(HttpCall call) {
    return !READING.contains(call.method());
  }

  /** @return null: the request does not say, or says it twice */
  static String of(HttpCall call) {
    List<String> origins = call.headers("Origin");
    return origins.size() == 1 ? origins.get(0) : null;
  }

  static boolean same(HttpCall call) {
    String origin = of(call);
    List<String> hosts = call.headers("Host");
    return origin != null && hosts.size() == 1 && origin.replaceFirst("^https?://", "").equalsIgnoreCase(hosts.get(0));
  }

  static boolean listed(HttpCall call, Config config) {
    String origin = of(call);
    return origin != null && config.getList("api.cors.origins").contains(origin);
  }

  /**
   * A browser adds cookies, and that it is on this machine, by itself: a page of elsewhere must not use that. A token is added by who
   * has it.
   *
   * @return whether the request may not change anything
   */
  static boolean foreign(HttpCall call, Who who, Config config) {
    if (!changes(call)) {
      return false;
    }
    if (call.headers("Origin").isEmpty()) {
      return who.how().equals("cookie") && !call.headers("Sec-Fetch-Site").equals(List.of("same-origin"));
    }
    return !same(call) && !((who.how().equals("token") || who.how().equals("jwt")) && listed(call, config));
  }
}
