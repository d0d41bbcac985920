// SPDX-License-Identifier: Apache-2.0
package io.caravan.accounts.internal;

import io.caravan.accounts.Accounts;
import io.caravan.accounts.Accounts.Account;
import io.caravan.accounts.Accounts.Site;
import io.caravan.accounts.Accounts.Token;
import java.sql.Connection;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.Types;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.TreeMap;
import javax.sql.DataSource;

/**
 * The tables of who may do what, in SQL that SQLite and PostgreSQL take alike. Everything here throws {@link StoreAway} when the store
 * cannot be asked. Thread-safe.
 */
public final class Tables {

  /** A login by cookie. @param roles JSON; null: those of the account */
  record Login(String kind, String user, String roles, long createdAtMs, long usedAtMs, long expiresAtMs, boolean disabled) {}

  /** @param ownerDisabled of its account; false without one */
  record Held(Token token, boolean ownerDisabled, boolean ownerMissing) {}

  /** @param known it was seen here, or given a site */
  record Place(String site, boolean known) {}

  /** Work in one transaction. */
  interface Work<T> {
    T in(Connection connection) throws SQLException;
  }

  private interface Row<T> {
    T of(ResultSet row) throws SQLException;
  }

  private static final String TOKEN = "SELECT t.name, t.account, t.created_at_ms, t.created_by, t.expires_at_ms, t.used_at_ms, t.revoked_at_ms FROM api_token t";

  private final DataSource writer;
  private final DataSource reader;

  public Tables(DataSource writer, DataSource reader) {
    this.writer = writer;
    this.reader = reader;
  }

  // ---- who asks

  Optional<Login> login(String hash) {
    return first(list(reader, "SELECT l.kind, l.user_name, l.roles, l.created_at_ms, l.used_at_ms, l.expires_at_ms, a.disabled_at_ms, a.name"
        + " FROM login_session l LEFT JOIN account a ON a.name = l.user_name AND l.kind = 'account' WHERE l.hash = ?", row -> {
          row.getLong(7);
          boolean disabled = !row.wasNull();
          return new Login(row.getString(1), row.getString(2), row.getString(3), row.getLong(4), row.getLong(5), row.getLong(6),
              disabled || row.getString(1).equals("account") && row.getString(8) == null);
        }, hash));
  }

  void touchLogin(String hash, long now) {
    change("UPDATE login_session SET used_at_ms = ? WHERE hash = ?", now, hash);
  }

  /** @return how many had to go for it */
  void addLogin(String hash, String kind, String user, String roles, long now, long expiresAtMs, String address, long idleSince, int most) {
    transaction(c -> {
      run(c, "DELETE FROM login_session WHERE expires_at_ms <= ? OR used_at_ms <= ?", now, idleSince);
      run(c, "DELETE FROM login_session WHERE kind = ? AND user_name = ? AND hash NOT IN (SELECT k.hash FROM login_session k"
          + " WHERE k.kind = ? AND k.user_name = ? ORDER BY k.used_at_ms DESC, k.hash LIMIT ?)", kind, user, kind, user, (long) most - 1);
      return run(c, "INSERT INTO login_session (hash, kind, user_name, roles, created_at_ms, used_at_ms, expires_at_ms, address)"
          + " VALUES (?, ?, ?, ?, ?, ?, ?, ?)", hash, kind, user, roles, now, now, expiresAtMs, address);
    });
  }

  boolean endLogin(String hash) {
    return change("DELETE FROM login_session WHERE hash = ?", hash) > 0;
  }

  Optional<Held> token(String hash) {
    Optional<Held> found = first(list(reader, TOKEN.replace(" FROM", ", a.name, a.disabled_at_ms FROM")
        + " LEFT JOIN account a ON a.name = t.account WHERE t.hash = ?", row -> {
          Token token = token(row, Map.of());
          boolean missing = token.account() != null && row.getString(8) == null;
          row.getLong(9);
          return new Held(token, !row.wasNull(), missing);
        }, hash));
    return found.map(h -> new Held(with(h.token(), tokenRoles(h.token().name())), h.ownerDisabled(), h.ownerMissing()));
  }

  void touchToken(String name, long now) {
    change("UPDATE api_token SET used_at_ms = ? WHERE name = ?", now, name);
  }

  /** @return null: there is no such account; the hash, and whether it is disabled */
  Map.Entry<String, Boolean> password(String account) {
    return first(list(reader, "SELECT password_hash, disabled_at_ms FROM account WHERE name = ?", row -> {
      String hash = row.getString(1);
      row.getLong(2);
      return Map.entry(hash, !row.wasNull());
    }, account)).orElse(null);
  }

  Map<String, String> accountRoles(String account) {
    return roles("SELECT site_id, role FROM account_role WHERE name = ?", account);
  }

  private Map<String, String> tokenRoles(String token) {
    return roles("SELECT site_id, role FROM api_token_role WHERE name = ?", token);
  }

  private Map<String, String> roles(String sql, String name) {
    Map<String, String> roles = new TreeMap<>();
    list(reader, sql, row -> roles.put(row.getString(1), row.getString(2)), name);
    return roles;
  }

  Place place(String gatewayId) {
    return first(list(reader, "SELECT (SELECT s.site_id FROM gateway_site s WHERE s.gateway_id = ?), "
        + "(SELECT count(*) FROM gateway g WHERE g.gateway_id = ?) + (SELECT count(*) FROM gateway_registration r WHERE r.gateway_id = ?)",
        row -> new Place(row.getString(1) == null ? Accounts.DEFAULT_SITE : row.getString(1), row.getString(1) != null || row.getLong(2) > 0),
        gatewayId, gatewayId, gatewayId)).orElseThrow();
  }

  // ---- accounts

  List<Account> accounts() {
    Map<String, Map<String, String>> roles = new TreeMap<>();
    list(reader, "SELECT name, site_id, role FROM account_role",
        row -> roles.computeIfAbsent(row.getString(1), n -> new TreeMap<>()).put(row.getString(2), row.getString(3)));
    return list(reader, "SELECT a.name, a.disabled_at_ms, a.created_at_ms, a.created_by, (SELECT count(*) FROM login_session l"
        + " WHERE l.kind = 'account' AND l.user_name = a.name) FROM account a ORDER BY a.name",
        row -> new Account(row.getString(1), roles.getOrDefault(row.getString(1), Map.of()), number(row, 2), row.getLong(3), row.getString(4), row.getLong(5)));
  }

  /** @return false: there is one of that name */
  boolean addAccount(String name, String hash, Map<String, String> roles, long now, String by) {
    return transaction(c -> {
      if (run(c, "INSERT INTO account (name, password_hash, created_at_ms, created_by) VALUES (?, ?, ?, ?) ON CONFLICT (name) DO NOTHING", name, hash,
          now, by) == 0) {
        return false;
      }
      setRoles(c, "account_role", name, roles);
      return true;
    });
  }

  void password(String name, String hash) {
    transaction(c -> {
      run(c, "UPDATE account SET password_hash = ? WHERE name = ?", hash, name);
      return run(c, "DELETE FROM login_session WHERE kind = 'account' AND user_name = ?", name);
    });
  }

  void roles(String name, Map<String, String> roles) {
    transaction(c -> {
      setRoles(c, "account_role", name, roles);
      return null;
    });
  }

  void disable(String name, Long at) {
    transaction(c -> {
      run(c, "UPDATE account SET disabled_at_ms = ? WHERE name = ?", at, name);
      return run(c, "DELETE FROM login_session WHERE kind = 'account' AND user_name = ?", name);
    });
  }

  void removeAccount(String name) {
    transaction(c -> {
      run(c, "DELETE FROM login_session WHERE kind = 'account' AND user_name = ?", name);
      run(c, "DELETE FROM api_token_role WHERE name IN (SELECT t.name FROM api_token t WHERE t.account = ?)", name);
      run(c, "DELETE FROM api_token WHERE account = ?", name);
      run(c, "DELETE FROM account_role WHERE name = ?", name);
      return run(c, "DELETE FROM account WHERE name = ?", name);
    });
  }

  int logout(String kind, String user) {
    return change("DELETE FROM login_session WHERE kind = ? AND user_name = ?", kind, user);
  }

  // ---- tokens

  List<Token> tokens() {
    Map<String, Map<String, String>> roles = new TreeMap<>();
    list(reader, "SELECT name, site_id, role FROM api_token_role",
        row -> roles.computeIfAbsent(row.getString(1), n -> new TreeMap<>()).put(row.getString(2), row.getString(3)));
    return list(reader, TOKEN + " ORDER BY t.name", row -> token(row, roles.getOrDefault(row.getString(1), Map.of())));
  }

  /** @return false: there is one of that name */
  boolean addToken(String name, String hash, String account, Map<String, String> roles, Long expiresAtMs, long now, String by) {
    return transaction(c -> {
      if (run(c, "INSERT INTO api_token (name, hash, account, created_at_ms, created_by, expires_at_ms) VALUES (?, ?, ?, ?, ?, ?)"
          + " ON CONFLICT (name) DO NOTHING", name, hash, account, now, by, expiresAtMs) == 0) {
        return false;
      }
      setRoles(c, "api_token_role", name, roles);
      return true;
    });
  }

  void revokeToken(String name, long now) {
    change("UPDATE api_token SET revoked_at_ms = ? WHERE name = ? AND revoked_at_ms IS NULL", now, name);
  }

  void removeToken(String name) {
    transaction(c -> {
      run(c, "DELETE FROM api_token_role WHERE name = ?", name);
      return run(c, "DELETE FROM api_token WHERE name = ?", name);
    });
  }

  // ---- sites

  List<Site> sites() {
    // A gateway that was given no site is of the first one.
    return list(reader, "SELECT s.site_id, s.name, s.created_at_ms, (SELECT count(*) FROM gateway_site x WHERE x.site_id = s.site_id)"
        + " + CASE WHEN s.site_id = 'default' THEN (SELECT count(*) FROM gateway g WHERE NOT EXISTS (SELECT 1 FROM gateway_site y WHERE y.gateway_id = g.gateway_id)) ELSE 0 END"
        + " FROM site s ORDER BY s.site_id", row -> new Site(row.getString(1), row.getString(2), row.getLong(3), row.getLong(4)));
  }

  boolean addSite(String id, String name, long now) {
    return change("INSERT INTO site (site_id, name, created_at_ms) VALUES (?, ?, ?) ON CONFLICT (site_id) DO NOTHING", id, name, now) > 0;
  }

  void renameSite(String id, String name) {
    change("UPDATE site SET name = ? WHERE site_id = ?", name, id);
  }

  /** @return false: it has gateways */
  boolean removeSite(String id) {
    return transaction(c -> {
      if (run(c, "DELETE FROM site WHERE site_id = ? AND NOT EXISTS (SELECT 1 FROM gateway_site x WHERE x.site_id = site.site_id)", id) == 0) {
        return false;
      }
      run(c, "DELETE FROM account_role WHERE site_id = ?", id);
      run(c, "DELETE FROM api_token_role WHERE site_id = ?", id);
      return true;
    });
  }

  /** @return false: there is no such site */
  boolean assign(String gatewayId, String siteId) {
    return change("INSERT INTO gateway_site (gateway_id, site_id) SELECT ?, s.site_id FROM site s WHERE s.site_id = ?"
        + " ON CONFLICT (gateway_id) DO UPDATE SET site_id = excluded.site_id", gatewayId, siteId) > 0;
  }

  Map<String, String> gateways() {
    Map<String, String> all = new TreeMap<>();
    list(reader, "SELECT g.gateway_id, 'default' FROM gateway g UNION SELECT r.gateway_id, 'default' FROM gateway_registration r", row -> all.put(row.getString(1), row.getString(2)));
    list(reader, "SELECT gateway_id, site_id FROM gateway_site", row -> all.put(row.getString(1), row.getString(2)));
    return all;
  }

  // ---- how

  private static void setRoles(Connection c, String table, String name, Map<String, String> roles) throws SQLException {
    run(c, "DELETE FROM " + table + " WHERE name = ?", name);
    for (Map.Entry<String, String> role : roles.entrySet()) {
      run(c, "INSERT INTO " + table + " (name, site_id, role) VALUES (?, ?, ?)", name, role.getKey(), role.getValue());
    }
  }

  private static Token token(ResultSet row, Map<String, String> roles) throws SQLException {
    return new Token(row.getString(1), row.getString(2), roles, row.getLong(3), row.getString(4), number(row, 5), number(row, 6), number(row, 7));
  }

  private static Token with(Token t, Map<String, String> roles) {
    return new Token(t.name(), t.account(), roles, t.createdAtMs(), t.createdBy(), t.expiresAtMs(), t.usedAtMs(), t.revokedAtMs());
  }

  private static Long number(ResultSet row, int column) throws SQLException {
    long value = row.getLong(column);
    return row.wasNull() ? null : value;
  }

  private static <T> Optional<T> first(List<T> rows) {
    return rows.isEmpty() ? Optional.empty() : Optional.of(rows.get(0));
  }

  private static <T> List<T> list(DataSource source, String sql, Row<T> each, Object... values) {
    try (Connection c = source.getConnection(); PreparedStatement s = c.prepareStatement(sql)) {
      fill(s, values);
      List<T> all = new ArrayList<>();
      try (ResultSet row = s.executeQuery()) {
        while (row.next()) {
          all.add(each.of(row));
        }
      }
      return all;
    } catch (SQLException e) {
      throw new StoreAway(e);
    }
  }

  private int change(String sql, Object... values) {
    return transaction(c -> run(c, sql, values));
  }

  private <T> T transaction(Work<T> work) {
    try (Connection c = writer.getConnection()) {
      c.setAutoCommit(false);
      try {
        T result = work.in(c);
        c.commit();
        return result;
      } catch (SQLException | RuntimeException e) {
        c.rollback();
        throw e;
      } finally {
        c.setAutoCommit(true);
      }
    } catch (SQLException e) {
      throw new StoreAway(e);
    }
  }

  private static int run(Connection c, String sql, Object... values) throws SQLException {
    try (PreparedStatement s = c.prepareStatement(sql)) {
      fill(s, values);
      return s.executeUpdate();
    }
  }

  private static void fill(PreparedStatement s, Object... values) throws SQLException {
    for (int i = 0; i < values.length; i++) {
      if (values[i] instanceof Long number) {
        s.setLong(i + 1, number);
      } else if (values[i] == null) {
        s.setNull(i + 1, Types.NULL);
      } else {
        s.setString(i + 1, (String) values[i]);
      }
    }
  }
}
