// SPDX-License-Identifier: Apache-2.0
package io.caravan.accounts;

import java.util.List;
import java.util.Map;

/**
 * Bean {@code accounts} of the cloud: who may log in over HTTP, with what, and which gateways belong to which site. All replicas of a
 * store share it: a change is in force here when a method returns, elsewhere within {@code api.access.cache.ms}.
 *
 * <p>Roles are a map of site id to {@code viewer}, {@code operator} or {@code admin}, each with all rights of those before it; site
 * {@link #ALL} stands for all. Times in milliseconds since 1970. Each change is in the audit log before it is done; one that takes
 * rights away is done also when the log cannot be written. Thread-safe.
 *
 * <p>All methods throw {@link IllegalArgumentException} for what breaks a rule, {@link IllegalStateException} when the store cannot be
 * used now, and {@link java.io.UncheckedIOException} when the audit log cannot be written; then nothing was changed.
 */
public interface Accounts {
  /** The site id that stands for all sites. */
  String ALL = "*";

  /** The site of gateways that were given none. */
  String DEFAULT_SITE = "default";

  /** The roles there are, each with all rights of those before it. */
  List<String> ROLES = List.of("viewer", "operator", "admin");

  /** @param disabledAtMs null: it can be used; @param logins that are in force */
  record Account(String name, Map<String, String> roles, Long disabledAtMs, long createdAtMs, String createdBy, long logins) {}

  /**
   * @param account   null: it stands by itself; else it is in force only as long as that account, and never has more than its roles
   * @param expiresAtMs null: never
   * @param usedAtMs  null: not yet; to the minute
   * @param revokedAtMs null: in force
   */
  record Token(String name, String account, Map<String, String> roles, long createdAtMs, String createdBy, Long expiresAtMs, Long usedAtMs,
      Long revokedAtMs) {}

  /** @param secret {@code cvt_} and 43 characters of base64url, kept nowhere */
  record NewToken(Token token, String secret) {}

  /** @param gateways how many there are */
  record Site(String id, String name, long createdAtMs, long gateways) {}

  /** @return sorted by name */
  List<Account> accounts();

  /**
   * @param name     as a user's: a letter, then letters, digits, dots, - and _, at most 64
   * @param password at least 12 characters, cleared by the caller
   * @param by       who asks, for the list
   */
  Account addAccount(String name, char[] password, Map<String, String> roles, String by);

  /** Ends all its logins. */
  void password(String name, char[] password);

  /** @param roles take the place of those it has */
  Account roles(String name, Map<String, String> roles);

  /** Refuses it from now on, with its logins and tokens, or lets it in again (its logins have ended). */
  Account disable(String name, boolean disabled);

  /** Forgets it, its logins and tokens. */
  void removeAccount(String name);

  /** Ends the logins of an account, or of {@code oidc:<name>}. @return how many */
  int logout(String user);

  /** @return sorted by name, those that are revoked too */
  List<Token> tokens();

  /** @param account null: none; @param expiresAtMs null: never */
  NewToken addToken(String name, String account, Map<String, String> roles, Long expiresAtMs, String by);

  /** Refuses it from now on. */
  Token revokeToken(String name);

  /** Forgets one that is revoked or expired. */
  void removeToken(String name);

  /** @return sorted by id, {@link #DEFAULT_SITE} among them */
  List<Site> sites();

  /** @param id as a device id, docs/contract.md section 1; not {@code all}; @param name for people, 1 to 128 characters */
  Site addSite(String id, String name);

  Site renameSite(String id, String name);

  /** Only one without gateways, and not {@link #DEFAULT_SITE}; roles there are taken away. */
  void removeSite(String id);

  /** @return the site it was of */
  String assign(String gatewayId, String siteId);

  /** @return ids of the gateways that were seen or assigned, with their sites, sorted */
  Map<String, String> gateways();
}
