// SPDX-License-Identifier: Apache-2.0
package io.caravan.conventions;

import java.io.IOException;
import java.net.URLDecoder;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.HashSet;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import javax.xml.stream.XMLStreamException;

/** A route file taken apart: its header, its routes, its endpoints, the keys it uses. */
final class RouteFile {
  private static final Set<String> SENDING = Set.of("to", "toD", "wireTap", "enrich", "pollEnrich", "poll");
  private static final Pattern KEY = Pattern.compile("\\{\\{\\s*[?!]?([^}:]+?)\\s*(?::[^}]*)?}}");

  /** A route, or a template or configuration that stands in a route's place. */
  record Route(String kind, String id, String description, int line, Endpoint from, Tree tree) { }

  /** What a route consumes from ({@code from}) or sends to. */
  record Endpoint(String kind, String id, String scheme, String name, Map<String, String> parameters, String uri, int line) { }

  record Use(String key, int line, boolean comment) { }

  final Path path;
  final String file;
  final String side;
  final String stem;
  final List<String> lines;
  final List<String> header;
  final Tree tree;
  final List<Route> routes = new ArrayList<>();
  final List<Endpoint> endpoints = new ArrayList<>();
  /** Placeholders, those of a template's own parameters left out: they are not configuration keys. */
  final List<Use> keys = new ArrayList<>();
  private final Set<String> templateParameters = new HashSet<>();

  /** Files of the gateway that run in the cloud as well, on its inbox: one file, not two. */
  private static final Set<String> IN_THE_CLOUD_TOO = Set.of("sink", "sink-kafka", "sink-s3");

  /** The containers it runs in. */
  Set<String> sides() {
    return side.equals("gateway") && IN_THE_CLOUD_TOO.contains(stem) ? Set.of("gateway", "cloud") : Set.of(side);
  }

  RouteFile(Path root, Path path) throws IOException {
    this.path = path;
    this.file = root.relativize(path).toString();
    this.side = path.getParent().getFileName().toString();
    String name = path.getFileName().toString();
    this.stem = name.replaceFirst("\\.camel\\.(yaml|xml)$", "");
    String text = Files.readString(path);
    this.lines = text.lines().toList();
    boolean xml = name.endsWith(".xml");
    this.header = xml ? xmlComment(text) : lines.stream().takeWhile(l -> l.startsWith("#")).map(l -> l.substring(1)).toList();
    try {
      this.tree = xml ? Tree.xml(text) : Tree.yaml(text);
    } catch (XMLStreamException e) {
      throw new IOException(file + " must be well-formed XML: " + e.getMessage(), e);
    }
    collectRoutes(tree);
    collectKeys(xml);
  }

  /** The first comment of an XML file, its lines as in a YAML header. */
  private static List<String> xmlComment(String text) {
    Matcher m = Pattern.compile("<!--(.*?)-->", Pattern.DOTALL).matcher(text);
    return m.find() ? m.group(1).strip().lines().map(l -> " " + l.strip()).toList() : List.of();
  }

  private void collectRoutes(Tree node) {
    for (Tree child : node.children()) {
      switch (child.name()) {
        case "route" -> {
          Tree from = child.child("from");
          routes.add(new Route("route", child.text("id"), child.text("description"), child.line(),
              from == null ? null : endpoint(from), child));
          collectEndpoints(child);
        }
        case "from" -> {
          routes.add(new Route("route", null, null, child.line(), endpoint(child), child));
          collectEndpoints(node);
        }
        case "routeTemplate", "routeConfiguration" -> {
          child.children().stream().filter(c -> c.name().equals("parameters")).flatMap(Tree::all).filter(n -> n.name().equals("name"))
              .forEach(n -> templateParameters.add(n.value()));
          routes.add(new Route(child.name(), child.text("id"), child.text("description"), child.line(), null, child));
          collectEndpoints(child);
        }
        case "templatedRoute" ->
            routes.add(new Route(child.name(), child.text("routeId"), child.text("description"), child.line(), null, child));
        case "onException", "intercept", "interceptFrom", "interceptSendToEndpoint", "onCompletion" -> collectEndpoints(child);
        default -> collectRoutes(child);
      }
    }
  }

  private void collectEndpoints(Tree node) {
    for (Tree child : node.children()) {
      if (child.name().equals("parameters")) {
        continue;
      }
      if (child.name().equals("from") || SENDING.contains(child.name())) {
        endpoints.add(endpoint(child));
      }
      collectEndpoints(child);
    }
  }

  /** Understands all spellings: {@code to: direct:x}, {@code uri: direct:x?a=b}, {@code uri: direct} with parameter name. */
  private static Endpoint endpoint(Tree node) {
    String uri = node.value() != null && node.text("uri") == null ? node.value() : node.text("uri");
    if (uri == null) {
      // enrich and pollEnrich take an expression
      uri = node.children().stream().filter(c -> Set.of("constant", "simple", "expression").contains(c.name()))
          .flatMap(Tree::all).map(Tree::value).filter(v -> v != null && v.contains(":")).findFirst().orElse("");
    }
    Map<String, String> parameters = new LinkedHashMap<>();
    int query = uri.indexOf('?');
    if (query >= 0) {
      for (String pair : uri.substring(query + 1).split("&")) {
        int eq = pair.indexOf('=');
        parameters.put(eq < 0 ? pair : pair.substring(0, eq),
            eq < 0 ? "" : URLDecoder.decode(pair.substring(eq + 1), StandardCharsets.UTF_8));
      }
    }
    if (node.child("parameters") != null) {
      node.child("parameters").children().forEach(p -> parameters.put(p.name(), p.value()));
    }
    String path = query >= 0 ? uri.substring(0, query) : uri;
    int colon = path.indexOf(':');
    String scheme = colon < 0 ? path : path.substring(0, colon);
    String name = colon < 0 ? parameters.getOrDefault("name", "") : path.substring(colon + 1).replaceFirst("^//", "");
    return new Endpoint(node.name(), node.text("id"), scheme, name, parameters, uri, node.line());
  }

  private void collectKeys(boolean xml) {
    boolean inComment = false;
    for (int i = 0; i < lines.size(); i++) {
      String line = lines.get(i);
      inComment |= xml && line.contains("<!--");
      Matcher m = KEY.matcher(line);
      while (m.find()) {
        if (!templateParameters.contains(m.group(1))) {
          keys.add(new Use(m.group(1), i + 1, inComment || line.strip().startsWith("#")));
        }
      }
      inComment &= !line.contains("-->");
    }
  }

  /** The route by which the flow enters this file: the one whose id is the stem; null if there is none. */
  Route entry() {
    return routes.stream().filter(r -> stem.equals(r.id())).findFirst().orElse(null);
  }
}
