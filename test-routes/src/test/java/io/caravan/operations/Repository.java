// SPDX-License-Identifier: Apache-2.0
package io.caravan.operations;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Map;
import org.snakeyaml.engine.v2.api.Load;
import org.snakeyaml.engine.v2.api.LoadSettings;

/** Files of the repository. */
final class Repository {
  static final Path ROOT = Path.of(System.getProperty("repo.dir", "..")).toAbsolutePath().normalize();

  private Repository() { }

  static String text(String file) throws IOException {
    return Files.readString(ROOT.resolve(file));
  }

  static Map<String, Object> yaml(Path file) throws IOException {
    return parse(Files.readString(file));
  }

  static Map<String, Object> parse(String text) {
    return map(new Load(LoadSettings.builder().setAllowDuplicateKeys(false).build()).loadFromString(text));
  }

  @SuppressWarnings("unchecked")
  static Map<String, Object> map(Object value) {
    return (Map<String, Object>) value;
  }

  @SuppressWarnings("unchecked")
  static List<Object> list(Object value) {
    return value == null ? List.of() : (List<Object>) value;
  }
}
