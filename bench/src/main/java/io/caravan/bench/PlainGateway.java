// SPDX-License-Identifier: Apache-2.0
package io.caravan.bench;

import java.lang.reflect.Method;
import java.nio.file.Path;
import java.util.concurrent.CountDownLatch;

/**
 * The gateway without Karaf: the same modules, routes, configuration and libraries in one class path, for what OSGi costs. Called by name, so that
 * the bench has no code of the gateway. Not a subcommand, as {@link BareHttp}.
 */
public final class PlainGateway {
    private PlainGateway() { }

    /**
     * Serves until the process is ended.
     *
     * @param args home with {@code etc/}, folder of route files, then {@code key=value} of the configuration
     * @throws Exception the gateway did not start
     */
    public static void main(String[] args) throws Exception {
        Path home = Path.of(args[0]);
        Class<?> type = Class.forName("io.caravan.runtime.Caravan");
        Object builder = type.getMethod("builder").invoke(null);
        Class<?> made = builder.getClass();
        made.getMethod("home", Path.class).invoke(builder, home);
        made.getMethod("cfg", Path.class).invoke(builder, home.resolve("etc"));
        made.getMethod("keys", Path[].class).invoke(builder, (Object) new Path[] {home.resolve("etc/keys")});
        made.getMethod("routes", Path[].class).invoke(builder, (Object) new Path[] {Path.of(args[1])});
        Method set = made.getMethod("set", String.class, String.class);
        for (int i = 2; i < args.length; i++) {
            int cut = args[i].indexOf('=');
            set.invoke(builder, args[i].substring(0, cut), args[i].substring(cut + 1));
        }
        AutoCloseable gateway = (AutoCloseable) made.getMethod("start").invoke(builder);
        Runtime.getRuntime().addShutdownHook(new Thread(() -> {
            try {
                gateway.close();
            } catch (Exception e) {
                System.err.println("the plain gateway did not close: " + e);
            }
        }));
        new CountDownLatch(1).await();
    }
}
