// SPDX-License-Identifier: Apache-2.0
package io.caravan.wal;

import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import org.apache.camel.Exchange;
import org.apache.camel.impl.DefaultCamelContext;
import org.apache.camel.support.DefaultExchange;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** What it takes and what it refuses. That force() reaches the disk is the JDK's promise. */
class SyncedFileTest {
    @TempDir
    Path folder;

    @Test
    void aFileThatIsThereIsFine() throws Exception {
        Path file = Files.writeString(Files.createDirectory(folder.resolve("d")).resolve("f"), "x");
        new SyncedFile().sync(written(file.toString()));
    }

    @Test
    void nothingWrittenOrGoneAgainIsAFailure() {
        SyncedFile sync = new SyncedFile();
        assertTrue(assertThrows(IllegalStateException.class, () -> sync.sync(written(null))).getMessage().contains("to: file:"));
        assertThrows(IOException.class, () -> sync.sync(written(folder.resolve("gone").toString())));
    }

    private static Exchange written(String file) {
        Exchange exchange = new DefaultExchange(new DefaultCamelContext());
        if (file != null) {
            exchange.getMessage().setHeader(Exchange.FILE_NAME_PRODUCED, file);
        }
        return exchange;
    }
}
