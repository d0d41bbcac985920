// SPDX-License-Identifier: Apache-2.0
package io.caravan.camelk;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.JsonMappingException;
import com.fasterxml.jackson.databind.node.ObjectNode;
import io.fabric8.kubernetes.api.model.ConfigMap;
import io.fabric8.kubernetes.api.model.Container;
import io.fabric8.kubernetes.api.model.Probe;
import io.fabric8.kubernetes.api.model.Secret;
import io.fabric8.kubernetes.api.model.Service;
import io.fabric8.kubernetes.api.model.apps.Deployment;
import io.fabric8.kubernetes.api.model.autoscaling.v2.HorizontalPodAutoscaler;
import io.fabric8.kubernetes.api.model.networking.v1.NetworkPolicy;
import io.fabric8.kubernetes.api.model.policy.v1.PodDisruptionBudget;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.TreeSet;
import java.util.stream.Stream;
import org.apache.camel.v1.Integration;
import org.apache.camel.v1.integrationspec.Sources;
import org.junit.jupiter.api.Test;

/** The Integration is the files of routes/cloud; it and the manifests are what their schemas allow, and fit the configuration. */
class ManifestsTest {
  private static final Map<String, Class<?>> KINDS = Map.of("v1/ConfigMap", ConfigMap.class, "v1/Secret", Secret.class, "v1/Service", Service.class,
      "apps/v1/Deployment", Deployment.class, "autoscaling/v2/HorizontalPodAutoscaler", HorizontalPodAutoscaler.class,
      "policy/v1/PodDisruptionBudget", PodDisruptionBudget.class, "networking.k8s.io/v1/NetworkPolicy", NetworkPolicy.class,
      "camel.apache.org/v1/Integration", Integration.class);

  private static Object read(JsonNode node) throws IOException {
    String kind = node.get("apiVersion").asText() + "/" + node.get("kind").asText();
    Class<?> type = KINDS.get(kind);
    assertTrue(type != null, () -> "no class for " + kind);
    return Strict.YAML.treeToValue(node, type);
  }

  private static List<JsonNode> manifests() throws IOException {
    List<JsonNode> all = new ArrayList<>();
    try (Stream<Path> files = Files.list(Strict.REPO.resolve("camel-k/kubernetes"))) {
      for (Path file : files.filter(f -> !f.endsWith("kustomization.yaml")).sorted().toList()) {
        all.addAll(Strict.documents(Files.readString(file)));
      }
    }
    return all;
  }

  @SuppressWarnings("unchecked")
  private static <T> T one(Class<T> type) throws IOException {
    for (JsonNode node : manifests()) {
      Object read = read(node);
      if (type.isInstance(read)) {
        return (T) read;
      }
    }
    throw new AssertionError("there is no " + type.getSimpleName());
  }

  private static Integration integration() throws IOException {
    return (Integration) read(Strict.documents(Integrations.text(Strict.REPO, "0.1.0")).get(0));
  }

  @Test
  void theIntegrationIsTheFilesOfTheRoutesByteByByte() throws Exception {
    Map<String, String> files = new HashMap<>();
    for (Sources source : integration().getSpec().getSources()) {
      assertEquals("yaml", source.getLanguage());
      files.put(source.getName(), source.getContent());
    }
    Map<String, String> expected = Integrations.files(Strict.REPO);
    assertEquals(new TreeSet<>(expected.keySet()), new TreeSet<>(files.keySet()));
    assertTrue(expected.keySet().containsAll(List.of("uplink.camel.yaml", "inbox.camel.yaml", "store.camel.yaml", "admin.camel.yaml")), expected.keySet()::toString);
    for (String name : expected.keySet()) {
      Path cloud = Strict.REPO.resolve("routes/cloud/" + name);
      Path file = Files.exists(cloud) ? cloud : Strict.REPO.resolve("routes/gateway/" + name);
      assertEquals(Files.readString(file), files.get(name), name);
    }
    // What is built is what the test looked at.
    Path built = Strict.REPO.resolve("camel-k/target/integration.yaml");
    Integrations.main(Strict.REPO.toString(), "0.1.0", built.toString());
    assertEquals(Integrations.text(Strict.REPO, "0.1.0"), Files.readString(built));
    assertFalse(Files.readString(built).contains("@version@"));
    assertTrue(Files.size(built) < 1_000_000, "the API server takes 1.5 MiB");
  }

  /** The negative control: a route that changes, or is left out, changes the Integration. */
  @Test
  void aRouteThatChangesChangesTheIntegration() throws Exception {
    Path copy = Files.createTempDirectory("repo");
    for (String name : List.of("camel-k/integration.yaml", "camel-k/kubernetes/configmap.yaml", "features/caravan/src/main/feature/feature.xml")) {
      Files.createDirectories(copy.resolve(name).getParent());
      Files.copy(Strict.REPO.resolve(name), copy.resolve(name));
    }
    for (String name : Integrations.files(Strict.REPO).keySet()) {
      Path from = Files.exists(Strict.REPO.resolve("routes/cloud/" + name)) ? Path.of("routes/cloud", name) : Path.of("routes/gateway", name);
      Files.createDirectories(copy.resolve(from).getParent());
      Files.copy(Strict.REPO.resolve(from), copy.resolve(from));
    }
    assertEquals(Integrations.text(Strict.REPO, "1"), Integrations.text(copy, "1"));
    Files.writeString(copy.resolve("routes/cloud/uplink.camel.yaml"), Files.readString(copy.resolve("routes/cloud/uplink.camel.yaml")) + "# more\n");
    assertFalse(Integrations.text(Strict.REPO, "1").equals(Integrations.text(copy, "1")));
    Files.delete(copy.resolve("routes/cloud/uplink.camel.yaml"));
    assertThrows(IOException.class, () -> Integrations.text(copy, "1"));
  }

  @Test
  void allManifestsAreWhatTheSchemasAllow() throws Exception {
    List<JsonNode> all = manifests();
    assertEquals(List.of("ConfigMap", "Deployment", "NetworkPolicy", "HorizontalPodAutoscaler", "PodDisruptionBudget", "Secret", "Secret", "Service", "Service"),
        all.stream().map(n -> n.get("kind").asText()).toList());
    for (JsonNode node : all) {
      read(node);
    }
    integration();
    // The negative controls, each a slip of a hand.
    for (String[] slip : new String[][] {{"Deployment", "/spec/template/spec/containers/0", "imagePullPolice"}, {"Service", "/spec", "externalTraficPolicy"},
        {"HorizontalPodAutoscaler", "/spec", "minReplica"}, {"PodDisruptionBudget", "/spec", "maxUnavailabel"}, {"NetworkPolicy", "/spec", "polices"}}) {
      JsonNode node = all.stream().filter(n -> n.get("kind").asText().equals(slip[0])).findFirst().orElseThrow().deepCopy();
      ((ObjectNode) node.at(slip[1])).put(slip[2], "x");
      assertTrue(assertThrows(JsonMappingException.class, () -> read(node)).getMessage().contains(slip[2]));
    }
    for (String[] slip : new String[][] {{"/spec", "dependencis"}, {"/spec/traits/service", "enabld"}, {"/spec/traits", "helth"}, {"/spec/sources/0", "contents"}}) {
      JsonNode node = Strict.documents(Integrations.text(Strict.REPO, "1")).get(0);
      ((ObjectNode) node.at(slip[0])).put(slip[1], "x");
      assertTrue(assertThrows(JsonMappingException.class, () -> read(node)).getMessage().contains(slip[1]));
    }
    JsonNode number = Strict.documents(Integrations.text(Strict.REPO, "1")).get(0);
    ((ObjectNode) number.at("/spec")).put("replicas", "two");
    assertThrows(JsonMappingException.class, () -> read(number));
  }

  @Test
  void whatTheyNameIsThere() throws Exception {
    Map<String, String> environment = one(ConfigMap.class).getData();
    Map<String, String> keys = new HashMap<>();
    try (Stream<Path> files = Files.list(Strict.REPO.resolve("config/cloud/keys"))) {
      for (Path file : files.toList()) {
        Strict.YAML.readTree(file.toFile()).fields().forEachRemaining(e -> keys.put("CARAVAN_" + e.getKey().toUpperCase(java.util.Locale.ROOT).replace('.', '_'), e.getKey()));
      }
    }
    Container container = one(Deployment.class).getSpec().getTemplate().getSpec().getContainers().get(0);
    List<String> names = new ArrayList<>(environment.keySet());
    container.getEnv().forEach(e -> names.add(e.getName()));
    names.forEach(name -> assertTrue(keys.containsKey(name), () -> name + " must be a declared key of the cloud"));
    assertFalse(keys.containsKey("CARAVAN_HTTP_PROT"), "the negative control");
    // Ports and probes are those of the configuration and of the routes.
    Map<String, Integer> ports = new HashMap<>();
    container.getPorts().forEach(p -> ports.put(p.getName(), p.getContainerPort()));
    assertEquals(Map.of("http", Integer.valueOf(environment.get("CARAVAN_HTTP_PORT")), "uplink", Integer.valueOf(environment.get("CARAVAN_UPLINK_PORT"))), ports);
    String admin = Files.readString(Strict.REPO.resolve("routes/cloud/admin.camel.yaml"));
    for (Probe probe : List.of(container.getLivenessProbe(), container.getReadinessProbe(), container.getStartupProbe())) {
      assertTrue(admin.contains("uri: platform-http:" + probe.getHttpGet().getPath() + "\n"), probe::toString);
    }
    var traits = integration().getSpec().getTraits();
    assertEquals(environment.get("CARAVAN_HTTP_PORT"), String.valueOf(traits.getContainer().getPort()));
    assertEquals(container.getLivenessProbe().getHttpGet().getPath(), traits.getHealth().getLivenessProbe());
    assertEquals(container.getReadinessProbe().getHttpGet().getPath(), traits.getHealth().getReadinessProbe());
    List<String> variables = new ArrayList<>(environment.keySet().stream().map(k -> k + "=configmap:caravan-cloud/" + k).toList());
    variables.add("CARAVAN_STORE_PASSWORD=secret:caravan-cloud/store-password");
    assertEquals(new TreeSet<>(variables), new TreeSet<>(traits.getEnvironment().getVars()));
    // One name ties them together.
    Map<String, String> label = one(Deployment.class).getSpec().getSelector().getMatchLabels();
    for (Object read : manifests().stream().map(n -> {
      try {
        return read(n);
      } catch (IOException e) {
        throw new java.io.UncheckedIOException(e);
      }
    }).toList()) {
      if (read instanceof Service service) {
        assertEquals(label, service.getSpec().getSelector());
        service.getSpec().getPorts().forEach(p -> assertTrue(ports.containsKey(p.getTargetPort().getStrVal())));
      }
    }
    assertEquals(label, one(PodDisruptionBudget.class).getSpec().getSelector().getMatchLabels());
    assertEquals(label, one(NetworkPolicy.class).getSpec().getPodSelector().getMatchLabels());
    assertEquals(one(Deployment.class).getMetadata().getName(), one(HorizontalPodAutoscaler.class).getSpec().getScaleTargetRef().getName());
    assertTrue(Arrays.asList(environment.get("CARAVAN_STORE_TYPE"), environment.get("CARAVAN_UPLINK_REGISTRY")).equals(List.of("postgresql", "store")),
        "what replicas share");
  }
}
