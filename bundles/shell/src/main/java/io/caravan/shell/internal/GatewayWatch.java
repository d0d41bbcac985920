// SPDX-License-Identifier: Apache-2.0
package io.caravan.shell.internal;

import java.io.IOException;
import java.util.List;
import java.util.OptionalDouble;
import java.util.concurrent.TimeUnit;
import org.apache.karaf.shell.api.action.Command;
import org.apache.karaf.shell.api.action.Completion;
import org.apache.karaf.shell.api.action.Option;
import org.apache.karaf.shell.api.action.lifecycle.Service;
import org.apache.karaf.shell.support.completers.StringsCompleter;
import org.jline.terminal.Attributes;
import org.jline.terminal.Terminal;

/** {@code gateway:watch}: {@link GatewayInfo} again and again, in place; a line each time where there is no terminal. */
@Service
@Command(scope = "gateway", name = "watch", description = "Show gateway:info again and again: in place on a terminal until q or Ctrl-C, else one line each time",
        detailedDescription = "Examples:\n  gateway:watch\n  gateway:watch --interval 10s --count 6")
public final class GatewayWatch extends GatewayCommand {

    private static final String HOME = "\u001b[H";
    private static final String REST_OF_LINE = "\u001b[K";
    private static final String REST_OF_SCREEN = "\u001b[J";
    private static final int CTRL_C = 3;

    @Option(name = "--interval", description = "Time between two: 500ms, 2s, 1m")
    @Completion(value = StringsCompleter.class, values = {"1s", "2s", "10s", "1m"})
    String interval = "2s";

    @Option(name = "--count", description = "So many times; 0: until it is ended")
    @Completion(value = StringsCompleter.class, values = {"1", "10", "60"})
    int count;

    private double before = Double.NaN;
    private long beforeNs;

    @Override
    Object run() throws IOException, InterruptedException {
        long ms = interval.matches("\\d{3,6}ms") ? Long.parseLong(interval.replace("ms", "")) : Times.duration("--interval", interval);
        if (ms < 100 || ms > 86_400_000L) {
            throw new IllegalArgumentException("--interval [" + interval + "] must be from 100ms to 24h");
        }
        if (count < 0) {
            throw new IllegalArgumentException("--count [" + count + "] must be a whole number from 0");
        }
        if (!json && session.getTerminal() != null && session.get(".jline.terminal") instanceof Terminal terminal) {
            redraw(terminal, ms);
            return null;
        }
        for (int i = 0; count == 0 || i < count; i++) {
            if (i > 0) {
                TimeUnit.MILLISECONDS.sleep(ms);
            }
            Overview overview = new Overview(caravan, rate());
            say(json ? overview.json().toJson() : overview.line(width()));
            // Whoever asked may be gone.
            if (out().checkError()) {
                return null;
            }
        }
        return null;
    }

    private void redraw(Terminal terminal, long ms) throws IOException {
        Attributes normal = terminal.enterRawMode();
        try {
            out().print("\u001b[2J");
            for (int i = 0; count == 0 || i < count; i++) {
                int key = i == 0 ? 0 : terminal.reader().read(ms);
                if (key == 'q' || key == 'Q' || key == CTRL_C || key == -1 || Thread.interrupted()) {
                    return;
                }
                draw(new Overview(caravan, rate()).lines(width(), Paint.allowed(session)));
            }
        } finally {
            terminal.setAttributes(normal);
            out().println();
            out().flush();
        }
    }

    private void draw(List<String> lines) {
        StringBuilder screen = new StringBuilder(HOME);
        lines.forEach(l -> screen.append(l).append(REST_OF_LINE).append("\r\n"));
        out().print(screen.append("every ").append(interval).append(", q ends it").append(REST_OF_SCREEN));
        out().flush();
    }

    private OptionalDouble rate() {
        OptionalDouble taken = Pulse.taken(caravan);
        long now = System.nanoTime();
        double last = before;
        long lastNs = beforeNs;
        before = taken.orElse(Double.NaN);
        beforeNs = now;
        return taken.isEmpty() || Double.isNaN(last) || now <= lastNs ? OptionalDouble.empty() : OptionalDouble.of((taken.getAsDouble() - last) * 1e9 / (now - lastNs));
    }
}
