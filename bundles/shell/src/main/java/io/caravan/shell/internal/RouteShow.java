// SPDX-License-Identifier: Apache-2.0
package io.caravan.shell.internal;

import io.caravan.runtime.Caravan;
import io.caravan.runtime.RouteFile;
import org.apache.karaf.shell.api.action.Action;
import org.apache.karaf.shell.api.action.Argument;
import org.apache.karaf.shell.api.action.Command;
import org.apache.karaf.shell.api.action.Completion;
import org.apache.karaf.shell.api.action.Option;
import org.apache.karaf.shell.api.action.lifecycle.Reference;
import org.apache.karaf.shell.api.action.lifecycle.Service;
import org.apache.karaf.shell.api.console.Session;

/** {@code route:show}: the text of a route file that is in force. */
@Service
@Command(scope = "route", name = "show", description = "Print the text in force of a route file")
public final class RouteShow implements Action {

    @Argument(name = "stem", required = true, description = "The file's name without .camel.yaml or .camel.xml")
    @Completion(StemCompleter.class)
    String stem;

    @Option(name = "--json", description = "Print JSON")
    boolean json;

    @Reference
    Caravan caravan;

    @Reference
    Session session;

    @Override
    public Object execute() {
        RouteFile file = caravan.routes().stream().filter(f -> f.stem().equals(stem)).findFirst().orElse(null);
        if (file == null) {
            throw new IllegalArgumentException("There is no route file [" + stem + "]: route:list shows those that are here");
        }
        String text = caravan.text(stem).orElseThrow(() ->
                new IllegalArgumentException("Route file [" + stem + "] is not in force: " + file.error()));
        session.getConsole().println(json
                ? Output.object("stem", stem, "origin", file.origin(), "bundle", file.bundle(), "text", text).toJson() : text);
        return null;
    }
}
