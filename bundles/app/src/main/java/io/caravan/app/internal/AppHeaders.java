// SPDX-License-Identifier: Apache-2.0
package io.caravan.app.internal;

import org.apache.camel.Exchange;
import org.apache.camel.spi.HeaderFilterStrategy;

/** Lets through what the route sets; Camel's own strategy drops {@code Cache-Control}. Stateless. */
public final class AppHeaders implements HeaderFilterStrategy {
  @Override
  public boolean applyFilterToCamelHeaders(String name, Object value, Exchange exchange) {
    return name.regionMatches(true, 0, "Camel", 0, 5) || name.equalsIgnoreCase("Content-Type") || name.equalsIgnoreCase("Content-Length");
  }

  @Override
  public boolean applyFilterToExternalHeaders(String name, Object value, Exchange exchange) {
    return name.regionMatches(true, 0, "Camel", 0, 5);
  }
}
