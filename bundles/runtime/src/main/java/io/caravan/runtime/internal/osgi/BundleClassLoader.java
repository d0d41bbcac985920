// SPDX-License-Identifier: Apache-2.0
package io.caravan.runtime.internal.osgi;

import java.io.IOException;
import java.net.URL;
import java.util.Arrays;
import java.util.Collections;
import java.util.Enumeration;
import java.util.List;
import java.util.concurrent.atomic.AtomicInteger;
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

    /** What was there when so many changes had been told. */
    private record Known(int changes, List<Bundle> bundles) { }

    private final BundleContext context;
    private final AtomicInteger changes = new AtomicInteger();
    private volatile Known known = new Known(-1, List.of());

    BundleClassLoader(BundleContext context) {
        super(BundleClassLoader.class.getClassLoader());
        this.context = context;
    }

    /** Bundles have come or gone; also while somebody is looking at them. */
    void forget() {
        changes.incrementAndGet();
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
        Known now = known;
        // Counted before it is looked: what arrives meanwhile makes this list an old one.
        int told = changes.get();
        if (now.changes != told) {
            now = new Known(told, Arrays.stream(context.getBundles()).filter(BundleClassLoader::concerns).toList());
            known = now;
        }
        return now.bundles;
    }

    private static boolean concerns(Bundle bundle) {
        return (bundle.getState() & (Bundle.RESOLVED | Bundle.STARTING | Bundle.ACTIVE)) != 0
                && bundle.getHeaders().get(Constants.FRAGMENT_HOST) == null
                && Stream.of(Constants.IMPORT_PACKAGE, Constants.EXPORT_PACKAGE, ModuleTracker.HEADER)
                        .map(h -> bundle.getHeaders().get(h)).anyMatch(h -> h != null
                                && (h.contains("org.apache.camel") || h.contains("io.caravan.")));
    }
}
