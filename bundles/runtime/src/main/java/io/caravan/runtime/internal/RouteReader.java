// SPDX-License-Identifier: Apache-2.0
package io.caravan.runtime.internal;

import java.io.StringReader;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Collection;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.function.Function;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import javax.xml.parsers.SAXParserFactory;
import org.apache.camel.CamelContext;
import org.apache.camel.Component;
import org.apache.camel.RoutesBuilder;
import org.apache.camel.builder.RouteBuilder;
import org.apache.camel.builder.RouteConfigurationBuilder;
import org.apache.camel.impl.engine.DefaultRoutesLoader;
import org.apache.camel.model.AggregateDefinition;
import org.apache.camel.model.BeanDefinition;
import org.apache.camel.model.ChoiceDefinition;
import org.apache.camel.model.ExpressionNode;
import org.apache.camel.model.FilterDefinition;
import org.apache.camel.model.Model;
import org.apache.camel.model.PolicyDefinition;
import org.apache.camel.model.ProcessDefinition;
import org.apache.camel.model.ProcessorDefinition;
import org.apache.camel.model.ProcessorDefinitionHelper;
import org.apache.camel.model.RouteConfigurationDefinition;
import org.apache.camel.model.RouteDefinition;
import org.apache.camel.model.RouteTemplateDefinition;
import org.apache.camel.model.SendDefinition;
import org.apache.camel.model.TemplatedRouteDefinition;
import org.apache.camel.model.ToDynamicDefinition;
import org.apache.camel.model.TransactedDefinition;
import org.apache.camel.model.ValidateDefinition;
import org.apache.camel.model.WhenDefinition;
import org.apache.camel.model.language.ExpressionDefinition;
import org.apache.camel.model.rest.RestDefinition;
import org.apache.camel.spi.Resource;
import org.apache.camel.support.EndpointHelper;
import org.apache.camel.support.ResourceHelper;
import org.apache.camel.support.service.ServiceHelper;
import org.xml.sax.InputSource;
import org.xml.sax.SAXParseException;
import org.xml.sax.helpers.DefaultHandler;

/**
 * Reads a route file and checks all that can be checked without touching a running route: syntax, ids and who owns them,
 * and that components, options, beans, templates and configurations it names are there.
 */
final class RouteReader {

    /** An option that names a bean: {@code ?dataSource=#writer}. */
    private static final Pattern REFERENCE = Pattern.compile("[?&][A-Za-z.]+=(?:#|%23)([A-Za-z][A-Za-z0-9._-]*)(?=&|$)");

    private final CamelContext context;
    private final Model model;
    private final DraftRegistry registry;

    RouteReader(CamelContext context, DraftRegistry registry) {
        this.context = context;
        this.model = context.getCamelContextExtension().getContextPlugin(Model.class);
        this.registry = registry;
    }

    /**
     * Templates and configurations of the answer are attached, its beans and routes are not added yet. On a failure
     * nothing of it is left.
     *
     * @param old    the version that would be replaced, detached; or null
     * @param owners route, template, configuration or bean name to the file that owns it, null: nobody
     */
    Version read(RouteSource source, Version old, Function<String, RouteSource> owners) throws Exception {
        Version version = new Version(source, context);
        Map<String, DraftRegistry.Bean> beans = registry.begin();
        try {
            try {
                parse(version);
            } catch (StackOverflowError e) {
                throw new Failure("The file is nested too deeply to be read", 0);
            }
            version.beans = Map.copyOf(beans);
            if (version.routeIds().isEmpty() && version.provides().isEmpty() && beans.isEmpty()) {
                throw new Failure("The file brings no route, routeTemplate, routeConfiguration or bean", 0);
            }
            registry.seal();
            checkOwners(version, old, owners);
            checkEndpoints(version);
            return version;
        } catch (Exception e) {
            version.detach();
            throw e;
        } finally {
            registry.end();
        }
    }

    private void parse(Version version) throws Exception {
        RouteSource source = version.source;
        Resource resource = ResourceHelper.fromBytes(source.file(), source.text().getBytes(StandardCharsets.UTF_8));
        if (source.file().endsWith(".xml")) {
            checkWellFormed(source.text());
        }
        // A loader of its own: Camel's loaders cache by location and would hand out what an earlier, broken version left.
        DefaultRoutesLoader loader = new DefaultRoutesLoader(context);
        try {
            ServiceHelper.startService(loader);
            for (RoutesBuilder builder : loader.findRoutesBuilders(List.of(resource))) {
                collect(version, (RouteBuilder) builder, resource);
            }
        } finally {
            ServiceHelper.stopService(loader);
        }
    }

    /** Camel only logs that an XML file is not well-formed, and loads nothing. */
    private static void checkWellFormed(String xml) throws Exception {
        SAXParserFactory factory = SAXParserFactory.newInstance();
        factory.setFeature("http://apache.org/xml/features/disallow-doctype-decl", true);
        try {
            factory.newSAXParser().parse(new InputSource(new StringReader(xml)), new DefaultHandler());
        } catch (SAXParseException e) {
            throw new Failure(e.getMessage(), e.getLineNumber());
        }
    }

    private void collect(Version version, RouteBuilder builder, Resource resource) throws Exception {
        builder.setCamelContext(context);
        builder.setResource(resource);
        if (builder instanceof RouteConfigurationBuilder configurations) {
            var collection = configurations.getRouteConfigurationCollection();
            collection.setCamelContext(context);
            collection.setResource(resource);
            configurations.configuration();
            collection.getRouteConfigurations().stream().filter(c -> !version.configurations.contains(c))
                    .forEach(version.configurations::add);
        }
        for (RouteConfigurationDefinition configuration : version.configurations) {
            // One without an id would apply to every route of every file, but only to those that come after it.
            named(configuration.getId(), "A routeConfiguration", configuration.getLineNumber());
            if (model.getRouteConfigurationDefinitions().stream().anyMatch(c -> configuration.getId().equals(c.getId()))) {
                throw new Taken("configuration " + configuration.getId(), configuration.getLineNumber());
            }
        }
        model.addRouteConfigurations(version.configurations);
        // Routes are merged with their configurations here, so those had to come first.
        builder.configureRoutes(context);
        builder.configureRests(context);
        for (RestDefinition rest : builder.getRestCollection().getRests()) {
            version.rests.add(rest);
            rest.asRouteDefinition(context).forEach(r -> builder.getRouteCollection().route(r));
        }
        for (RouteDefinition route : builder.getRouteCollection().getRoutes()) {
            named(route.getRouteId(), "A route", route.getLineNumber());
            builder.getRouteCollection().prepareRoute(route);
            version.routes.add(route);
        }
        for (TemplatedRouteDefinition templated : builder.getTemplatedRouteCollection().getTemplatedRoutes()) {
            named(templated.getRouteId(), "A templatedRoute (routeId)", 0);
            version.templatedRoutes.add(templated);
        }
        for (RouteTemplateDefinition template : builder.getRouteTemplateCollection().getRouteTemplates()) {
            named(template.getId(), "A routeTemplate", template.getLineNumber());
            if (model.getRouteTemplateDefinition(template.getId()) != null) {
                throw new Taken("template " + template.getId(), template.getLineNumber());
            }
            model.addRouteTemplateDefinition(template);
            version.templates.add(template);
        }
    }

    private void checkOwners(Version version, Version old, Function<String, RouteSource> owners) {
        List<String> ids = new ArrayList<>();
        version.routes.forEach(r -> ids.add(r.getRouteId()));
        version.templatedRoutes.forEach(t -> ids.add(t.getRouteId()));
        Set<String> seen = new HashSet<>();
        for (String id : ids) {
            if (!seen.add(id)) {
                throw new Failure("Route id [" + id + "] stands twice in this file: every route needs an id of its own", 0);
            }
            RouteSource owner = owners.apply("route " + id);
            if (owner != null || context.getRoute(id) != null && (old == null || !old.routeIds().contains(id))) {
                throw new Taken("route " + id, version.routes.stream().filter(r -> id.equals(r.getRouteId()))
                        .mapToInt(RouteDefinition::getLineNumber).findFirst().orElse(0));
            }
        }
        for (String bean : version.beans.keySet()) {
            if (old != null && old.beans.containsKey(bean)) {
                continue;
            }
            if (owners.apply("bean " + bean) != null || registry.isBound(bean)) {
                throw new Taken("bean " + bean, 0);
            }
        }
        Set<String> provided = new HashSet<>();
        model.getRouteTemplateDefinitions().forEach(t -> provided.add("template " + t.getId()));
        model.getRouteConfigurationDefinitions().forEach(c -> provided.add("configuration " + c.getId()));
        for (String name : version.uses()) {
            if (!provided.contains(name)) {
                throw new Missing("route" + (name.startsWith("template ") ? "Template [" : "Configuration [")
                        + name.substring(name.indexOf(' ') + 1) + "]", 0);
            }
        }
    }

    private void checkEndpoints(Version version) throws Exception {
        for (RouteDefinition route : version.routes) {
            checkEndpoint(route.getInput().getEndpointUri(), route.getInput().getLineNumber());
            for (SendDefinition<?> send : all(route, SendDefinition.class)) {
                checkEndpoint(send.getEndpointUri(), send.getLineNumber());
            }
            for (ToDynamicDefinition dynamic : all(route, ToDynamicDefinition.class)) {
                String scheme = scheme(dynamic.getUri());
                if (scheme.matches("[a-z][a-z0-9-]*")) {
                    component(scheme, dynamic.getLineNumber());
                }
            }
            for (BeanDefinition bean : all(route, BeanDefinition.class)) {
                checkBean(bean.getRef(), bean.getLineNumber());
            }
            for (ProcessDefinition process : all(route, ProcessDefinition.class)) {
                checkBean(process.getRef(), process.getLineNumber());
            }
            for (AggregateDefinition aggregate : all(route, AggregateDefinition.class)) {
                checkBean(aggregate.getAggregationStrategy(), aggregate.getLineNumber());
            }
            for (PolicyDefinition policy : all(route, PolicyDefinition.class)) {
                checkBean(policy.getRef(), policy.getLineNumber());
            }
            for (TransactedDefinition transacted : all(route, TransactedDefinition.class)) {
                checkBean(transacted.getRef(), transacted.getLineNumber());
            }
        }
    }

    /** Has each expression read by its language: what a deployment would stumble over when it builds the route. */
    void checkLanguages(Version version) {
        for (RouteDefinition route : version.routes) {
            for (ExpressionNode node : all(route, ExpressionNode.class)) {
                checkLanguage(node.getExpression(), node instanceof FilterDefinition || node instanceof ValidateDefinition, node.getLineNumber());
            }
            for (ChoiceDefinition choice : all(route, ChoiceDefinition.class)) {
                for (WhenDefinition when : choice.getWhenClauses()) {
                    checkLanguage(when.getExpression(), true, when.getLineNumber() > 0 ? when.getLineNumber() : choice.getLineNumber());
                }
            }
        }
    }

    private void checkLanguage(ExpressionDefinition expression, boolean predicate, int line) {
        try {
            if (expression != null && predicate) {
                expression.createPredicate(context);
            } else if (expression != null) {
                expression.createExpression(context);
            }
        } catch (Exception e) {
            throw Failure.of(e, line);
        }
    }

    private static <T> Collection<T> all(RouteDefinition route, Class<T> type) {
        return ProcessorDefinitionHelper.filterTypeInOutputs((List<ProcessorDefinition<?>>) route.getOutputs(), type);
    }

    /** Has the component read the uri and its options; the endpoint is neither kept nor started. */
    private void checkEndpoint(String uri, int line) throws Exception {
        if (uri == null) {
            return;
        }
        try {
            String raw = EndpointHelper.resolveEndpointUriPropertyPlaceholders(context, uri);
            if (!raw.matches("[A-Za-z][A-Za-z0-9+.-]*:.*")) {
                return; // the name of an endpoint in the registry
            }
            Component component = component(scheme(raw), line);
            // Camel would try to convert the text to what the option takes, and say that it cannot.
            for (Matcher option = REFERENCE.matcher(raw); option.find();) {
                checkBean(option.group(1), line);
            }
            component.createEndpoint(component.useRawUri() ? raw : EndpointHelper.normalizeEndpointUri(raw));
        } catch (Failure e) {
            throw e;
        } catch (Exception e) {
            throw Failure.of(e, line);
        }
    }

    private Component component(String scheme, int line) {
        Component component = context.getComponent(scheme, true, true);
        if (component == null) {
            throw new Missing("component [" + scheme + ":]", line);
        }
        ServiceHelper.initService(component);
        return component;
    }

    private void checkBean(String ref, int line) {
        if (ref == null) {
            return;
        }
        String name = context.resolvePropertyPlaceholders(ref).replaceFirst("^#?(bean:)?", "");
        if (!name.contains(":") && registry.lookupByName(name) == null && context.getClassResolver().resolveClass(name) == null) {
            throw new Missing("bean [" + name + "]", line);
        }
    }

    private static String scheme(String uri) {
        return uri.split("[:?]", 2)[0];
    }

    private static void named(String id, String what, int line) {
        if (id == null) {
            throw new Failure(what + " has no id: without one it cannot be updated or taken out again", line);
        }
    }

    /** What is wrong with a file, in words for the operator. */
    static class Failure extends RuntimeException {
        private static final long serialVersionUID = 1L;
        final int line;
        final boolean pending;

        Failure(String message, int line) {
            this(message, line, false, null);
        }

        Failure(String message, int line, boolean pending, Throwable cause) {
            super(message, cause);
            // Camel says -1 where it does not know.
            this.line = Math.max(0, line);
            this.pending = pending;
        }

        static Failure of(Exception e, int line) {
            return e instanceof Failure f ? f : new Failure(Causes.text(e), line > 0 ? line : Causes.line(e), Causes.waits(e), e);
        }

        /** A message may quote the file, with what that says of lines; a parser means the end of the file by the one behind the last. */
        Failure within(String text) {
            return line <= text.lines().count() + 1 ? this : new Failure(getMessage(), 0, pending, getCause());
        }
    }

    /** Something the file needs has not arrived yet. */
    static final class Missing extends Failure {
        private static final long serialVersionUID = 1L;

        Missing(String what, int line) {
            super("waits for " + what, line, true, null);
        }
    }

    /** A name that belongs to another file. The deployer adds whose it is. */
    static final class Taken extends Failure {
        private static final long serialVersionUID = 1L;
        final String name;

        Taken(String name, int line) {
            super(name + " is taken", line);
            this.name = name;
        }
    }
}
