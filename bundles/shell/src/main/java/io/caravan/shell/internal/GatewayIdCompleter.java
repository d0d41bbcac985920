// SPDX-License-Identifier: Apache-2.0
package io.caravan.shell.internal;

import io.caravan.runtime.Caravan;
import io.caravan.uplink.Gateways;
import java.util.Collection;
import java.util.List;
import org.apache.karaf.shell.api.action.lifecycle.Reference;
import org.apache.karaf.shell.api.action.lifecycle.Service;
import org.apache.karaf.shell.api.console.CommandLine;
import org.apache.karaf.shell.api.console.Completer;
import org.apache.karaf.shell.api.console.Session;
import org.apache.karaf.shell.support.completers.StringsCompleter;

/** Completes the ids of the gateways that the cloud knows. */
@Service
public final class GatewayIdCompleter implements Completer {

    @Reference
    Caravan caravan;

    @Override
    public int complete(Session session, CommandLine line, List<String> candidates) {
        StringsCompleter completer = new StringsCompleter();
        Collection<String> all = completer.getStrings();
        caravan.bean("gateways", Gateways.class).ifPresent(gateways -> gateways.list().forEach(g -> all.add(g.id())));
        return completer.complete(session, line, candidates);
    }
}
