// SPDX-License-Identifier: Apache-2.0
package io.caravan.launcher;

import java.nio.file.Path;
import java.util.concurrent.TimeUnit;
import org.osgi.framework.BundleException;
import org.osgi.framework.launch.Framework;
import sun.misc.Signal;

/**
 * Runs Karaf in the foreground.
 *
 * <p>SIGTERM and SIGINT stop the framework cleanly and end the process with 0; what has not stopped after
 * {@value #STOP_MS} ms is cut off (the store is made for that). Karaf's own main class handles SIGTERM only, starts a
 * second process on the same data, and goes on after a cut-off first start with the bundles it had got to.
 */
public final class Main {

    private static final int START_FAILED = 1;
    private static final int STOP_CUT_OFF = 3;
    private static final int DATA_IN_USE = 5;
    private static final long STOP_MS = 9_000;

    private final org.apache.karaf.main.Main karaf;
    private final Path path = Path.of(System.getProperty("karaf.data"));
    private final DataFolder data = new DataFolder(path);
    private volatile Signal stopping;

    private Main(String[] args) {
        karaf = new org.apache.karaf.main.Main(args);
    }

    public static void main(String[] args) {
        System.setProperty("karaf.handle.sigterm", "false");
        new Main(args).run();
    }

    private void run() {
        Signal.handle(new Signal("TERM"), this::onSignal);
        Signal.handle(new Signal("INT"), this::onSignal);
        try {
            if (!data.lock()) {
                System.err.println("caravan: data folder [" + path + "] is in use by another process; stop that one, or set KARAF_DATA");
                System.exit(DATA_IN_USE);
            }
            if (data.discardIncompleteRegistry()) {
                System.err.println("caravan: the bundle registry in [" + path + "] was incomplete; starting with the features of the distribution");
            }
            if (data.discardForeignRegistry(Path.of(System.getProperty("karaf.home")))) {
                System.err.println("caravan: the bundle registry in [" + path + "] was made by another version or in another place; made anew");
            }
            karaf.launch();
            KeptFeatures.install(karaf.getFramework().getBundleContext(), data);
            karaf.awaitShutdown();
            karaf.destroy();
            System.exit(karaf.getExitCode());
        } catch (Exception e) {
            if (stopping != null) {
                System.exit(128 + stopping.getNumber());
            }
            System.err.println("caravan: the container did not start: " + e);
            e.printStackTrace();
            System.exit(START_FAILED);
        }
    }

    private void onSignal(Signal signal) {
        stopping = signal;
        new Thread(() -> stop(signal), "caravan-stop").start();
    }

    private void stop(Signal signal) {
        Framework framework = karaf.getFramework();
        if (framework == null) {
            Runtime.getRuntime().halt(128 + signal.getNumber());
        }
        Thread limit = new Thread(Main::cutOff, "caravan-stop-limit");
        limit.setDaemon(true);
        limit.start();
        try {
            framework.stop();
        } catch (BundleException e) {
            System.err.println("caravan: stopping the framework failed: " + e);
        }
    }

    private static void cutOff() {
        try {
            TimeUnit.MILLISECONDS.sleep(STOP_MS);
        } catch (InterruptedException e) {
            Thread.currentThread().interrupt();
        }
        System.err.println("caravan: not stopped after " + STOP_MS + " ms, cut off");
        Runtime.getRuntime().halt(STOP_CUT_OFF);
    }
}
