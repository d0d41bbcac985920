// SPDX-License-Identifier: Apache-2.0
package io.caravan.it;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.IOException;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;

/**
 * What an SBOM says is in a distribution.
 *
 * @param path of the file in the distribution that has it, itself or inside
 * @param within purls of what it is inside of, the outermost first; empty: it is a file of its own
 */
record Sbom(String purl, String name, String version, String sha256, int licences, String path, List<String> within) {
  static final String FILE = "sbom.cdx.json";

  /** @return every component, what is inside others after them */
  static List<Sbom> read(Path file) throws IOException {
    List<Sbom> all = new ArrayList<>();
    for (JsonNode c : new ObjectMapper().readTree(file.toFile()).path("components")) {
      add(all, c, c.path("properties").path(0).path("value").asText(), List.of());
    }
    return all;
  }

  private static void add(List<Sbom> all, JsonNode c, String path, List<String> within) {
    Sbom one = new Sbom(c.path("purl").asText(), c.path("name").asText(), c.path("version").asText(),
        c.path("hashes").path(0).path("content").asText(), c.path("licenses").size(), path, within);
    all.add(one);
    List<String> deeper = new ArrayList<>(within);
    deeper.add(one.purl);
    for (JsonNode inner : c.path("components")) {
      add(all, inner, path, List.copyOf(deeper));
    }
  }

  /** Its purl without version and qualifiers. */
  String component() {
    return purl.substring(0, purl.lastIndexOf('@'));
  }
}
