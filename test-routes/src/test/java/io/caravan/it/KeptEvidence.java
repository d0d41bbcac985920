// SPDX-License-Identifier: Apache-2.0
package io.caravan.it;

import java.io.IOException;
import java.nio.file.DirectoryStream;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.attribute.FileTime;
import java.time.Instant;
import java.time.temporal.ChronoUnit;
import java.util.ArrayList;
import java.util.List;
import org.junit.jupiter.api.extension.AfterAllCallback;
import org.junit.jupiter.api.extension.BeforeAllCallback;
import org.junit.jupiter.api.extension.ExtensionContext;
import org.junit.jupiter.api.extension.TestWatcher;

/**
 * What a class of tests that search has found is not deleted by the next try: where one of them failed, the folders of the class get a number, such as
 * {@code crash-gateway.1}.
 */
public final class KeptEvidence implements BeforeAllCallback, AfterAllCallback, TestWatcher {
  private final Path base;
  private final String prefix;
  private Instant begun;
  private boolean failed;

  /** @param prefix names of the class's folders below target/it begin so, and nobody else's */
  public KeptEvidence(String prefix) {
    this(Distribution.REPO.resolve("test-routes/target/it"), prefix);
  }

  KeptEvidence(Path base, String prefix) {
    this.base = base;
    this.prefix = prefix;
  }

  @Override
  public void beforeAll(ExtensionContext context) {
    begun = Instant.now().truncatedTo(ChronoUnit.SECONDS);   // times of files are coarser than clocks
    failed = false;
  }

  @Override
  public void testFailed(ExtensionContext context, Throwable cause) {
    failed = true;
  }

  /** When all that the tests started has ended. */
  @Override
  public void afterAll(ExtensionContext context) throws IOException {
    if (failed) {
      aside(begun).forEach(folder -> System.out.println("evidence of " + context.getDisplayName() + ": " + folder));
    }
  }

  /** @return where it is now what was changed since */
  List<Path> aside(Instant since) throws IOException {
    List<Path> folders = new ArrayList<>();
    try (DirectoryStream<Path> all = Files.newDirectoryStream(base, prefix + "*")) {
      for (Path folder : all) {
        boolean kept = folder.getFileName().toString().matches(".*[.]\\d+");
        if (!kept && Files.isDirectory(folder) && Files.getLastModifiedTime(folder).compareTo(FileTime.from(since)) >= 0) {
          folders.add(folder);
        }
      }
    }
    List<Path> aside = new ArrayList<>();
    for (Path folder : folders) {
      int n = 1;
      while (Files.exists(folder.resolveSibling(folder.getFileName() + "." + n))) {
        n++;
      }
      aside.add(Files.move(folder, folder.resolveSibling(folder.getFileName() + "." + n)));
    }
    return aside;
  }
}
