// SPDX-License-Identifier: Apache-2.0
package io.caravan.accounts;

import io.caravan.accounts.internal.Access;
import io.caravan.accounts.internal.AccountBook;
import io.caravan.accounts.internal.Callers;
import io.caravan.accounts.internal.Front;
import io.caravan.accounts.internal.LoginApi;
import io.caravan.accounts.internal.Oidc;
import io.caravan.accounts.internal.Rates;
import io.caravan.accounts.internal.Tables;
import io.caravan.runtime.Audit;
import io.caravan.runtime.Config;
import io.caravan.runtime.Logins;
import io.caravan.runtime.Module;
import io.caravan.runtime.Passwords;
import java.time.Clock;
import java.util.ArrayDeque;
import java.util.Deque;
import javax.sql.DataSource;
import org.apache.camel.CamelContext;
import org.apache.camel.spi.Registry;

/**
 * Cloud: beans {@code apiAccess} (what a route asks), {@code apiSession} (logins over HTTP), {@code accounts} ({@link Accounts}, what the
 * shell asks) and {@code httpAccess} (CORS and security headers of {@code /api/}), over the beans {@code writer} and {@code reader}. A
 * {@link Clock} in the registry takes the place of the system's.
 */
public final class AccountsModule implements Module {
  @Override
  public AutoCloseable start(CamelContext context, Config config) {
    Registry registry = context.getRegistry();
    DataSource writer = registry.lookupByNameAndType("writer", DataSource.class);
    DataSource reader = registry.lookupByNameAndType("reader", DataSource.class);
    if (writer == null || reader == null) {
      throw new IllegalStateException("beans writer and reader are not there yet: the store's module makes them");
    }
    Logins logins = need(registry, "adminAccess", Logins.class);
    Passwords passwords = need(registry, "passwords", Passwords.class);
    Audit audit = need(registry, "audit", Audit.class);
    Clock found = registry.findSingleByType(Clock.class);
    Clock clock = found == null ? Clock.systemUTC() : found;

    Tables tables = new Tables(writer, reader);
    Oidc oidc = new Oidc(config, clock);
    Callers callers = new Callers(tables, logins, oidc, config, clock, registry);
    AccountBook book = new AccountBook(tables, callers, passwords, audit, config, clock);
    Rates rates = new Rates(config);
    Deque<String> bound = new ArrayDeque<>();
    bind(registry, bound, "apiAccess", new Access(callers, rates, audit, config));
    bind(registry, bound, "apiSession", new LoginApi(book, callers, rates, logins, passwords, oidc, audit, config, clock));
    bind(registry, bound, "accounts", book);
    bind(registry, bound, "httpAccess", new Front(config));
    return () -> {
      bound.forEach(registry::unbind);
      oidc.close();
    };
  }

  private static void bind(Registry registry, Deque<String> bound, String name, Object bean) {
    registry.bind(name, bean);
    bound.push(name);
  }

  private static <T> T need(Registry registry, String name, Class<T> type) {
    T bean = registry.lookupByNameAndType(name, type);
    if (bean == null) {
      throw new IllegalStateException("bean " + name + " is not there: the container makes it");
    }
    return bean;
  }
}
