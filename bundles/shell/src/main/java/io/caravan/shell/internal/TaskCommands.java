// SPDX-License-Identifier: Apache-2.0
package io.caravan.shell.internal;

import io.caravan.runtime.Tasks.Status;
import java.util.List;
import org.apache.camel.util.json.JsonArray;
import org.apache.camel.util.json.JsonObject;
import org.apache.karaf.shell.api.action.Argument;
import org.apache.karaf.shell.api.action.Command;
import org.apache.karaf.shell.api.action.Completion;
import org.apache.karaf.shell.api.action.lifecycle.Service;

/** {@code task:*}: what runs for long, whoever asked for it. */
public final class TaskCommands {

    private TaskCommands() {
    }

    static JsonObject json(Status s) {
        JsonObject json = (JsonObject) Output.jsonOf(s);
        json.put("ratio", s.ratio());
        return json;
    }

    @Service
    @Command(scope = "task", name = "list", description = "List what runs for long, and what ran last: how far it is, and what became of it",
            detailedDescription = "Examples:\n  task:list\n  task:list --json")
    public static final class Listing extends GatewayCommand {
        @Override
        Object run() {
            List<Status> all = caravan.tasks().list();
            if (json) {
                JsonArray array = new JsonArray();
                all.forEach(s -> array.add(json(s)));
                say(array.toJson());
                return null;
            }
            table(all, "Nothing runs, and nothing ran since the start", List.of("Id", "Task", "Of", "State", "By", "Begun", "How far"), r -> row((Status) r));
            return null;
        }

        static Object[] row(Status s) {
            return new Object[] {s.id(), s.name(), s.what(), s.state(), s.by(), Output.time(s.startedAtMs()), s.text()};
        }
    }

    @Service
    @Command(scope = "task", name = "cancel", description = "End what runs for long at its next consistent point; task:list says then what holds",
            detailedDescription = "Example:\n  task:cancel 3")
    public static final class Cancel extends GatewayCommand {
        @Argument(index = 0, name = "id", required = true, description = "Of task:list")
        @Completion(TaskCompleter.class)
        String id;

        @Override
        Object run() {
            Status status = caravan.tasks().cancel(id);
            say(json ? json(status).toJson() : "Asked " + status.name() + " to end: " + status.text());
            return null;
        }
    }
}
