// SPDX-License-Identifier: Apache-2.0
package io.caravan.shell.internal;

import io.caravan.runtime.Caravan;
import org.apache.felix.service.command.CommandSessionListener;
import org.apache.karaf.shell.api.console.CommandLoggingFilter;
import org.osgi.framework.BundleActivator;
import org.osgi.framework.BundleContext;
import org.osgi.util.tracker.ServiceTracker;

/** Listens to all sessions of the shell; the commands are found by Karaf. */
public final class Activator implements BundleActivator {

    private ServiceTracker<Caravan, Caravan> caravan;
    private Pulse pulse;

    @Override
    public void start(BundleContext context) {
        caravan = new ServiceTracker<>(context, Caravan.class, null);
        caravan.open();
        pulse = new Pulse(caravan::getService);
        pulse.start();
        context.registerService(Pulse.class, pulse, null);
        context.registerService(CommandSessionListener.class, new CommandAudit(caravan::getService), null);
        // Karaf logs each line at DEBUG.
        context.registerService(CommandLoggingFilter.class, line -> {
            Caravan container = caravan.getService();
            return container == null ? "(not shown)" : container.redact(line.toString());
        }, null);
    }

    @Override
    public void stop(BundleContext context) {
        pulse.close();
        caravan.close();
    }
}
