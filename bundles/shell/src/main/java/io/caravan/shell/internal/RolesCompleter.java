// SPDX-License-Identifier: Apache-2.0
package io.caravan.shell.internal;

import java.util.Collection;
import java.util.stream.Stream;
import org.apache.karaf.shell.api.action.lifecycle.Service;

/** Completes roles at sites, one pair; more follow behind a comma. */
@Service
public final class RolesCompleter extends Suggestions {

    @Override
    Collection<String> words() {
        return Stream.concat(Stream.of("none"), Stream.concat(Stream.of("all"), AccountSide.names(caravan, "site").stream()).flatMap(site -> Stream.of("viewer", "operator", "admin").map(role -> site + ":" + role))).toList();
    }
}
