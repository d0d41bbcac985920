// SPDX-License-Identifier: Apache-2.0
package io.caravan.wal;

import java.io.IOException;
import java.nio.channels.FileChannel;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import org.apache.camel.Exchange;

/**
 * Step after {@code to: file:...}: has the disk keep what was written, before the batch is acknowledged. Java, because
 * camel-file 4.14 declares {@code forceWrites} and never calls fsync. Stateless.
 */
public final class SyncedFile {

    /**
     * Returns when the file the exchange has just written, its name and the name of its folder are on disk.
     *
     * @throws IllegalStateException nothing was written by this exchange
     * @throws IOException           the disk failed, or the file is gone; write it again
     */
    public void sync(Exchange exchange) throws IOException {
        String written = exchange.getMessage().getHeader(Exchange.FILE_NAME_PRODUCED, String.class);
        if (written == null) {
            throw new IllegalStateException("route [" + exchange.getFromRouteId() + "] has written no file before this step:"
                    + " put the step behind one that is to: file:...");
        }
        Path file = Path.of(written).toAbsolutePath();
        force(file, StandardOpenOption.WRITE);
        // The entry of the file, and, because the folder may be new, the entry of the folder.
        Path folder = file.getParent();
        force(folder, StandardOpenOption.READ);
        if (folder.getParent() != null) {
            force(folder.getParent(), StandardOpenOption.READ);
        }
    }

    private static void force(Path path, StandardOpenOption how) throws IOException {
        try (FileChannel channel = FileChannel.open(path, how)) {
            channel.force(true);
        }
    }
}
