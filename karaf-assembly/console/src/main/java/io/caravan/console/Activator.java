// SPDX-License-Identifier: Apache-2.0
package io.caravan.console;

import java.io.IOException;
import java.nio.file.Path;
import org.apache.karaf.shell.api.console.SessionFactory;
import org.osgi.framework.BundleActivator;
import org.osgi.framework.BundleContext;
import org.osgi.framework.ServiceReference;
import org.osgi.util.tracker.ServiceTracker;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/** Opens the socket while there is a shell. A socket that cannot be opened is logged; the container runs without it. */
public final class Activator implements BundleActivator {

    private static final Logger LOG = LoggerFactory.getLogger(Activator.class);

    private ServiceTracker<SessionFactory, ConsoleServer> tracker;

    @Override
    public void start(BundleContext context) {
        Path socket = Path.of(context.getProperty("karaf.data"), "shell.sock");
        Access access = new Access(Path.of(context.getProperty("karaf.etc"), "shell.access"));
        tracker = new ServiceTracker<>(context, SessionFactory.class, null) {
            @Override
            public ConsoleServer addingService(ServiceReference<SessionFactory> reference) {
                try {
                    return new ConsoleServer(socket, access, context.getService(reference));
                } catch (IOException e) {
                    LOG.warn("No shell for bin/caravan shell: socket [{}] cannot be opened: {}", socket, e.getMessage());
                    context.ungetService(reference);
                    return null;
                }
            }

            @Override
            public void removedService(ServiceReference<SessionFactory> reference, ConsoleServer server) {
                server.close();
                context.ungetService(reference);
            }
        };
        tracker.open();
    }

    @Override
    public void stop(BundleContext context) {
        tracker.close();
    }
}
