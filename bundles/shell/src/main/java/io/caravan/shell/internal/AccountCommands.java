// SPDX-License-Identifier: Apache-2.0
package io.caravan.shell.internal;

import java.io.IOException;
import java.util.Arrays;
import java.util.List;
import org.apache.camel.util.json.JsonObject;
import org.apache.karaf.shell.api.action.Argument;
import org.apache.karaf.shell.api.action.Command;
import org.apache.karaf.shell.api.action.Completion;
import org.apache.karaf.shell.api.action.Option;
import org.apache.karaf.shell.api.action.lifecycle.Service;

/** {@code account:*}, in the cloud: who may log in. No password is ever part of a command line. */
public final class AccountCommands {

    private AccountCommands() {
    }

    /** What they have in common. */
    abstract static class AccountCommand extends GatewayCommand {

        /** Rows, or as JSON. */
        final void list(AccountSide.Table table, String empty, String... columns) {
            if (json) {
                say(table.json().toJson());
            } else {
                table(table.rows(), empty, List.of(columns), r -> (Object[]) r);
            }
        }

        final void done(JsonObject what, String text) {
            say(json ? what.toJson() : text);
        }

        /** @return who gives the command, for lists */
        final String by() {
            Object user = session.get("USER");
            return user == null ? "shell" : user.toString();
        }

        final char[] password(boolean ask) throws IOException {
            if (!ask) {
                return AccountSide.passwords(caravan).random();
            }
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

        /** Shows a password that was made, this once. */
        final void told(JsonObject what, String text, char[] password, boolean asked) {
            if (json && !asked) {
                what.put("password", new String(password));
            }
            done(what, text + (asked ? "" : " Its password, shown this once: " + new String(password)));
        }
    }

    @Service
    @Command(scope = "account", name = "list", description = "List who may log in to the API and the phone app",
            detailedDescription = "Examples:\n  account:list\n  account:list --json")
    public static final class Listing extends AccountCommand {
        @Override
        Object run() {
            list(AccountSide.accountList(caravan), "No accounts: account:add <name> all:admin makes the first one", "Account", "Roles", "Disabled", "Logins", "Made", "By");
            return null;
        }
    }

    @Service
    @Command(scope = "account", name = "add", description = "Let somebody log in; the password is made and shown once",
            detailedDescription = "Examples:\n  account:add anna all:admin\n  account:add ben plant-1:operator,plant-2:viewer --ask")
    public static final class Add extends AccountCommand {
        @Argument(index = 0, name = "account", required = true, description = "The account's name")
        @Completion(FreeText.class)
        String account;

        @Argument(index = 1, name = "roles", required = true, description = "all:admin, or plant-1:operator,plant-2:viewer; none")
        @Completion(RolesCompleter.class)
        String roles;

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
            char[] password = password(ask);
            try {
                told(AccountSide.addAccount(caravan, account, password, roles, by()), "Account " + account + " may log in.", password, ask);
            } finally {
                Arrays.fill(password, '\0');
            }
            return null;
        }
    }

    @Service
    @Command(scope = "account", name = "passwd", description = "Give an account another password and end its logins",
            detailedDescription = "Examples:\n  account:passwd anna\n  account:passwd anna --ask")
    public static final class Passwd extends AccountCommand {
        @Argument(index = 0, name = "account", required = true, description = "The account's name")
        @Completion(AccountCompleter.class)
        String account;

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
            char[] password = password(ask);
            try {
                AccountSide.password(caravan, account, password);
                told(Output.object("account", account), "Account " + account + " has a new password, its logins have ended.", password, ask);
            } finally {
                Arrays.fill(password, '\0');
            }
            return null;
        }
    }

    @Service
    @Command(scope = "account", name = "role", description = "Give an account other roles, in place of those it has",
            detailedDescription = "Examples:\n  account:role ben plant-1:viewer\n  account:role ben none")
    public static final class Role extends AccountCommand {
        @Argument(index = 0, name = "account", required = true, description = "The account's name")
        @Completion(AccountCompleter.class)
        String account;

        @Argument(index = 1, name = "roles", required = true, description = "all:admin, or plant-1:operator,plant-2:viewer; none")
        @Completion(RolesCompleter.class)
        String roles;

        @Argument(index = 2, name = "options", multiValued = true, description = "Options may stand here too")
        @Completion(TrailingCompleter.class)
        List<String> options;

        @Override
        List<String> trailing() {
            return options;
        }

        @Override
        Object run() {
            done(AccountSide.accountRoles(caravan, account, roles), "Account " + account + " has the roles " + roles + ".");
            return null;
        }
    }

    @Service
    @Command(scope = "account", name = "disable", description = "Refuse an account from now on, with its logins and tokens",
            detailedDescription = "Example:\n  account:disable ben")
    public static final class Disable extends AccountCommand {
        @Argument(index = 0, name = "account", required = true, description = "The account's name")
        @Completion(AccountCompleter.class)
        String account;

        @Argument(index = 1, name = "options", multiValued = true, description = "Options may stand here too")
        @Completion(TrailingCompleter.class)
        List<String> options;

        @Override
        List<String> trailing() {
            return options;
        }

        @Override
        Object run() {
            done(AccountSide.disable(caravan, account, true), "Account " + account + " is refused, its logins have ended. account:enable " + account + " undoes it.");
            return null;
        }
    }

    @Service
    @Command(scope = "account", name = "enable", description = "Let a disabled account log in again",
            detailedDescription = "Example:\n  account:enable ben")
    public static final class Enable extends AccountCommand {
        @Argument(index = 0, name = "account", required = true, description = "The account's name")
        @Completion(AccountCompleter.class)
        String account;

        @Argument(index = 1, name = "options", multiValued = true, description = "Options may stand here too")
        @Completion(TrailingCompleter.class)
        List<String> options;

        @Override
        List<String> trailing() {
            return options;
        }

        @Override
        Object run() {
            done(AccountSide.disable(caravan, account, false), "Account " + account + " may log in again.");
            return null;
        }
    }

    @Service
    @Command(scope = "account", name = "logout", description = "End the logins of an account, or of oidc:<name>",
            detailedDescription = "Examples:\n  account:logout ben\n  account:logout oidc:carl")
    public static final class Logout extends AccountCommand {
        @Argument(index = 0, name = "account", required = true, description = "The account's name")
        @Completion(AccountCompleter.class)
        String account;

        @Argument(index = 1, name = "options", multiValued = true, description = "Options may stand here too")
        @Completion(TrailingCompleter.class)
        List<String> options;

        @Override
        List<String> trailing() {
            return options;
        }

        @Override
        Object run() {
            int ended = AccountSide.logout(caravan, account);
            done(Output.object("account", account, "ended", ended), ended + " logins of " + account + " have ended.");
            return null;
        }
    }

    @Service
    @Command(scope = "account", name = "remove", description = "Forget an account, its logins and tokens",
            detailedDescription = "Example:\n  account:remove ben --yes")
    public static final class Remove extends AccountCommand {
        @Argument(index = 0, name = "account", required = true, description = "The account's name")
        @Completion(AccountCompleter.class)
        String account;

        @Option(name = "--yes", aliases = "-y", description = "Do not ask")
        boolean yes;

        @Argument(index = 1, name = "options", multiValued = true, description = "Options may stand here too")
        @Completion(TrailingCompleter.class)
        List<String> options;

        @Override
        List<String> trailing() {
            return options;
        }

        @Override
        Object run() {
            confirmed(yes, "account:remove", () -> AccountSide.preview(caravan, account), () -> {
                AccountSide.removeAccount(caravan, account);
                done(Output.object("account", account, "removed", true), "Account " + account + " is removed.");
            });
            return null;
        }
    }
}
