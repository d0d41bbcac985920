// SPDX-License-Identifier: Apache-2.0
package io.caravan.postgres.test;

import java.io.IOException;
import java.io.UncheckedIOException;
import java.net.InetAddress;
import java.net.ServerSocket;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.attribute.PosixFilePermissions;
import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.SQLException;
import java.sql.Statement;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.List;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.concurrent.atomic.AtomicReference;
import java.util.stream.Stream;

/**
 * A real PostgreSQL in a directory of its own, on a free port of 127.0.0.1. PostgreSQL does not run as root: for root it runs as
 * user {@code postgres}, or {@code nobody} where there is none. The server ends with this process, also when that is killed.
 *
 * <p>By default it does not fsync: it is for what a server does, not for what a power cut leaves. This class is thread-safe.
 */
public final class PostgresServer implements AutoCloseable {
  private static final String USER = "caravan";
  private static final long START_S = 60;
  private static final AtomicInteger DATABASES = new AtomicInteger();

  /** A database that was empty when it was given out. */
  public record Database(PostgresServer server, String name) {
    /** @return for {@code store.url} */
    public String url() {
      return "jdbc:postgresql://127.0.0.1:" + server.port + "/" + name;
    }

    public String user() {
      return USER;
    }

    /** The server trusts its clients; any password is right. */
    public String password() {
      return "caravan";
    }

    /** @return a connection in autocommit mode, the caller's to close */
    public Connection connect() throws SQLException {
      return DriverManager.getConnection(url() + "?stringtype=unspecified", USER, password());
    }
  }

  private final Path folder;
  private final Path bin;
  private final List<String> settings;
  private volatile int port;
  private volatile Process process;

  private PostgresServer(List<String> settings) throws IOException, InterruptedException {
    this.settings = settings;
    bin = binaries();
    folder = Files.createTempDirectory("caravan-postgres");
    Runtime.getRuntime().addShutdownHook(new Thread(this::close));
    Files.setPosixFilePermissions(folder, PosixFilePermissions.fromString("rwxr-xr-x"));
    Path data = Files.createDirectory(folder.resolve("data"));
    if (isRoot()) {
      Files.setOwner(data, folder.getFileSystem().getUserPrincipalLookupService().lookupPrincipalByName(unprivileged()));
    }
    Files.setPosixFilePermissions(data, PosixFilePermissions.fromString("rwx------"));
    run("initdb", "-D", data.toString(), "-U", USER, "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync");
    launch();
  }

  private static final class Shared {
    static final PostgresServer SERVER = open();

    private static PostgresServer open() {
      try {
        return PostgresServer.start(new String[0]);
      } catch (IOException e) {
        throw new UncheckedIOException(e);
      } catch (InterruptedException e) {
        throw new IllegalStateException(e);
      }
    }
  }

  /** @return the one server of this process, for tests that do not stop it; started by the first call, in about two seconds */
  public static PostgresServer shared() {
    return Shared.SERVER;
  }

  /**
   * @param settings {@code name=value} of postgresql.conf, over {@code fsync=off} and the like
   * @return a server of the caller's own
   * @throws IOException no PostgreSQL on this machine, or it does not start: its log is in the message
   */
  public static PostgresServer start(String... settings) throws IOException, InterruptedException {
    return new PostgresServer(List.of(settings));
  }

  /** @return a new, empty database, encoding UTF8, collation C */
  public Database database() throws SQLException {
    Database made = new Database(this, "test_" + DATABASES.incrementAndGet());
    execute("CREATE DATABASE " + made.name());
    return made;
  }

  /** Runs a statement as superuser in database {@code postgres}. */
  public void execute(String sql) throws SQLException {
    try (Connection connection = new Database(this, "postgres").connect(); Statement statement = connection.createStatement()) {
      statement.execute(sql);
    }
  }

  /** @return of 127.0.0.1; stays over {@link #stop} and {@link #restart} */
  public int port() {
    return port;
  }

  /** @return process id of the postmaster */
  public long pid() {
    return process.pid();
  }

  /** @return where the server's programs are, {@code psql} and {@code pg_dump} among them */
  public Path bin() {
    return bin;
  }

  /** Ends the server at once, as a crash would; databases stay. */
  public synchronized void stop() throws InterruptedException {
    Process running = process;
    process = null;
    if (running != null) {
      // SIGQUIT, "immediate": SIGTERM would wait for clients, SIGKILL would leave shared memory behind.
      try {
        new ProcessBuilder("kill", "-QUIT", String.valueOf(running.pid())).start().waitFor();
      } catch (IOException e) {
        running.destroyForcibly();
      }
      if (!running.waitFor(20, TimeUnit.SECONDS)) {
        running.destroyForcibly().waitFor();
      }
    }
  }

  /** Starts the server again after {@link #stop}, on the same port. */
  public synchronized void restart() throws IOException, InterruptedException {
    if (process == null) {
      launch();
    }
  }

  private void launch() throws IOException, InterruptedException {
    boolean again = port != 0;
    for (int attempt = 1; ; attempt++) {
      if (!again) {
        try (ServerSocket free = new ServerSocket(0, 1, InetAddress.getLoopbackAddress())) {
          port = free.getLocalPort();
        }
      }
      Path log = folder.resolve("postgres.log");
      List<String> command = command(List.of("postgres", "-D", folder.resolve("data").toString(), "-p", String.valueOf(port),
          "-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories=", "-c", "fsync=off", "-c", "full_page_writes=off",
          "-c", "synchronous_commit=off", "-c", "shared_buffers=64MB", "-c", "max_connections=200", "-c", "max_wal_size=256MB"));
      settings.forEach(setting -> command.addAll(List.of("-c", setting)));
      Process started = spawn(new ProcessBuilder(command).redirectErrorStream(true).redirectOutput(log.toFile()));
      long deadline = System.nanoTime() + TimeUnit.SECONDS.toNanos(START_S);
      while (started.isAlive() && System.nanoTime() < deadline) {
        try (Connection up = DriverManager.getConnection("jdbc:postgresql://127.0.0.1:" + port + "/postgres", USER, USER)) {
          process = started;
          return;
        } catch (SQLException notYet) {
          started.waitFor(20, TimeUnit.MILLISECONDS);
        }
      }
      started.destroyForcibly().waitFor();
      String said = Files.readString(log);
      // Between finding a free port and binding it somebody else may have taken it.
      if (again || attempt == 5 || !said.contains("Address already in use")) {
        throw new IOException("PostgreSQL does not start on port " + port + ": " + said);
      }
    }
  }

  /** From a thread that stays: PR_SET_PDEATHSIG means the thread that started the child, not its process. */
  private static Process spawn(ProcessBuilder builder) throws IOException, InterruptedException {
    AtomicReference<Process> started = new AtomicReference<>();
    AtomicReference<IOException> failed = new AtomicReference<>();
    CountDownLatch done = new CountDownLatch(1);
    Thread thread = new Thread(() -> {
      try {
        started.set(builder.start());
      } catch (IOException e) {
        failed.set(e);
      }
      done.countDown();
      Process process = started.get();
      while (process != null && process.isAlive()) {
        try {
          process.waitFor();
        } catch (InterruptedException e) {
          // it watches until the server has ended
        }
      }
    }, "postgres-server");
    thread.setDaemon(true);
    thread.start();
    done.await();
    if (failed.get() != null) {
      throw failed.get();
    }
    return started.get();
  }

  private void run(String... arguments) throws IOException, InterruptedException {
    Path log = Files.createTempFile(folder, "run", ".log");
    Process process = new ProcessBuilder(command(List.of(arguments))).redirectErrorStream(true).redirectOutput(log.toFile()).start();
    if (process.waitFor() != 0) {
      throw new IOException(String.join(" ", arguments) + " failed: " + Files.readString(log));
    }
  }

  private List<String> command(List<String> program) throws IOException {
    List<String> command = new ArrayList<>();
    if (Files.isExecutable(Path.of("/usr/bin/setpriv"))) {
      command.addAll(List.of("/usr/bin/setpriv", "--pdeathsig", "QUIT"));
      if (isRoot()) {
        command.addAll(List.of("--reuid", unprivileged(), "--regid", group(unprivileged()), "--clear-groups"));
      }
      command.add("--");
    } else if (isRoot()) {
      throw new IOException("PostgreSQL does not run as root and there is no setpriv to become another user: install util-linux");
    }
    command.add(bin.resolve(program.get(0)).toString());
    command.addAll(program.subList(1, program.size()));
    return command;
  }

  private static boolean isRoot() {
    return "root".equals(System.getProperty("user.name"));
  }

  private static String unprivileged() throws IOException {
    return passwd("postgres") != null ? "postgres" : "nobody";
  }

  private static String group(String user) throws IOException {
    return passwd(user)[3];
  }

  private static String[] passwd(String user) throws IOException {
    for (String line : Files.readAllLines(Path.of("/etc/passwd"))) {
      if (line.startsWith(user + ":")) {
        return line.split(":");
      }
    }
    return null;
  }

  /** CARAVAN_TEST_POSTGRES names a folder of PostgreSQL's programs; else the newest of Debian's, else what is on the PATH. */
  private static Path binaries() throws IOException {
    List<Path> places = new ArrayList<>();
    if (System.getenv("CARAVAN_TEST_POSTGRES") != null) {
      places.add(Path.of(System.getenv("CARAVAN_TEST_POSTGRES")));
    }
    Path debian = Path.of("/usr/lib/postgresql");
    if (Files.isDirectory(debian)) {
      try (Stream<Path> versions = Files.list(debian)) {
        versions.filter(v -> v.getFileName().toString().matches("\\d+"))
            .sorted(Comparator.comparing((Path v) -> Integer.valueOf(v.getFileName().toString())).reversed())
            .forEach(v -> places.add(v.resolve("bin")));
      }
    }
    for (String place : System.getenv().getOrDefault("PATH", "").split(":")) {
      places.add(Path.of(place));
    }
    return places.stream().filter(p -> Files.isExecutable(p.resolve("initdb")) && Files.isExecutable(p.resolve("postgres"))).findFirst()
        .orElseThrow(() -> new IOException("no PostgreSQL on this machine (initdb, postgres): run bin/install-deps, or name the folder of"
            + " its programs in CARAVAN_TEST_POSTGRES"));
  }

  /** Stops the server and deletes its directory; does nothing the second time. */
  @Override
  public void close() {
    try {
      stop();
      if (Files.exists(folder)) {
        try (Stream<Path> tree = Files.walk(folder)) {
          for (Path path : tree.sorted(Comparator.reverseOrder()).toList()) {
            Files.deleteIfExists(path);
          }
        }
      }
    } catch (IOException e) {
      throw new UncheckedIOException(e);
    } catch (InterruptedException e) {
      Thread.currentThread().interrupt();
    }
  }
}
