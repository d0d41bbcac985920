// SPDX-License-Identifier: Apache-2.0
package io.caravan.shell.internal;

import io.caravan.runtime.UserAdmin;
import java.io.IOException;
import java.util.Arrays;
import java.util.List;
import org.apache.karaf.shell.api.action.Argument;
import org.apache.karaf.shell.api.action.Command;
import org.apache.karaf.shell.api.action.Completion;
import org.apache.karaf.shell.api.action.Option;
import org.apache.karaf.shell.api.action.lifecycle.Service;
import org.apache.karaf.shell.support.completers.StringsCompleter;

/** {@code user:*}: users of logins over the network. No password is ever part of a command line. */
public final class UserCommands {

    private UserCommands() {
    }

    /** What they have in common. */
    abstract static class UserCommand extends GatewayCommand {
        final UserAdmin users() {
            return caravan.bean("users", UserAdmin.class).orElseThrow(() -> new IllegalStateException("This container has no users"));
        }

        /** Asks for a password, or makes one and shows it once. */
        final void withPassword(String name, String role, boolean ask) throws IOException {
            char[] password = ask ? asked() : users().randomPassword();
            try {
                String roles = String.join(", ", users().put(name, password, role));
                if (json) {
                    say(ask ? Output.object("user", name, "roles", roles).toJson()
                            : Output.object("user", name, "roles", roles, "password", new String(password)).toJson());
                } else {
                    say("User " + name + " (" + roles + ")" + (ask ? " has the new password." : " has the password " + new String(password) + " which is not shown again."));
                }
            } finally {
                Arrays.fill(password, '\0');
            }
        }

        private char[] asked() throws IOException {
            if (session.getTerminal() == null) {
                throw new IllegalStateException("There is no terminal to ask for a password on: without --ask one is made and shown");
            }
            String first = session.readLine("Password: ", '*');
            String second = session.readLine("Again: ", '*');
            if (first == null || !first.equals(second)) {
                throw new IllegalArgumentException("The two were not the same, nothing was changed");
            }
            return first.toCharArray();
        }
    }

    @Service
    @Command(scope = "user", name = "list", description = "List the users of logins over the network",
            detailedDescription = "Examples:\n  user:list\n  user:list --json")
    public static final class Listing extends UserCommand {
        @Override
        Object run() {
            table(users().list(), "No users", List.of("User", "Role"), r -> new Object[] {((UserAdmin.User) r).name(), ((UserAdmin.User) r).role()});
            return null;
        }
    }

    @Service
    @Command(scope = "user", name = "add", description = "Add a user; the password is made and shown once",
            detailedDescription = "Examples:\n  user:add anna operator\n  user:add anna viewer --ask")
    public static final class Add extends UserCommand {
        @Argument(index = 0, name = "user", required = true, description = "The user's name")
        @Completion(FreeText.class)
        String user;

        @Argument(index = 1, name = "role", required = true, description = "viewer, operator or admin")
        @Completion(value = StringsCompleter.class, values = {"viewer", "operator", "admin"})
        String role;

        @Option(name = "--ask", description = "Ask for the password in place of making one")
        boolean ask;

        @Argument(index = 2, name = "options", multiValued = true, description = "Options may stand here too")
        @Completion(TrailingCompleter.class)
        List<String> options;

        @Override
        List<String> trailing() {
            return options;
        }

        @Override
        Object run() throws IOException {
            if (users().list().stream().anyMatch(u -> u.name().equals(user))) {
                throw new IllegalArgumentException("there is a user [" + user + "] already: user:passwd and user:role change it");
            }
            withPassword(user, role, ask);
            return null;
        }
    }

    @Service
    @Command(scope = "user", name = "passwd", description = "Give a user another password; it is made and shown once",
            detailedDescription = "Examples:\n  user:passwd anna\n  user:passwd anna --ask")
    public static final class Passwd extends UserCommand {
        @Argument(index = 0, name = "user", required = true, description = "The user's name")
        @Completion(UserCompleter.class)
        String user;

        @Option(name = "--ask", description = "Ask for the password in place of making one")
        boolean ask;

        @Argument(index = 1, name = "options", multiValued = true, description = "Options may stand here too")
        @Completion(TrailingCompleter.class)
        List<String> options;

        @Override
        List<String> trailing() {
            return options;
        }

        @Override
        Object run() throws IOException {
            withPassword(user, null, ask);
            return null;
        }
    }

    @Service
    @Command(scope = "user", name = "role", description = "Give a user another role",
            detailedDescription = "Example:\n  user:role anna admin")
    public static final class Role extends UserCommand {
        @Argument(index = 0, name = "user", required = true, description = "The user's name")
        @Completion(UserCompleter.class)
        String user;

        @Argument(index = 1, name = "role", required = true, description = "viewer, operator or admin")
        @Completion(value = StringsCompleter.class, values = {"viewer", "operator", "admin"})
        String role;

        @Argument(index = 2, name = "options", multiValued = true, description = "Options may stand here too")
        @Completion(TrailingCompleter.class)
        List<String> options;

        @Override
        List<String> trailing() {
            return options;
        }

        @Override
        Object run() {
            String roles = String.join(", ", users().put(user, null, role));
            say(json ? Output.object("user", user, "roles", roles).toJson() : "User " + user + " has the roles " + roles + ".");
            return null;
        }
    }

    @Service
    @Command(scope = "user", name = "remove", description = "Remove a user",
            detailedDescription = "Example:\n  user:remove anna")
    public static final class Remove extends UserCommand {
        @Argument(index = 0, name = "user", required = true, description = "The user's name")
        @Completion(UserCompleter.class)
        String user;

        @Argument(index = 1, name = "options", multiValued = true, description = "Options may stand here too")
        @Completion(TrailingCompleter.class)
        List<String> options;

        @Override
        List<String> trailing() {
            return options;
        }

        @Override
        Object run() {
            if (!users().remove(user)) {
                throw new IllegalArgumentException("there is no user [" + user + "]: user:list tells which there are");
            }
            say(json ? Output.object("user", user, "removed", true).toJson() : "User " + user + " is removed and cannot log in any more.");
            return null;
        }
    }
}
