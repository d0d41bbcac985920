// SPDX-License-Identifier: Apache-2.0
package io.caravan.runtime;

import org.apache.camel.CamelContext;

/**
 * What a bundle adds to the one CamelContext: beans, health checks, meters.
 *
 * <p>An OSGi bundle names its module in the manifest header {@code Caravan-Module}; in plain Java the same class stands
 * in {@code META-INF/services/io.caravan.runtime.Module}. The class is public and has a public no-argument constructor.
 * {@code start} is called once at a time, on a thread of the runtime.
 */
public interface Module {

    /**
     * Binds beans into {@code context.getRegistry()}, registers health checks and meters.
     *
     * @param context the container's CamelContext, started
     * @param config  the configuration in force
     * @return undoes everything {@code start} did; closed once, when the bundle or the container stops
     * @throws Exception the module is then reported as {@code module:<name>} DOWN and tried again with backoff; whatever
     *                   was bound before the exception must have been undone by the module itself
     */
    AutoCloseable start(CamelContext context, Config config) throws Exception;

    /**
     * @return whether starting it, and stopping it with its bundle, changes how the context builds routes (what of them is managed or
     *         traced), so that all of them are built anew then
     */
    default boolean rebuildsRoutes() {
        return false;
    }
}
