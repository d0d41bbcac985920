// SPDX-License-Identifier: Apache-2.0
package io.caravan.runtime.internal.osgi;

import io.caravan.runtime.internal.RouteDeployer;
import io.caravan.runtime.internal.RouteSource;
import io.caravan.runtime.internal.RouteSource.Origin;
import java.io.IOException;
import java.io.InputStream;
import java.net.URL;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Collections;
import java.util.Enumeration;
import java.util.List;
import java.util.Map;
import java.util.concurrent.ConcurrentHashMap;
import org.osgi.framework.Bundle;
import org.osgi.framework.BundleContext;
import org.osgi.framework.BundleEvent;
import org.osgi.framework.BundleListener;
import org.osgi.util.tracker.BundleTracker;

/** Tells the deployer of the route files in started bundles: {@code OSGI-INF/camel/<stem>.camel.yaml}. */
final class RouteTracker extends BundleTracker<List<RouteSource>> {

    /** Symbolic name of a file from {@code deploy/}, before its stem. */
    static final String DEPLOY = "io.caravan.deploy.";

    private final RouteDeployer deployer;
    private final Map<Long, List<RouteSource>> known = new ConcurrentHashMap<>();
    private final BundleListener uninstalled = this::bundleChanged;

    RouteTracker(BundleContext context, RouteDeployer deployer) {
        super(context, Bundle.ACTIVE, null);
        this.deployer = deployer;
    }

    @Override
    public void open() {
        context.addBundleListener(uninstalled);
        super.open();
    }

    @Override
    public void close() {
        context.removeBundleListener(uninstalled);
        super.close();
    }

    @Override
    public List<RouteSource> addingBundle(Bundle bundle, BundleEvent event) {
        Enumeration<URL> entries = bundle.findEntries("OSGI-INF/camel", "*.*", false);
        if (entries == null) {
            return null;
        }
        Origin origin = String.valueOf(bundle.getSymbolicName()).startsWith(DEPLOY) ? Origin.DEPLOY : Origin.FEATURE;
        List<RouteSource> sources = new ArrayList<>();
        for (URL url : Collections.list(entries)) {
            String file = url.getPath().replaceFirst(".*/", "");
            try (InputStream in = url.openStream()) {
                sources.add(RouteSource.of(file, origin, bundle.getBundleId(),
                        new String(in.readAllBytes(), StandardCharsets.UTF_8)));
            } catch (IOException | IllegalArgumentException e) {
                deployer.refuse(file, e.getMessage() + " (bundle " + bundle.getBundleId() + ")", null);
            }
        }
        known.put(bundle.getBundleId(), sources);
        sources.forEach(deployer::put);
        return sources;
    }

    /** Stopped, which is also how an update or an uninstallation begins. */
    @Override
    public void removedBundle(Bundle bundle, BundleEvent event, List<RouteSource> sources) {
        sources.forEach(s -> deployer.remove(s.stem(), s.origin(), s.bundle(), false));
    }

    private void bundleChanged(BundleEvent event) {
        if (event.getType() == BundleEvent.UNINSTALLED) {
            List<RouteSource> sources = known.remove(event.getBundle().getBundleId());
            if (sources != null) {
                sources.forEach(s -> deployer.remove(s.stem(), s.origin(), s.bundle(), true));
            }
        }
    }
}
