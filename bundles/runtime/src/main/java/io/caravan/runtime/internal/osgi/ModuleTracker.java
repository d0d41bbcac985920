// SPDX-License-Identifier: Apache-2.0
package io.caravan.runtime.internal.osgi;

import io.caravan.runtime.Module;
import io.caravan.runtime.internal.Container;
import java.util.List;
import org.apache.camel.Component;
import org.osgi.framework.Bundle;
import org.osgi.framework.BundleContext;
import org.osgi.framework.BundleEvent;
import org.osgi.framework.BundleListener;
import org.osgi.framework.FrameworkUtil;
import org.osgi.util.tracker.BundleTracker;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/** Starts and stops the module that a bundle names in its manifest, together with the bundle. */
final class ModuleTracker extends BundleTracker<String> {

    static final String HEADER = "Caravan-Module";

    private static final Logger LOG = LoggerFactory.getLogger(ModuleTracker.class);

    private final Container container;
    private final BundleListener uninstalled = this::bundleChanged;

    ModuleTracker(BundleContext context, Container container) {
        super(context, Bundle.ACTIVE, null);
        this.container = container;
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
    public String addingBundle(Bundle bundle, BundleEvent event) {
        String type = bundle.getHeaders("").get(HEADER);
        if (type == null) {
            return null;
        }
        String name = name(bundle);
        container.addModule(name, () -> (Module) bundle.loadClass(type.trim()).getDeclaredConstructor().newInstance());
        return name;
    }

    @Override
    public void removedBundle(Bundle bundle, BundleEvent event, String name) {
        try {
            container.removeModule(name);
            // The bundle's components are of classes that an update of it replaces.
            for (String scheme : List.copyOf(container.context().getComponentNames())) {
                Component component = container.context().hasComponent(scheme);
                if (component != null && bundle.equals(FrameworkUtil.getBundle(component.getClass()))) {
                    container.context().removeComponent(scheme);
                }
            }
        } catch (Exception e) {
            LOG.error("Module {} did not stop in time with its bundle", name, e);
        }
    }

    private void bundleChanged(BundleEvent event) {
        if (event.getType() == BundleEvent.UNINSTALLED) {
            container.forgetModule(name(event.getBundle()));
        }
    }

    private static String name(Bundle bundle) {
        return String.valueOf(bundle.getSymbolicName()).replaceFirst("^io\\.caravan\\.", "");
    }
}
