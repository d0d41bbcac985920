// SPDX-License-Identifier: Apache-2.0
package io.caravan.torture;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.caravan.it.Distribution;
import java.nio.file.Files;
import java.util.HashSet;
import java.util.List;
import java.util.Set;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import org.junit.jupiter.api.Test;

/** The list of faults is the documentation's. */
class FaultsTest {
  @Test
  void namesAreUniqueAndTheDocumentationHasEach() throws Exception {
    List<Fault> all = Faults.all();
    Set<String> names = new HashSet<>();
    for (Fault fault : all) {
      assertTrue(fault.name().matches("[a-z0-9]+(-[a-z0-9]+)*"), fault.name());
      assertTrue(names.add(fault.name()), fault.name());
      assertTrue(!fault.does().isBlank());
    }
    Set<String> documented = new HashSet<>();
    Matcher row = Pattern.compile("(?m)^\\| `([a-z0-9-]+)` \\| (\\d+) \\|").matcher(Files.readString(Distribution.REPO.resolve("docs/torture.md")));
    while (row.find()) {
      documented.add(row.group(1) + " " + row.group(2));
    }
    Set<String> there = new HashSet<>();
    all.forEach(fault -> there.add(fault.name() + " " + fault.number()));
    assertEquals(there, documented);
  }
}
