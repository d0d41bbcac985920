// SPDX-License-Identifier: Apache-2.0
package io.caravan.runtime;

/**
 * One version of a route file. Immutable.
 *
 * @param file    its file name
 * @param origin  {@code deploy} or {@code feature}
 * @param bundle  id of the OSGi bundle, 0 in plain Java
 * @param inForce whether its routes are the ones that run
 */
public record RouteText(String file, String origin, long bundle, String text, boolean inForce) { }
