// SPDX-License-Identifier: Apache-2.0
package io.caravan.runtime.internal.osgi;

import java.io.IOException;
import java.net.URL;
import java.util.Arrays;
import java.util.Collections;
import java.util.Enumeration;
import java.util.List;
import java.util.stream.Stream;
import org.osgi.framework.Bundle;
import org.osgi.framework.BundleContext;
import org.osgi.framework.Constants;

/**
 * What route files can name: the classes and resources of every bundle that has to do with Camel or Caravan, exported or
 * not. Without wiring this bundle to them, so that none of their refreshes restarts it. This class is thread-safe.
 */
final class BundleClassLoader extends ClassLoader {

    static {
        registerAsParallelCapable();
    }

    private final BundleContext context;
    private volatile List<Bundle> bundles;

    BundleClassLoader(BundleContext context) {
        super(BundleClassLoader.class.getClassLoader());
        this.context = context;
    }

    /** Bundles have come or gone. */
    void forget() {
        bundles = null;
    }

    @Override
    protected Class<?> findClass(String name) throws ClassNotFoundException {
        for (Bundle bundle : bundles()) {
            try {
                return bundle.loadClass(name);
            } catch (ClassNotFoundException | IllegalStateException e) {
                continue;
            }
        }
        throw new ClassNotFoundException(name);
    }

    @Override
    protected URL findResource(String name) {
        return bundles().stream().map(b -> b.getResource(name)).filter(u -> u != null).findFirst().orElse(null);
    }

    @Override
    protected Enumeration<URL> findResources(String name) throws IOException {
        List<URL> found = new java.util.ArrayList<>();
        for (Bundle bundle : bundles()) {
            Enumeration<URL> urls = bundle.getResources(name);
            found.addAll(urls == null ? List.of() : Collections.list(urls));
        }
        return Collections.enumeration(found);
    }

    private List<Bundle> bundles() {
        List<Bundle> known = bundles;
        if (known == null) {
            known = Arrays.stream(context.getBundles()).filter(BundleClassLoader::concerns).toList();
            bundles = known;
        }
        return known;
    }

    private static boolean concerns(Bundle bundle) {
        return (bundle.getState() & (Bundle.RESOLVED | Bundle.STARTING | Bundle.ACTIVE)) != 0
                && bundle.getHeaders().get(Constants.FRAGMENT_HOST) == null
                && Stream.of(Constants.IMPORT_PACKAGE, Constants.EXPORT_PACKAGE, ModuleTracker.HEADER)
                        .map(h -> bundle.getHeaders().get(h)).anyMatch(h -> h != null
                                && (h.contains("org.apache.camel") || h.contains("io.caravan.")));
    }
}
