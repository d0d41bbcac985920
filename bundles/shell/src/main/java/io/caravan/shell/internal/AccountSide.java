// SPDX-License-Identifier: Apache-2.0
package io.caravan.shell.internal;

import io.caravan.accounts.Accounts;
import io.caravan.accounts.Accounts.Account;
import io.caravan.accounts.Accounts.NewToken;
import io.caravan.accounts.Accounts.Site;
import io.caravan.accounts.Accounts.Token;
import io.caravan.runtime.Caravan;
import io.caravan.runtime.Passwords;
import java.util.Collection;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.stream.Collectors;
import org.apache.camel.util.json.JsonArray;
import org.apache.camel.util.json.JsonObject;

/** What commands about who may do what say to the cloud's accounts. Apart from them: the gateway has their classes and not these types. */
final class AccountSide {

    private AccountSide() {
    }

    private static Accounts accounts(Caravan caravan) {
        return caravan.bean("accounts", Accounts.class).orElseThrow(() -> new IllegalStateException(caravan.role().equals("cloud")
                ? "Accounts are not there: " + caravan.checks().stream().filter(c -> c.name().equals("module:accounts")).findFirst()
                        .map(c -> c.message().isEmpty() ? "see the log" : c.message()).orElse("feature caravan-accounts is not installed")
                : "This container's role is [" + caravan.role() + "]: accounts are the cloud's, give the command there; user:* is for this one"));
    }

    static Passwords passwords(Caravan caravan) {
        return caravan.bean("passwords", Passwords.class).orElseThrow(() -> new IllegalStateException("The container is not started"));
    }

    /** @param text {@code all:admin} or {@code plant-1:operator,plant-2:viewer}; {@code none}: no role */
    static Map<String, String> roles(String text) {
        Map<String, String> roles = new TreeMap<>();
        if (text.equals("none")) {
            return roles;
        }
        for (String one : text.split(",")) {
            int colon = one.indexOf(':');
            if (colon < 1 || colon == one.length() - 1) {
                throw new IllegalArgumentException("roles [" + text + "] must be like all:admin or plant-1:operator,plant-2:viewer");
            }
            String site = one.substring(0, colon).trim();
            if (roles.put(site.equals("all") ? Accounts.ALL : site, one.substring(colon + 1).trim()) != null) {
                throw new IllegalArgumentException("roles [" + text + "] must name each site once");
            }
        }
        return roles;
    }

    private static String text(Map<String, String> roles) {
        return roles.isEmpty() ? "none" : roles.entrySet().stream().map(r -> (r.getKey().equals(Accounts.ALL) ? "all" : r.getKey()) + ":" + r.getValue())
                .collect(Collectors.joining(", "));
    }

    private static JsonObject object(Map<String, String> roles) {
        JsonObject object = new JsonObject();
        object.putAll(roles);
        return object;
    }

    /** Rows for people and, beside each, what it is as JSON. */
    record Table(List<Object[]> rows, JsonArray json) { }

    private static <T> Table table(Collection<T> all, java.util.function.Function<T, Object[]> row, java.util.function.Function<T, JsonObject> json) {
        JsonArray array = new JsonArray();
        all.forEach(one -> array.add(json.apply(one)));
        return new Table(all.stream().map(row).toList(), array);
    }

    // ---- accounts

    static Table accountList(Caravan caravan) {
        return table(accounts(caravan).accounts(), a -> new Object[] {a.name(), text(a.roles()), a.disabledAtMs() == null ? "" : "since " + Output.time(a.disabledAtMs()),
            a.logins(), Output.time(a.createdAtMs()), a.createdBy()}, AccountSide::object);
    }

    private static JsonObject object(Account a) {
        return Output.object("account", a.name(), "roles", object(a.roles()), "disabled_at_ms", a.disabledAtMs(), "created_at_ms", a.createdAtMs(),
                "created_by", a.createdBy(), "logins", a.logins());
    }

    static boolean hasAccount(Caravan caravan, String name) {
        return accounts(caravan).accounts().stream().anyMatch(a -> a.name().equals(name));
    }

    static JsonObject addAccount(Caravan caravan, String name, char[] password, String roles, String by) {
        return object(accounts(caravan).addAccount(name, password, roles(roles), by));
    }

    static void password(Caravan caravan, String name, char[] password) {
        accounts(caravan).password(name, password);
    }

    static JsonObject accountRoles(Caravan caravan, String name, String roles) {
        return object(accounts(caravan).roles(name, roles(roles)));
    }

    static JsonObject disable(Caravan caravan, String name, boolean disabled) {
        return object(accounts(caravan).disable(name, disabled));
    }

    static void removeAccount(Caravan caravan, String name) {
        accounts(caravan).removeAccount(name);
    }

    static int logout(Caravan caravan, String user) {
        return accounts(caravan).logout(user);
    }

    /** What goes with an account. */
    static String preview(Caravan caravan, String name) {
        Account account = accounts(caravan).accounts().stream().filter(a -> a.name().equals(name)).findFirst()
                .orElseThrow(() -> new IllegalArgumentException("there is no account [" + name + "]: account:list tells which there are"));
        long tokens = accounts(caravan).tokens().stream().filter(t -> name.equals(t.account())).count();
        return "Account " + name + " (" + text(account.roles()) + ") is forgotten, with " + account.logins() + " logins and " + tokens + " tokens.";
    }

    // ---- tokens

    static Table tokenList(Caravan caravan) {
        long now = System.currentTimeMillis();
        return table(accounts(caravan).tokens(), t -> new Object[] {t.name(), Output.text(t.account()), text(t.roles()), t.revokedAtMs() != null ? "revoked"
                : t.expiresAtMs() == null ? "valid" : (t.expiresAtMs() <= now ? "expired " : "until ") + Output.time(t.expiresAtMs()),
            t.usedAtMs() == null ? "never" : Output.time(t.usedAtMs()), t.createdBy()}, AccountSide::object);
    }

    private static JsonObject object(Token t) {
        return Output.object("token", t.name(), "account", t.account(), "roles", object(t.roles()), "created_at_ms", t.createdAtMs(), "created_by", t.createdBy(),
                "expires_at_ms", t.expiresAtMs(), "used_at_ms", t.usedAtMs(), "revoked_at_ms", t.revokedAtMs());
    }

    static JsonObject addToken(Caravan caravan, String name, String account, String roles, Long expiresAtMs, String by) {
        NewToken made = accounts(caravan).addToken(name, account, roles(roles), expiresAtMs, by);
        JsonObject object = object(made.token());
        object.put("secret", made.secret());
        return object;
    }

    static JsonObject revokeToken(Caravan caravan, String name) {
        return object(accounts(caravan).revokeToken(name));
    }

    static void removeToken(Caravan caravan, String name) {
        accounts(caravan).removeToken(name);
    }

    // ---- sites

    static Table siteList(Caravan caravan) {
        return table(accounts(caravan).sites(), s -> new Object[] {s.id(), s.name(), s.gateways()}, AccountSide::object);
    }

    static Table gatewayList(Caravan caravan) {
        return table(accounts(caravan).gateways().entrySet(), g -> new Object[] {g.getKey(), g.getValue()},
                g -> Output.object("gateway_id", g.getKey(), "site", g.getValue()));
    }

    private static JsonObject object(Site s) {
        return Output.object("site", s.id(), "name", s.name(), "created_at_ms", s.createdAtMs(), "gateways", s.gateways());
    }

    static JsonObject addSite(Caravan caravan, String id, String name) {
        return object(accounts(caravan).addSite(id, name));
    }

    static JsonObject renameSite(Caravan caravan, String id, String name) {
        return object(accounts(caravan).renameSite(id, name));
    }

    static void removeSite(Caravan caravan, String id) {
        accounts(caravan).removeSite(id);
    }

    static String assign(Caravan caravan, String gateway, String site) {
        return accounts(caravan).assign(gateway, site);
    }

    // ---- completion

    /** @param what {@code account}, {@code token}, {@code site} or {@code gateway} */
    static List<String> names(Caravan caravan, String what) {
        Accounts accounts = caravan.bean("accounts", Accounts.class).orElse(null);
        if (accounts == null) {
            return List.of();
        }
        return switch (what) {
            case "account" -> accounts.accounts().stream().map(Account::name).toList();
            case "token" -> accounts.tokens().stream().map(Token::name).toList();
            case "site" -> accounts.sites().stream().map(Site::id).toList();
            default -> List.copyOf(accounts.gateways().keySet());
        };
    }
}
