// SPDX-License-Identifier: Apache-2.0
package io.caravan.runtime.internal.osgi;

import static org.junit.jupiter.api.Assertions.assertSame;
import static org.junit.jupiter.api.Assertions.assertThrows;

import java.lang.reflect.Proxy;
import java.util.Hashtable;
import java.util.concurrent.atomic.AtomicReference;
import org.junit.jupiter.api.Test;
import org.osgi.framework.Bundle;
import org.osgi.framework.BundleContext;
import org.osgi.framework.Constants;

/** A bundle that comes while somebody looks for classes is found by the next who looks. */
class BundleClassLoaderTest {

    private static final String NAME = "io.caravan.elsewhere.Thing";

    private final AtomicReference<Bundle[]> there = new AtomicReference<>(new Bundle[0]);
    private Runnable meanwhile = () -> { };
    private final BundleClassLoader classes = new BundleClassLoader((BundleContext) Proxy.newProxyInstance(getClass().getClassLoader(),
            new Class<?>[] {BundleContext.class}, (proxy, method, arguments) -> {
                Bundle[] seen = there.get();
                meanwhile.run();
                return seen;
            }));

    @Test
    void whatComesWhileOneLooksIsFoundByTheNext() throws ClassNotFoundException {
        meanwhile = () -> {
            there.set(new Bundle[] {bundle()});
            classes.forget();
        };
        assertThrows(ClassNotFoundException.class, () -> classes.findClass(NAME), "looked before it came");
        meanwhile = () -> { };
        assertSame(Bundle.class, classes.findClass(NAME));
    }

    @Test
    void nobodyLooksAgainUntilSomethingIsTold() {
        assertThrows(ClassNotFoundException.class, () -> classes.findClass(NAME));
        there.set(new Bundle[] {bundle()});
        assertThrows(ClassNotFoundException.class, () -> classes.findClass(NAME));
    }

    /** One that has any class. */
    private Bundle bundle() {
        Hashtable<String, String> headers = new Hashtable<>();
        headers.put(Constants.EXPORT_PACKAGE, "io.caravan.elsewhere");
        return (Bundle) Proxy.newProxyInstance(getClass().getClassLoader(), new Class<?>[] {Bundle.class}, (proxy, method, arguments) ->
                switch (method.getName()) {
                    case "getState" -> Bundle.ACTIVE;
                    case "getHeaders" -> headers;
                    case "loadClass" -> Bundle.class;
                    default -> throw new UnsupportedOperationException(method.getName());
                });
    }
}
