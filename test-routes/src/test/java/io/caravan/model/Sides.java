// SPDX-License-Identifier: Apache-2.0
package io.caravan.model;

import io.caravan.runtime.Caravan;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.sql.Connection;
import java.sql.SQLException;
import java.time.Duration;
import java.util.HashMap;
import java.util.Map;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CompletionStage;
import java.util.stream.Stream;
import javax.sql.DataSource;
import org.apache.camel.CamelContext;
import org.apache.camel.Exchange;
import org.apache.camel.NamedNode;
import org.apache.camel.Processor;
import org.apache.camel.Route;
import org.apache.camel.impl.DefaultCamelContext;
import org.apache.camel.spi.TransactedPolicy;
import org.apache.camel.spi.UnitOfWork;
import org.apache.camel.support.DefaultExchange;
import org.springframework.jdbc.datasource.DataSourceTransactionManager;
import org.springframework.transaction.support.TransactionTemplate;
import org.sqlite.SQLiteConfig;

/** What both sides of the model are made with. */
final class Sides {
  private static final Path REPO = Path.of(System.getProperty("repo.dir", "..")).toAbsolutePath().normalize();
  private static final Duration LIMIT = Duration.ofSeconds(30);

  private Sides() { }

  static void configuration(String side, Path home) throws IOException {
    Path etc = Files.createDirectories(home.resolve("etc"));
    for (String from : new String[] {"common", side}) {
      Path folder = REPO.resolve("config").resolve(from);
      try (Stream<Path> files = Files.walk(folder)) {
        for (Path file : files.filter(Files::isRegularFile).toList()) {
          Path to = etc.resolve(folder.relativize(file).toString());
          Files.createDirectories(to.getParent());
          Files.copy(file, to);
        }
      }
    }
  }

  static Caravan.Builder builder(String side, Path home) {
    DefaultCamelContext context = new DefaultCamelContext();
    context.disableJMX(); // its names are those of one container per JVM
    return Caravan.builder().context(context).home(home).keys(home.resolve("etc/keys")).environment(java.util.Map.of()).set("container.role", side)
        .set("http.port", "0").withoutDiscovery();
  }

  static Path route(String side, String stem) {
    return REPO.resolve("routes/" + side + "/" + stem + ".camel.yaml");
  }

  /** Puts a writer in the place of the store's that can die at any statement, and what makes transactions on it. */
  static Crash wrap(CamelContext context) {
    Crash crash = new Crash(context.getRegistry().lookupByNameAndType("writer", DataSource.class));
    context.getRegistry().bind("writer", crash);
    context.getRegistry().bind("transaction", new Transactions(crash));
    return crash;
  }

  static Connection read(Path file) throws SQLException {
    SQLiteConfig config = new SQLiteConfig();
    config.setReadOnly(true);
    config.setBusyTimeout(10_000);
    return config.createConnection("jdbc:sqlite:" + file);
  }

  /** Beside the process: its crashes are no business of this one. */
  static Connection write(Path file) throws SQLException {
    SQLiteConfig config = new SQLiteConfig();
    config.setBusyTimeout(10_000);
    return config.createConnection("jdbc:sqlite:" + file);
  }

  /** Waits until the stage is done, or the process that would have to do it is dead: then nobody is ever told. */
  static <T> CompletionStage<T> settled(CompletionStage<T> stage, Crash process) {
    CompletableFuture<T> future = stage.toCompletableFuture();
    long deadline = System.nanoTime() + LIMIT.toNanos();
    while (!future.isDone() && !process.dead()) {
      if (System.nanoTime() > deadline) {
        throw new AssertionError("no answer within " + LIMIT);
      }
      Thread.onSpinWait();
    }
    return future;
  }

  static Exchange exchange(CamelContext context, Object body, Map<String, Object> headers) {
    Exchange exchange = new DefaultExchange(context);
    exchange.getMessage().setBody(body);
    exchange.getMessage().setHeaders(new HashMap<>(headers));
    return exchange;
  }

  /** As the store's own, on another writer. */
  private static final class Transactions implements TransactedPolicy {
    private final TransactionTemplate template;

    Transactions(DataSource writer) {
      DataSourceTransactionManager manager = new DataSourceTransactionManager(writer);
      manager.setRollbackOnCommitFailure(true);
      template = new TransactionTemplate(manager);
    }

    @Override
    public void beforeWrap(Route route, NamedNode definition) {
      // nothing to prepare
    }

    @Override
    public Processor wrap(Route route, Processor steps) {
      return exchange -> {
        UnitOfWork unit = exchange.getUnitOfWork();
        if (unit.isTransactedBy(this)) {
          steps.process(exchange);
          return;
        }
        unit.beginTransactedBy(this);
        try {
          template.executeWithoutResult(status -> {
            try {
              steps.process(exchange);
            } catch (Exception e) {
              exchange.setException(e);
            }
            if (exchange.getException() != null || exchange.isRollbackOnly() || exchange.isRollbackOnlyLast()) {
              exchange.setRollbackOnlyLast(false);
              status.setRollbackOnly();
            }
          });
        } catch (RuntimeException e) {
          exchange.setException(e);
        } finally {
          unit.endTransactedBy(this);
        }
      };
    }
  }
}
