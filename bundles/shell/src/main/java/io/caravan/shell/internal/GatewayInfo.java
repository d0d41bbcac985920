// SPDX-License-Identifier: Apache-2.0
package io.caravan.shell.internal;

import java.util.OptionalDouble;
import java.util.concurrent.TimeUnit;
import org.apache.karaf.shell.api.action.Command;
import org.apache.karaf.shell.api.action.Option;
import org.apache.karaf.shell.api.action.lifecycle.Reference;
import org.apache.karaf.shell.api.action.lifecycle.Service;

/** {@code gateway:info}: how it is, on one screen; in the cloud, how the cloud is. */
@Service
@Command(scope = "gateway", name = "info", description = "Show on one screen whether all is well, what comes in, waits and goes out, and what to do next",
        detailedDescription = "Examples:\n  gateway:info\n  gateway:info --checks\n  gateway:info --json")
public final class GatewayInfo extends GatewayCommand {

    private static final long SAMPLE_MS = 1_000;

    @Option(name = "--checks", description = "All readiness checks, one by one")
    boolean all;

    @Reference(optional = true)
    Pulse pulse;

    @Override
    Object run() throws InterruptedException {
        if (all && !json) {
            table(caravan.checks(), "No checks", java.util.List.of("Check", "Status", "Since", "Message", "Do"), r -> {
                io.caravan.runtime.Check c = (io.caravan.runtime.Check) r;
                return new Object[] {c.name(), Paint.of(c.status()).cell(c.status() + (c.counts() ? "" : " (ignored)")), Output.time(c.sinceMs()), c.message(), c.todo()};
            });
            return null;
        }
        Overview overview = new Overview(caravan, rate());
        if (json) {
            say(overview.json().toJson());
        } else {
            overview.lines(width(), Paint.allowed(session)).forEach(out()::println);
        }
        return null;
    }

    private OptionalDouble rate() throws InterruptedException {
        OptionalDouble known = pulse == null ? OptionalDouble.empty() : pulse.perSecond();
        OptionalDouble before = Pulse.taken(caravan);
        if (known.isPresent() || before.isEmpty()) {
            return known;
        }
        TimeUnit.MILLISECONDS.sleep(SAMPLE_MS);
        OptionalDouble after = Pulse.taken(caravan);
        return after.isEmpty() ? after : OptionalDouble.of((after.getAsDouble() - before.getAsDouble()) * 1_000 / SAMPLE_MS);
    }
}
