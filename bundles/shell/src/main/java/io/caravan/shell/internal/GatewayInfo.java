// SPDX-License-Identifier: Apache-2.0
package io.caravan.shell.internal;

import io.caravan.runtime.Caravan;
import io.caravan.runtime.Check;
import java.util.List;
import org.apache.karaf.shell.api.action.Action;
import org.apache.karaf.shell.api.action.Command;
import org.apache.karaf.shell.api.action.Option;
import org.apache.karaf.shell.api.action.lifecycle.Reference;
import org.apache.karaf.shell.api.action.lifecycle.Service;
import org.apache.karaf.shell.api.console.Session;
import org.apache.karaf.shell.support.table.ShellTable;

/** {@code gateway:info}: what runs here and whether it is ready. */
@Service
@Command(scope = "gateway", name = "info", description = "Show role, version, uptime and readiness")
public final class GatewayInfo implements Action {

    @Option(name = "--json", description = "Print JSON")
    boolean json;

    @Reference
    Caravan caravan;

    @Reference
    Session session;

    @Override
    public Object execute() {
        List<Check> checks = caravan.checks();
        if (json) {
            session.getConsole().println(Output.json(caravan.role(), caravan.version(), caravan.uptime(), checks));
            return null;
        }
        session.getConsole().printf("Caravan %s %s, up %s, %s%n%n", caravan.role(), caravan.version(),
                Output.uptime(caravan.uptime()), checks.stream().allMatch(Check::up) ? "ready" : "not ready");
        ShellTable table = new ShellTable();
        table.column("Check");
        table.column("Status");
        table.column("Message");
        checks.forEach(c -> table.addRow().addContent(c.name(), c.status(), c.message()));
        table.print(session.getConsole());
        return null;
    }
}
