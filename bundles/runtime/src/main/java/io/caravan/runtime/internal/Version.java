// SPDX-License-Identifier: Apache-2.0
package io.caravan.runtime.internal;

import java.util.ArrayList;
import java.util.Collections;
import java.util.LinkedHashMap;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeSet;
import java.util.concurrent.TimeUnit;
import java.util.regex.Pattern;
import org.apache.camel.CamelContext;
import org.apache.camel.component.seda.SedaEndpoint;
import org.apache.camel.model.Model;
import org.apache.camel.model.RouteConfigurationDefinition;
import org.apache.camel.model.RouteDefinition;
import org.apache.camel.model.RouteTemplateDefinition;
import org.apache.camel.model.TemplatedRouteDefinition;
import org.apache.camel.model.rest.RestDefinition;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/**
 * What one version of a route file brings into the CamelContext, kept by identity, so that exactly that can be taken out.
 *
 * <p>Templates and configurations are only looked at while routes are built; {@link #attach} and {@link #detach} of them do
 * not touch a running route. This class is not thread-safe: only the deployer's thread uses it.
 */
final class Version {

    private static final Logger LOG = LoggerFactory.getLogger(Version.class);
    private static final long SIGNAL_STOP_MS = 500;

    final RouteSource source;
    final List<RouteDefinition> routes = new ArrayList<>();
    final List<TemplatedRouteDefinition> templatedRoutes = new ArrayList<>();
    final List<RouteTemplateDefinition> templates = new ArrayList<>();
    final List<RouteConfigurationDefinition> configurations = new ArrayList<>();
    final List<RestDefinition> rests = new ArrayList<>();
    Map<String, DraftRegistry.Bean> beans = Map.of();

    private final CamelContext context;
    private final Model model;

    Version(RouteSource source, CamelContext context) {
        this.source = source;
        this.context = context;
        this.model = context.getCamelContextExtension().getContextPlugin(Model.class);
    }

    /** @return ids in the order of the file: what feeds the others usually comes first */
    List<String> routeIds() {
        Set<String> ids = new LinkedHashSet<>();
        routes.forEach(r -> ids.add(r.getRouteId()));
        templatedRoutes.forEach(t -> ids.add(t.getRouteId()));
        return List.copyOf(ids);
    }

    /** Names of templates and configurations that other files may build on. */
    Set<String> provides() {
        Set<String> names = new TreeSet<>();
        templates.forEach(t -> names.add("template " + t.getId()));
        configurations.forEach(c -> names.add("configuration " + c.getId()));
        return names;
    }

    /** The counterpart of {@link #provides}. */
    Set<String> uses() {
        Set<String> names = new TreeSet<>();
        templatedRoutes.forEach(t -> names.add("template " + t.getRouteTemplateRef()));
        routes.forEach(r -> names.addAll(configurationNames(r)));
        templates.forEach(t -> names.addAll(configurationNames(t.getRoute())));
        return names;
    }

    static List<String> configurationNames(RouteDefinition route) {
        String ids = route.getRouteConfigurationId();
        return ids == null || ids.contains("*") || ids.contains("{{") ? List.of()
                : Key.elements(ids).stream().map(id -> "configuration " + id).toList();
    }

    void attach() throws Exception {
        model.addRouteConfigurations(configurations);
        model.addRouteTemplateDefinitions(templates);
    }

    void detach() {
        // By identity and on the list itself: Model.removeRouteConfiguration takes another one for a definition without id.
        model.getRouteConfigurationDefinitions().removeIf(configurations::contains);
        model.getRouteTemplateDefinitions().removeIf(templates::contains);
    }

    /** Brings beans and routes into the context. What fails half-way is taken out by {@link #remove}. */
    void add(DraftRegistry registry) throws Exception {
        registry.commit(beans);
        if (!rests.isEmpty()) {
            model.addRestDefinitions(rests, false);
        }
        model.addRouteDefinitions(routes);
        for (TemplatedRouteDefinition templated : templatedRoutes) {
            model.addRouteFromTemplatedRoute(templated);
        }
    }

    /** Stops and removes routes, then beans. Goes on after a failure; an exchange in flight has the shutdown timeout. */
    void remove(DraftRegistry registry) {
        for (String id : routeIds()) {
            quietly("stop route " + id, () -> {
                RouteDefinition definition = definition(id);
                if (context.getRoute(id) != null) {
                    stop(id);
                    context.removeRoute(id);
                }
                if (definition != null) {
                    model.getRouteDefinitions().remove(definition);
                }
            });
        }
        model.getRestDefinitions().removeAll(rests);
        model.getCustomBeans().removeIf(b -> beans.containsKey(b.getName()));
        beans.keySet().forEach(name -> quietly("unbind bean " + name, () -> registry.unbind(name)));
    }

    /**
     * A seda consumer ends only after a poll that found nothing, and signals keep coming. Where the queue is purged anyway, it
     * is not waited for: what an interrupted exchange did rolls back, and the next signal does it again.
     */
    private void stop(String id) throws Exception {
        if (context.getRoute(id).getEndpoint() instanceof SedaEndpoint seda && seda.isPurgeWhenStopping()) {
            context.getRouteController().stopRoute(id, SIGNAL_STOP_MS, TimeUnit.MILLISECONDS);
        } else {
            context.getRouteController().stopRoute(id);
        }
    }

    /** Starts what should run, the fed before the feeding. @return route id and why it did not start */
    Map<String, Exception> start() {
        Map<String, Exception> failures = new LinkedHashMap<>();
        List<String> ids = new ArrayList<>(routeIds());
        Collections.reverse(ids);
        for (String id : ids) {
            RouteDefinition definition = definition(id);
            String auto = definition == null ? null : definition.getAutoStartup();
            if (context.getRoute(id) == null || auto != null && context.resolvePropertyPlaceholders(auto).equals("false")) {
                continue;
            }
            try {
                if (!context.getRouteController().getRouteStatus(id).isStarted()) {
                    context.getRouteController().startRoute(id);
                }
            } catch (Exception e) {
                failures.put(id, e);
            }
        }
        return failures;
    }

    /** @return whether this route waits for somebody to start it by hand */
    boolean manual(String id) {
        RouteDefinition definition = definition(id);
        String auto = definition == null ? null : definition.getAutoStartup();
        return auto != null && context.resolvePropertyPlaceholders(auto).equals("false");
    }

    /** @return line of the route that Camel could not create or start, 0: unknown */
    int line(Exception e) {
        String message = String.valueOf(e.getMessage());
        return routes.stream().filter(r -> message.matches("(?s).*route: " + Pattern.quote(r.getRouteId()) + "\\b.*"))
                .mapToInt(RouteDefinition::getLineNumber).findFirst().orElse(0);
    }

    private RouteDefinition definition(String id) {
        return List.copyOf(model.getRouteDefinitions()).stream().filter(d -> id.equals(d.getRouteId())).findFirst().orElse(null);
    }

    private interface Step {
        void run() throws Exception;
    }

    private void quietly(String what, Step step) {
        try {
            step.run();
        } catch (Exception e) {
            LOG.warn("{}: could not {}", source, what, e);
        }
    }
}
