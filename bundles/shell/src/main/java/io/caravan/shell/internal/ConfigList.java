// SPDX-License-Identifier: Apache-2.0
package io.caravan.shell.internal;

import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import org.apache.camel.util.json.JsonObject;
import org.apache.karaf.shell.api.action.Argument;
import org.apache.karaf.shell.api.action.Command;
import org.apache.karaf.shell.api.action.Completion;
import org.apache.karaf.shell.api.action.lifecycle.Service;

/** {@code config:list}: the configuration in force. Karaf's own commands of that scope show secrets and are not installed. */
@Service
@Command(scope = "config", name = "list", description = "List the configuration in force, secrets masked",
        detailedDescription = "Examples:\n  config:list\n  config:list sink. --json")
public final class ConfigList extends GatewayCommand {

    @Argument(index = 0, name = "prefix", description = "Only keys that begin with this")
    @Completion(PrefixCompleter.class)
    String prefix = "";

    @Argument(index = 1, name = "options", multiValued = true, description = "Options may stand here too")
    @Completion(TrailingCompleter.class)
    List<String> options;

    @Override
    List<String> trailing() {
        return options;
    }

    @Override
    Object run() {
        Map<String, String> settings = caravan.settings();
        settings.keySet().removeIf(key -> !key.startsWith(prefix));
        if (json) {
            say(new JsonObject(settings).toJson());
        } else {
            table(new ArrayList<>(settings.entrySet()), "No such key has a value", List.of("Key", "Value"), r -> {
                Map.Entry<?, ?> entry = (Map.Entry<?, ?>) r;
                return new Object[] {entry.getKey(), entry.getValue()};
            });
        }
        return null;
    }
}
