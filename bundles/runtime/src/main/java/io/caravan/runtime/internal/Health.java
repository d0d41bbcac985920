// SPDX-License-Identifier: Apache-2.0
package io.caravan.runtime.internal;

import io.caravan.runtime.Check;
import java.time.Instant;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.function.Supplier;
import org.apache.camel.CamelContext;
import org.apache.camel.Exchange;
import org.apache.camel.health.HealthCheck;
import org.apache.camel.health.HealthCheckRegistry;
import org.apache.camel.util.json.JsonArray;
import org.apache.camel.util.json.JsonObject;

/**
 * The bean {@code health}: answers for routes. The container's own checks and all that modules have registered with
 * Camel's HealthCheckRegistry. This class is thread-safe.
 */
public final class Health {

    /** Of a check's result: what to do about it. */
    private static final String TODO = "todo";

    private final CamelContext context;
    private final Supplier<List<Check>> own;
    private final Supplier<Map<String, Object>> version;
    private final Supplier<List<String>> ignored;
    private final Map<String, Check> before = new HashMap<>(); // guarded by itself
    private volatile List<Check> last = List.of();

    /** @param ignored names of checks that do not decide, {@code *} stands for any text */
    Health(CamelContext context, Supplier<List<Check>> own, Supplier<Map<String, Object>> version, Supplier<List<String>> ignored) {
        this.context = context;
        this.own = own;
        this.version = version;
        this.ignored = ignored;
    }

    /** Looks now. @return all enabled readiness checks, sorted by name */
    public List<Check> checks() {
        List<Check> found = new ArrayList<>(own.get());
        registered().filter(HealthCheck::isReadiness).forEach(c -> found.add(call(c, HealthCheck.Kind.READINESS)));
        List<String> patterns = ignored.get();
        long now = System.currentTimeMillis();
        List<Check> checks = new ArrayList<>(found.size());
        synchronized (before) {
            Map<String, Check> known = new HashMap<>(before);
            before.clear();
            for (Check c : found) {
                Check was = known.get(c.name());
                Check is = new Check(c.name(), c.status(), c.message(), c.up() ? "" : c.todo().isEmpty() ? advice(c.name()) : c.todo(),
                        was != null && was.status().equals(c.status()) ? was.sinceMs() : now, patterns.stream().noneMatch(p -> matches(p, c.name())));
                before.put(c.name(), is);
                checks.add(is);
            }
        }
        checks.sort(Comparator.comparing(Check::name));
        last = List.copyOf(checks);
        return checks;
    }

    /** @return as {@link #checks} found it last; never waits */
    List<Check> last() {
        return last;
    }

    /** @return whether no check that counts is down, looked at now */
    boolean ready() {
        return checks().stream().noneMatch(Check::blocks);
    }

    static boolean matches(String pattern, String name) {
        int star = pattern.indexOf('*');
        return star < 0 ? pattern.equals(name) : name.length() >= pattern.length() - 1 && name.startsWith(pattern.substring(0, star))
                && name.endsWith(pattern.substring(star + 1));
    }

    /** Where a check does not say itself what to do. */
    private static String advice(String check) {
        if (check.equals("config")) {
            return "correct the file that is named; the old values are in force until then";
        }
        if (check.startsWith("route:")) {
            return "route:show " + check.substring("route:".length()) + " and the log have the cause: mend or delete the file in deploy/, or look after what it connects to;"
                    + " it is tried again by itself";
        }
        return check.startsWith("module:") ? "mend what the message names; it is tried again by itself" : "do what the message says; gateway:diagnose and the log have more";
    }

    /** 200 as long as the container works at all; 500: restarting it may help. What is wrong only if the variable {@code access} is granted. */
    public void live(Exchange exchange) {
        List<Check> down = new ArrayList<>();
        if (!context.getStatus().isStarted()) {
            down.add(new Check("context", "DOWN", "CamelContext is " + context.getStatus()));
        }
        registered().filter(c -> c.isLiveness() && !c.isReadiness()).map(c -> call(c, HealthCheck.Kind.LIVENESS))
                .filter(c -> c.status().equals("DOWN")).forEach(down::add);
        answer(exchange, down.isEmpty() ? 200 : 500, report(exchange, down.isEmpty() ? "live" : "dead", down));
    }

    /** 200 when every check that counts is UP, else 503. The checks only if the variable {@code access} is granted. */
    public void ready(Exchange exchange) {
        List<Check> checks = checks();
        boolean ready = checks.stream().noneMatch(Check::blocks);
        answer(exchange, ready ? 200 : 503, report(exchange, ready ? "ready" : "not_ready", checks));
    }

    /** What runs here. */
    public void version(Exchange exchange) {
        answer(exchange, 200, new JsonObject(version.get()));
    }

    private java.util.stream.Stream<HealthCheck> registered() {
        HealthCheckRegistry registry = HealthCheckRegistry.get(context);
        return registry == null ? java.util.stream.Stream.empty() : registry.stream().filter(HealthCheck::isEnabled);
    }

    private static Check call(HealthCheck check, HealthCheck.Kind kind) {
        try {
            HealthCheck.Result result = check.call(Map.of(HealthCheck.CHECK_KIND, kind));
            String message = result.getMessage().orElseGet(() -> result.getError().map(Causes::text).orElse(""));
            return new Check(check.getId(), result.getState().name(), message, String.valueOf(result.getDetails().getOrDefault(TODO, "")), 0, true);
        } catch (RuntimeException e) {
            return new Check(check.getId(), "DOWN", Causes.text(e));
        }
    }

    private static JsonObject report(Exchange exchange, String status, List<Check> checks) {
        JsonObject report = new JsonObject();
        report.put("status", status);
        // Names and messages of checks tell a stranger what there is to attack.
        if (!"granted".equals(exchange.getVariable("access"))) {
            return report;
        }
        JsonArray array = new JsonArray();
        for (Check check : checks) {
            JsonObject o = new JsonObject();
            o.put("name", check.name());
            o.put("status", check.status());
            o.put("message", check.message());
            if (!check.todo().isEmpty()) {
                o.put("todo", check.todo());
            }
            if (check.sinceMs() > 0) {
                o.put("since", Instant.ofEpochMilli(check.sinceMs()).toString());
            }
            if (!check.counts()) {
                o.put("counts", false);
            }
            array.add(o);
        }
        report.put("checks", array);
        return report;
    }

    private static void answer(Exchange exchange, int code, JsonObject body) {
        // Else the request's headers, a bearer token among them, would go back with the answer.
        exchange.getMessage().removeHeaders("*");
        exchange.getMessage().setHeader(Exchange.HTTP_RESPONSE_CODE, code);
        exchange.getMessage().setHeader(Exchange.CONTENT_TYPE, "application/json");
        exchange.getMessage().setBody(body.toJson());
    }
}
