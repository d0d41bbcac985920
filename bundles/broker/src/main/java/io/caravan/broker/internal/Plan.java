// SPDX-License-Identifier: Apache-2.0
package io.caravan.broker.internal;

import java.util.ArrayList;
import java.util.Collection;
import java.util.Comparator;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Set;
import java.util.TreeMap;
import java.util.TreeSet;
import java.util.function.BiFunction;
import org.apache.camel.util.json.JsonArray;
import org.apache.camel.util.json.JsonObject;

/** The commands that make out of what the broker has what it must have; what takes rights away comes first. */
final class Plan {
  /** Mark of a user whose password only a start of the broker from the state file can set. */
  static final String UNSET = "unset";

  /** Why a step is needed: tag of the counter, word in the audit log. The order in which they are done. */
  enum What { DEFAULTS, USER_UNKNOWN, GROUP_UNKNOWN, ROLE_UNKNOWN, ROLE_CHANGED, ROLE_MISSING, USER_CHANGED, PASSWORD_CHANGED, USER_MISSING;

    @Override
    public String toString() {
      return name().toLowerCase(Locale.ROOT);
    }
  }

  /** @param settles the secret that the broker has after it; null: it is not about one */
  record Step(What what, String subject, List<JsonObject> commands, Secret settles) {}

  final List<Step> steps = new ArrayList<>();
  /** Users whose password cannot be set by a command: only hashes of it are there. */
  final Set<String> unset = new TreeSet<>();
  /** There is something that no command of mosquitto 2.0.11 mends. */
  private boolean stuck;

  private final BiFunction<String, Secret, String> passwords;

  private Plan(BiFunction<String, Secret, String> passwords) {
    this.passwords = passwords;
  }

  /**
   * @param admin     the user whose connection this is: left alone, to change it would cut it
   * @param passwords of the user, the password with that secret; null where it is not known
   */
  static Plan whole(Wanted wanted, Found found, String admin, BiFunction<String, Secret, String> passwords) {
    Plan plan = new Plan(passwords);
    Map<String, Boolean> defaults = new TreeMap<>();
    Wanted.DEFAULTS.forEach(kind -> defaults.put(kind, false));
    if (!defaults.equals(found.defaults)) {
      plan.add(What.DEFAULTS, "defaults", closed());
    }
    for (String user : found.users.keySet()) {
      if (!wanted.users.containsKey(user)) {
        plan.add(What.USER_UNKNOWN, user, command("deleteClient", "username", user));
      }
    }
    for (String group : found.groups) {
      if (group.equals(found.anonymousGroup)) {
        // To delete this one would end the broker (mosquitto 2.0.11: segmentation fault): it loses what it gives.
        JsonObject empty = command("modifyGroup", "groupname", group);
        empty.put("roles", new JsonArray());
        empty.put("clients", new JsonArray());
        plan.add(What.GROUP_UNKNOWN, group, empty);
        plan.stuck = true;
      } else {
        plan.add(What.GROUP_UNKNOWN, group, command("deleteGroup", "groupname", group));
      }
    }
    for (String role : found.roles.keySet()) {
      if (!wanted.roles.containsKey(role)) {
        plan.add(What.ROLE_UNKNOWN, role, command("deleteRole", "rolename", role));
      }
    }
    wanted.roles.forEach((role, acls) -> plan.role(role, acls, found.roles.get(role)));
    wanted.users.forEach((name, user) -> {
      if (!name.equals(admin)) {
        plan.user(name, user, found.users.get(name));
      }
    });
    plan.steps.sort(Comparator.comparing(Step::what));
    return plan;
  }

  /** Only these devices, which must be wanted. */
  static Plan of(Collection<String> devices, Wanted wanted, Found found, BiFunction<String, Secret, String> passwords) {
    Plan plan = new Plan(passwords);
    for (String device : devices) {
      Wanted.User user = wanted.users.get(device);
      plan.role(user.role(), wanted.roles.get(user.role()), found.roles.get(user.role()));
      plan.user(device, user, found.users.get(device));
    }
    plan.steps.sort(Comparator.comparing(Step::what));
    return plan;
  }

  /** Deleted, not disabled: a disabled user who comes with a certificate is let in again, with all rights (mosquitto 2.0.11). */
  static List<JsonObject> cut(String device) {
    return List.of(command("deleteClient", "username", device), command("deleteRole", "rolename", Acl.DEVICE + device));
  }

  /** @return whether the broker must be started anew from the state file */
  boolean needsRestart() {
    return stuck || !unset.isEmpty();
  }

  private void role(String name, Set<Acl> acls, Set<Acl> has) {
    if (!acls.equals(has)) {
      JsonObject command = command(has == null ? "createRole" : "modifyRole", "rolename", name);
      command.put("acls", Acl.json(acls));
      add(has == null ? What.ROLE_MISSING : What.ROLE_CHANGED, name, command);
    }
  }

  private void user(String name, Wanted.User user, Found.User has) {
    Secret secret = user.secret();
    String password = secret == null ? null : passwords.apply(name, secret);
    if (has == null) {
      JsonObject create = command("createClient", "username", name);
      create.put("roles", Wanted.role(user.role()));
      create.put("textdescription", secret != null && password == null ? UNSET : user.mark());
      if (password != null) {
        create.put("password", password);
      } else if (secret != null) {
        unset.add(name); // by certificate it can come
      }
      steps.add(new Step(What.USER_MISSING, name, List.of(create), password == null ? null : secret));
      return;
    }
    List<JsonObject> commands = new ArrayList<>();
    if (has.clientId() != null && !has.clientId().isEmpty()) {
      commands.add(command("setClientId", "username", name, "clientid", ""));
    }
    if (!has.roles().equals(Set.of(user.role())) || !has.groups().isEmpty()) {
      JsonObject modify = command("modifyClient", "username", name);
      modify.put("roles", Wanted.role(user.role()));
      modify.put("groups", new JsonArray());
      commands.add(modify);
    }
    if (has.disabled()) {
      commands.add(command("enableClient", "username", name));
    }
    if (!commands.isEmpty()) {
      steps.add(new Step(What.USER_CHANGED, name, commands, null));
    }
    if (user.mark().equals(has.mark())) {
      return;
    }
    if (secret != null && password == null) {
      unset.add(name);
      if (UNSET.equals(has.mark())) {
        return;
      }
    }
    // Without the password that counts now: one that nobody has, because the one the broker has must not count any more.
    JsonObject modify = command("modifyClient", "username", name, "password", password == null ? Secret.random() : password);
    modify.put("textdescription", secret != null && password == null ? UNSET : user.mark());
    steps.add(new Step(What.PASSWORD_CHANGED, name, List.of(modify), password == null ? null : secret));
  }

  private void add(What what, String subject, JsonObject command) {
    steps.add(new Step(what, subject, List.of(command), null));
  }

  private static JsonObject closed() {
    JsonArray acls = new JsonArray();
    for (String kind : Wanted.DEFAULTS) {
      JsonObject access = new JsonObject();
      access.put("acltype", kind);
      access.put("allow", false);
      acls.add(access);
    }
    JsonObject command = command("setDefaultACLAccess");
    command.put("acls", acls);
    return command;
  }

  static JsonObject command(String name, String... keysAndValues) {
    JsonObject command = new JsonObject();
    command.put("command", name);
    for (int i = 0; i < keysAndValues.length; i += 2) {
      command.put(keysAndValues[i], keysAndValues[i + 1]);
    }
    return command;
  }
}
