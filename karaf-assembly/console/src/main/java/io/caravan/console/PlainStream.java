// SPDX-License-Identifier: Apache-2.0
package io.caravan.console;

import java.io.FilterOutputStream;
import java.io.IOException;
import java.io.OutputStream;

/**
 * Leaves escape sequences out: who runs one command has no terminal for them, and Karaf prints bold text to everybody. A zero byte,
 * which would end the answer, is left out too. Used by one thread.
 */
final class PlainStream extends FilterOutputStream {
    private static final int ESC = 0x1b;
    private static final int BEL = 7;

    private enum State { TEXT, ESCAPE, CSI, STRING }

    private State state = State.TEXT;

    PlainStream(OutputStream out) {
        super(out);
    }

    @Override
    public void write(int b) throws IOException {
        switch (state) {
            case TEXT -> {
                if (b == ESC) {
                    state = State.ESCAPE;
                } else if (b != 0) {
                    out.write(b);
                }
            }
            // CSI parameters... final; OSC, DCS and others are strings up to BEL or ESC \\; what else follows is one character.
            case ESCAPE -> state = b == '[' ? State.CSI : b == ']' || b == 'P' || b == '^' || b == '_' || b == 'X' ? State.STRING : State.TEXT;
            case CSI -> state = b >= 0x40 && b <= 0x7e || b == '\n' ? State.TEXT : State.CSI;
            // A string that does not end must not swallow the rest of the output.
            case STRING -> state = b == BEL || b == '\n' ? State.TEXT : b == ESC ? State.ESCAPE : State.STRING;
            default -> throw new IllegalStateException();
        }
    }

    @Override
    public void write(byte[] bytes, int offset, int length) throws IOException {
        int from = offset;
        for (int i = offset; i < offset + length; i++) {
            if (state == State.TEXT && bytes[i] != ESC && bytes[i] != 0) {
                continue;
            }
            if (state == State.TEXT) {
                out.write(bytes, from, i - from);
            }
            write(bytes[i]);
            from = i + 1;
        }
        if (from < offset + length) {
            out.write(bytes, from, offset + length - from);
        }
    }
}
