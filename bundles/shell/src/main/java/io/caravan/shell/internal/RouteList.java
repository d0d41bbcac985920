// SPDX-License-Identifier: Apache-2.0
package io.caravan.shell.internal;

import io.caravan.runtime.Caravan;
import org.apache.karaf.shell.api.action.Action;
import org.apache.karaf.shell.api.action.Command;
import org.apache.karaf.shell.api.action.Option;
import org.apache.karaf.shell.api.action.lifecycle.Reference;
import org.apache.karaf.shell.api.action.lifecycle.Service;
import org.apache.karaf.shell.api.console.Session;
import org.apache.karaf.shell.support.table.ShellTable;

/** {@code route:list}: what became of each route file. */
@Service
@Command(scope = "route", name = "list", description = "List the route files, their routes and what is wrong with them")
public final class RouteList implements Action {

    @Option(name = "--json", description = "Print JSON")
    boolean json;

    @Reference
    Caravan caravan;

    @Reference
    Session session;

    @Override
    public Object execute() {
        if (json) {
            session.getConsole().println(Output.json(caravan.routes()));
            return null;
        }
        ShellTable table = new ShellTable().emptyTableText("No route files");
        for (String column : new String[] {"Stem", "Bundle", "Origin", "State", "Route", "Status", "Error"}) {
            table.column(column);
        }
        Output.rows(caravan.routes()).forEach(row -> table.addRow().addContent(row));
        table.print(session.getConsole());
        return null;
    }
}
