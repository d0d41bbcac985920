// SPDX-License-Identifier: Apache-2.0
package io.caravan.accounts.internal;

import io.caravan.accounts.Accounts;
import io.caravan.runtime.Audit;
import io.caravan.runtime.Config;
import io.caravan.runtime.Passwords;
import java.io.UncheckedIOException;
import java.time.Clock;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.regex.Pattern;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/** See {@link Accounts}; also opens and ends logins. */
public final class AccountBook implements Accounts {
  static final Pattern NAME = Pattern.compile("[A-Za-z][A-Za-z0-9._-]{0,63}");

  private static final Logger LOG = LoggerFactory.getLogger(AccountBook.class);
  private static final Pattern ID = Pattern.compile("[A-Za-z0-9][A-Za-z0-9._-]{0,63}");
  private static final int MAX_SITE_NAME = 128;
  private static final int MAX_LOGINS = 50;

  /** @param secret for the cookie */
  record Opened(Who who, String secret) {}

  private final Tables tables;
  private final Callers callers;
  private final Passwords passwords;
  private final Audit audit;
  private final Config config;
  private final Clock clock;

  public AccountBook(Tables tables, Callers callers, Passwords passwords, Audit audit, Config config, Clock clock) {
    this.tables = tables;
    this.callers = callers;
    this.passwords = passwords;
    this.audit = audit;
    this.config = config;
    this.clock = clock;
  }

  // ---- logins

  /** @return hash, and whether it is disabled; null: there is no such account */
  Map.Entry<String, Boolean> stored(String user) {
    return NAME.matcher(user).matches() ? tables.password(user) : null;
  }

  Opened login(String user, String address) {
    return open("account", user, null, tables.accountRoles(user), address);
  }

  Opened oidcLogin(Oidc.Verified verified, String address) {
    String kept = Callers.JSON.createObjectNode().put("issuer", config.get("api.oidc.issuer"))
        .set("claims", Callers.JSON.valueToTree(verified.claims())).toString();
    return open("oidc", verified.user(), kept, callers.oidcRoles(verified.claims()), address);
  }

  private Opened open(String kind, String user, String kept, Map<String, String> roles, String address) {
    long now = clock.millis();
    String secret = Secrets.random();
    long ends = now + config.getLong("api.session.max.ms");
    audit.recordAs(user, "account.login", user, "ok", Map.of("from", address, "how", kind));
    tables.addLogin(Secrets.hash(secret), kind, user, kept, now, ends, address, now - config.getLong("api.session.idle.ms"), MAX_LOGINS);
    return new Opened(new Who(user, "cookie", roles, ends, Secrets.hash(secret)), secret);
  }

  /** @param user null: not known */
  void end(String secret, String user, String address) {
    if (tables.endLogin(Secrets.hash(secret)) && user != null) {
      taken("account.logout", user, Map.of("from", address, "by", user));
    }
    callers.forget();
  }

  void forget(String secret) {
    tables.endLogin(Secrets.hash(secret));
    callers.forget();
  }

  void password(String name, char[] password, String by, String address) {
    String hash = passwords.hash(password);
    audit.recordAs(by, "account.passwd", name, "ok", Map.of("from", address));
    tables.password(name, hash);
    callers.forget();
  }

  // ---- accounts

  @Override
  public List<Account> accounts() {
    return tables.accounts();
  }

  @Override
  public Account addAccount(String name, char[] password, Map<String, String> roles, String by) {
    named("account", name);
    checked(roles, true);
    if (tables.password(name) != null) {
      throw new IllegalArgumentException("there is an account [" + name + "] already: account:passwd and account:role change it");
    }
    String hash = passwords.hash(password);
    audit.record("account.add", name, "ok", Map.of("roles", text(roles)));
    if (!tables.addAccount(name, hash, roles, clock.millis(), by)) {
      throw new IllegalArgumentException("there is an account [" + name + "] already: account:passwd and account:role change it");
    }
    callers.forget();
    return account(name);
  }

  @Override
  public void password(String name, char[] password) {
    account(name);
    String hash = passwords.hash(password);
    audit.record("account.passwd", name, "ok", Map.of());
    tables.password(name, hash);
    callers.forget();
  }

  @Override
  public Account roles(String name, Map<String, String> roles) {
    Account before = account(name);
    checked(roles, false);
    audit.record("account.role", name, "ok", Map.of("roles", text(roles), "before", text(before.roles())));
    tables.roles(name, roles);
    callers.forget();
    return account(name);
  }

  @Override
  public Account disable(String name, boolean disabled) {
    account(name);
    if (disabled) {
      taken("account.disable", name, Map.of());
    } else {
      audit.record("account.enable", name, "ok", Map.of());
    }
    tables.disable(name, disabled ? clock.millis() : null);
    callers.forget();
    return account(name);
  }

  @Override
  public void removeAccount(String name) {
    account(name);
    taken("account.remove", name, Map.of());
    tables.removeAccount(name);
    callers.forget();
  }

  @Override
  public int logout(String user) {
    taken("account.logout", user, Map.of());
    int ended = tables.logout(user.startsWith("oidc:") ? "oidc" : "account", user);
    callers.forget();
    return ended;
  }

  private Account account(String name) {
    return tables.accounts().stream().filter(a -> a.name().equals(name)).findFirst()
        .orElseThrow(() -> new IllegalArgumentException("there is no account [" + name + "]: account:list tells which there are, account:add makes one"));
  }

  // ---- tokens

  @Override
  public List<Token> tokens() {
    return tables.tokens();
  }

  @Override
  public NewToken addToken(String name, String account, Map<String, String> roles, Long expiresAtMs, String by) {
    named("token", name);
    checked(roles, true);
    if (account != null) {
      account(account);
    }
    if (expiresAtMs != null && expiresAtMs <= clock.millis()) {
      throw new IllegalArgumentException("the token's end [" + java.time.Instant.ofEpochMilli(expiresAtMs) + "] must be in the future");
    }
    if (tables.tokens().stream().anyMatch(t -> t.name().equals(name))) {
      throw new IllegalArgumentException("there is a token [" + name + "] already: token:revoke and token:remove take it away");
    }
    String secret = Secrets.TOKEN_PREFIX + Secrets.random();
    Map<String, Object> details = new LinkedHashMap<>(Map.of("roles", text(roles), "account", account == null ? "" : account));
    if (expiresAtMs != null) {
      details.put("expires", java.time.Instant.ofEpochMilli(expiresAtMs));
    }
    audit.record("token.add", name, "ok", details);
    if (!tables.addToken(name, Secrets.hash(secret), account, roles, expiresAtMs, clock.millis(), by)) {
      throw new IllegalArgumentException("there is a token [" + name + "] already: token:revoke and token:remove take it away");
    }
    callers.forget();
    return new NewToken(token(name), secret);
  }

  @Override
  public Token revokeToken(String name) {
    token(name);
    taken("token.revoke", name, Map.of());
    tables.revokeToken(name, clock.millis());
    callers.forget();
    return token(name);
  }

  @Override
  public void removeToken(String name) {
    Token token = token(name);
    if (token.revokedAtMs() == null && (token.expiresAtMs() == null || token.expiresAtMs() > clock.millis())) {
      throw new IllegalArgumentException("token [" + name + "] is in force: token:revoke it first");
    }
    taken("token.remove", name, Map.of());
    tables.removeToken(name);
    callers.forget();
  }

  private Token token(String name) {
    return tables.tokens().stream().filter(t -> t.name().equals(name)).findFirst()
        .orElseThrow(() -> new IllegalArgumentException("there is no token [" + name + "]: token:list tells which there are"));
  }

  // ---- sites

  @Override
  public List<Site> sites() {
    return tables.sites();
  }

  @Override
  public Site addSite(String id, String name) {
    if (!ID.matcher(id).matches() || id.equals("all")) {
      throw new IllegalArgumentException("site [" + id + "] must begin with a letter or digit and have at most 64 letters, digits, dots, - and _, and not be all");
    }
    titled(name);
    audit.record("site.add", id, "ok", Map.of("name", name));
    if (!tables.addSite(id, name, clock.millis())) {
      throw new IllegalArgumentException("there is a site [" + id + "] already: site:rename gives it another name");
    }
    return site(id);
  }

  @Override
  public Site renameSite(String id, String name) {
    site(id);
    titled(name);
    audit.record("site.rename", id, "ok", Map.of("name", name));
    tables.renameSite(id, name);
    return site(id);
  }

  @Override
  public void removeSite(String id) {
    site(id);
    if (id.equals(DEFAULT_SITE)) {
      throw new IllegalArgumentException("site [" + id + "] stays: gateways that were given none are of it");
    }
    taken("site.remove", id, Map.of());
    if (!tables.removeSite(id)) {
      throw new IllegalArgumentException("site [" + id + "] has gateways: site:assign them elsewhere first");
    }
    callers.forget();
  }

  @Override
  public String assign(String gatewayId, String siteId) {
    if (!ID.matcher(gatewayId).matches()) {
      throw new IllegalArgumentException("gateway [" + gatewayId + "] must begin with a letter or digit and have at most 64 letters, digits, dots, - and _");
    }
    site(siteId);
    String before = tables.place(gatewayId).site();
    audit.record("site.assign", gatewayId, "ok", Map.of("site", siteId, "before", before));
    if (!tables.assign(gatewayId, siteId)) {
      throw new IllegalArgumentException("there is no site [" + siteId + "]: site:list tells which there are");
    }
    callers.forget();
    return before;
  }

  @Override
  public Map<String, String> gateways() {
    return tables.gateways();
  }

  private Site site(String id) {
    return tables.sites().stream().filter(s -> s.id().equals(id)).findFirst()
        .orElseThrow(() -> new IllegalArgumentException("there is no site [" + id + "]: site:list tells which there are, site:add makes one"));
  }

  // ---- rules

  private static void named(String what, String name) {
    if (!NAME.matcher(name).matches()) {
      throw new IllegalArgumentException(what + " [" + name + "] must begin with a letter and have at most 64 letters, digits, dots, - and _");
    }
  }

  private static void titled(String name) {
    if (name.isBlank() || name.length() > MAX_SITE_NAME) {
      throw new IllegalArgumentException("a site's name must have 1 to " + MAX_SITE_NAME + " characters, not " + name.length());
    }
  }

  private void checked(Map<String, String> roles, boolean some) {
    if (some && roles.isEmpty()) {
      throw new IllegalArgumentException("it needs a role, for example all:viewer");
    }
    roles.forEach((site, role) -> {
      if (!ROLES.contains(role)) {
        throw new IllegalArgumentException("role [" + role + "] must be one of " + String.join(", ", ROLES));
      }
      if (!site.equals(ALL)) {
        site(site);
      }
    });
  }

  private static String text(Map<String, String> roles) {
    StringBuilder text = new StringBuilder();
    new TreeMap<>(roles).forEach((site, role) -> text.append(text.length() == 0 ? "" : " ").append(site).append(':').append(role));
    return text.toString();
  }

  /** What takes rights away is done also when it cannot be noted now; the log makes up for it. */
  private void taken(String action, String subject, Map<String, ?> details) {
    try {
      audit.record(action, subject, "ok", details);
    } catch (UncheckedIOException e) {
      LOG.debug("Noted later: {} {}", action, subject, e);
    }
  }
}
