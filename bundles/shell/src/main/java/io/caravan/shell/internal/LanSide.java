// SPDX-License-Identifier: Apache-2.0
package io.caravan.shell.internal;

import com.fasterxml.jackson.databind.JsonNode;
import io.caravan.commands.Capabilities;
import io.caravan.commands.Commands;
import io.caravan.commands.Commands.Command;
import io.caravan.commands.Commands.Filter;
import io.caravan.commands.Commands.Request;
import io.caravan.commands.Status;
import io.caravan.commands.Twins;
import io.caravan.commands.Twins.Twin;
import io.caravan.devices.Devices;
import io.caravan.runtime.Caravan;
import java.util.ArrayList;
import java.util.List;
import java.util.Optional;

/** The gateway's own commands. */
final class LanSide implements CommandSide {
    private final Caravan caravan;

    LanSide(Caravan caravan) {
        this.caravan = caravan;
    }

    private Commands commands() {
        return CommandSide.bean(caravan, "commands", Commands.class, "commands");
    }

    private Twins beanTwins() {
        return CommandSide.bean(caravan, "twins", Twins.class, "commands");
    }

    @Override
    public Target target(String text) {
        if (text.contains("/")) {
            throw new IllegalArgumentException("device [" + text + "] must be a device's id without its gateway: this is the gateway. gateway names itself");
        }
        return new Target(null, text);
    }

    @Override
    public View send(Order o) throws Exception {
        return view(CommandSide.committed(commands().submit(List.of(new Request(o.id(), o.target().device(), o.name(), o.arguments(), o.units(), o.precondition(),
                o.ttlMs(), "shell", o.by(), null)))).get(0));
    }

    @Override
    public Optional<View> find(String ref) {
        return commands().find(ref).map(LanSide::view);
    }

    @Override
    public List<View> list(String target, String status, boolean open, int limit) {
        return commands().list(new Filter(target == null ? null : target(target).device(), status == null ? null : Status.valueOf(status), open), limit).stream()
                .map(LanSide::view).toList();
    }

    @Override
    public Cancelled cancel(String ref, String by) throws Exception {
        View after = CommandSide.committed(commands().cancel(ref, by)).map(LanSide::view).orElse(null);
        return new Cancelled(after, after != null && after.status().equals(Status.CANCELLED.name()), false);
    }

    @Override
    public Optional<TwinView> twin(Target target) {
        return beanTwins().find(target.device()).map(LanSide::view);
    }

    @Override
    public List<TwinView> twins(String gateway) {
        return beanTwins().list().stream().map(LanSide::view).toList();
    }

    @Override
    public String desire(Target target, String patch, Long expected, String by) throws Exception {
        Twin twin = CommandSide.committed(beanTwins().desire(target.device(), patch, expected, by));
        return "Desired state of " + target + " is version " + twin.desiredVersion() + ": " + twin.desired() + (twin.delta().equals("{}")
                ? ". The device reports it already." : ". Not reported so: " + twin.delta() + "; the device is told as soon as it is there.");
    }

    @Override
    public boolean text(Target target, String command, String argument) {
        return capabilities().flatMap(all -> all.find(target.device(), command)).map(Capabilities.Capability::arguments).map(schema -> schema.path("properties").path(argument).path("type"))
                .filter(type -> !type.isMissingNode()).map(LanSide::isText).orElse(false);
    }

    private static boolean isText(JsonNode type) {
        return type.asText().equals("string");
    }

    private Optional<Capabilities> capabilities() {
        return caravan.bean("capabilities", Capabilities.class);
    }

    @Override
    public List<String> names(Target target) {
        return capabilities().flatMap(all -> all.of(target.device())).map(d -> d.commands().stream().filter(Capabilities.Capability::allowed)
                .map(Capabilities.Capability::name).toList()).orElse(List.of());
    }

    @Override
    public List<String> targets() {
        List<String> all = new ArrayList<>();
        caravan.bean("devices", Devices.class).ifPresent(devices -> devices.list().forEach(d -> all.add(d.id())));
        all.add(Commands.GATEWAY);
        return all;
    }

    static View view(Command c) {
        return new View(c.id(), c.id(), null, c.deviceId(), c.name(), c.arguments(), c.origin(), c.issuedBy(), c.status().name(), c.status().isFinal(), c.reason(), c.detail(),
                c.result(), c.attempts(), c.acceptedAtMs(), c.expiresAtMs(), c.finalAtMs(),
                c.events().stream().map(e -> new Event(e.status().name(), e.reason(), e.detail(), e.atMs())).toList());
    }

    private static TwinView view(Twin t) {
        Long updated = t.reportedAtMs() == null ? t.desiredAtMs() : t.desiredAtMs() == null ? t.reportedAtMs() : (Long) Math.max(t.reportedAtMs(), t.desiredAtMs());
        return new TwinView(new Target(null, t.deviceId()), t.desired(), t.desiredVersion(), t.reported(), t.reportedVersion(), t.delta(), updated);
    }
}
