// SPDX-License-Identifier: Apache-2.0
package io.caravan.bench;

import java.nio.file.Path;
import java.time.Duration;
import java.util.function.Consumer;

import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ObjectNode;
import io.caravan.parts.HttpsPart;
import io.caravan.parts.HttpsPart.Answer;

/** A receiver of NDJSON by HTTPS, in this JVM. */
final class HttpsReceiver implements Receiver {
    private static final Duration SLOW = Duration.ofSeconds(1);

    private final HttpsPart https;

    HttpsReceiver() throws Exception {
        https = new HttpsPart();
    }

    @Override
    public ObjectNode address() {
        return new ObjectMapper().createObjectNode().put("url", https.url()).put("ca", https.ca().toString())
                .put("pid", ProcessHandle.current().pid());
    }

    @Override
    public void trouble(Trouble trouble) throws Exception {
        https.answer(trouble == Trouble.SLOW ? Answer.status(200).slow(SLOW) : Answer.status(200));
        if (trouble == Trouble.HANG) {
            https.pause();
        } else {
            https.resume();
        }
        if (trouble == Trouble.DEAD) {
            https.stop();
        } else {
            https.start();
        }
    }

    @Override
    public ObjectNode bare(Path db, int rows) {
        throw new IllegalArgumentException("https has no baseline");
    }

    @Override
    public void keys(Consumer<String> each) {
        https.taken().forEach(each);
    }

    @Override
    public void close() throws Exception {
        https.close();
    }
}
