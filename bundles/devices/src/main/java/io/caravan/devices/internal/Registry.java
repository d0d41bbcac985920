// SPDX-License-Identifier: Apache-2.0
package io.caravan.devices.internal;

import io.caravan.devices.Devices.Signing;
import io.caravan.devices.Devices.Status;
import io.caravan.devices.Gate.Transport;
import java.io.IOException;
import java.io.InputStream;
import java.nio.ByteBuffer;
import java.nio.channels.FileChannel;
import java.nio.charset.StandardCharsets;
import java.nio.file.FileAlreadyExistsException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.nio.file.StandardOpenOption;
import java.nio.file.attribute.PosixFilePermissions;
import java.sql.Connection;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.Statement;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collection;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.zip.CRC32C;
import org.sqlite.SQLiteConfig;
import org.sqlite.SQLiteConfig.LockingMode;

/**
 * The registry's file, {@code devices-1.sql} and what was added since: read once, written at each change (WAL, synchronous=FULL: on the disk when a
 * method returns), mode 0600, locked against other processes. After changes a verified copy is made beside it,
 * {@code <file>.bak}. What is damaged, of another program or newer is refused, never made anew. Thread-safe.
 */
final class Registry implements AutoCloseable {
  private static final int VERSION = 2;
  private static final int APPLICATION_ID = 0x43415244; // "CARD"
  private static final int BUSY_TIMEOUT_MS = 2_000;
  /** What the checksum of a device was made of in version 1. */
  private static final String COLUMNS_1 = "device_id, status, allow, capabilities, signing, messages_per_s, bytes_per_s, note, created_at_ms,"
      + " revoked_at_ms";
  private static final int COLUMN_COUNT_1 = 10;

  private final Path file;
  private final Connection connection;
  /** One copy at a time; changes go on meanwhile. */
  private final Object copying = new Object();

  /** One device as it is kept. @param seenMs 0: never */
  record Kept(Entry entry, Live.Seen seen, long seenMs) {}

  /** What goes with a change into the same transaction; throws, and the change is not made. */
  interface Before {
    void commit();
  }

  private Registry(Path file, Connection connection) {
    this.file = file;
    this.connection = connection;
  }

  /** @throws IOException with path, reason and what to do; nothing stays open, nothing was changed */
  static Registry open(Path file) throws IOException {
    Path absolute = file.toAbsolutePath().normalize();
    Connection connection = null;
    try {
      if (absolute.getParent() != null) {
        Files.createDirectories(absolute.getParent());
      }
      if ((!Files.exists(absolute) || Files.size(absolute) == 0) && Files.exists(copyOf(absolute))) {
        throw new IOException("registry of devices [" + absolute + "] is gone, but its copy is there: " + restore(absolute)
            + "; or delete the copy too, to begin without devices");
      }
      make(absolute);
      connection = connect(absolute, /* readOnly= */ false);
      Registry registry = new Registry(absolute, connection);
      registry.schema();
      connection = null;
      return registry;
    } catch (SQLException e) {
      throw refused(absolute, e);
    } finally {
      if (connection != null) {
        closeQuietly(connection);
      }
    }
  }

  static Path copyOf(Path file) {
    return file.resolveSibling(file.getFileName() + ".bak");
  }

  Path file() {
    return file;
  }

  /** Reads and checks everything. @throws IOException damaged: then nobody may connect */
  synchronized List<Kept> load() throws IOException {
    try {
      return load(connection);
    } catch (SQLException e) {
      throw refused(file, e);
    }
  }

  /**
   * Writes devices as they are now; all or none.
   *
   * @param before asked when everything is written but not committed
   */
  synchronized void save(Collection<Entry> entries, Before before) throws SQLException {
    transaction(() -> {
      try (PreparedStatement device = connection.prepareStatement("INSERT INTO device (device_id, status, allow, capabilities, signing,"
              + " messages_per_s, bytes_per_s, note, created_at_ms, revoked_at_ms, controller, crc) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
              + " ON CONFLICT (device_id) DO UPDATE SET status = excluded.status, allow = excluded.allow,"
              + " capabilities = excluded.capabilities, signing = excluded.signing, messages_per_s = excluded.messages_per_s,"
              + " bytes_per_s = excluded.bytes_per_s, note = excluded.note, created_at_ms = excluded.created_at_ms,"
              + " revoked_at_ms = excluded.revoked_at_ms, controller = excluded.controller, crc = excluded.crc");
          PreparedStatement clear = connection.prepareStatement("DELETE FROM token WHERE device_id = ?");
          PreparedStatement token = connection.prepareStatement("INSERT INTO token (device_id, number, token_id, hash, signing_key,"
              + " broker_hash, broker_salt, broker_iterations, created_at_ms, not_before_ms, not_after_ms, revoked_at_ms, crc)"
              + " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)")) {
        for (Entry e : entries) {
          execute(device, withCrc(columns(e)));
          execute(clear, e.id());
          for (Credential t : e.tokens()) {
            execute(token, withCrc(columns(e.id(), t)));
          }
        }
      }
      before.commit();
    });
  }

  synchronized void delete(String deviceId, Before before) throws SQLException {
    transaction(() -> {
      try (PreparedStatement delete = connection.prepareStatement("DELETE FROM device WHERE device_id = ?")) {
        execute(delete, deviceId);
      }
      before.commit();
    });
  }

  /** Of devices that are not there (any more) nothing is noted. */
  synchronized void seen(Map<String, Live> devices) throws SQLException {
    transaction(() -> {
      try (PreparedStatement seen = connection.prepareStatement("INSERT INTO seen (device_id, at_ms, address, transport)"
          + " SELECT device_id, ?, ?, ? FROM device WHERE device_id = ?"
          + " ON CONFLICT (device_id) DO UPDATE SET at_ms = excluded.at_ms, address = excluded.address, transport = excluded.transport")) {
        for (Map.Entry<String, Live> device : devices.entrySet()) {
          Live.Seen last = device.getValue().seen();
          long ms = device.getValue().seenMs();
          execute(seen, ms, last.address(), last.transport().toString(), device.getKey());
          device.getValue().flushed(ms);
        }
      }
    });
  }

  /**
   * Puts a copy of the file, read back and checked, in the place of the last one.
   *
   * @return devices in it
   */
  int copy() throws IOException, SQLException {
    synchronized (copying) {
      return copyNow();
    }
  }

  private int copyNow() throws IOException, SQLException {
    Path fresh = file.resolveSibling(file.getFileName() + ".bak.new");
    Files.deleteIfExists(fresh);
    make(fresh);
    synchronized (this) {
      try (PreparedStatement vacuum = connection.prepareStatement("VACUUM INTO ?")) {
        vacuum.setString(1, fresh.toString());
        vacuum.execute();
      }
    }
    int devices;
    Connection copy = connect(fresh, /* readOnly= */ true);
    try {
      devices = load(copy).size();
    } finally {
      copy.close();
    }
    try (FileChannel channel = FileChannel.open(fresh, StandardOpenOption.WRITE)) {
      channel.force(true);
    }
    Files.move(fresh, copyOf(file), StandardCopyOption.ATOMIC_MOVE, StandardCopyOption.REPLACE_EXISTING);
    try (FileChannel directory = FileChannel.open(file.getParent(), StandardOpenOption.READ)) {
      directory.force(true);
    }
    return devices;
  }

  /** For tests that break it. */
  Connection connection() {
    return connection;
  }

  @Override
  public synchronized void close() {
    closeQuietly(connection);
  }

  // ---------------------------------------------------------------------------------------------- reading

  private static List<Kept> load(Connection connection) throws SQLException {
    try (Statement statement = connection.createStatement()) {
      try (ResultSet check = statement.executeQuery("PRAGMA integrity_check(1)")) {
        if (!check.next() || !"ok".equals(check.getString(1))) {
          throw new SQLException("it is damaged: " + check.getString(1));
        }
      }
      Map<String, List<Credential>> tokens = new LinkedHashMap<>();
      try (ResultSet row = statement.executeQuery("SELECT device_id, number, token_id, hash, signing_key, broker_hash, broker_salt,"
          + " broker_iterations, created_at_ms, not_before_ms, not_after_ms, revoked_at_ms, crc FROM token ORDER BY device_id, number DESC")) {
        while (row.next()) {
          Credential token = new Credential(row.getString(3), row.getInt(2), row.getBytes(4), row.getBytes(5), row.getBytes(6), row.getBytes(7),
              row.getInt(8), row.getLong(9), row.getLong(10), number(row, 11), number(row, 12));
          verify(crc(columns(row.getString(1), token)), row.getLong(13), "a token of device [" + row.getString(1) + "]");
          tokens.computeIfAbsent(row.getString(1), id -> new ArrayList<>()).add(token);
        }
      }
      List<Kept> kept = new ArrayList<>();
      try (ResultSet row = statement.executeQuery("SELECT device_id, status, allow, capabilities, signing, messages_per_s, bytes_per_s,"
          + " note, created_at_ms, revoked_at_ms, crc, at_ms, address, transport, controller FROM device LEFT JOIN seen USING (device_id) ORDER BY device_id")) {
        while (row.next()) {
          kept.add(read(row, tokens));
        }
      }
      return kept;
    } catch (IllegalArgumentException e) {
      throw new SQLException("it is damaged: " + e.getMessage(), e);
    }
  }

  private static Kept read(ResultSet row, Map<String, List<Credential>> tokens) throws SQLException {
    String id = row.getString(1);
    Long messages = number(row, 6);
    String allow = row.getString(3);
    Entry entry = new Entry(id, Status.valueOf(row.getString(2).toUpperCase(Locale.ROOT)), tokens.getOrDefault(id, List.of()),
        allow.isEmpty() ? List.of() : Cidr.parse(List.of(allow.split(" "))), row.getString(4),
        Signing.valueOf(row.getString(5).toUpperCase(Locale.ROOT)), messages == null ? null : Math.toIntExact(messages), number(row, 7),
        row.getString(8), row.getLong(9), number(row, 10), row.getInt(15) == 1);
    verify(crc(columns(entry)), row.getLong(11), "device [" + id + "]");
    Live.Seen seen = null;
    try {
      seen = row.getString(14) == null ? null : new Live.Seen(row.getString(13), Transport.valueOf(row.getString(14).toUpperCase(Locale.ROOT)));
    } catch (IllegalArgumentException unknownTransport) {
      // Nothing depends on it.
    }
    return new Kept(entry, seen, seen == null ? 0 : row.getLong(12));
  }

  private static void verify(long computed, long stored, String what) throws SQLException {
    if (computed != stored) {
      throw new SQLException("it is damaged: the checksum of " + what + " does not hold");
    }
  }

  private static Long number(ResultSet row, int column) throws SQLException {
    long value = row.getLong(column);
    return row.wasNull() ? null : value;
  }

  // ---------------------------------------------------------------------------------------------- writing

  private static Object[] columns(Entry e) {
    return new Object[] {e.id(), e.status().name().toLowerCase(Locale.ROOT), String.join(" ", Cidr.texts(e.allow())), e.capabilities(),
      e.signing().name().toLowerCase(Locale.ROOT), e.messagesPerS(), e.bytesPerS(), e.note(), e.createdAtMs(), e.revokedAtMs(), e.controller() ? 1 : 0};
  }

  private static Object[] columns(String deviceId, Credential t) {
    return new Object[] {deviceId, t.number(), t.id(), t.hash(), t.signingKey(), t.brokerHash(), t.brokerSalt(), t.brokerIterations(),
      t.createdAtMs(), t.notBeforeMs(), t.notAfterMs(), t.revokedAtMs()};
  }

  private static Object[] withCrc(Object[] columns) {
    Object[] all = Arrays.copyOf(columns, columns.length + 1);
    all[columns.length] = crc(columns);
    return all;
  }

  /** Each value with its length, so that nothing can move from one column to the next. */
  private static long crc(Object[] columns) {
    CRC32C crc = new CRC32C();
    for (Object column : columns) {
      byte[] bytes = column == null ? null : column instanceof byte[] b ? b : column.toString().getBytes(StandardCharsets.UTF_8);
      crc.update(ByteBuffer.allocate(4).putInt(bytes == null ? -1 : bytes.length).flip());
      if (bytes != null) {
        crc.update(bytes);
      }
    }
    return crc.getValue();
  }

  private interface Work {
    void run() throws SQLException;
  }

  private void transaction(Work work) throws SQLException {
    try (Statement statement = connection.createStatement()) {
      statement.execute("BEGIN IMMEDIATE");
      boolean done = false;
      try {
        work.run();
        statement.execute("COMMIT");
        done = true;
      } finally {
        if (!done && !connection.isClosed()) {
          try {
            statement.execute("ROLLBACK");
          } catch (SQLException rolledBackAlready) {
            // SQLite does so by itself after some errors; what failed is on its way up.
          }
        }
      }
    }
  }

  private static void execute(PreparedStatement statement, Object... values) throws SQLException {
    for (int i = 0; i < values.length; i++) {
      statement.setObject(i + 1, values[i]);
    }
    statement.executeUpdate();
  }

  // ---------------------------------------------------------------------------------------------- the file

  private static Connection connect(Path file, boolean readOnly) throws SQLException {
    SQLiteConfig config = new SQLiteConfig();
    config.setBusyTimeout(BUSY_TIMEOUT_MS);
    config.enforceForeignKeys(true);
    config.setGetGeneratedKeys(false);
    config.setReadOnly(readOnly);
    if (!readOnly) {
      // A second gateway on this file, or somebody who edits it, would not be heard: what is in force is in memory.
      config.setLockingMode(LockingMode.EXCLUSIVE);
      config.setSynchronous(SQLiteConfig.SynchronousMode.FULL);
    }
    return config.createConnection("jdbc:sqlite:" + file);
  }

  private void schema() throws SQLException {
    try (Statement statement = connection.createStatement()) {
      int version = pragma(statement, "PRAGMA user_version");
      int application = pragma(statement, "PRAGMA application_id");
      boolean empty = pragma(statement, "SELECT count(*) FROM sqlite_master") == 0;
      if (!empty && application != APPLICATION_ID) {
        throw new SQLException("it is another program's file (application_id " + Integer.toHexString(application) + ", expected "
            + Integer.toHexString(APPLICATION_ID) + "): set device.registry.file to another file");
      }
      if (version > VERSION) {
        throw new SQLException("it has version " + version + ", this program reads up to " + VERSION + ": start the version that wrote it");
      }
      if (!empty && version < 1) {
        throw new SQLException("it is damaged: its version is " + version);
      }
      statement.execute("PRAGMA journal_mode = WAL");
      if (version < VERSION) {
        transaction(() -> {
          for (int next = empty ? 1 : version + 1; next <= VERSION; next++) {
            if (next == 2 && !empty) {
              // Nothing that is damaged may get a checksum that holds.
              verifyOne(statement);
            }
            statement.executeUpdate(script(next));
            if (next == 2 && !empty) {
              newChecksums();
            }
          }
          statement.execute("PRAGMA application_id = " + APPLICATION_ID);
          statement.execute("PRAGMA user_version = " + VERSION);
        });
      }
    }
  }

  private static void verifyOne(Statement statement) throws SQLException {
    try (ResultSet row = statement.executeQuery("SELECT " + COLUMNS_1 + ", crc FROM device")) {
      while (row.next()) {
        verify(crc(columnsOne(row)), row.getLong(COLUMN_COUNT_1 + 1), "device [" + row.getString(1) + "]");
      }
    }
  }

  /** With the columns of version 2. */
  private void newChecksums() throws SQLException {
    Map<String, Long> checksums = new LinkedHashMap<>();
    try (Statement all = connection.createStatement(); ResultSet row = all.executeQuery("SELECT " + COLUMNS_1 + " FROM device")) {
      while (row.next()) {
        Object[] columns = Arrays.copyOf(columnsOne(row), COLUMN_COUNT_1 + 1);
        columns[COLUMN_COUNT_1] = 0;
        checksums.put(row.getString(1), crc(columns));
      }
    }
    try (PreparedStatement update = connection.prepareStatement("UPDATE device SET crc = ? WHERE device_id = ?")) {
      for (Map.Entry<String, Long> each : checksums.entrySet()) {
        execute(update, each.getValue(), each.getKey());
      }
    }
  }

  private static Object[] columnsOne(ResultSet row) throws SQLException {
    Object[] columns = new Object[COLUMN_COUNT_1];
    for (int i = 0; i < COLUMN_COUNT_1; i++) {
      columns[i] = row.getObject(i + 1);
    }
    return columns;
  }

  private static int pragma(Statement statement, String sql) throws SQLException {
    try (ResultSet row = statement.executeQuery(sql)) {
      row.next();
      return row.getInt(1);
    }
  }

  private static String script(int version) throws SQLException {
    try (InputStream in = Registry.class.getResourceAsStream("/io/caravan/devices/devices-" + version + ".sql")) {
      return new String(in.readAllBytes(), StandardCharsets.UTF_8);
    } catch (IOException e) {
      throw new SQLException("the schema in this program cannot be read: " + e, e);
    }
  }

  /** Before SQLite does, which would let the group and others read it. */
  private static void make(Path file) throws IOException {
    try {
      Files.createFile(file, PosixFilePermissions.asFileAttribute(PosixFilePermissions.fromString("rw-------")));
    } catch (FileAlreadyExistsException e) {
      // As it should be, except at the first start.
    }
  }

  private static IOException refused(Path file, SQLException e) {
    String why = String.valueOf(e.getMessage());
    String what = why.contains("SQLITE_BUSY") || why.contains("locked") ? "another process has it open: end that one"
        : why.contains("another program") || why.contains("reads up to") || why.contains("SQLITE_CANTOPEN") ? "" : restore(file);
    return new IOException("registry of devices [" + file + "] cannot be used, so that no device may connect: " + why
        + (what.isEmpty() ? "" : "; " + what), e);
  }

  private static String restore(Path file) {
    Path copy = copyOf(file);
    return Files.exists(copy) ? "put the last good copy in its place: mkdir -p " + file + ".damaged && mv " + file + " " + file + "-wal "
            + file + ".damaged/ ; cp -p " + copy + " " + file + " (it is read again by itself; what was changed after the copy was made is missing)"
        : "there is no copy [" + copy + "]: restore a backup, or move the file away and enrol the devices again";
  }

  private static void closeQuietly(Connection connection) {
    try {
      connection.close();
    } catch (SQLException e) {
      // Everything that returned is on the disk; the next start reads the -wal file.
    }
  }
}
