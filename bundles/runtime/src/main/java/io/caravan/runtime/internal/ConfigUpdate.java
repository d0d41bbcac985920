// SPDX-License-Identifier: Apache-2.0
package io.caravan.runtime.internal;

import io.caravan.runtime.Check;
import io.caravan.runtime.ConfigException;
import io.caravan.runtime.ControlException;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.Optional;
import java.util.Set;
import java.util.TreeMap;
import java.util.concurrent.Callable;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.Future;
import java.util.concurrent.RejectedExecutionException;
import java.util.concurrent.TimeUnit;
import java.util.function.Function;
import java.util.function.Supplier;
import java.util.stream.Collectors;
import org.apache.camel.CamelContext;
import org.apache.camel.Exchange;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/**
 * The bean {@code configUpdate}: changes of configuration and data policy that come as commands. A route cannot: it is itself replaced by
 * what it changes, and what it did must be undone by the next process when this one dies of it.
 *
 * <p>A change is checked together with everything else that is configured, written down ({@link ControlFolder}), put in force and watched:
 * it stays if the gateway is as ready as it was before, for {@code control.settle.ms}, within {@code ready_within_ms}; else all of it is undone.
 * What became of a command is remembered by its id: the same id is not carried out again. One change at a time; thread-safe.
 */
public final class ConfigUpdate {

    static final long READY_WITHIN_MS = 30_000;
    private static final long READY_WITHIN_MAX_MS = 300_000;
    private static final long APPLY_S = 60;
    private static final long LOOK_MS = 50;
    /** Set by the routes of the uplink while there is a session. */
    private static final String SESSION = "global:uplinkSession";
    private static final Logger LOG = LoggerFactory.getLogger(ConfigUpdate.class);

    /** What a change is about to do, and how it is put in force. */
    private record Change(String file, String text, Map<String, Object> changed, Callable<Set<String>> apply) { }

    private final CamelContext context;
    private final LayeredConfig config;
    private final ControlFolder folder;
    private final AuditLog audit;
    private final Callable<Set<String>> reload;
    private final Function<Callable<Set<String>>, Future<Set<String>>> configThread;
    private final RouteDeployer routes;
    private final Supplier<List<Check>> checks;
    private volatile boolean closed;
    private volatile String unrecovered;

    /**
     * @param reload       puts the files in force; on the thread that configThread gives it to
     * @param configThread does it on the one thread that reads configuration
     */
    ConfigUpdate(CamelContext context, LayeredConfig config, AuditLog audit, Callable<Set<String>> reload,
            Function<Callable<Set<String>>, Future<Set<String>>> configThread, RouteDeployer routes, Supplier<List<Check>> checks) {
        this.context = context;
        this.config = config;
        this.folder = config.control();
        this.audit = audit;
        this.reload = reload;
        this.configThread = configThread;
        this.routes = routes;
        this.checks = checks;
    }

    /** Body: object with {@code keys}, a list of names that may end with {@code *}, or nothing; answers values of keys that a command may set. */
    public void get(Exchange exchange) {
        List<?> wanted = arguments(exchange).get("keys") instanceof List<?> list ? list : List.of("*");
        Map<String, Object> values = new TreeMap<>(config.settings());
        values.keySet().removeIf(name -> config.refusal(name) != null || wanted.stream().map(String::valueOf).noneMatch(
                w -> w.endsWith("*") ? name.startsWith(w.substring(0, w.length() - 1)) : name.equals(w)));
        Map<String, Object> answer = new LinkedHashMap<>();
        answer.put("values", values);
        answer.put("set_by_commands", current());
        if (!config.passedOver().isEmpty()) {
            answer.put("not_in_force", config.passedOver());
        }
        exchange.getMessage().setBody(answer);
    }

    /** Body: object with {@code changes} (key to value; null: as it is without commands) and {@code ready_within_ms}. */
    public void update(Exchange exchange) {
        if (!(arguments(exchange).get("changes") instanceof Map<?, ?> changes) || changes.isEmpty()) {
            throw new ControlException("changes must be an object with at least one key, for example {\"rollup.emit.ms\": 2000}");
        }
        Map<String, String> wanted = new TreeMap<>();
        changes.forEach((key, value) -> {
            if (value instanceof Map || value instanceof List) {
                throw new ControlException(key + " must be a number, true, false, a word, or null");
            }
            wanted.put(String.valueOf(key), value == null ? null : String.valueOf(value));
        });
        run(exchange, () -> configuration(wanted));
    }

    /** Sets one key that has a command of its own. Body: object with {@code ready_within_ms}. */
    public void set(Exchange exchange, String key, Object value) {
        run(exchange, () -> configuration(Map.of(key, String.valueOf(value))));
    }

    /** Body: object with {@code policy}, valid by schema/data-policy-1.json, or null: none but that of the operator; and {@code ready_within_ms}. */
    public void policy(Exchange exchange) {
        Object policy = arguments(exchange).get("policy");
        String text = policy == null ? "{}" : Control.json((Map<?, ?>) policy);
        Map<String, Object> changed = new LinkedHashMap<>();
        changed.put("policy", policy);
        run(exchange, () -> text.equals(Objects.requireNonNullElse(folder.inForce(ControlFolder.POLICY), "{}")) ? null
                : new Change(ControlFolder.POLICY, text, changed, Set::of));
    }

    /**
     * @return the policy that commands have set, JSON text; it only takes away from etc/data-policy.json. {}: none
     * @throws IOException it cannot be read: then nothing may leave
     */
    public String narrowing() throws IOException {
        String text = folder.inForce(ControlFolder.POLICY);
        return text == null ? "{}" : text;
    }

    /** What the container does at its start and every now and then. */
    void retry() {
        if (unrecovered == null) {
            return;
        }
        recover();
    }

    /** Undoes what a process before this one left, if that was not possible when the configuration was read. */
    void recover() {
        try {
            folder.recover().ifPresent(this::told);
            unrecovered = null;
        } catch (IOException e) {
            unrecovered = "What a command changed before the last start cannot be undone on disk, it is only not in force: " + Causes.text(e);
        }
    }

    /** @param id of the command whose change did not outlive its process */
    void told(String id) {
        LOG.warn("The change of command [{}] was rolled back: the process before this one ended before it was confirmed", id);
        audit.note("control.rollback", id, "ok", Map.of("cause", "the process ended before the change was confirmed"));
    }

    Check check() {
        String problem = unrecovered != null ? unrecovered : String.join("; ", config.passedOver());
        return new Check("control", problem.isEmpty() ? "UP" : "DOWN", problem.isEmpty() ? "" : problem + (unrecovered != null ? ""
                : ": change it back by config.update, or delete the line in " + folder.path(ControlFolder.CONFIG)));
    }

    /** A change that is being watched is left to the next start, which undoes it. */
    void close() {
        closed = true;
    }

    // ---- one change

    private void run(Exchange exchange, Callable<Change> plan) {
        String id = Optional.ofNullable(exchange.getVariable("commandId", String.class))
                .orElseThrow(() -> new ControlException("The route must set variable commandId"));
        Object within = arguments(exchange).getOrDefault("ready_within_ms", READY_WITHIN_MS);
        long withinMs = within instanceof Number n ? n.longValue() : -1;
        if (withinMs < 100 || withinMs > READY_WITHIN_MAX_MS) {
            throw new ControlException("ready_within_ms [" + within + "] must be a whole number from 100 to " + READY_WITHIN_MAX_MS);
        }
        String by = exchange.getVariable("commandOrigin", "", String.class) + ":" + exchange.getVariable("commandBy", "", String.class);
        synchronized (this) {
            try {
                exchange.getMessage().setBody(carryOut(id, by, plan, withinMs));
            } catch (ConfigException e) {
                audit.note("control.change", id, "refused", Map.of("by", by, "problems", config.redaction().of(String.join("; ", e.problems()))));
                throw new ControlException(String.join("; ", e.problems()));
            } catch (IOException e) {
                throw new ControlException(ControlException.FAILED, "Nothing was changed: " + Causes.text(e), null, e);
            } catch (UncheckedIOException e) {
                throw new ControlException(ControlException.FAILED, e.getMessage(), null, e);
            } catch (InterruptedException e) {
                Thread.currentThread().interrupt();
                // No answer: the next start undoes it, and knows what to say when it is asked again.
                throw new IllegalStateException("The gateway stops; the next start undoes what was begun", e);
            } catch (ControlException e) {
                throw e;
            } catch (Exception e) {
                throw new ControlException(ControlException.FAILED, Causes.text(e), null, e);
            }
        }
    }

    private String carryOut(String id, String by, Callable<Change> plan, long withinMs) throws Exception {
        Optional<ControlFolder.Outcome> known = folder.outcome(id);
        if (known.isPresent()) {
            return answer(known.get());
        }
        folder.recover().ifPresent(this::told);
        unrecovered = null;
        Change change = plan.call();
        if (change == null) {
            return json(Map.of("changed", Map.of()));
        }
        Set<String> downBefore = down().keySet();
        boolean connected = context.getVariable(SESSION) != null;
        Map<String, Object> details = new LinkedHashMap<>();
        details.put("by", by);
        details.put("changed", json(change.changed));
        audit.record("control.change", id, "begun", details);
        folder.begin(id, change.file, change.text, new ControlFolder.Outcome(ControlFolder.ROLLED_BACK,
                "the process ended before the gateway was ready again", json(Map.of("changed", Map.of()))));
        long begun = System.nanoTime();
        String cause;
        try {
            folder.apply();
            onConfigThread(change.apply);
            cause = notReady(downBefore, connected, withinMs);
        } catch (IOException e) {
            if (Thread.currentThread().isInterrupted()) {
                throw new InterruptedException("the container stops");
            }
            cause = Causes.text(e);
        } catch (ConfigException e) {
            cause = String.join("; ", e.problems());
        }
        if (cause == null) {
            Map<String, Object> result = new LinkedHashMap<>();
            result.put("changed", change.changed);
            result.put("ready_after_ms", TimeUnit.NANOSECONDS.toMillis(System.nanoTime() - begun));
            try {
                folder.confirm(new ControlFolder.Outcome(ControlFolder.APPLIED, "", json(result)));
                audit.note("control.change", id, "ok", details);
                return json(result);
            } catch (IOException e) {
                cause = "it cannot be confirmed on disk: " + Causes.text(e);
            }
        }
        return undo(id, change, cause, downBefore, withinMs, details);
    }

    private String undo(String id, Change change, String cause, Set<String> downBefore, long withinMs, Map<String, Object> details) throws Exception {
        LOG.error("The change of command [{}] is rolled back: {}", id, cause);
        String state = "";
        ControlFolder.Outcome outcome = new ControlFolder.Outcome(ControlFolder.ROLLED_BACK, cause, json(Map.of("changed", Map.of())));
        try {
            folder.rollBack(outcome);
        } catch (IOException e) {
            state = "; on disk it is not yet, which is tried again: " + Causes.text(e);
            unrecovered = "What command [" + id + "] changed cannot be undone on disk, it is only not in force: " + Causes.text(e);
        }
        onConfigThread(change.apply);
        String still = notReady(downBefore, false, withinMs);
        if (still != null) {
            state += "; and with everything as before: " + still;
        }
        details.put("cause", cause + state);
        audit.note("control.change", id, "rolled back", details);
        throw new ControlException(ControlException.ROLLED_BACK, "Everything is as it was before, because " + cause + state, outcome.result(), null);
    }

    private Change configuration(Map<String, String> wanted) throws IOException {
        Map<String, String> commands = folder.config();
        Map<String, String> next = new TreeMap<>(commands);
        List<String> problems = new ArrayList<>();
        wanted.forEach((key, value) -> {
            String refusal = value == null ? null : config.refusal(key);
            if (refusal != null) {
                problems.add(key + " " + refusal);
            } else if (value == null) {
                next.remove(key);
            } else {
                next.put(key, value);
            }
        });
        if (!problems.isEmpty()) {
            throw new ConfigException(problems);
        }
        // What an earlier version has left is no reason to refuse this.
        next.keySet().removeIf(key -> !wanted.containsKey(key) && config.refusal(key) != null);
        Map<String, String> values = config.propose(next);
        if (next.equals(commands)) {
            return null;
        }
        Map<String, Object> changed = new TreeMap<>();
        wanted.keySet().forEach(key -> {
            Map<String, Object> fromTo = new LinkedHashMap<>();
            fromTo.put("from", config.settings().get(key));
            fromTo.put("to", values.get(key));
            changed.put(key, fromTo);
        });
        return new Change(ControlFolder.CONFIG, ControlFolder.text(next), changed, reload);
    }

    private void onConfigThread(Callable<Set<String>> step) throws Exception {
        try {
            configThread.apply(step).get(APPLY_S, TimeUnit.SECONDS);
        } catch (ExecutionException e) {
            if (e.getCause() instanceof ConfigException problem) {
                throw problem;
            }
            throw new IOException("it cannot be put in force: " + Causes.text(e.getCause()), e.getCause());
        } catch (RejectedExecutionException e) {
            throw new InterruptedException("the container stops");
        }
    }

    /** Waits. @return null: as ready as before, and has been for a while; else what is wrong when the time is over */
    private String notReady(Set<String> downBefore, boolean connected, long withinMs) throws InterruptedException {
        long settle = Math.min(config.getLong("control.settle.ms"), withinMs);
        long deadline = System.nanoTime() + TimeUnit.MILLISECONDS.toNanos(withinMs);
        long since = 0;
        while (true) {
            String wrong = wrong(downBefore, connected);
            long now = System.nanoTime();
            if (wrong != null) {
                since = 0;
            } else if (since == 0) {
                since = now;
            }
            if (since != 0 && now - since >= TimeUnit.MILLISECONDS.toNanos(settle)) {
                return null;
            }
            if (now - deadline > 0 && wrong != null) {
                return "the gateway was not ready again within " + withinMs + " ms: " + wrong;
            }
            if (closed) {
                throw new InterruptedException("the container stops");
            }
            TimeUnit.MILLISECONDS.sleep(LOOK_MS);
        }
    }

    private String wrong(Set<String> downBefore, boolean connected) {
        if (!routes.idle()) {
            return "routes are still being replaced";
        }
        Map<String, String> down = down();
        down.keySet().removeAll(downBefore);
        if (down.isEmpty()) {
            return !connected || context.getVariable(SESSION) != null ? null : "the uplink did not come back";
        }
        return config.redaction().of(down.entrySet().stream().map(e -> e.getKey() + ": " + e.getValue()).collect(Collectors.joining("; ")));
    }

    private Map<String, String> down() {
        return checks.get().stream().filter(c -> !c.up()).collect(Collectors.toMap(Check::name, Check::message, (a, b) -> a, TreeMap::new));
    }

    private static String answer(ControlFolder.Outcome outcome) {
        if (outcome.status().equals(ControlFolder.APPLIED)) {
            return outcome.result();
        }
        throw new ControlException(ControlException.ROLLED_BACK, "Everything is as it was before, because " + outcome.detail(), outcome.result(), null);
    }

    private Map<String, String> current() {
        try {
            return folder.config();
        } catch (IOException e) {
            return Map.of();
        }
    }

    @SuppressWarnings("unchecked")
    private static Map<String, Object> arguments(Exchange exchange) {
        return exchange.getMessage().getBody() instanceof Map<?, ?> map ? (Map<String, Object>) map : Map.of();
    }

    private static String json(Map<String, ?> map) {
        return Control.json(map);
    }
}
