// SPDX-License-Identifier: Apache-2.0
package io.caravan.launcher;

import java.io.IOException;
import java.lang.reflect.InvocationTargetException;
import java.util.Set;
import java.util.TreeSet;
import org.osgi.framework.BundleContext;
import org.osgi.util.tracker.ServiceTracker;

/** Installs again, after an upgrade, what an operator had installed beyond the distribution's features. By reflection: Karaf's classes are in bundles. */
final class KeptFeatures {

    private static final long BOOT_MS = 300_000;

    private KeptFeatures() {
    }

    /** Returns at once. A feature that cannot be installed is told, and tried again at the next start. */
    static void install(BundleContext context, DataFolder data) throws IOException {
        Set<String> wanted = data.keptFeatures();
        if (!wanted.isEmpty()) {
            Thread thread = new Thread(() -> run(context, data, wanted), "caravan-kept-features");
            thread.setDaemon(true);
            thread.start();
        }
    }

    private static void run(BundleContext context, DataFolder data, Set<String> wanted) {
        ServiceTracker<Object, Object> booted = new ServiceTracker<>(context, "org.apache.karaf.features.BootFinished", null);
        ServiceTracker<Object, Object> features = new ServiceTracker<>(context, "org.apache.karaf.features.FeaturesService", null);
        try {
            booted.open();
            features.open();
            Object service = booted.waitForService(BOOT_MS) == null ? null : features.waitForService(BOOT_MS);
            if (service == null) {
                System.err.println("caravan: features " + wanted + " that were installed before are not yet: Karaf was not up after " + BOOT_MS / 1_000
                    + " s; tried again at the next start");
                return;
            }
            for (String name : new TreeSet<>(wanted)) {
                try {
                    Class.forName("org.apache.karaf.features.FeaturesService", true, service.getClass().getClassLoader())
                        .getMethod("installFeature", String.class).invoke(service, name);
                    wanted.remove(name);
                    data.keep(wanted);
                    System.err.println("caravan: feature " + name + " is installed again");
                } catch (InvocationTargetException e) {
                    System.err.println("caravan: feature [" + name + "] was installed before and cannot be now: " + e.getCause()
                        + "; delete its line in data/" + DataFolder.KEPT + " if this version has none of that name");
                }
            }
        } catch (InterruptedException e) {
            Thread.currentThread().interrupt();
        } catch (ReflectiveOperationException | IOException | RuntimeException e) {
            System.err.println("caravan: features that were installed before are not yet: " + e);
        } finally {
            features.close();
            booted.close();
        }
    }
}
