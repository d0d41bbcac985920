// SPDX-License-Identifier: Apache-2.0
package io.caravan.shell.internal;

import io.caravan.runtime.Caravan;
import java.util.List;
import java.util.Optional;
import java.util.concurrent.CompletionStage;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.TimeoutException;

/**
 * Commands and twins as the shell shows them, of this container: a gateway's own ({@link LanSide}), or those of all gateways in the
 * cloud ({@link DeskSide}). Each role has only the classes of its own side: nothing of them may stand in a command's signature,
 * because Karaf looks at all of those at its start.
 */
interface CommandSide {
    /** @param gateway null at a gateway: it is this one */
    record Target(String gateway, String device) {
        @Override
        public String toString() {
            return gateway == null ? device : gateway + "/" + device;
        }
    }

    /** @param ttlMs null: the default */
    record Order(Target target, String id, String name, String arguments, String units, String precondition, Long ttlMs, String by) { }

    /**
     * @param ref      what names it here: its id, in the cloud with its gateway before it
     * @param attempts how often it may have been published, or sent to the gateway
     */
    record View(String ref, String id, String gateway, String device, String name, String arguments, String origin, String by, String status, boolean done,
            String reason, String detail, String result, int attempts, long createdAtMs, long expiresAtMs, Long finalAtMs, List<Event> events) { }

    record Event(String status, String reason, String detail, long atMs) { }

    record TwinView(Target target, String desired, long desiredVersion, String reported, long reportedVersion, String delta, Long updatedAtMs) { }

    /** Keeps it; rejected is kept too. */
    View send(Order order) throws Exception;

    /** @param ref as in {@link View} */
    Optional<View> find(String ref);

    /** @return newest first; parameters null: all */
    List<View> list(String target, String status, boolean open, int limit);

    Cancelled cancel(String ref, String by) throws Exception;

    /** @param view null: it is not known; too late: {@code taken} is false and {@code asked} too */
    record Cancelled(View view, boolean taken, boolean asked) { }

    /** @return empty: neither desired nor reported anything */
    Optional<TwinView> twin(Target target);

    /** @param gateway null: all */
    List<TwinView> twins(String gateway);

    /**
     * @param expected null: any version
     * @return in words
     */
    String desire(Target target, String patch, Long expected, String by) throws Exception;

    /** @return whether the schema says that an argument is text; it then needs no quotes */
    boolean text(Target target, String command, String argument);

    /** @return the names of what may be sent, for completion */
    List<String> names(Target target);

    /** @return devices, for completion */
    List<String> targets();

    /** @return commands that are not final, for completion */
    default List<String> open() {
        return list(null, null, true, 100).stream().map(View::ref).toList();
    }

    /** @throws IllegalArgumentException it has not the form of this side */
    Target target(String text);

    static CommandSide of(Caravan caravan) {
        return caravan.role().equals("cloud") ? new DeskSide(caravan) : new LanSide(caravan);
    }

    /** Looks a bean up; or says why it is not there. */
    static <T> T bean(Caravan caravan, String name, Class<T> type, String module) {
        return caravan.bean(name, type).orElseThrow(() -> new IllegalStateException("Commands are not started: "
                + caravan.checks().stream().filter(c -> c.name().equals("module:" + module)).findFirst()
                        .map(c -> c.message().isEmpty() ? "see the log" : c.message()).orElse("feature caravan-" + module + " is not installed")));
    }

    /** Waits for COMMIT. */
    static <T> T committed(CompletionStage<T> stage) throws Exception {
        try {
            return stage.toCompletableFuture().get(30, TimeUnit.SECONDS);
        } catch (ExecutionException e) {
            throw e.getCause() instanceof Exception cause ? cause : e;
        } catch (TimeoutException e) {
            throw new IllegalStateException("The store has not answered within 30 s: whether it was kept is not known. command:list shows it; the same --id does not do it twice", e);
        }
    }
}
