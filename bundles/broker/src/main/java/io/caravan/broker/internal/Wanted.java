// SPDX-License-Identifier: Apache-2.0
package io.caravan.broker.internal;

import io.caravan.devices.Devices;
import java.util.Base64;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeMap;
import org.apache.camel.util.json.JsonArray;
import org.apache.camel.util.json.JsonObject;
import org.apache.camel.util.json.Jsoner;

/** What the broker must have: users with their role and secret, and roles with their rights. Immutable once made. */
final class Wanted {
  /** The four kinds of access without a role that has a say; all are denied. */
  static final List<String> DEFAULTS = List.of("publishClientSend", "publishClientReceive", "subscribe", "unsubscribe");
  /** Mark of a user who has no valid password. */
  static final String NO_PASSWORD = "none";

  /** @param secret null: cannot log in by password, only by certificate */
  record User(String role, Secret secret) {
    String mark() {
      return secret == null ? NO_PASSWORD : secret.mark();
    }

    @Override
    public String toString() {
      return "User[" + role + ", " + mark() + "]";
    }
  }

  final Map<String, User> users = new TreeMap<>();
  final Map<String, Set<Acl>> roles = new TreeMap<>();

  /**
   * @param gatewayId      name of the gateway in the topics of controllers
   * @param gateway, admin secrets of the two users that are no devices; null: by certificate
   */
  Wanted(List<Devices.BrokerCredential> devices, String gatewayId, String gatewayUser, Secret gateway, String adminUser, Secret admin) {
    for (Devices.BrokerCredential device : devices) {
      // A device that is called like one of the two would get their rights.
      if (device.status() == Devices.Status.ACTIVE && !device.deviceId().equals(gatewayUser) && !device.deviceId().equals(adminUser)) {
        String role = Acl.DEVICE + device.deviceId();
        roles.put(role, Acl.device(device.deviceId(), device.controller() ? gatewayId : null));
        users.put(device.deviceId(), new User(role, device.hash() == null ? null
            : new Secret(device.hash(), device.salt(), device.iterations())));
      }
    }
    roles.put(Acl.GATEWAY, Acl.gateway(gatewayId));
    roles.put(Acl.ADMIN, Acl.admin());
    users.put(gatewayUser, new User(Acl.GATEWAY, gateway));
    users.put(adminUser, new User(Acl.ADMIN, admin));
  }

  /** The plugin's own file, complete. */
  String file() {
    JsonObject defaults = new JsonObject();
    DEFAULTS.forEach(kind -> defaults.put(kind, false));
    JsonArray clients = new JsonArray();
    users.forEach((name, user) -> {
      JsonObject client = new JsonObject();
      client.put("username", name);
      client.put("textdescription", user.mark());
      client.put("roles", role(user.role()));
      if (user.secret() != null) {
        client.put("password", Base64.getEncoder().encodeToString(user.secret().hash()));
        client.put("salt", Base64.getEncoder().encodeToString(user.secret().salt()));
        client.put("iterations", user.secret().iterations());
      }
      clients.add(client);
    });
    JsonArray all = new JsonArray();
    roles.forEach((name, acls) -> {
      JsonObject role = new JsonObject();
      role.put("rolename", name);
      role.put("acls", Acl.json(acls));
      all.add(role);
    });
    JsonObject file = new JsonObject();
    file.put("defaultACLAccess", defaults);
    file.put("clients", clients);
    file.put("groups", new JsonArray());
    file.put("roles", all);
    return Jsoner.prettyPrint(file.toJson()) + "\n";
  }

  static JsonArray role(String name) {
    JsonObject role = new JsonObject();
    role.put("rolename", name);
    JsonArray roles = new JsonArray();
    roles.add(role);
    return roles;
  }
}
