// SPDX-License-Identifier: Apache-2.0
package io.caravan.shell.internal;

import java.util.Collection;
import java.util.stream.Stream;
import org.apache.karaf.shell.api.action.lifecycle.Service;

/** Completes the keys of the configuration, and the beginnings they have in common. */
@Service
public final class PrefixCompleter extends Suggestions {

    @Override
    Collection<String> words() {
        return caravan.settings().keySet().stream().flatMap(key -> Stream.of(key, key.substring(0, key.indexOf('.') + 1))).distinct().toList();
    }
}
