// SPDX-License-Identifier: Apache-2.0
package io.caravan.runtime;

import java.util.List;

/**
 * What a check of a route file found. Immutable.
 *
 * @param state  {@code ok}; {@code pending}: it would wait for something that is not there; {@code broken}: it would be refused
 * @param line   line of the file, from 1; 0: not known
 * @param error  what is wrong; null: nothing
 * @param routes ids of the routes the file brings, as far as it could be read
 */
public record RouteCheck(String state, int line, String error, List<String> routes) { }
