// SPDX-License-Identifier: Apache-2.0
package io.caravan.devices;

import io.caravan.devices.internal.DevicesService;
import io.caravan.runtime.Config;
import io.caravan.runtime.Module;
import org.apache.camel.CamelContext;

/**
 * Opens the registry of devices and binds {@link Devices devices}, {@link Gate gate}, {@link Presence presence} and {@code deviceAuthenticator} with
 * the health check {@code devices}. Without the registry none of them is there, and no route that needs them starts: nobody
 * may connect.
 */
public final class DevicesModule implements Module {
  @Override
  public AutoCloseable start(CamelContext context, Config config) throws Exception {
    return DevicesService.start(context, config);
  }
}
