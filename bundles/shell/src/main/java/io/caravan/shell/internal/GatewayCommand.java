// SPDX-License-Identifier: Apache-2.0
package io.caravan.shell.internal;

import io.caravan.runtime.Caravan;
import io.caravan.wal.Recovery;
import java.io.IOException;
import java.io.PrintStream;
import java.lang.reflect.Field;
import java.util.List;
import java.util.Set;
import java.util.TreeSet;
import java.util.function.Function;
import java.util.function.Supplier;
import org.apache.karaf.shell.api.action.Action;
import org.apache.karaf.shell.api.action.Option;
import org.apache.karaf.shell.api.action.lifecycle.Reference;
import org.apache.karaf.shell.api.console.Session;
import org.apache.karaf.shell.api.console.Terminal;

/** What commands about the log have in common. */
abstract class GatewayCommand implements Action {

    @Option(name = "--json", description = "Print JSON")
    boolean json;

    @Reference
    Caravan caravan;

    @Reference
    Session session;

    /** Karaf takes no option behind an argument, where people and scripts put {@code --yes}: what stands there comes here. */
    List<String> trailing() {
        return null;
    }

    abstract Object run() throws Exception;

    @Override
    public final Object execute() throws Exception {
        List<String> options = trailing();
        for (int i = 0; options != null && i < options.size(); i++) {
            String name = options.get(i);
            Field field = option(name);
            if (field.getType() == boolean.class) {
                field.setBoolean(this, true);
            } else if (++i == options.size()) {
                throw new IllegalArgumentException("option [" + name + "] must be followed by a value");
            } else {
                set(field, name, options.get(i));
            }
        }
        try {
            return run();
        } catch (RuntimeException e) {
            // The shell prints it as it is, and it may name what a device sent.
            String message = e.getMessage();
            if (message == null || Text.clean(message).equals(message)) {
                throw e;
            }
            throw new IllegalStateException(Text.clean(message), e);
        }
    }

    private Field option(String name) {
        Set<String> names = new TreeSet<>();
        for (Class<?> type = getClass(); type != Object.class; type = type.getSuperclass()) {
            for (Field field : type.getDeclaredFields()) {
                Option option = field.getAnnotation(Option.class);
                if (option != null && (option.name().equals(name) || List.of(option.aliases()).contains(name))) {
                    field.setAccessible(true);
                    return field;
                }
                if (option != null) {
                    names.add(option.name());
                }
            }
        }
        throw new IllegalArgumentException("[" + name + "] is one argument too many, and no option: options are " + String.join(", ", names));
    }

    private void set(Field field, String name, String value) throws IllegalAccessException {
        if (field.getType() == String.class) {
            field.set(this, value);
            return;
        }
        try {
            if (field.getType() == int.class) {
                field.setInt(this, Integer.parseInt(value));
            } else {
                field.setLong(this, Long.parseLong(value));
            }
        } catch (NumberFormatException e) {
            throw new IllegalArgumentException(name + " [" + value + "] must be a whole number", e);
        }
    }

    /** The bean; or says why this container does not have it. */
    final Recovery recovery() {
        return recovery(caravan);
    }

    static Recovery recovery(Caravan caravan) {
        return caravan.bean("recovery", Recovery.class).orElseThrow(() -> new IllegalStateException(caravan.role().equals("gateway")
                ? "The store is not open: " + caravan.checks().stream().filter(c -> c.name().equals("module:wal")).findFirst()
                        .map(c -> c.message().isEmpty() ? "see the log" : c.message()).orElse("module wal is not installed")
                : "This container's role is [" + caravan.role() + "], it keeps no log of messages: give the command at a gateway"));
    }

    final PrintStream out() {
        return session.getConsole();
    }

    /** Prints text, of others too: what would steer the terminal is shown, not done. */
    final void say(String text) {
        out().println(Text.clean(text));
    }

    /** Prints a text as it is: made here, with colours where there may be some. */
    final void paint(Paint paint, String text) {
        out().println(paint.on(Paint.allowed(session), Text.clean(text)));
    }

    /** @return columns that a table may have */
    final int width() {
        Terminal terminal = session.getTerminal();
        return terminal == null || terminal.getWidth() <= 0 ? Table.WIDTH : Math.max(60, Math.min(200, terminal.getWidth()));
    }

    /** Records as a table, or as JSON with all their components. */
    final void table(List<?> records, String empty, List<String> columns, Function<Object, Object[]> row) {
        if (json) {
            say(Output.jsonOf(records).toJson());
            return;
        }
        if (records.isEmpty()) {
            if (!empty.isEmpty()) {
                say(empty);
            }
            return;
        }
        Table table = new Table(columns);
        records.forEach(record -> table.add(row.apply(record)));
        table.lines(width(), Paint.allowed(session)).forEach(out()::println);
    }

    /** Does what is asked for after a yes; in between it says what that would be. */
    final void confirmed(boolean yes, String command, Supplier<String> preview, Runnable action) {
        if (!yes) {
            String what = preview.get();
            if (session.getTerminal() == null) {
                throw new IllegalStateException(command + " was not done, there is no terminal to ask on. It would do this: " + what
                        + " Give --yes to do it.");
            }
            if (!answeredYes(what)) {
                say("Nothing was done.");
                return;
            }
        }
        action.run();
    }

    private boolean answeredYes(String what) {
        try {
            String answer = session.readLine(what + " Go on? [y/N] ", null);
            return answer != null && answer.strip().matches("(?i)y(es)?");
        } catch (IOException e) {
            throw new IllegalStateException("no answer from the terminal, nothing was done: " + e.getMessage(), e);
        }
    }

    final void change(Recovery.Change change, String text) {
        say(json ? Output.jsonOf(change).toJson() : text);
    }
}
