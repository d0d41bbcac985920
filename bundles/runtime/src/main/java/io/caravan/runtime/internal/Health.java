// SPDX-License-Identifier: Apache-2.0
package io.caravan.runtime.internal;

import io.caravan.runtime.Check;
import java.util.ArrayList;
import java.util.Comparator;
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

    private final CamelContext context;
    private final Supplier<List<Check>> own;
    private final Supplier<Map<String, Object>> version;

    Health(CamelContext context, Supplier<List<Check>> own, Supplier<Map<String, Object>> version) {
        this.context = context;
        this.own = own;
        this.version = version;
    }

    /** @return all enabled readiness checks, sorted by name */
    public List<Check> checks() {
        List<Check> checks = new ArrayList<>(own.get());
        registered().filter(HealthCheck::isReadiness).forEach(c -> checks.add(call(c, HealthCheck.Kind.READINESS)));
        checks.sort(Comparator.comparing(Check::name));
        return checks;
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

    /** 200 when every check is UP, else 503. The checks only if the variable {@code access} is granted. */
    public void ready(Exchange exchange) {
        List<Check> checks = checks();
        boolean ready = checks.stream().allMatch(Check::up);
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
            return new Check(check.getId(), result.getState().name(), message);
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
