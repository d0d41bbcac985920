// SPDX-License-Identifier: Apache-2.0
package io.caravan.operations;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertNotNull;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.attribute.PosixFilePermissions;
import java.security.MessageDigest;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.HexFormat;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeSet;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.sqlite.SQLiteJDBCLoader;

/** compose.yaml, Dockerfile and the secrets that containers/setup makes: what can be said of them without an engine. */
class ContainerTest {
  private static final Pattern VARIABLE = Pattern.compile("\\$\\{[A-Z_]+:-([^}]*)}");
  /** No shell in it to ask with. */
  private static final Set<String> WITHOUT_HEALTHCHECK = Set.of("otel-collector");

  @TempDir
  Path work;

  @Test
  void composeKeepsTheRules() throws IOException {
    String text = Repository.text("compose.yaml");
    assertEquals(List.of(), problems(compose(text)));

    // Negative controls: each rule is broken once.
    for (Map.Entry<String, String> breaking : Map.of(
        "CARAVAN_UPLINK_URL:", "CARAVAN_UPLINK_ULR:",
        "read_only: true\n  cap_drop: [ALL]", "cap_drop: [ALL]",
        "prom/prometheus:v2.53.4", "prom/prometheus:latest",
        "target: cloud}", "target: clowd}",
        "./observability/otel/collector.yaml:", "./observability/otel/colector.yaml:",
        "- \"127.0.0.1:1883:1883\"", "- \"1883:1883\"",
        "user: \"65534:65534\"", "user: \"0:0\"",
        "POSTGRES_PASSWORD_FILE: /run/secrets/store.password", "POSTGRES_PASSWORD: secret").entrySet()) {
      assertTrue(text.contains(breaking.getKey()), breaking.getKey());
      assertFalse(problems(compose(text.replace(breaking.getKey(), breaking.getValue()))).isEmpty(), () -> "nobody noticed " + breaking);
    }
  }

  @Test
  void prometheusReadsWhatComposeStarts() throws IOException {
    Map<String, Object> services = Repository.map(compose(Repository.text("compose.yaml")).get("services"));
    for (Object job : Repository.list(Repository.yaml(Repository.ROOT.resolve("observability/prometheus/prometheus.yaml")).get("scrape_configs"))) {
      for (Object config : Repository.list(Repository.map(job).get("static_configs"))) {
        for (Object target : Repository.list(Repository.map(config).get("targets"))) {
          String host = String.valueOf(target).replaceFirst(":.*", "");
          assertTrue(host.equals("localhost") || services.containsKey(host), "there is no service " + host);
        }
      }
    }
  }

  @Test
  void dockerfileKeepsTheRules() throws IOException {
    String text = Repository.text("Dockerfile");
    assertEquals(List.of(), dockerfile(text));
    for (Map.Entry<String, String> breaking : Map.of(
        "COPY --chmod=0755 containers/healthcheck", "COPY --chmod=0755 containers/healthchek",
        "USER 10001:10001\n# bin/caravan", "# bin/caravan",
        "--from=jre", "--from=jer",
        "debian:12.11-slim", "debian:latest",
        "ENTRYPOINT [\"/opt/caravan/bin/caravan\"]", "ENTRYPOINT /opt/caravan/bin/caravan run",
        "CMD [\"healthcheck\"]", "CMD healthcheck").entrySet()) {
      assertTrue(text.contains(breaking.getKey()), breaking.getKey());
      assertFalse(dockerfile(text.replace(breaking.getKey(), breaking.getValue())).isEmpty(), () -> "nobody noticed " + breaking);
    }
  }

  @Test
  void secretsAreMadeOnceAndForNobodyElse() throws Exception {
    Path secrets = work.resolve("secrets");
    assertEquals(0, setup(secrets, "secrets", "gw.example.org"), () -> read("setup.out"));
    Map<String, Object> declared = Repository.map(compose(Repository.text("compose.yaml")).get("secrets"));
    Map<String, String> first = new LinkedHashMap<>();
    for (Map.Entry<String, Object> secret : declared.entrySet()) {
      String file = (String) Repository.map(secret.getValue()).get("file");
      assertEquals("./containers/secrets/" + secret.getKey(), file);
      assertTrue(Files.isRegularFile(secrets.resolve(secret.getKey())), secret.getKey());
      first.put(secret.getKey(), Files.readString(secrets.resolve(secret.getKey())));
    }
    assertEquals("rwx------", PosixFilePermissions.toString(Files.getPosixFilePermissions(secrets)));
    String hash = HexFormat.of().formatHex(MessageDigest.getInstance("SHA-256").digest(first.get("gateway.token").trim().getBytes("UTF-8")));
    assertEquals("gateway-1 = sha256:" + hash, first.get("gateways").trim());
    assertNotEquals(first.get("store.password"), first.get("grafana.password"));
    // Again: nothing changes, so what runs goes on.
    assertEquals(0, setup(secrets, "secrets"), () -> read("setup.out"));
    for (Map.Entry<String, String> secret : first.entrySet()) {
      assertEquals(secret.getValue(), Files.readString(secrets.resolve(secret.getKey())), secret.getKey());
    }
    String ignored = Repository.text(".gitignore");
    assertTrue(ignored.contains("/containers/secrets/"), ".gitignore must have containers/secrets");
    assertTrue(Repository.text(".dockerignore").contains("/containers/secrets"), ".dockerignore must have containers/secrets");
  }

  @Test
  void prometheusGetsALogin() throws Exception {
    Path secrets = work.resolve("secrets");
    assertEquals(0, setup(secrets, "secrets"), () -> read("setup.out"));
    // In place of docker compose exec: user:add and user:remove as they are, with the options they have.
    Path exec = Files.writeString(work.resolve("exec"), """
        #!/bin/sh
        there=%s/$1.user made=%s/$1.made
        case $4 in
            "user:remove prometheus" | "user:remove prometheus --json")
                [ -e "$there" ] || { echo "there is no user [prometheus]"; exit 1; }
                rm "$there" ;;
            "user:add prometheus viewer" | "user:add prometheus viewer --json")
                [ ! -e "$there" ] || { echo "there is a user [prometheus] already"; exit 1; }
                echo >>"$made"
                : >"$there"
                printf '{"user":"prometheus","roles":"viewer","password":"of-%%s-%%s"}\\n' "$1" "$(wc -l <"$made")" ;;
            *) echo "[$4] is one argument too many, and no option"; exit 1 ;;
        esac
        """.formatted(work, work));
    Files.setPosixFilePermissions(exec, PosixFilePermissions.fromString("rwxr-xr-x"));
    for (int time = 1; time <= 2; time++) {
      assertEquals(0, setup(secrets, "users"), () -> read("setup.out"));
      assertEquals("of-gateway-" + time, Files.readString(secrets.resolve("gateway-metrics.password")));
      assertEquals("of-cloud-" + time, Files.readString(secrets.resolve("cloud-metrics.password")));
    }
    Files.writeString(exec, "#!/bin/sh\nexit 1\n");
    assertNotEquals(0, setup(secrets, "users"));
  }

  /** SQLite is the one native library that everything depends on. */
  @Test
  void sqliteIsThereForEveryProcessorWeBuildFor() throws IOException {
    // The bundle leaves out what runs on nothing we build for.
    Matcher left = Pattern.compile("<inline.not>(.*)</inline.not>").matcher(Repository.text("bundles/camel/sqlite/pom.xml"));
    assertTrue(left.find());
    Pattern leftOut = Pattern.compile(left.group(1));
    assertTrue(leftOut.matcher("org/sqlite/native/Windows/x86_64/sqlitejdbc.dll").matches());
    for (String platform : List.of("Linux/x86_64", "Linux/aarch64", "Linux-Musl/x86_64", "Linux-Musl/aarch64", "Linux/armv7")) {
      String file = "/org/sqlite/native/" + platform + "/libsqlitejdbc.so";
      assertNotNull(SQLiteJDBCLoader.class.getResource(file), "sqlite-jdbc has no " + file);
      assertFalse(leftOut.matcher(file.substring(1)).matches(), file);
    }
  }

  // ---- rules for compose.yaml

  private static Map<String, Object> compose(String text) {
    return Repository.parse(text);
  }

  private static List<String> problems(Map<String, Object> compose) throws IOException {
    List<String> problems = new ArrayList<>();
    Set<String> stages = stages(Repository.text("Dockerfile")).keySet();
    Map<String, Object> services = Repository.map(compose.get("services"));
    for (Map.Entry<String, Object> entry : services.entrySet()) {
      String name = entry.getKey();
      Map<String, Object> service = merged(Repository.map(entry.getValue()));
      String image = String.valueOf(service.get("image"));
      if (!image.matches("[a-z0-9./-]+:v?\\d[A-Za-z0-9._-]*")) {
        problems.add(name + ": image [" + image + "] needs a tag with a version");
      }
      boolean ours = service.containsKey("build");
      if (ours && !stages.contains(Repository.map(service.get("build")).get("target"))) {
        problems.add(name + ": Dockerfile has no stage " + Repository.map(service.get("build")).get("target"));
      }
      boolean once = "no".equals(service.get("restart"));
      boolean helper = once && service.get("entrypoint").toString().contains("chown");
      if (!helper && !String.valueOf(service.get("user")).matches("[1-9]\\d*:\\d+")) {
        problems.add(name + ": user [" + service.get("user") + "] must be a number, and not root");
      }
      if (!List.of("ALL").equals(service.get("cap_drop")) || !String.valueOf(service.get("security_opt")).contains("no-new-privileges:true")) {
        problems.add(name + ": must drop all capabilities and get no new ones");
      }
      if (!Boolean.TRUE.equals(service.get("read_only")) && !image.contains("kafka")) {
        problems.add(name + ": its root must be read-only");
      }
      if (service.get("mem_limit") == null || service.get("pids_limit") == null) {
        problems.add(name + ": needs limits");
      }
      if (!ours && !once && !WITHOUT_HEALTHCHECK.contains(name) && !service.containsKey("healthcheck")) {
        problems.add(name + ": needs a health check");
      }
      for (Object port : Repository.list(service.get("ports"))) {
        if (!VARIABLE.matcher(String.valueOf(port)).replaceAll("$1").startsWith("127.0.0.1:")) {
          problems.add(name + ": port [" + port + "] is open to everybody");
        }
      }
      for (Object volume : Repository.list(service.get("volumes"))) {
        String source = String.valueOf(volume).replaceFirst(":.*", "");
        boolean known = source.startsWith(".") ? Files.exists(Repository.ROOT.resolve(source)) : Repository.map(compose.get("volumes")).containsKey(source);
        if (!known) {
          problems.add(name + ": there is no [" + source + "]");
        }
      }
      known(problems, name, "secret", Repository.list(service.get("secrets")), compose.get("secrets"));
      known(problems, name, "network", Repository.list(service.get("networks")), compose.get("networks"));
      if (service.get("depends_on") != null) {
        known(problems, name, "service", List.copyOf(Repository.map(service.get("depends_on")).keySet()), services);
      }
      environment(problems, name, service);
    }
    return problems;
  }

  private static void environment(List<String> problems, String name, Map<String, Object> service) throws IOException {
    Map<String, Object> environment = service.get("environment") == null ? Map.of() : Repository.map(service.get("environment"));
    Set<Object> secrets = Set.copyOf(Repository.list(service.get("secrets")));
    for (Map.Entry<String, Object> variable : environment.entrySet()) {
      String value = String.valueOf(variable.getValue());
      if (variable.getKey().startsWith("CARAVAN_") && !keys(name).contains(variable.getKey())) {
        problems.add(name + ": [" + variable.getKey() + "] is no key of config/" + name + "/keys");
      }
      Matcher secret = Pattern.compile("^(?:file:)?/run/secrets/(.+)$").matcher(value);
      if (secret.find() && !secrets.contains(secret.group(1))) {
        problems.add(name + ": [" + variable.getKey() + "] names a secret the service does not get: " + value);
      }
      if (variable.getKey().matches(".*(PASSWORD|SECRET|TOKEN)(?!.*FILE).*") && !secret.reset().find()) {
        problems.add(name + ": [" + variable.getKey() + "] must be a file");
      }
    }
  }

  private static Set<String> keys(String role) throws IOException {
    Set<String> names = new TreeSet<>();
    for (String scope : List.of(role, "common")) {
      Path folder = Repository.ROOT.resolve("config/" + scope + "/keys");
      if (Files.isDirectory(folder)) {
        try (Stream<Path> files = Files.list(folder)) {
          for (Path file : files.filter(f -> f.toString().endsWith(".yaml")).toList()) {
            Repository.yaml(file).keySet().forEach(k -> names.add("CARAVAN_" + k.toUpperCase(java.util.Locale.ROOT).replace('.', '_')));
          }
        }
      }
    }
    return names;
  }

  private static void known(List<String> problems, String name, String kind, List<Object> used, Object declared) {
    for (Object each : used) {
      if (declared == null || !Repository.map(declared).containsKey(String.valueOf(each))) {
        problems.add(name + ": there is no " + kind + " [" + each + "]");
      }
    }
  }

  /** YAML's merge keys, which the parser leaves alone. */
  private static Map<String, Object> merged(Map<String, Object> map) {
    Map<String, Object> all = new HashMap<>();
    if (map.get("<<") != null) {
      all.putAll(merged(Repository.map(map.get("<<"))));
    }
    map.forEach((k, v) -> {
      if (!k.equals("<<")) {
        all.put(k, v);
      }
    });
    return all;
  }

  // ---- rules for Dockerfile

  private record Line(String instruction, String rest) { }

  private static Map<String, List<Line>> stages(String text) {
    Map<String, List<Line>> stages = new LinkedHashMap<>();
    String joined = text.replaceAll("(?m)^\\s*#.*\\R", "").replaceAll("\\\\\\R", " ");
    List<Line> current = new ArrayList<>();
    for (String line : joined.split("\\R")) {
      if (line.isBlank()) {
        continue;
      }
      String[] parts = line.strip().split("\\s+", 2);
      if (parts[0].equals("FROM")) {
        current = new ArrayList<>();
        stages.put(parts[1].replaceFirst(".*\\sAS\\s+", "").strip(), current);
      }
      current.add(new Line(parts[0], parts.length > 1 ? parts[1].strip() : ""));
    }
    return stages;
  }

  private static List<String> dockerfile(String text) throws IOException {
    List<String> problems = new ArrayList<>();
    Matcher base = Pattern.compile("^ARG DEBIAN=(.*)$", Pattern.MULTILINE).matcher(text);
    if (!base.find() || !base.group(1).matches(".*:\\d+\\.\\d+-slim")) {
      problems.add("the base needs a tag with a version");
    }
    Map<String, List<Line>> stages = stages(text);
    for (Map.Entry<String, List<Line>> stage : stages.entrySet()) {
      for (Line line : stage.getValue()) {
        if (!Set.of("FROM", "RUN", "COPY", "WORKDIR", "ENV", "USER", "STOPSIGNAL", "ENTRYPOINT", "CMD", "VOLUME", "EXPOSE", "HEALTHCHECK").contains(line.instruction)) {
          problems.add(stage.getKey() + ": [" + line.instruction + "] is not expected");
        }
        Matcher from = Pattern.compile("--from=(\\S+)").matcher(line.rest);
        boolean copied = from.find();
        if (copied && !stages.containsKey(from.group(1))) {
          problems.add(stage.getKey() + ": there is no stage " + from.group(1));
        }
        if (line.instruction.equals("COPY") && !copied) {
          String source = line.rest.replaceAll("--\\S+\\s+", "").split("\\s+")[0];
          if (!Files.exists(Repository.ROOT.resolve(source))) {
            problems.add(stage.getKey() + ": there is no file " + source);
          }
        }
      }
    }
    for (String target : List.of("gateway", "cloud", "broker")) {
      List<Line> all = new ArrayList<>();
      for (String stage = target; stages.containsKey(stage); ) {
        List<Line> lines = stages.get(stage);
        all.addAll(0, lines);
        stage = lines.get(0).rest.split("\\s+")[0];
      }
      String user = last(all, "USER");
      if (user == null || !user.matches("[1-9]\\d*:[1-9]\\d*")) {
        problems.add(target + ": must run as a numbered user that is not root");
      }
      if (last(all, "ENTRYPOINT") == null || !last(all, "ENTRYPOINT").startsWith("[")) {
        problems.add(target + ": ENTRYPOINT must be a list: a shell would keep SIGTERM to itself");
      }
      if (last(all, "HEALTHCHECK") == null || !last(all, "HEALTHCHECK").contains("CMD [")) {
        problems.add(target + ": needs a HEALTHCHECK whose command is a list");
      }
      if (last(all, "VOLUME") == null) {
        problems.add(target + ": what is written must be a volume");
      }
    }
    return problems;
  }

  private static String last(List<Line> lines, String instruction) {
    String found = null;
    for (Line line : lines) {
      if (line.instruction.equals(instruction)) {
        found = line.rest;
      }
    }
    return found;
  }

  private int setup(Path secrets, String... arguments) throws IOException, InterruptedException {
    List<String> command = new ArrayList<>(List.of(Repository.ROOT.resolve("containers/setup").toString()));
    command.addAll(List.of(arguments));
    ProcessBuilder builder = new ProcessBuilder(command).redirectErrorStream(true).redirectOutput(work.resolve("setup.out").toFile());
    builder.environment().put("SECRETS", secrets.toString());
    builder.environment().put("COMPOSE_EXEC", work.resolve("exec").toString());
    return builder.start().waitFor();
  }

  private String read(String file) {
    try {
      return Files.readString(work.resolve(file));
    } catch (IOException e) {
      return e.toString();
    }
  }
}
