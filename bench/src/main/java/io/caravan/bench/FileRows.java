// SPDX-License-Identifier: Apache-2.0
package io.caravan.bench;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.function.Consumer;
import java.util.stream.Stream;

/** What sink-file wrote. */
final class FileRows {
    private FileRows() { }

    /** Calls for each line of the files below a folder; files that begin with a dot are not finished. */
    static void keys(Path folder, Consumer<String> each) throws IOException {
        try (Stream<Path> files = Files.walk(folder)) {
            for (Path file : files.filter(f -> f.toString().endsWith(".ndjson") && !f.getFileName().toString().startsWith(".")).toList()) {
                try (Stream<String> lines = Files.lines(file)) {
                    lines.map(SinkLine::messageKey).forEach(each);
                }
            }
        }
    }
}
