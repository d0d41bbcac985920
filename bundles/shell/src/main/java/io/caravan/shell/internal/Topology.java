// SPDX-License-Identifier: Apache-2.0
package io.caravan.shell.internal;

import java.util.ArrayList;
import java.util.Collection;
import java.util.LinkedHashMap;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Set;
import java.util.TreeSet;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import org.apache.camel.CamelContext;
import org.apache.camel.Route;
import org.apache.camel.model.BeanDefinition;
import org.apache.camel.model.EnrichDefinition;
import org.apache.camel.model.Model;
import org.apache.camel.model.PollEnrichDefinition;
import org.apache.camel.model.ProcessorDefinition;
import org.apache.camel.model.ProcessorDefinitionHelper;
import org.apache.camel.model.RouteDefinition;
import org.apache.camel.model.SendDefinition;
import org.apache.camel.model.ToDynamicDefinition;
import org.apache.camel.util.URISupport;
import org.apache.camel.util.json.JsonArray;
import org.apache.camel.util.json.JsonObject;

/**
 * Which route feeds which, of a running context: from each route's model, with its placeholders filled in. Routes that call each
 * other through {@code direct:} or {@code seda:} are joined; other endpoints, and tables that SQL statements name, are nodes of
 * their own. What Java code sends from is not in a model and so not in the picture. Immutable.
 */
final class Topology {

    enum Kind { ROUTE, ENDPOINT, TABLE }

    /** @param id unique: kind and name */
    record Node(String id, Kind kind, String name, String state) { }

    /** @param how {@code direct}, {@code seda}, or empty */
    record Edge(String from, String to, String how) { }

    /** Written tables in group 1; read ones in group 2, which are no functions: a table that is written may have its columns behind it. */
    private static final Pattern TABLE = Pattern.compile("\\b(?:(?:INSERT\\s+(?:OR\\s+\\w+\\s+)?INTO|UPDATE(?!\\s+SET)(?:\\s+OR\\s+\\w+)?|DELETE\\s+FROM)"
            + "\\s+([a-z_][a-z0-9_]*+)|(?:FROM|JOIN)\\s+([a-z_][a-z0-9_]*+)(?!\\s*\\())", Pattern.CASE_INSENSITIVE);
    private static final Pattern WITH = Pattern.compile("(?:WITH(?:\\s+RECURSIVE)?|\\)\\s*,)\\s+([a-z_][a-z0-9_]*)(?:\\s*\\([^)]*\\))?\\s+AS\\b", Pattern.CASE_INSENSITIVE);
    private static final Set<String> NO_TABLES = Set.of("select", "set", "excluded", "skip", "the", "unnest", "lateral");

    private final Map<String, Node> nodes;
    private final Set<Edge> edges;

    private Topology(Map<String, Node> nodes, Set<Edge> edges) {
        this.nodes = nodes;
        this.edges = edges;
    }

    Collection<Node> nodes() {
        return nodes.values();
    }

    Collection<Edge> edges() {
        return edges;
    }

    Node node(String id) {
        return nodes.get(id);
    }

    static Topology of(CamelContext context) {
        Map<String, Node> nodes = new LinkedHashMap<>();
        Set<Edge> edges = new LinkedHashSet<>();
        Model model = context.getCamelContextExtension().getContextPlugin(Model.class);
        List<RouteDefinition> definitions = List.copyOf(model.getRouteDefinitions());
        Map<String, Set<String>> consumers = new LinkedHashMap<>();
        for (RouteDefinition definition : definitions) {
            Route route = context.getRoute(definition.getRouteId());
            if (route == null) {
                continue;
            }
            String id = node(nodes, Kind.ROUTE, definition.getRouteId(), String.valueOf(context.getRouteController().getRouteStatus(definition.getRouteId())));
            String from = endpoint(route.getEndpoint().getEndpointUri());
            if (internal(from)) {
                consumers.computeIfAbsent(from, f -> new TreeSet<>()).add(id);
            } else {
                sql(nodes, edges, id, route.getEndpoint().getEndpointUri(), from);
                if (!from.startsWith("sql:")) {
                    edges.add(new Edge(node(nodes, Kind.ENDPOINT, external(context, from), ""), id, ""));
                }
            }
        }
        for (RouteDefinition definition : definitions) {
            String id = "route " + definition.getRouteId();
            if (!nodes.containsKey(id)) {
                continue;
            }
            for (String uri : outputs(context, definition)) {
                String to = endpoint(uri);
                if (internal(to)) {
                    Pattern called = Pattern.compile(Pattern.quote(to).replaceAll("\\$\\{[^}]*}", "\\\\E.+\\\\Q"));
                    List<String> found = consumers.entrySet().stream().filter(c -> called.matcher(c.getKey()).matches()).flatMap(c -> c.getValue().stream()).toList();
                    found.forEach(c -> edges.add(new Edge(id, c, to.substring(0, to.indexOf(':')))));
                    if (found.isEmpty()) {
                        edges.add(new Edge(id, node(nodes, Kind.ENDPOINT, to, "nobody"), ""));
                    }
                } else if (to.startsWith("sql:")) {
                    sql(nodes, edges, id, uri, to);
                } else {
                    edges.add(new Edge(id, node(nodes, Kind.ENDPOINT, external(context, to), ""), ""));
                }
            }
        }
        return new Topology(nodes, edges);
    }

    /** @return only these routes, and what they touch */
    Topology around(Collection<String> routes) {
        Set<Edge> kept = new LinkedHashSet<>();
        Map<String, Node> named = new LinkedHashMap<>();
        routes.forEach(r -> named.computeIfAbsent("route " + r, nodes::get));
        named.values().removeIf(n -> n == null);
        Set<String> mine = Set.copyOf(named.keySet());
        for (Edge edge : edges) {
            if (mine.contains(edge.from()) || mine.contains(edge.to())) {
                kept.add(edge);
                named.put(edge.from(), nodes.get(edge.from()));
                named.put(edge.to(), nodes.get(edge.to()));
            }
        }
        return new Topology(named, kept);
    }

    JsonObject json() {
        JsonArray all = new JsonArray();
        nodes.values().forEach(n -> all.add(Output.object("id", n.id(), "kind", n.kind().name().toLowerCase(Locale.ROOT), "name", n.name(), "state", n.state())));
        JsonArray links = new JsonArray();
        edges.forEach(e -> links.add(Output.object("from", e.from(), "to", e.to(), "how", e.how())));
        return Output.object("nodes", all, "edges", links);
    }

    private static String node(Map<String, Node> nodes, Kind kind, String name, String state) {
        String id = kind.name().toLowerCase(Locale.ROOT) + " " + name;
        nodes.putIfAbsent(id, new Node(id, kind, name, state));
        return id;
    }

    private static boolean internal(String endpoint) {
        return endpoint.startsWith("direct:") || endpoint.startsWith("seda:");
    }

    /** Where a component and a bean have one name, they are two doors to one thing: {@code wal:committed} and the bean wal. */
    private static String external(CamelContext context, String endpoint) {
        String scheme = endpoint.contains(":") ? endpoint.substring(0, endpoint.indexOf(':')) : endpoint;
        return context.getRegistry().lookupByName(scheme) != null && !scheme.equals("bean") && context.hasComponent(scheme) != null ? scheme : endpoint;
    }

    /** @return without options, which may hold secrets */
    private static String endpoint(String uri) {
        String clean = URISupport.sanitizeUri(uri).replaceFirst("://", ":").replace("%7B", "{").replace("%7D", "}");
        return clean.startsWith("sql:") ? "sql:" : clean.replaceFirst("(?<!\\{)\\?.*", "");
    }

    /** A statement that reads has an arrow from the table, one that writes an arrow to it. */
    private static void sql(Map<String, Node> nodes, Set<Edge> edges, String route, String uri, String endpoint) {
        if (endpoint.startsWith("sql:")) {
            tables(uri).forEach(use -> {
                String node = node(nodes, Kind.TABLE, use.table, "");
                edges.add(use.writes ? new Edge(route, node, "") : new Edge(node, route, ""));
            });
        }
    }

    /** @param writes else it is read */
    record Use(String table, boolean writes) { }

    /** What a statement does to which table; names that it makes itself are none. */
    static Set<Use> tables(String statement) {
        Set<String> local = new TreeSet<>(NO_TABLES);
        for (Matcher with = WITH.matcher(statement); with.find();) {
            local.add(with.group(1).toLowerCase(Locale.ROOT));
        }
        Set<Use> uses = new LinkedHashSet<>();
        for (Matcher table = TABLE.matcher(statement); table.find();) {
            boolean writes = table.group(1) != null;
            String name = table.group(writes ? 1 : 2).toLowerCase(Locale.ROOT);
            if (!local.contains(name) && !name.startsWith("json_") && !name.startsWith("jsonb_")) {
                uses.add(new Use(name, writes));
            }
        }
        return uses;
    }

    @SuppressWarnings("unchecked")
    private static List<String> outputs(CamelContext context, RouteDefinition route) {
        List<ProcessorDefinition<?>> steps = (List<ProcessorDefinition<?>>) (List<?>) route.getOutputs();
        List<String> uris = new ArrayList<>();
        ProcessorDefinitionHelper.filterTypeInOutputs(steps, SendDefinition.class).forEach(s -> uris.add(s.getEndpointUri()));
        ProcessorDefinitionHelper.filterTypeInOutputs(steps, ToDynamicDefinition.class).forEach(s -> uris.add(s.getUri()));
        ProcessorDefinitionHelper.filterTypeInOutputs(steps, EnrichDefinition.class).forEach(s -> uris.add(s.getExpression().getExpression()));
        ProcessorDefinitionHelper.filterTypeInOutputs(steps, PollEnrichDefinition.class).forEach(s -> uris.add(s.getExpression().getExpression()));
        ProcessorDefinitionHelper.filterTypeInOutputs(steps, BeanDefinition.class).forEach(b -> {
            if (b.getRef() != null && context.hasComponent(b.getRef()) != null) {
                uris.add(b.getRef());
            }
        });
        return uris.stream().filter(u -> u != null).map(u -> resolved(context, route, u)).toList();
    }

    private static String resolved(CamelContext context, RouteDefinition route, String uri) {
        String text = uri;
        if (route.getTemplateParameters() != null) {
            for (Map.Entry<String, Object> parameter : route.getTemplateParameters().entrySet()) {
                text = text.replace("{{" + parameter.getKey() + "}}", String.valueOf(parameter.getValue()));
            }
        }
        try {
            return context.resolvePropertyPlaceholders(text);
        } catch (RuntimeException e) {
            return text;
        }
    }
}
