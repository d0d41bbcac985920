// SPDX-License-Identifier: Apache-2.0
package io.caravan.shell.internal;

import io.caravan.shell.internal.Topology.Edge;
import io.caravan.shell.internal.Topology.Kind;
import io.caravan.shell.internal.Topology.Node;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.HashMap;
import java.util.HashSet;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Set;
import java.util.TreeMap;
import java.util.stream.Collectors;

/**
 * Draws a {@link Topology}: for a terminal, for Markdown (Mermaid), for Graphviz, and as SVG that needs no program to lay it out,
 * because a gateway has none.
 */
final class TopologyView {

    private static final int ROW = 26;
    private static final int BOX = 18;
    private static final int GAP = 90;
    private static final int CHAR = 7;
    private static final int MARGIN = 16;
    private static final int LABEL = 38;
    private static final int SWEEPS = 8;

    private TopologyView() {
    }

    // ---- text

    /** A tree from what comes in; what was drawn already is named, with {@code ^}. */
    static String text(Topology t, int width) {
        if (t.nodes().isEmpty()) {
            return "No routes";
        }
        StringBuilder text = new StringBuilder();
        Set<String> drawn = new HashSet<>();
        Map<String, List<Edge>> out = outgoing(t);
        Set<String> fed = t.edges().stream().filter(e -> t.node(e.from()).kind() == Kind.ROUTE).map(Edge::to).collect(Collectors.toSet());
        List<Node> roots = new ArrayList<>(t.nodes().stream().filter(n -> n.kind() == Kind.ENDPOINT && out.containsKey(n.id())).sorted(Comparator.comparing(Node::name)).toList());
        t.nodes().stream().filter(n -> n.kind() == Kind.ROUTE && !fed.contains(n.id())).sorted(Comparator.comparing(Node::name)).forEach(roots::add);
        // What only a cycle feeds, and tables that only are read.
        t.nodes().stream().filter(n -> n.kind() == Kind.ROUTE).forEach(roots::add);
        for (Node root : roots) {
            if (!drawn.contains(root.id())) {
                text.append(Text.cut(label(root, out, drawn), width)).append('\n');
                children(t, root, out, drawn, "", text, width);
            }
        }
        String reads = reads(t, width);
        return text + (reads.isEmpty() ? "" : "\nread by\n" + reads) + "\n[ ] endpoint, ( ) table, ^ drawn above, ~> through seda; what Java code sends is not shown";
    }

    private static void children(Topology t, Node node, Map<String, List<Edge>> out, Set<String> drawn, String indent, StringBuilder text, int width) {
        drawn.add(node.id());
        if (node.kind() == Kind.TABLE) {
            return;
        }
        // An endpoint feeds on; a route that sends to one ends there.
        List<Edge> edges = out.getOrDefault(node.id(), List.of());
        for (int i = 0; i < edges.size(); i++) {
            Edge edge = edges.get(i);
            Node next = t.node(edge.to());
            boolean last = i == edges.size() - 1;
            boolean above = drawn.contains(next.id());
            text.append(Text.cut(indent + (last ? "└─" : "├─") + (edge.how().equals("seda") ? "~> " : "> ") + label(next, out, drawn), width)).append('\n');
            if (!above && next.kind() == Kind.ROUTE) {
                children(t, next, out, drawn, indent + (last ? "   " : "│  "), text, width);
            }
        }
    }

    private static String label(Node node, Map<String, List<Edge>> out, Set<String> drawn) {
        String name = Text.line(node.name());
        return switch (node.kind()) {
            case ENDPOINT -> "[" + name + "]" + (node.state().isEmpty() ? "" : " " + node.state() + " takes it");
            case TABLE -> "(" + name + ")";
            case ROUTE -> name + (node.state().equals("Started") ? "" : " " + node.state().toUpperCase(Locale.ROOT)) + (drawn.contains(node.id()) && out.containsKey(node.id()) ? " ^" : "");
        };
    }

    private static String reads(Topology t, int width) {
        Map<String, Set<String>> readers = new TreeMap<>();
        t.edges().stream().filter(e -> t.node(e.from()).kind() == Kind.TABLE)
                .forEach(e -> readers.computeIfAbsent(Text.line(t.node(e.from()).name()), n -> new java.util.TreeSet<>()).add(Text.line(t.node(e.to()).name())));
        int first = Math.min(30, readers.keySet().stream().mapToInt(n -> Text.columns(n) + 2).max().orElse(0));
        StringBuilder text = new StringBuilder();
        readers.forEach((table, names) -> {
            List<String> lines = Text.wrap(String.join(", ", names), width - first - 2);
            for (int i = 0; i < lines.size(); i++) {
                text.append(Text.pad(i == 0 ? Text.cut("(" + table + ")", first) : "", first)).append("  ").append(lines.get(i)).append('\n');
            }
        });
        return text.toString();
    }

    private static Map<String, List<Edge>> outgoing(Topology t) {
        Map<String, List<Edge>> out = new LinkedHashMap<>();
        t.edges().forEach(e -> out.computeIfAbsent(e.from(), f -> new ArrayList<>()).add(e));
        return out;
    }

    // ---- Mermaid and DOT

    static String mermaid(Topology t) {
        Map<String, String> ids = ids(t);
        StringBuilder text = new StringBuilder("flowchart LR\n");
        t.nodes().forEach(n -> {
            String label = "\"" + Text.line(n.name()).replace("&", "&amp;").replace("\"", "&quot;").replace("<", "&lt;").replace(">", "&gt;").replace("#", "&#35;") + "\"";
            text.append("  ").append(ids.get(n.id())).append(switch (n.kind()) {
                case ROUTE -> "[" + label + "]";
                case ENDPOINT -> "([" + label + "])";
                case TABLE -> "[(" + label + ")]";
            }).append('\n');
        });
        t.edges().forEach(e -> text.append("  ").append(ids.get(e.from())).append(e.how().equals("seda") ? " -.-> " : " --> ").append(ids.get(e.to())).append('\n'));
        return text.toString().stripTrailing();
    }

    static String dot(Topology t) {
        Map<String, String> ids = ids(t);
        StringBuilder text = new StringBuilder("digraph caravan {\n  rankdir=LR;\n  node [fontname=\"sans-serif\" fontsize=10];\n");
        t.nodes().forEach(n -> text.append("  ").append(ids.get(n.id())).append(" [label=\"").append(Text.line(n.name()).replace("\\", "\\\\").replace("\"", "\\\""))
                .append("\" shape=").append(switch (n.kind()) {
                    case ROUTE -> "box";
                    case ENDPOINT -> "ellipse";
                    case TABLE -> "cylinder";
                }).append("];\n"));
        t.edges().forEach(e -> text.append("  ").append(ids.get(e.from())).append(" -> ").append(ids.get(e.to())).append(e.how().equals("seda") ? " [style=dashed]" : "").append(";\n"));
        return text + "}";
    }

    private static Map<String, String> ids(Topology t) {
        Map<String, String> ids = new HashMap<>();
        t.nodes().forEach(n -> ids.put(n.id(), "n" + ids.size()));
        return ids;
    }

    // ---- SVG

    static String svg(Topology t) {
        Map<String, Integer> layers = layers(t);
        List<List<Node>> columns = order(t, layers);
        Map<String, int[]> places = new HashMap<>();
        int x = MARGIN;
        int rows = columns.stream().mapToInt(List::size).max().orElse(1);
        for (List<Node> column : columns) {
            int width = column.stream().mapToInt(n -> columns(n) * CHAR + 14).max().orElse(0);
            int top = MARGIN + 30 + (rows - column.size()) * ROW / 2;
            for (int i = 0; i < column.size(); i++) {
                places.put(column.get(i).id(), new int[] {x, top + i * ROW, width});
            }
            x += width + GAP;
        }
        int width = x - GAP + MARGIN;
        int height = rows * ROW + 2 * MARGIN + 30;
        StringBuilder svg = new StringBuilder();
        svg.append("<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"").append(width).append("\" height=\"").append(height).append("\" viewBox=\"0 0 ").append(width).append(' ').append(height)
                .append("\" font-family=\"DejaVu Sans Mono, Menlo, Consolas, monospace\" font-size=\"11\">\n<title>Routes</title>\n")
                .append("<style>.route{fill:#e8f0fe;stroke:#3367d6}.stopped{fill:#fce8e6;stroke:#c5221f}.endpoint{fill:#f1f3f4;stroke:#5f6368}.table{fill:#fef7e0;stroke:#b06000}"
                        + "path{fill:none;stroke:#5f6368;stroke-opacity:.55}.seda{stroke-dasharray:5 3}.back{stroke:#b06000}</style>\n")
                .append("<defs><marker id=\"arrow\" viewBox=\"0 0 8 8\" refX=\"8\" refY=\"4\" markerWidth=\"7\" markerHeight=\"7\" orient=\"auto-start-reverse\">"
                        + "<polygon points=\"0,0 8,4 0,8\" fill=\"#5f6368\"/></marker></defs>\n<rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n");
        legend(svg);
        t.edges().forEach(e -> arrow(svg, places.get(e.from()), places.get(e.to()), e.how()));
        t.nodes().forEach(n -> box(svg, n, places.get(n.id())));
        return svg.append("</svg>").toString();
    }

    private static void legend(StringBuilder svg) {
        String[] classes = {"route", "stopped", "endpoint", "table"};
        String[] names = {"route", "route, not started", "endpoint", "table"};
        int x = MARGIN;
        for (int i = 0; i < classes.length; i++) {
            svg.append("<rect class=\"").append(classes[i]).append("\" x=\"").append(x).append("\" y=\"").append(MARGIN - 6).append("\" width=\"14\" height=\"12\" rx=\"2\"/><text x=\"")
                    .append(x + 20).append("\" y=\"").append(MARGIN + 4).append("\">").append(names[i]).append("</text>\n");
            x += 40 + names[i].length() * CHAR;
        }
        svg.append("<path class=\"seda\" d=\"M").append(x).append(' ').append(MARGIN).append("h30\"/><text x=\"").append(x + 36).append("\" y=\"").append(MARGIN + 4).append("\">seda</text>\n");
    }

    private static int columns(Node node) {
        return Math.min(LABEL, Text.columns(Text.line(node.name())));
    }

    private static void arrow(StringBuilder svg, int[] from, int[] to, String how) {
        boolean forward = from[0] < to[0];
        int x1 = forward ? from[0] + from[2] : from[0];
        int x2 = forward ? to[0] : to[0] + to[2];
        int y1 = from[1] + BOX / 2;
        int y2 = to[1] + BOX / 2;
        int bend = forward ? (x2 - x1) / 2 : -GAP / 2;
        if (from[0] == to[0]) {
            x2 = to[0];
        }
        svg.append("<path class=\"").append(how.equals("seda") ? "seda" : "plain").append(forward ? "" : " back").append("\" marker-end=\"url(#arrow)\" d=\"M").append(x1).append(' ').append(y1).append(" C")
                .append(x1 + bend).append(' ').append(y1).append(' ').append(from[0] == to[0] ? x2 + bend : x2 - bend).append(' ').append(y2).append(' ').append(x2).append(' ').append(y2).append("\"/>\n");
    }

    private static void box(StringBuilder svg, Node node, int[] place) {
        String kind = node.kind() == Kind.ROUTE && !node.state().equals("Started") ? "stopped" : node.kind().name().toLowerCase(Locale.ROOT);
        String name = Text.line(node.name());
        svg.append("<g><title>").append(xml(node.kind().name().toLowerCase(Locale.ROOT) + " " + name + (node.state().isEmpty() ? "" : ", " + node.state()))).append("</title><rect class=\"").append(kind)
                .append("\" x=\"").append(place[0]).append("\" y=\"").append(place[1]).append("\" width=\"").append(place[2]).append("\" height=\"").append(BOX).append("\" rx=\"")
                .append(node.kind() == Kind.ENDPOINT ? BOX / 2 : 3).append("\"/><text x=\"").append(place[0] + 7).append("\" y=\"").append(place[1] + BOX - 5).append("\">").append(xml(Text.cut(name, LABEL)))
                .append("</text></g>\n");
    }

    private static String xml(String text) {
        return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace("\"", "&quot;");
    }

    /** The longest way from what comes in, without the edges that close a cycle. A table stands behind who writes it. */
    private static Map<String, Integer> layers(Topology t) {
        Map<String, List<Edge>> out = outgoing(t);
        Map<String, List<String>> next = new HashMap<>();
        Set<String> done = new HashSet<>();
        Set<String> open = new HashSet<>();
        List<String> order = new ArrayList<>();
        Set<String> fed = t.edges().stream().map(Edge::to).collect(Collectors.toSet());
        t.nodes().stream().sorted(Comparator.comparing((Node n) -> fed.contains(n.id())).thenComparing(n -> n.kind() != Kind.ENDPOINT).thenComparing(n -> n.kind() == Kind.TABLE))
                .forEach(n -> visit(n.id(), t, out, next, done, open, order));
        Map<String, Integer> layers = new HashMap<>();
        order.forEach(n -> layers.put(n, 0));
        for (int i = order.size() - 1; i >= 0; i--) {
            String from = order.get(i);
            next.getOrDefault(from, List.of()).forEach(to -> layers.merge(to, layers.get(from) + 1, Math::max));
        }
        return layers;
    }

    private static void visit(String id, Topology t, Map<String, List<Edge>> out, Map<String, List<String>> next, Set<String> done, Set<String> open, List<String> order) {
        if (!done.add(id)) {
            return;
        }
        open.add(id);
        for (Edge edge : out.getOrDefault(id, List.of())) {
            // What is read from a table, or from the log, would push its readers behind all writers.
            if (!open.contains(edge.to()) && t.node(id).kind() != Kind.TABLE) {
                next.computeIfAbsent(id, n -> new ArrayList<>()).add(edge.to());
                visit(edge.to(), t, out, next, done, open, order);
            }
        }
        open.remove(id);
        order.add(id);
    }

    /** Each column in the order of what its nodes are joined to, some sweeps in both directions: fewer lines cross. */
    private static List<List<Node>> order(Topology t, Map<String, Integer> layers) {
        List<List<Node>> columns = new ArrayList<>();
        t.nodes().stream().sorted(Comparator.comparing((Node n) -> n.kind()).thenComparing(Node::name)).forEach(n -> {
            while (columns.size() <= layers.get(n.id())) {
                columns.add(new ArrayList<>());
            }
            columns.get(layers.get(n.id())).add(n);
        });
        Map<String, List<String>> joined = new HashMap<>();
        t.edges().forEach(e -> {
            joined.computeIfAbsent(e.from(), n -> new ArrayList<>()).add(e.to());
            joined.computeIfAbsent(e.to(), n -> new ArrayList<>()).add(e.from());
        });
        Map<String, Double> at = new HashMap<>();
        columns.forEach(c -> place(c, at));
        for (int sweep = 0; sweep < SWEEPS; sweep++) {
            for (int i = 0; i < columns.size(); i++) {
                List<Node> column = columns.get(sweep % 2 == 0 ? i : columns.size() - 1 - i);
                Map<String, Double> wish = new HashMap<>();
                column.forEach(n -> wish.put(n.id(), joined.getOrDefault(n.id(), List.of()).stream().mapToDouble(at::get).average().orElse(at.get(n.id()))));
                column.sort(Comparator.comparing(n -> wish.get(n.id())));
                place(column, at);
            }
        }
        return columns;
    }

    private static void place(List<Node> column, Map<String, Double> at) {
        for (int i = 0; i < column.size(); i++) {
            at.put(column.get(i).id(), i - (column.size() - 1) / 2.0);
        }
    }
}
