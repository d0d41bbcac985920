// SPDX-License-Identifier: Apache-2.0
package io.caravan.bench;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.stream.LongStream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** The oracle of the peers, and the listener that is the baseline of the gateway's. */
class LossTest {
    @TempDir Path dir;

    private Path acked(long... seqs) throws IOException {
        StringBuilder lines = new StringBuilder("#sent d b1 1000\n");
        LongStream.of(seqs).forEach(seq -> lines.append(Keys.numbered("d", "b1", seq)).append('\n'));
        return Files.writeString(dir.resolve("acked"), lines);
    }

    private Path arrived(long... seqs) throws IOException {
        LoadBody bodies = new LoadBody("d", "b1", 8);
        StringBuilder lines = new StringBuilder();
        LongStream.of(seqs).forEach(seq -> lines.append(new String(bodies.compose(seq, 1_700_000_000_000L), StandardCharsets.UTF_8)).append('\n'));
        return Files.writeString(dir.resolve("arrived"), lines);
    }

    private static Loss.Result compare(Path acked, Path lines) throws IOException {
        KeySet keys = new KeySet();
        return Loss.compare(acked, Loss.ofLines(lines, keys), keys);
    }

    @Test
    void whatWasNotPromisedMayBeThereAndTwiceIsNoLoss() throws Exception {
        Loss.Result result = compare(acked(1, 2, 3), arrived(1, 2, 2, 3, 4));
        assertEquals(0, result.lost());
        assertEquals(3, result.acked());
        assertEquals(5, result.received());
        assertEquals(4, result.distinct());
    }

    /** The negative control: a row that is taken away is missed. */
    @Test
    void oneMissingMessageIsFound() throws Exception {
        Loss.Result result = compare(acked(1, 2, 3), arrived(1, 3));
        assertEquals(1, result.lost());
        assertEquals(Keys.numbered("d", "b1", 2), result.example());
        assertEquals(1, Main.commandLine().execute("loss", "--acked", dir.resolve("acked").toString(), "--lines", dir.resolve("arrived").toString()));
        assertEquals(0, Main.commandLine().execute("loss", "--acked", acked(1, 3).toString(), "--lines", dir.resolve("arrived").toString()));
    }

    @Test
    void aTornLineHasNotArrived() throws Exception {
        Path lines = arrived(1, 2, 3);
        Files.writeString(lines, Files.readString(lines).substring(0, (int) Files.size(lines) - 20));
        assertEquals(1, compare(acked(1, 2, 3), lines).lost());
    }

    @Test
    void withoutPromisesNothingIsProven() throws Exception {
        assertThrows(IOException.class, () -> compare(acked(), arrived(1)));
        assertEquals(2, Main.commandLine().execute("loss", "--acked", acked().toString(), "--lines", arrived(1).toString()));
    }

    /** The baseline is durable, so that it is a fair one: what it acknowledged is in its file, and a load runs through it to the end. */
    @Test
    void theBareListenerStoresWhatItAcknowledges() throws Exception {
        BareListener listener = new BareListener();
        listener.where = new BareListener.Where();
        listener.where.dir = dir;
        int port = listener.start();
        Path log = dir.resolve("log");
        for (String version : new String[] {"3", "5"}) {
            assertEquals(0, Main.commandLine().execute("load", "--port", Integer.toString(port), "--mqtt", version, "--connections", "2", "--window", "20",
                    "--messages", "500", "--quiet", "--prefix", "v" + version, "--ack-log", log.toString()));
        }
        listener.close();
        try (var db = Databases.readOnly(dir.resolve("bare.db")); var s = db.createStatement(); var r = s.executeQuery("SELECT count(*), count(DISTINCT body) FROM wal")) {
            assertEquals(1000, r.getLong(1));
            assertEquals(1000, r.getLong(2));
        }
        assertTrue(Files.readAllLines(log).stream().filter(l -> !l.startsWith("#")).count() == 1000);
    }
}
