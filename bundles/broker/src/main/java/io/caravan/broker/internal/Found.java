// SPDX-License-Identifier: Apache-2.0
package io.caravan.broker.internal;

import java.util.ArrayList;
import java.util.Collection;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeMap;
import java.util.TreeSet;
import java.util.stream.Collectors;
import org.apache.camel.util.json.JsonObject;

/** What the broker has, as its plugin answered. For one thread. */
final class Found {

  /** @param mark the text description; null: none */
  record User(boolean disabled, String mark, Set<String> roles, Set<String> groups, String clientId) {}

  final Map<String, User> users = new TreeMap<>();
  final Map<String, Set<Acl>> roles = new TreeMap<>();
  final Map<String, Boolean> defaults = new TreeMap<>();
  final Set<String> groups = new TreeSet<>();
  /** Empty: none. */
  String anonymousGroup = "";

  void user(JsonObject client) {
    users.put(client.getString("username"), new User(Boolean.TRUE.equals(client.getBoolean("disabled")), client.getString("textdescription"),
        names(client, "roles", "rolename"), names(client, "groups", "groupname"), client.getString("clientid")));
  }

  void role(JsonObject role) {
    roles.put(role.getString("rolename"), Acl.of(list(role, "acls")));
  }

  static Collection<?> list(JsonObject object, String key) {
    Object value = object.get(key);
    return value == null ? List.of() : (Collection<?>) value;
  }

  private static Set<String> names(JsonObject object, String key, String name) {
    return new ArrayList<Object>(list(object, key)).stream().map(element -> ((JsonObject) element).getString(name))
        .collect(Collectors.toCollection(TreeSet::new));
  }
}
