// SPDX-License-Identifier: Apache-2.0
package io.caravan.console;

import static org.junit.jupiter.api.Assertions.assertEquals;

import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import org.junit.jupiter.api.Test;

class PlainStreamTest {

    private static String plain(String text, boolean oneByOne) throws IOException {
        ByteArrayOutputStream out = new ByteArrayOutputStream();
        PlainStream plain = new PlainStream(out);
        byte[] bytes = text.getBytes(StandardCharsets.UTF_8);
        if (oneByOne) {
            for (byte b : bytes) {
                plain.write(b & 0xff);
            }
        } else {
            plain.write(bytes, 0, bytes.length);
        }
        return out.toString(StandardCharsets.UTF_8);
    }

    @Test
    void escapeSequencesAreLeftOutAndNothingElse() throws IOException {
        String text = "\u001b[1mSYNTAX\u001b[22m a [b] \u001b]0;title\u0007c\u001bPx\u001b\\d \u6f22\u5b57 \u001b[2J\u001b[31;1me\u001b7f\u0000g\u001b]open\nnext";
        for (boolean oneByOne : new boolean[] {true, false}) {
            assertEquals("SYNTAX a [b] cd \u6f22\u5b57 efgnext", plain(text, oneByOne));
            assertEquals("as it is\n\t{\"a\":1}", plain("as it is\n\t{\"a\":1}", oneByOne));
        }
    }
}
