// SPDX-License-Identifier: Apache-2.0
package io.caravan.it;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ArrayNode;
import com.fasterxml.jackson.databind.node.ObjectNode;
import com.networknt.schema.JsonSchema;
import com.networknt.schema.JsonSchemaFactory;
import com.networknt.schema.SchemaLocation;
import com.networknt.schema.SpecVersion;
import java.io.InputStream;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.MessageDigest;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.HexFormat;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.Set;
import java.util.TreeSet;
import java.util.stream.Collectors;
import java.util.stream.Stream;
import java.util.zip.ZipEntry;
import java.util.zip.ZipFile;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

/** The SBOM in each distribution says all that is in it: each jar, and each library that is inside another's jar. */
class SbomIT {
  /** Programming interfaces of specifications and annotations: no code of a library. */
  private static final Set<String> SPECIFICATIONS = Set.of("org/osgi", "javax/", "jakarta/");

  @ParameterizedTest
  @ValueSource(strings = {"gateway", "cloud"})
  void everyJarIsListedWithItsHashAndLicence(String side) throws Exception {
    Path home = Distribution.unpack(side, "sbom-" + side).home;
    List<Sbom> listed = Sbom.read(home.resolve(Sbom.FILE)).stream().filter(c -> c.within().isEmpty()).toList();
    Map<String, String> shipped = new HashMap<>();
    for (Path jar : jars(home)) {
      shipped.put(home.relativize(jar).toString(), sha256(Files.readAllBytes(jar)));
    }
    assertTrue(shipped.size() > 50, shipped::toString);
    assertEquals(shipped, listed.stream().collect(Collectors.toMap(Sbom::path, Sbom::sha256)));
    assertEquals(List.of(), listed.stream().filter(c -> c.licences() == 0).map(Sbom::purl).toList());
    assertEquals(Files.readString(home.resolve(Sbom.FILE)), Files.readString(Distribution.REPO.resolve(
        "karaf-assembly/" + side + "/target/caravan-" + side + "-0.1.0.sbom.cdx.json")), "the one beside the tar.gz");
  }

  @ParameterizedTest
  @ValueSource(strings = {"gateway", "cloud"})
  void whatIsInsideOfJarsIsListedWithItsVersion(String side) throws Exception {
    Path home = Distribution.unpack(side, "sbom-" + side).home;
    List<Sbom> all = Sbom.read(home.resolve(Sbom.FILE));
    Set<String> missing = new TreeSet<>();
    for (Path jar : jars(home)) {
      String path = home.relativize(jar).toString();
      List<Sbom> here = all.stream().filter(c -> c.path().equals(path)).toList();
      Set<String> purls = here.stream().map(c -> c.purl().replaceFirst("\\?.*", "")).collect(Collectors.toSet());
      try (ZipFile zip = new ZipFile(jar.toFile())) {
        for (ZipEntry pom : zip.stream().filter(e -> e.getName().matches("META-INF/maven/.*/pom\\.properties")).toList()) {
          Properties p = new Properties();
          try (InputStream in = zip.getInputStream(pom)) {
            p.load(in);
          }
          String purl = "pkg:maven/" + p.getProperty("groupId") + "/" + p.getProperty("artifactId") + "@" + p.getProperty("version");
          if (!purls.contains(purl)) {
            missing.add(path + " has " + purl);
          }
        }
        // What inline.groovy merged keeps no trace but its licence text.
        ZipEntry licence = zip.getEntry("META-INF/LICENSE");
        if (licence != null && zip.getEntry("META-INF/sbom/inlined.json") != null) {
          new String(zip.getInputStream(licence).readAllBytes(), java.nio.charset.StandardCharsets.UTF_8).lines()
              .takeWhile(l -> !l.startsWith("=")).filter(l -> l.matches("  [^ :]+:[^ :]+:[^ :]+")).map(l -> l.trim().split(":"))
              .map(c -> "pkg:maven/" + c[0] + "/" + c[1] + "@" + c[2]).filter(purl -> !purls.contains(purl))
              .forEach(purl -> missing.add(path + " has " + purl));
        }
      }
    }
    assertEquals(Set.of(), missing);
    assertEquals(List.of(), all.stream().filter(c -> c.within().size() == 1 && c.path().contains("caravan-") && c.sha256().length() != 64)
        .filter(c -> c.purl().startsWith("pkg:maven")).map(Sbom::purl).toList(), "inlined, without a hash");
  }

  /** A jar with packages of another project, and nothing that says so, is what no tool sees: security/embedded.json has them. */
  @ParameterizedTest
  @ValueSource(strings = {"gateway", "cloud"})
  void packagesOfOthersAreExplained(String side) throws Exception {
    Path home = Distribution.unpack(side, "sbom-" + side).home;
    JsonNode embedded = new ObjectMapper().readTree(Distribution.REPO.resolve("security/embedded.json").toFile()).path("embedded");
    List<Sbom> all = Sbom.read(home.resolve(Sbom.FILE));
    Set<String> unexplained = new TreeSet<>();
    for (Path jar : jars(home)) {
      String path = home.relativize(jar).toString();
      List<Sbom> here = all.stream().filter(c -> c.path().equals(path)).toList();
      Sbom own = here.get(0);
      List<String> known = new ArrayList<>(SPECIFICATIONS);
      here.forEach(c -> known.addAll(project(c)));
      embedded.forEach(e -> {
        if (here.stream().anyMatch(c -> c.purl().equals(e.path("in").asText()))) {
          known.add(e.path("packages").asText());
        }
      });
      try (ZipFile zip = new ZipFile(jar.toFile())) {
        zip.stream().map(ZipEntry::getName).filter(n -> n.endsWith(".class") && n.contains("/") && !n.startsWith("META-INF/"))
            .map(n -> n.startsWith("shaded/") ? n.substring("shaded/".length()) : n)
            .filter(n -> known.stream().noneMatch(n::startsWith))
            .forEach(n -> unexplained.add(own.purl() + " has " + n.substring(0, n.lastIndexOf('/'))));
      }
    }
    assertEquals(Set.of(), unexplained, "say in security/embedded.json what these packages are");
    // Entries that are about another version than the one that is shipped would explain what they do not know.
    Set<String> gateway = Sbom.read(Distribution.unpack("gateway", "sbom-gateway").home.resolve(Sbom.FILE)).stream()
        .map(Sbom::purl).collect(Collectors.toSet());
    Set<String> stale = new TreeSet<>();
    embedded.forEach(e -> {
      if (!gateway.contains(e.path("in").asText())) {
        stale.add(e.path("in").asText());
      }
    });
    assertEquals(Set.of(), stale, "security/embedded.json: no longer shipped in this version; look what the new one has inside");
  }

  @ParameterizedTest
  @ValueSource(strings = {"gateway", "cloud"})
  void itIsValidCycloneDx(String side) throws Exception {
    ObjectNode bom = (ObjectNode) new ObjectMapper().readTree(Distribution.unpack(side, "sbom-" + side).home.resolve(Sbom.FILE).toFile());
    JsonSchema schema = schema();
    assertEquals(Set.of(), schema.validate(bom));
    ((ObjectNode) bom.path("components").path(0)).remove("name");
    assertFalse(schema.validate(bom).isEmpty(), "a component without a name must not pass");
    ArrayNode licences = ((ObjectNode) bom.path("components").path(1)).putArray("licenses");
    licences.addObject().putObject("license").put("id", "No-Such-Licence");
    assertTrue(schema.validate(bom).size() > 1, "a licence that SPDX does not know must not pass");
  }

  /** The schema as published, with the two that it refers to. */
  private static JsonSchema schema() {
    JsonSchemaFactory factory = JsonSchemaFactory.getInstance(SpecVersion.VersionFlag.V7, b -> b.schemaMappers(
        m -> m.mapPrefix("http://cyclonedx.org/schema/", "classpath:")));
    return factory.getSchema(SchemaLocation.of("http://cyclonedx.org/schema/bom-1.6.schema.json"));
  }

  /** Where classes of a component live: two parts of its group, three where two say nothing. */
  private static List<String> project(Sbom c) {
    if (!c.purl().startsWith("pkg:maven/")) {
      return List.of();
    }
    String[] group = c.purl().substring(c.purl().indexOf('/') + 1, c.purl().lastIndexOf('/')).split("\\.");
    int parts = Math.min(group.length, group[0].equals("org") && group.length > 2 && group[1].equals("apache") ? 3 : 2);
    String byGroup = String.join("/", List.of(group).subList(0, parts));
    // Groups that are not the root of their packages.
    return switch (c.component()) {
      case "pkg:maven/org.apache.servicemix.specs/org.apache.servicemix.specs.activation-api-1.2.1",
           "pkg:maven/org.glassfish.jaxb/jaxb-runtime", "pkg:maven/org.glassfish.jaxb/txw2" -> List.of(byGroup, "com/sun/xml");
      case "pkg:maven/org.apache.httpcomponents/httpclient", "pkg:maven/org.apache.httpcomponents/httpcore" -> List.of("org/apache/http");
      case "pkg:maven/commons-codec/commons-codec" -> List.of("org/apache/commons/codec");
      case "pkg:maven/io.github.java-diff-utils/java-diff-utils" -> List.of("com/github/difflib");
      case "pkg:maven/commons-io/commons-io" -> List.of("org/apache/commons/io");
      case "pkg:maven/at.yawk.lz4/lz4-java" -> List.of("net/jpountz");
      case "pkg:maven/org.springframework/spring-jcl" -> List.of(byGroup, "org/apache/commons/logging");
      case "pkg:maven/org.xerial/sqlite-jdbc" -> List.of("org/sqlite");
      case "pkg:maven/org.hdrhistogram/HdrHistogram" -> List.of("org/HdrHistogram");
      case "pkg:maven/org.latencyutils/LatencyUtils" -> List.of("org/LatencyUtils");
      case "pkg:maven/org.apache.maven.resolver/maven-resolver-api" -> List.of("org/eclipse/aether");
      case "pkg:maven/org.codehaus.plexus/plexus-sec-dispatcher", "pkg:maven/org.codehaus.plexus/plexus-cipher" ->
          List.of(byGroup, "org/sonatype/plexus");
      default -> List.of(byGroup);
    };
  }

  private static List<Path> jars(Path home) throws Exception {
    try (Stream<Path> files = Files.walk(home)) {
      return files.filter(p -> p.toString().endsWith(".jar")).sorted().toList();
    }
  }

  private static String sha256(byte[] bytes) throws Exception {
    return HexFormat.of().formatHex(MessageDigest.getInstance("SHA-256").digest(bytes));
  }
}
