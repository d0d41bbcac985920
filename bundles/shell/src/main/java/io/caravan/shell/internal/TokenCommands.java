// SPDX-License-Identifier: Apache-2.0
package io.caravan.shell.internal;

import java.util.List;
import org.apache.camel.util.json.JsonObject;
import org.apache.karaf.shell.api.action.Argument;
import org.apache.karaf.shell.api.action.Command;
import org.apache.karaf.shell.api.action.Completion;
import org.apache.karaf.shell.api.action.Option;
import org.apache.karaf.shell.api.action.lifecycle.Service;
import org.apache.karaf.shell.support.completers.StringsCompleter;

/** {@code token:*}, in the cloud: tokens of programs that use the API. */
public final class TokenCommands {

    private TokenCommands() {
    }

    @Service
    @Command(scope = "token", name = "list", description = "List the tokens of the API",
            detailedDescription = "Examples:\n  token:list\n  token:list --json")
    public static final class Listing extends AccountCommands.AccountCommand {
        @Override
        Object run() {
            list(AccountSide.tokenList(caravan), "No tokens: token:add makes one", "Token", "Account", "Roles", "State", "Used", "By");
            return null;
        }
    }

    @Service
    @Command(scope = "token", name = "add", description = "Make a token for a program; it is shown once",
            detailedDescription = "Examples:\n  token:add grafana all:viewer --expires 90d\n  token:add ci plant-1:operator --account ben")
    public static final class Add extends AccountCommands.AccountCommand {
        @Argument(index = 0, name = "token", required = true, description = "The token's name")
        @Completion(FreeText.class)
        String token;

        @Argument(index = 1, name = "roles", required = true, description = "all:admin, or plant-1:operator,plant-2:viewer; none")
        @Completion(RolesCompleter.class)
        String roles;

        @Option(name = "--expires", description = "When it ends: 90d, or 2027-01-01T00:00:00Z; never, if not given")
        @Completion(value = StringsCompleter.class, values = {"30d", "90d", "365d"})
        String expires;

        @Option(name = "--account", description = "It never has more roles than this account, and ends with it")
        @Completion(AccountCompleter.class)
        String account;

        @Argument(index = 2, name = "options", multiValued = true, description = "Options may stand here too")
        @Completion(TrailingCompleter.class)
        List<String> options;

        @Override
        List<String> trailing() {
            return options;
        }

        @Override
        Object run() {
            JsonObject made = AccountSide.addToken(caravan, token, account, roles, UplinkCommands.end(expires, System.currentTimeMillis()), by());
            done(made, "Token " + token + ", shown this once: " + made.get("secret"));
            return null;
        }
    }

    @Service
    @Command(scope = "token", name = "revoke", description = "Refuse a token from now on",
            detailedDescription = "Example:\n  token:revoke grafana")
    public static final class Revoke extends AccountCommands.AccountCommand {
        @Argument(index = 0, name = "token", required = true, description = "The token's name")
        @Completion(TokenCompleter.class)
        String token;

        @Argument(index = 1, name = "options", multiValued = true, description = "Options may stand here too")
        @Completion(TrailingCompleter.class)
        List<String> options;

        @Override
        List<String> trailing() {
            return options;
        }

        @Override
        Object run() {
            done(AccountSide.revokeToken(caravan, token), "Token " + token + " is refused from now on.");
            return null;
        }
    }

    @Service
    @Command(scope = "token", name = "remove", description = "Forget a token that is revoked or expired",
            detailedDescription = "Example:\n  token:remove grafana")
    public static final class Remove extends AccountCommands.AccountCommand {
        @Argument(index = 0, name = "token", required = true, description = "The token's name")
        @Completion(TokenCompleter.class)
        String token;

        @Argument(index = 1, name = "options", multiValued = true, description = "Options may stand here too")
        @Completion(TrailingCompleter.class)
        List<String> options;

        @Override
        List<String> trailing() {
            return options;
        }

        @Override
        Object run() {
            AccountSide.removeToken(caravan, token);
            done(Output.object("token", token, "removed", true), "Token " + token + " is forgotten.");
            return null;
        }
    }
}
