// SPDX-License-Identifier: Apache-2.0
package io.caravan.shell.internal;

import io.caravan.devices.Devices;
import java.util.Collection;
import java.util.List;
import org.apache.karaf.shell.api.action.lifecycle.Service;

/** Completes ids of devices; an id may be a new one. */
@Service
public final class DeviceCompleter extends Suggestions {

    @Override
    Collection<String> words() {
        return caravan.bean("devices", Devices.class).map(devices -> devices.list().stream().map(Devices.Device::id).toList()).orElse(List.of());
    }
}
