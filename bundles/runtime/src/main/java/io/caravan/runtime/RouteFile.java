// SPDX-License-Identifier: Apache-2.0
package io.caravan.runtime;

import java.util.List;

/**
 * What became of one route file. Immutable.
 *
 * @param stem   the file's name without {@code .camel.yaml} or {@code .camel.xml}
 * @param file   file name of the version this is about
 * @param origin {@code feature} or {@code deploy}, of the version in force; of the newest one when none is
 * @param bundle id of the OSGi bundle, 0 in plain Java
 * @param state  {@code started}; {@code starting}: deployed, a route is not started yet and is tried again;
 *               {@code pending}: waits for something that is not there yet; {@code broken}: refused.
 *               While pending or broken, {@code routes} are those of the older version, if there is one
 * @param routes of the version in force
 * @param error  file, line and cause of what is wrong with the newest version; null: nothing
 */
public record RouteFile(String stem, String file, String origin, long bundle, String state, List<RouteStatus> routes,
        String error) {

    /**
     * One route of a file.
     *
     * @param status Camel's: Started, Stopped, ...
     * @param error  why it is not started, or null
     */
    public record RouteStatus(String id, String status, String error) { }

    /** @return whether the newest version is in force and all its routes are started */
    public boolean ready() {
        return state.equals("started");
    }
}
