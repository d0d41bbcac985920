// SPDX-License-Identifier: Apache-2.0
package io.caravan.torture;

import io.caravan.it.Distribution;
import io.caravan.runtime.Config;
import io.caravan.wal.Recovery;
import io.caravan.wal.WalModule;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.Statement;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Collection;
import java.util.HashMap;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.locks.LockSupport;
import java.util.function.Consumer;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import java.util.stream.Stream;
import javax.sql.DataSource;
import org.apache.camel.CamelContext;
import org.apache.camel.impl.DefaultCamelContext;
import org.snakeyaml.engine.v2.api.Load;
import org.snakeyaml.engine.v2.api.LoadSettings;

/** Opens a store the way a gateway does, and says what is wrong with it. Used by one thread. */
final class StoreJudge implements AutoCloseable {
  private static final Pattern GONE = Pattern.compile("transactions behind sequence (\\d+) are gone");
  private static final Duration REPAIR = Duration.ofSeconds(60);

  private final CamelContext context = new DefaultCamelContext();
  private final Map<String, String> defaults = new HashMap<>();

  /** @param lost promised, and not there; at most five are named in {@code wrong} */
  record Findings(int lost, int rows, List<String> wrong) {
    boolean ok() {
      return wrong.isEmpty();
    }
  }

  StoreJudge() throws IOException {
    context.start();
    try (Stream<Path> keys = Files.list(Distribution.REPO.resolve("config/gateway/keys"))) {
      for (Path file : keys.filter(f -> f.toString().endsWith(".yaml")).toList()) {
        Map<?, ?> declared = (Map<?, ?>) new Load(LoadSettings.builder().build()).loadFromString(Files.readString(file));
        declared.forEach((key, about) -> {
          Object value = ((Map<?, ?>) about).get("default");
          defaults.put(key.toString(), value == null ? "" : value.toString());
        });
      }
    }
    defaults.put("container.role", "gateway");
    defaults.put("store.type", "sqlite");
    // An open is not to make a reserve of a hundred megabytes, nor to mind what else is on this disk.
    defaults.put("wal.ballast.bytes", "0");
    defaults.put("wal.min.free.bytes", "0");
    defaults.put("wal.checkpoint.bytes", "1048576");
  }

  /** Opens a store and leaves it open. */
  AutoCloseable open(Path store) throws Exception {
    return new WalModule().start(context, new Defaults(store));
  }

  /** What the store that is open offers to routes. */
  <T> T bean(String name, Class<T> type) {
    return context.getRegistry().lookupByNameAndType(name, type);
  }

  /**
   * @param store    its file; it is opened, and closed again
   * @param promised keys that must be there once
   */
  Findings judge(Path store, Collection<String> promised) {
    List<String> wrong = new ArrayList<>();
    int lost = 0;
    int rows = 0;
    try (AutoCloseable module = open(store);
        Connection connection = bean("reader", DataSource.class).getConnection();
        Statement statement = connection.createStatement()) {
      rows(statement, "PRAGMA integrity_check", "ok", wrong);
      rows(statement, "PRAGMA foreign_key_check", null, wrong);
      rows(statement, "SELECT 'ledger of ' || sink || ': unaccounted ' || unaccounted || ', backlog ' || backlog FROM ledger WHERE unaccounted <> 0 OR backlog < 0",
          null, wrong);
      rows(statement, "SELECT 'sequence ' || seq || ' was given, ' || (SELECT max(seq) FROM wal) || ' is there' FROM sqlite_sequence WHERE name = 'wal' AND seq < (SELECT max(seq) FROM wal)",
          null, wrong);
      Set<String> there = new HashSet<>();
      try (ResultSet keys = statement.executeQuery("SELECT message_key FROM wal")) {
        while (keys.next()) {
          rows++;
          if (!there.add(keys.getString(1))) {
            wrong.add(keys.getString(1) + " is there twice");
          }
        }
      }
      for (String key : promised) {
        if (!there.contains(key) && ++lost <= 5) {
          wrong.add(key + " was promised and is lost");
        }
      }
      try (Stream<Path> beside = Files.list(store.getParent())) {
        beside.map(p -> p.getFileName().toString()).filter(n -> n.contains(".damaged-")).forEach(n -> wrong.add("taken for damaged: " + n));
      }
    } catch (Exception e) {
      wrong.add("cannot be opened or read: " + e);
      lost = promised.size();
    }
    return new Findings(lost, rows, wrong);
  }

  /** What became of a damaged store. {@code wrong} empty: the damage was found, or changed nothing; nothing went in silence. */
  record Mended(boolean found, boolean refused, int lost, String wrong) { }

  /** Every row of a store, by sequence. The store is opened by SQLite alone, and may be changed by it: give a copy. */
  static Map<Long, String> contents(Path store) throws SQLException {
    try (Connection connection = DriverManager.getConnection("jdbc:sqlite:" + store); Statement statement = connection.createStatement()) {
      return contents(statement);
    }
  }

  private static Map<Long, String> contents(Statement statement) throws SQLException {
    Map<Long, String> rows = new HashMap<>();
    try (ResultSet found = statement.executeQuery("SELECT seq, message_key || ' ' || hex(body) FROM wal")) {
      while (found.next()) {
        rows.put(found.getLong(1), found.getString(2));
      }
    }
    return rows;
  }

  /**
   * Opens a store that was damaged, has everything in it verified, and compares it with what was in it.
   *
   * @param store its file
   * @param sound its rows before it was damaged
   */
  Mended mended(Path store, Map<Long, String> sound) {
    AutoCloseable module;
    try {
      module = open(store);
    } catch (Exception refused) {
      String why = String.valueOf(refused.getMessage());
      return new Mended(true, true, 0, why.contains(store.toString()) ? "" : "refused without naming the store: " + refused);
    }
    try (module) {
      Recovery recovery = bean("recovery", Recovery.class);
      DataSource reader = bean("reader", DataSource.class);
      for (long end = System.nanoTime() + REPAIR.toNanos();;) {
        try (Connection connection = reader.getConnection(); Statement statement = connection.createStatement()) {
          Recovery.Verification verified = recovery.verify(true);
          Map<Long, String> now = contents(statement);
          Set<Long> said = new HashSet<>();
          try (ResultSet ranges = statement.executeQuery("SELECT first_seq, last_seq FROM lost_range")) {
            while (ranges.next()) {
              for (long seq = ranges.getLong(1); seq <= ranges.getLong(2); seq++) {
                said.add(seq);
              }
            }
          }
          List<String> incidents = new ArrayList<>();
          try (ResultSet details = statement.executeQuery("SELECT detail FROM incident")) {
            while (details.next()) {
              incidents.add(details.getString(1));
            }
          }
          boolean found = !recovery.incidents().isEmpty() || !verified.ok();
          return compared(sound, now, said, incidents, found, verified.ok());
        } catch (SQLException | RuntimeException e) {
          // Damage that shows in use: the store is being replaced meanwhile.
          if (System.nanoTime() > end) {
            return new Mended(true, false, 0, "not repaired within " + REPAIR.toSeconds() + " s: " + e);
          }
          LockSupport.parkNanos(20_000_000);
        }
      }
    } catch (Exception e) {
      return new Mended(true, false, 0, "closing: " + e);
    }
  }

  /**
   * @param said      sequences that are called lost
   * @param incidents what is said in words: of transactions that are gone from the end of a -wal file nobody can know how many rows they had,
   *                  only behind which sequence they were
   */
  static Mended compared(Map<Long, String> sound, Map<Long, String> now, Set<Long> said, List<String> incidents, boolean found, boolean verified) {
    long behind = incidents.stream().map(GONE::matcher).filter(Matcher::find).mapToLong(gone -> Long.parseLong(gone.group(1))).min().orElse(Long.MAX_VALUE);
    List<String> wrong = new ArrayList<>();
    long lost = 0;
    for (Map.Entry<Long, String> row : sound.entrySet()) {
      String there = now.get(row.getKey());
      if (there != null) {
        if (!there.equals(row.getValue()) && verified) {
          wrong.add("row " + row.getKey() + " is another one, and nothing says so");
        }
      } else if (said.contains(row.getKey()) || row.getKey() > behind) {
        lost++;
      } else {
        wrong.add("row " + row.getKey() + " is gone, and nothing says so");
      }
    }
    return new Mended(found, false, (int) lost, String.join("; ", wrong.subList(0, Math.min(5, wrong.size()))));
  }

  private static void rows(Statement statement, String sql, String good, List<String> wrong) throws SQLException {
    try (ResultSet rows = statement.executeQuery(sql)) {
      while (rows.next()) {
        if (!rows.getString(1).equals(good)) {
          wrong.add(sql.startsWith("PRAGMA") ? sql + ": " + rows.getString(1) : rows.getString(1));
        }
      }
    }
  }

  @Override
  public void close() {
    context.stop();
  }

  /** What a gateway has that was told nothing but where its store is. */
  private final class Defaults implements Config {
    private final Path store;

    Defaults(Path store) {
      this.store = store;
    }

    @Override
    public String get(String key) {
      String value = key.equals("wal.path") ? store.toString() : defaults.get(key);
      if (value == null) {
        throw new IllegalArgumentException("key [" + key + "] is not declared");
      }
      return value;
    }

    @Override
    public long getLong(String key) {
      return Long.parseLong(get(key));
    }

    @Override
    public boolean getBoolean(String key) {
      return Boolean.parseBoolean(get(key));
    }

    @Override
    public Path getPath(String key) {
      return Path.of(get(key));
    }

    @Override
    public List<String> getList(String key) {
      return List.of(get(key).split(","));
    }

    @Override
    public AutoCloseable onChange(Consumer<Set<String>> listener) {
      return () -> { };
    }
  }
}
