// SPDX-License-Identifier: Apache-2.0
package io.caravan.shell.internal;

import io.caravan.devices.Devices;
import io.caravan.runtime.Caravan;
import java.util.Collection;
import java.util.List;
import org.apache.karaf.shell.api.action.lifecycle.Reference;
import org.apache.karaf.shell.api.action.lifecycle.Service;
import org.apache.karaf.shell.api.console.CommandLine;
import org.apache.karaf.shell.api.console.Completer;
import org.apache.karaf.shell.api.console.Session;
import org.apache.karaf.shell.support.completers.StringsCompleter;

/** Completes the ids of the devices in the registry. */
@Service
public final class DeviceCompleter implements Completer {

    @Reference
    Caravan caravan;

    @Override
    public int complete(Session session, CommandLine line, List<String> candidates) {
        StringsCompleter completer = new StringsCompleter();
        Collection<String> all = completer.getStrings();
        if (caravan.role().equals("gateway")) {
            caravan.bean("devices", Devices.class).ifPresent(devices -> devices.list().forEach(d -> all.add(d.id())));
        }
        return completer.complete(session, line, candidates);
    }
}
