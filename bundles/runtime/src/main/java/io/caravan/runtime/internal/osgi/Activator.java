// SPDX-License-Identifier: Apache-2.0
package io.caravan.runtime.internal.osgi;

import io.caravan.runtime.Caravan;
import io.caravan.runtime.ConfigException;
import io.caravan.runtime.internal.Container;
import io.caravan.runtime.internal.LayeredConfig;
import java.lang.management.ManagementFactory;
import java.nio.file.Path;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.TimeUnit;
import org.apache.camel.CamelContext;
import org.apache.camel.karaf.core.OsgiDefaultCamelContext;
import org.apache.felix.fileinstall.ArtifactUrlTransformer;
import org.osgi.framework.Bundle;
import org.osgi.framework.BundleActivator;
import org.osgi.framework.BundleContext;
import org.osgi.framework.BundleEvent;
import org.osgi.framework.BundleListener;
import org.osgi.framework.FrameworkEvent;
import org.osgi.framework.FrameworkUtil;
import org.osgi.framework.ServiceEvent;
import org.osgi.framework.SynchronousBundleListener;
import org.osgi.framework.startlevel.FrameworkStartLevel;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/**
 * The container in Karaf. It is made on a thread of its own, so that the framework goes on starting bundles meanwhile, and
 * stopped as soon as the framework begins to stop, before any bundle that routes or modules need.
 */
public final class Activator implements BundleActivator {

    private static final int COMES_OR_GOES = BundleEvent.RESOLVED | BundleEvent.STARTED | BundleEvent.UPDATED | BundleEvent.UNRESOLVED | BundleEvent.UNINSTALLED;
    private static final Logger LOG = LoggerFactory.getLogger("io.caravan.runtime");
    private static final int EXIT_INTERNAL = 70;
    private static final long CAMEL_WAIT_S = 120;
    private static final long HALT_S = 20;

    private final SynchronousBundleListener stopping = this::bundleStops;
    private BundleContext bundles;
    private BundleClassLoader classes;
    private Thread boot;
    private Container container;
    private ModuleTracker modules;
    private RouteTracker routes;
    private boolean stopped;

    @Override
    public void start(BundleContext context) {
        bundles = context;
        context.addBundleListener(stopping);
        boot = new Thread(this::boot, "caravan-boot");
        boot.start();
    }

    @Override
    public void stop(BundleContext context) throws InterruptedException {
        context.removeBundleListener(stopping);
        close();
        boot.join(TimeUnit.SECONDS.toMillis(1));
    }

    private void boot() {
        try {
            awaitCamel();
            LayeredConfig config = config();
            LogContext.publish(bundles, config);
            if ("root".equals(System.getProperty("user.name"))) {
                LOG.warn("This container runs as root, which it does not need: start it as another user, or with bin/caravan --as USER");
            }
            classes = new BundleClassLoader(bundles);
            // From the first class on, and before anything else hears of a bundle: a route file that comes with one may name its classes.
            bundles.addBundleListener((SynchronousBundleListener) event -> {
                if ((event.getType() & COMES_OR_GOES) != 0) {
                    classes.forget();
                }
            });
            Thread.currentThread().setContextClassLoader(classes);
            OsgiDefaultCamelContext context = new OsgiDefaultCamelContext(bundles);
            context.setApplicationContextClassLoader(classes);
            synchronized (this) {
                if (stopped) {
                    return;
                }
                container = new Container(context, config, ManagementFactory.getRuntimeMXBean().getStartTime());
                container.logs(new PaxLevels(bundles));
                Path deploy = Path.of(bundles.getProperty("karaf.base"), "deploy");
                container.coming(() -> DeployFolder.untaken(deploy, bundles));
            }
            container.start();
            modules = new ModuleTracker(bundles, container);
            modules.open();
            routes = new RouteTracker(bundles, container.routes());
            routes.open();
            bundles.registerService(ArtifactUrlTransformer.class, new DeployFolder(container.routes()), null);
            bundles.registerService(Caravan.class, Caravan.of(container), null);
            followArrivals();
            followStartLevel();
        } catch (ConfigException e) {
            refuse("Caravan does not start, its configuration must be mended first:\n" + e.getMessage(),
                    ConfigException.EXIT_CODE, null);
        } catch (Exception | LinkageError e) {
            if (isStopping()) {
                LOG.debug("Stopped while starting", e);
            } else {
                refuse("Caravan does not start: " + e, EXIT_INTERNAL, e);
            }
        }
    }

    /** Languages and components are services of that bundle's activator. */
    private void awaitCamel() throws InterruptedException {
        Bundle camel = FrameworkUtil.getBundle(CamelContext.class);
        long deadline = System.nanoTime() + TimeUnit.SECONDS.toNanos(CAMEL_WAIT_S);
        while (camel.getState() != Bundle.ACTIVE) {
            if (System.nanoTime() > deadline) {
                throw new IllegalStateException("bundle " + camel.getSymbolicName() + " was not started within " + CAMEL_WAIT_S + " s");
            }
            TimeUnit.MILLISECONDS.sleep(20);
        }
    }

    private LayeredConfig config() {
        Path etc = Path.of(bundles.getProperty("karaf.etc"));
        Map<String, String> arguments = new HashMap<>();
        System.getProperties().stringPropertyNames().forEach(p -> arguments.put(p, System.getProperty(p)));
        return new LayeredConfig(List.of(etc.resolve("keys")), etc, Path.of(bundles.getProperty("karaf.base")),
                Path.of(bundles.getProperty("karaf.data")), System.getenv(), arguments, true);
    }

    /** Any bundle or service may be what a pending route file waits for. */
    private void followArrivals() {
        bundles.addBundleListener((BundleListener) event -> {
            if (event.getType() == BundleEvent.STARTED) {
                container.routes().retry();
            }
        });
        bundles.addServiceListener(event -> {
            if (event.getType() == ServiceEvent.REGISTERED) {
                container.routes().retry();
            }
        });
        container.routes().retry();
    }

    /** Until then more modules and route files are about to come. */
    private void followStartLevel() {
        FrameworkStartLevel level = bundles.getBundle(0).adapt(FrameworkStartLevel.class);
        String beginning = bundles.getProperty("org.osgi.framework.startlevel.beginning");
        int goal = beginning == null ? 1 : Integer.parseInt(beginning.trim());
        bundles.addFrameworkListener(event -> {
            if (event.getType() == FrameworkEvent.STARTLEVEL_CHANGED && level.getStartLevel() >= goal) {
                container.complete();
            }
        });
        if (level.getStartLevel() >= goal) {
            container.complete();
        }
    }

    private void bundleStops(BundleEvent event) {
        if (event.getType() == BundleEvent.STOPPING && event.getBundle().getBundleId() == 0) {
            close();
        }
    }

    private void close() {
        Container running;
        synchronized (this) {
            stopped = true;
            running = container;
        }
        if (boot != Thread.currentThread()) {
            boot.interrupt();
        }
        if (running != null) {
            running.close();
        }
        if (routes != null) {
            routes.close();
        }
        if (modules != null) {
            modules.close();
        }
    }

    /** What fails while the framework goes down under it is no refused start. */
    private synchronized boolean isStopping() {
        int state = bundles.getBundle(0).getState();
        return stopped || state != Bundle.STARTING && state != Bundle.ACTIVE;
    }

    /** Ends the process: from another thread, because an exit waits for this bundle; and for certain. */
    private static void refuse(String message, int code, Throwable cause) {
        LOG.error("{}", message, cause);
        System.err.println(message);
        Thread exit = new Thread(() -> System.exit(code), "caravan-exit");
        exit.setDaemon(true);
        exit.start();
        Thread halt = new Thread(() -> {
            try {
                TimeUnit.SECONDS.sleep(HALT_S);
            } catch (InterruptedException e) {
                Thread.currentThread().interrupt();
            }
            Runtime.getRuntime().halt(code);
        }, "caravan-halt");
        halt.setDaemon(true);
        halt.start();
    }
}
