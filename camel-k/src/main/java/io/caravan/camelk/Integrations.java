// SPDX-License-Identifier: Apache-2.0
package io.caravan.camelk;

import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

/**
 * Makes the Integration out of {@code integration.yaml}, which has all but the flows, and the route files of feature {@code caravan-cloud}, byte
 * by byte. The list of files comes from the features, so nothing is copied by hand and nothing can be forgotten. Written into the build's
 * folder and not kept: what is not kept cannot drift.
 */
public final class Integrations {
  private static final Pattern FEATURE = Pattern.compile("<feature name=\"([a-z0-9-]+)\"[^>]*>(.*?)</feature>\\s*(?=<feature name|<!--|</features>)", Pattern.DOTALL);
  private static final Pattern CHILD = Pattern.compile("<feature[^>]*>([a-z0-9-]+)</feature>");
  private static final Pattern ROUTE = Pattern.compile("caravan-routes/[^/]+/jar/(cloud|gateway)-([a-z0-9-]+)<");
  private static final Pattern KEY = Pattern.compile("(?m)^  (CARAVAN_[A-Z0-9_]+):");
  private static final String VARIABLES = "        - CARAVAN_STORE_PASSWORD=secret:caravan-cloud/store-password\n";
  private static final String MARK = "  sources: []\n";

  private Integrations() {}

  /** @param args the repository, the version, and the file to write */
  public static void main(String... args) throws IOException {
    Path to = Path.of(args[2]);
    Files.createDirectories(to.getParent());
    Files.writeString(to, text(Path.of(args[0]), args[1]));
  }

  /** @return the YAML text of the Integration */
  static String text(Path repo, String version) throws IOException {
    String template = Files.readString(repo.resolve("camel-k/integration.yaml"));
    if (!template.contains(MARK) || !template.contains(VARIABLES)) {
      throw new IOException("camel-k/integration.yaml must have the lines [" + MARK.strip() + "] and [" + VARIABLES.strip()
          + "]: flows and variables come there");
    }
    StringBuilder sources = new StringBuilder("  sources:\n");
    files(repo).forEach((name, text) -> {
      sources.append("    - name: ").append(name).append("\n      language: yaml\n      content: |\n");
      text.lines().forEach(line -> sources.append(line.isEmpty() ? "" : "        ").append(line).append('\n'));
    });
    // Variables of the pod are named one by one: the trait takes no whole ConfigMap.
    StringBuilder variables = new StringBuilder(VARIABLES);
    Matcher key = KEY.matcher(Files.readString(repo.resolve("camel-k/kubernetes/configmap.yaml")));
    while (key.find()) {
      variables.append("        - ").append(key.group(1)).append("=configmap:caravan-cloud/").append(key.group(1)).append('\n');
    }
    return template.replace(VARIABLES, variables).replace(MARK, sources).replace("@version@", version);
  }

  /** @return file name to text of each route of feature caravan-cloud and of those it asks for, in their order */
  static Map<String, String> files(Path repo) throws IOException {
    String text = Files.readString(repo.resolve("features/caravan/src/main/feature/feature.xml"));
    Map<String, String> features = new LinkedHashMap<>();
    Matcher feature = FEATURE.matcher(text);
    while (feature.find()) {
      features.put(feature.group(1), feature.group(2));
    }
    if (!features.containsKey("caravan-cloud")) {
      throw new IOException("feature.xml has no feature caravan-cloud that can be read");
    }
    Set<String> seen = new LinkedHashSet<>();
    List<String> due = new ArrayList<>(List.of("caravan-cloud"));
    Map<String, String> files = new LinkedHashMap<>();
    while (!due.isEmpty()) {
      String name = due.remove(0);
      String body = features.get(name);
      if (body == null || !seen.add(name)) {
        continue;
      }
      Matcher child = CHILD.matcher(body);
      while (child.find()) {
        due.add(child.group(1));
      }
      Matcher route = ROUTE.matcher(body);
      while (route.find()) {
        Path file = repo.resolve("routes/" + route.group(1) + "/" + route.group(2) + ".camel.yaml");
        files.put(file.getFileName().toString(), new String(Files.readAllBytes(file), StandardCharsets.UTF_8));
      }
    }
    return files;
  }
}
