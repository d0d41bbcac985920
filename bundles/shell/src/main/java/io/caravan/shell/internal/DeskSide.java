// SPDX-License-Identifier: Apache-2.0
package io.caravan.shell.internal;

import io.caravan.desk.CommandDesk;
import io.caravan.desk.CommandDesk.Cancel;
import io.caravan.desk.CommandDesk.Command;
import io.caravan.desk.CommandDesk.Filter;
import io.caravan.desk.CommandDesk.Outcome;
import io.caravan.desk.CommandDesk.Page;
import io.caravan.desk.CommandDesk.Request;
import io.caravan.desk.CommandDesk.Twin;
import io.caravan.runtime.Caravan;
import io.caravan.uplink.Gateways;
import java.util.ArrayList;
import java.util.List;
import java.util.Optional;
import java.util.Set;
import java.util.TreeSet;

/** The commands of all gateways, in the cloud. */
final class DeskSide implements CommandSide {
    private static final Set<String> FINAL = Set.of("SUCCEEDED", "FAILED", "REJECTED", "EXPIRED", "CANCELLED", "INDETERMINATE");

    private final Caravan caravan;

    DeskSide(Caravan caravan) {
        this.caravan = caravan;
    }

    private CommandDesk desk() {
        return CommandSide.bean(caravan, "commandDesk", CommandDesk.class, "command-desk");
    }

    private static Target pair(String what, String text) {
        int slash = text.indexOf('/');
        if (slash < 1 || slash == text.length() - 1) {
            throw new IllegalArgumentException(what + " [" + text + "] must be GATEWAY/" + what.toUpperCase(java.util.Locale.ROOT) + ": this is the cloud; uplink:list shows its gateways");
        }
        return new Target(text.substring(0, slash), text.substring(slash + 1));
    }

    @Override
    public Target target(String text) {
        return pair("device", text);
    }

    @Override
    public View send(Order o) throws Exception {
        return view(CommandSide.committed(desk().submit(new Request(o.target().gateway(), o.target().device(), o.id(), o.name(), o.arguments(), o.units(), o.precondition(),
                o.ttlMs(), null, "shell", o.by(), null))).command());
    }

    @Override
    public Optional<View> find(String ref) {
        Target command = pair("command", ref);
        return desk().find(command.gateway(), command.device()).map(DeskSide::view);
    }

    @Override
    public List<View> list(String target, String status, boolean open, int limit) {
        Target of = target == null ? new Target(null, null) : target.contains("/") ? target(target) : new Target(target, null);
        List<View> all = new ArrayList<>();
        Page page = new Page(List.of(), true);
        for (long after = 0; page.more() && all.size() < limit; after = page.commands().get(page.commands().size() - 1).seq()) {
            page = desk().list(new Filter(of.gateway(), of.device(), status, open), after, limit - all.size());
            page.commands().forEach(command -> all.add(view(command)));
        }
        return all;
    }

    @Override
    public Cancelled cancel(String ref, String by) throws Exception {
        Target command = pair("command", ref);
        Cancel done = CommandSide.committed(desk().cancel(command.gateway(), command.device(), by));
        return new Cancelled(done.command().map(DeskSide::view).orElse(null), done.outcome() == Outcome.CANCELLED, done.outcome() == Outcome.ASKED);
    }

    @Override
    public Optional<TwinView> twin(Target target) {
        return desk().twin(target.gateway(), target.device()).map(DeskSide::view);
    }

    @Override
    public List<TwinView> twins(String gateway) {
        List<TwinView> all = new ArrayList<>();
        (gateway == null ? gateways() : Set.of(gateway)).forEach(g -> desk().twins(g).forEach(t -> all.add(view(t))));
        return all;
    }

    @Override
    public String desire(Target target, String patch, Long expected, String by) throws Exception {
        String ref = view(CommandSide.committed(desk().desire(target.gateway(), target.device(), patch, expected, null, "shell", by)).command()).ref();
        return "The gateway is told with command " + ref + ". command:watch " + ref + " shows how it gets on, twin:show " + target + " what came of it.";
    }

    /** What devices can do is known at their gateway. */
    @Override
    public boolean text(Target target, String command, String argument) {
        return false;
    }

    /** Those that were sent lately. */
    @Override
    public List<String> names(Target target) {
        return List.copyOf(new TreeSet<>(list(target.toString(), null, false, 50).stream().map(View::name).toList()));
    }

    @Override
    public List<String> targets() {
        Set<String> all = new TreeSet<>();
        gateways().forEach(g -> all.add(g + "/" + CommandDesk.GATEWAY));
        twins(null).forEach(t -> all.add(t.target().toString()));
        list(null, null, false, 100).forEach(c -> all.add(c.gateway() + "/" + c.device()));
        return List.copyOf(all);
    }

    private Set<String> gateways() {
        Set<String> all = new TreeSet<>();
        caravan.bean("gateways", Gateways.class).ifPresent(gateways -> gateways.list().forEach(g -> all.add(g.id())));
        return all;
    }

    static View view(Command c) {
        return new View(c.gatewayId() + "/" + c.id(), c.id(), c.gatewayId(), c.deviceId(), c.name(), c.arguments(), c.origin(), c.issuedBy(), c.status(), FINAL.contains(c.status()),
                c.reason(), c.detail(), c.result(), c.transmissions(), c.createdAtMs(), c.expiresAtMs(), c.finalAtMs(),
                c.events().stream().map(e -> new Event(e.status(), e.reason(), e.detail(), e.atMs())).toList());
    }

    private static TwinView view(Twin t) {
        return new TwinView(new Target(t.gatewayId(), t.deviceId()), t.desired(), t.desiredVersion(), t.reported(), t.reportedVersion(), t.delta(), t.updatedAtMs());
    }
}
