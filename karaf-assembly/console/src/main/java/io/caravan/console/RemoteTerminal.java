// SPDX-License-Identifier: Apache-2.0
package io.caravan.console;

import java.io.IOException;
import java.io.InputStream;
import java.io.OutputStream;
import java.nio.charset.StandardCharsets;
import java.util.EnumSet;
import java.util.Map;
import java.util.concurrent.ConcurrentHashMap;
import org.apache.karaf.shell.api.console.SignalListener;
import org.apache.karaf.shell.api.console.Terminal;
import org.jline.terminal.Size;
import org.jline.terminal.impl.ExternalTerminal;

/** A terminal at the other end of a connection, of fixed size, both as JLine and as Karaf know one; {@code Signal} is JLine's. */
final class RemoteTerminal extends ExternalTerminal implements Terminal {

    private final Map<SignalListener, EnumSet<org.apache.karaf.shell.api.console.Signal>> listeners = new ConcurrentHashMap<>();

    RemoteTerminal(InputStream in, OutputStream out, String type, int columns, int rows) throws IOException {
        super("caravan", type, in, out, StandardCharsets.UTF_8);
        setSize(new Size(columns, rows));
        handle(Signal.INT, signal -> tell(org.apache.karaf.shell.api.console.Signal.INT));
        handle(Signal.QUIT, signal -> tell(org.apache.karaf.shell.api.console.Signal.QUIT));
    }

    private void tell(org.apache.karaf.shell.api.console.Signal signal) {
        listeners.forEach((listener, signals) -> {
            if (signals.contains(signal)) {
                listener.signal(signal);
            }
        });
    }

    @Override
    public int getWidth() {
        return getSize().getColumns();
    }

    @Override
    public int getHeight() {
        return getSize().getRows();
    }

    @Override
    public boolean isAnsiSupported() {
        return true;
    }

    @Override
    public boolean isEchoEnabled() {
        return echo();
    }

    @Override
    public void setEchoEnabled(boolean enabled) {
        echo(enabled);
    }

    @Override
    public void addSignalListener(SignalListener listener, org.apache.karaf.shell.api.console.Signal... signals) {
        for (org.apache.karaf.shell.api.console.Signal signal : signals) {
            addSignalListener(listener, EnumSet.of(signal));
        }
    }

    @Override
    public void addSignalListener(SignalListener listener, EnumSet<org.apache.karaf.shell.api.console.Signal> signals) {
        listeners.computeIfAbsent(listener, l -> EnumSet.noneOf(org.apache.karaf.shell.api.console.Signal.class)).addAll(signals);
    }

    @Override
    public void addSignalListener(SignalListener listener) {
        addSignalListener(listener, EnumSet.allOf(org.apache.karaf.shell.api.console.Signal.class));
    }

    @Override
    public void removeSignalListener(SignalListener listener) {
        listeners.remove(listener);
    }
}
