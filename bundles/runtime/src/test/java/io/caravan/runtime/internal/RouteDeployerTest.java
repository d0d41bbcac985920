// SPDX-License-Identifier: Apache-2.0
package io.caravan.runtime.internal;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNotNull;
import static org.junit.jupiter.api.Assertions.assertNotSame;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertSame;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.caravan.runtime.RouteFile;
import io.caravan.runtime.internal.RouteSource.Origin;
import java.time.Duration;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.atomic.AtomicBoolean;
import org.apache.camel.Component;
import org.apache.camel.Consumer;
import org.apache.camel.Endpoint;
import org.apache.camel.Processor;
import org.apache.camel.Producer;
import org.apache.camel.Route;
import org.apache.camel.impl.DefaultCamelContext;
import org.apache.camel.model.Model;
import org.apache.camel.support.DefaultComponent;
import org.apache.camel.support.DefaultConsumer;
import org.apache.camel.support.DefaultEndpoint;
import org.apache.camel.support.DefaultProducer;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

class RouteDeployerTest {

    private final DefaultCamelContext context = new DefaultCamelContext();
    private RouteDeployer deployer;

    @BeforeEach
    void start() throws Exception {
        context.getRouteController().supervising().setBackOffDelay(100);
        context.getShutdownStrategy().setTimeout(5);
        context.start();
        deployer = new RouteDeployer(context, Duration.ofMillis(200));
    }

    @AfterEach
    void stop() {
        deployer.close();
        context.stop();
    }

    // ---- deploying and taking out

    @ParameterizedTest
    @ValueSource(strings = {"yaml", "xml"})
    void yamlAndXmlAreEquals(String extension) throws Exception {
        put("hello.camel." + extension, answering(extension, "hello", "v1"));
        assertState("hello", "started");
        assertEquals("v1", ask("hello"));
        Route other = deployOther();

        put("hello.camel." + extension, answering(extension, "hello", "v2"));
        assertEquals("v2", ask("hello"));
        assertSame(other, context.getRoute("other"), "only the file's own routes stop");

        remove("hello", Origin.FEATURE);
        assertNull(context.getRoute("hello"));
        assertTrue(deployer.list().stream().noneMatch(f -> f.stem().equals("hello")));
        assertSame(other, context.getRoute("other"));
    }

    @Test
    void nothingOfAFileIsLeftBehind() throws Exception {
        put("all.camel.yaml", """
                - beans:
                    - {name: greeting, type: "io.caravan.runtime.internal.RouteDeployerTest$Box", constructors: {0: ciao}}
                - routeConfiguration:
                    id: quiet
                    onException:
                      - onException: {exception: [java.lang.IllegalStateException], handled: {constant: "true"}}
                - routeTemplate:
                    id: echo
                    parameters: [{name: text}]
                    from:
                      uri: "direct:{{text}}"
                      steps: [{setBody: {simple: "${bean:greeting.toString()} {{text}}"}}]
                - templatedRoute: {routeTemplateRef: echo, routeId: echo-a, parameters: [{name: text, value: a}]}
                - route:
                    id: fails
                    routeConfigurationId: quiet
                    from:
                      uri: direct:fails
                      steps: [{throwException: {exceptionType: java.lang.IllegalStateException, message: no}}]
                """);
        assertState("all", "started");
        assertEquals(List.of("fails", "echo-a"), file("all").routes().stream().map(RouteFile.RouteStatus::id).toList());
        assertEquals("ciao a", ask("a"));
        ask("fails");

        remove("all", Origin.FEATURE);
        Model model = context.getCamelContextExtension().getContextPlugin(Model.class);
        assertEquals(0, context.getRoutesSize());
        assertEquals(0, model.getRouteDefinitions().size());
        assertEquals(0, model.getRouteTemplateDefinitions().size());
        assertEquals(0, model.getRouteConfigurationDefinitions().size());
        assertEquals(0, model.getCustomBeans().size());
        assertNull(context.getRegistry().lookupByName("greeting"));
    }

    @ParameterizedTest
    @ValueSource(strings = {"my.route.camel.yaml", "MyRoute.camel.yaml", "my_route.camel.xml", "route.yaml", "-a.camel.yaml"})
    void badFileNameIsRefused(String name) {
        String message = assertThrows(IllegalArgumentException.class, () -> RouteSource.stem(name)).getMessage();
        assertEquals("Route file [" + name + "] must be named <stem>.camel.yaml or <stem>.camel.xml, the stem in kebab-case"
                + " without a dot, like sink-kafka.camel.yaml: rename it", message);
        deployer.refuse(name, message, null);
        assertState(name, "broken");
        deployer.refuse(name, null, null);
        assertEquals(List.of(), deployer.list());
    }

    // ---- broken files

    @Test
    void brokenUpdateKeepsTheOldVersionRunning() throws Exception {
        put("hello.camel.yaml", answering("yaml", "hello", "v1"));
        Route running = context.getRoute("hello");

        put("hello.camel.yaml", answering("yaml", "hello", "v2").replace("steps:", "stepz:"));
        assertBroken("hello", "hello.camel.yaml, line 6: ", "stepz");
        assertSame(running, context.getRoute("hello"), "it was not even stopped");

        put("hello.camel.yaml", answering("yaml", "hello", "v2").replace("- setBody", "- to: seda:x?sise=3\n        - setBody"));
        assertBroken("hello", "hello.camel.yaml, line 6: ", "sise");
        assertSame(running, context.getRoute("hello"));

        put("hello.camel.yaml", answering("yaml", "hello", "v2").replace("- setBody", "- to: seda:{{no.such.key}}\n        - setBody"));
        assertBroken("hello", "hello.camel.yaml, line 6: {{no.such.key}} is not a configuration key, or has no value", "");
        assertSame(running, context.getRoute("hello"));

        put("hello.camel.yaml", answering("yaml", "hello", "v1"));
        assertState("hello", "started");
        assertSame(running, context.getRoute("hello"));
    }

    @Test
    void updateThatCannotBeBuiltPutsTheOldVersionBack() throws Exception {
        put("hello.camel.yaml", answering("yaml", "hello", "v1"));
        put("hello.camel.yaml", answering("yaml", "hello", "v2").replace("constant: v2", "simple: \"${nonsense\""));
        assertBroken("hello", "hello.camel.yaml, line 1: ", "${nonsense");
        assertEquals("v1", ask("hello"));
        Route restored = context.getRoute("hello");

        deployer.retry();
        settle();
        assertSame(restored, context.getRoute("hello"), "not stopped again for a text that has failed already");
    }

    @ParameterizedTest
    @ValueSource(strings = {"", "- route:", "routes: 5", "- from: direct:x", "- rest: ["})
    void brokenYamlIsRefused(String text) throws Exception {
        put("bad.camel.yaml", text);
        assertBroken("bad", "bad.camel.yaml", "");
        assertEquals(0, context.getRoutesSize());
    }

    @ParameterizedTest
    @ValueSource(strings = {"", "<routes><route id='a'>", "<nonsense/>",
        "<routes><route id='a'><from uri='direct:a'/><too uri='log:x'/></route></routes>"})
    void brokenXmlIsRefused(String text) throws Exception {
        put("bad.camel.xml", text);
        assertBroken("bad", "bad.camel.xml", "");
        assertEquals(0, context.getRoutesSize());
    }

    @Test
    void xmlErrorNamesTheLine() throws Exception {
        put("bad.camel.xml", "<routes>\n<route id='a'>\n<from uri='direct:a'/>\n</routes>\n");
        assertBroken("bad", "bad.camel.xml, line 4: ", "route");
        put("bad.camel.xml", "<routes>\n<route id='a'>\n<from uri='direct:a'/>\n<too uri='log:x'/></route></routes>\n");
        assertBroken("bad", "bad.camel.xml, line 4: ", "too");
    }

    @Test
    void routeWithoutIdIsRefused() throws Exception {
        put("hello.camel.yaml", answering("yaml", "hello", "v1").replace("id: hello", "description: no id"));
        assertBroken("hello", "hello.camel.yaml", "A route has no id: without one it cannot be updated or taken out again");
    }

    // ---- ownership

    @Test
    void routeIdOfAnotherFileIsRefused() throws Exception {
        Route other = deployOther();
        put("thief.camel.yaml", answering("yaml", "other", "stolen"));
        assertBroken("thief", "thief.camel.yaml, line 1: ", "Route id [other] belongs to other.camel.yaml (feature): rename it");
        assertSame(other, context.getRoute("other"));

        remove("other", Origin.FEATURE);
        assertState("thief", "started");
        assertEquals("stolen", ask("other"));
    }

    @Test
    void templateAndBeanOfAnotherAreRefused() throws Exception {
        context.getRegistry().bind("writer", "the container's");
        put("a.camel.yaml", template("t", "1"));
        put("b.camel.yaml", template("t", "2"));
        assertBroken("b", "b.camel.yaml", "Route template [t] belongs to a.camel.yaml (feature): rename it");
        put("c.camel.yaml", "- beans:\n    - {name: writer, type: java.lang.StringBuilder}\n");
        assertBroken("c", "c.camel.yaml", "Bean [writer] belongs to the container: rename it");
        assertEquals("the container's", context.getRegistry().lookupByName("writer"));
    }

    @Test
    void routeIdTwiceInOneFileIsRefused() throws Exception {
        put("a.camel.yaml", answering("yaml", "x", "1") + answering("yaml", "x", "2"));
        assertBroken("a", "a.camel.yaml", "Route id [x] stands twice");
    }

    // ---- deploy/ over feature

    @Test
    void fileInDeployOverridesTheFeatureAndDeletingItReverts() throws Exception {
        put("hello.camel.yaml", answering("yaml", "hello", "feature"));
        deploy("hello.camel.xml", answering("xml", "hello", "deploy"));
        assertEquals("deploy", ask("hello"));
        assertEquals("deploy", file("hello").origin());
        assertTrue(deployer.text("hello").orElseThrow().startsWith("<routes"));

        put("hello.camel.yaml", answering("yaml", "hello", "feature 2"));
        assertEquals("deploy", ask("hello"), "still overridden");
        remove("hello", Origin.DEPLOY);
        assertEquals("feature 2", ask("hello"));
        assertEquals("feature", file("hello").origin());
    }

    @Test
    void orderOfArrivalDoesNotMatter() throws Exception {
        deploy("hello.camel.yaml", answering("yaml", "hello", "deploy"));
        put("hello.camel.yaml", answering("yaml", "hello", "feature"));
        assertEquals("deploy", ask("hello"));
        remove("hello", Origin.FEATURE);
        assertEquals("deploy", ask("hello"));
    }

    @Test
    void brokenOverrideLeavesTheFeatureRunning() throws Exception {
        deploy("hello.camel.yaml", "- route: [");
        put("hello.camel.yaml", answering("yaml", "hello", "feature"));
        assertEquals("feature", ask("hello"));
        assertBroken("hello", "deploy/hello.camel.yaml, line", "");
        remove("hello", Origin.DEPLOY);
        assertState("hello", "started");
    }

    @Test
    void brokenEditOfAnOverrideKeepsTheOverride() throws Exception {
        put("hello.camel.yaml", answering("yaml", "hello", "feature"));
        deploy("hello.camel.yaml", answering("yaml", "hello", "deploy"));
        deploy("hello.camel.yaml", "- route: [");
        assertEquals("deploy", ask("hello"));
        assertBroken("hello", "deploy/hello.camel.yaml", "");
        remove("hello", Origin.DEPLOY);
        assertEquals("feature", ask("hello"));
        assertState("hello", "started");
    }

    @Test
    void stopAndStartOfABundleIsAnUpdate() throws Exception {
        put("hello.camel.yaml", answering("yaml", "hello", "v1"));
        Route running = context.getRoute("hello");
        deployer.remove("hello", Origin.FEATURE, 0, false);
        put("hello.camel.yaml", answering("yaml", "hello", "v1"));
        put("hello.camel.yaml", "- route: [");
        await(() -> false, 400);
        assertSame(running, context.getRoute("hello"));
        assertBroken("hello", "hello.camel.yaml", "");
    }

    @Test
    void stoppedBundleStopsItsRoutesAndABrokenTextBringsTheLastGoodOneBack() throws Exception {
        put("hello.camel.yaml", answering("yaml", "hello", "v1"));
        deployer.remove("hello", Origin.FEATURE, 0, false);
        assertTrue(await(() -> context.getRoute("hello") == null, 5000));
        put("hello.camel.yaml", "- route: [");
        assertBroken("hello", "hello.camel.yaml", "");
        assertEquals("v1", ask("hello"));
    }

    @Test
    void secondBundleWithTheSameStemIsRefused() throws Exception {
        deployer.put(RouteSource.of("hello.camel.yaml", Origin.FEATURE, 7, answering("yaml", "hello", "seven")));
        deployer.put(RouteSource.of("hello.camel.yaml", Origin.FEATURE, 8, answering("yaml", "hello", "eight")));
        settle();
        assertEquals("seven", ask("hello"));
        assertBroken("hello", "hello.camel.yaml", "The stem belongs to hello.camel.yaml (feature, bundle 7): rename one");
        deployer.remove("hello", Origin.FEATURE, 7, true);
        settle();
        assertEquals("eight", ask("hello"));
        assertState("hello", "started");
    }

    // ---- any order

    @Test
    void waitsForAComponent() throws Exception {
        put("late.camel.yaml", route("late", "direct:late", "to: \"flaky:x\""));
        assertState("late", "pending");
        assertTrue(file("late").error().endsWith("line 6: waits for component [flaky:]"), file("late").error());
        context.addComponent("flaky", new Flaky());
        deployer.retry();
        settle();
        assertState("late", "started");
    }

    @Test
    void waitsForABean() throws Exception {
        put("late.camel.yaml", route("late", "direct:late", "bean: {ref: late, method: toString}"));
        assertState("late", "pending");
        context.getRegistry().bind("late", "here");
        deployer.retry();
        settle();
        assertEquals("here", ask("late"));
    }

    @Test
    void rebuildTakesTheBeansAnew() throws Exception {
        context.getRegistry().bind("box", new Box("one"));
        put("a.camel.yaml", route("a", "direct:a", "bean: {ref: box, method: toString}"));
        context.getRegistry().bind("box", new Box("two"));
        assertEquals("one", ask("a"), "a route holds the bean it was built with");
        deployer.rebuild();
        settle();
        assertEquals("two", ask("a"));
        assertState("a", "started");
    }

    @Test
    void waitsForATemplateAndForAConfiguration() throws Exception {
        put("a.camel.yaml", "- templatedRoute: {routeTemplateRef: t, routeId: a, parameters: [{name: name, value: a}]}\n");
        put("b.camel.yaml", route("b", "direct:b", "setBody: {constant: b}").replace("    from", "    routeConfigurationId: c\n    from"));
        assertState("a", "pending");
        assertState("b", "pending");
        put("c.camel.yaml", template("t", "1") + "- routeConfiguration: {id: c}\n");
        assertState("a", "started");
        assertState("b", "started");
        assertEquals("1", ask("a"));
    }

    @Test
    void changedTemplateRebuildsTheRoutesMadeFromIt() throws Exception {
        put("t.camel.yaml", template("t", "1"));
        put("a.camel.yaml", "- templatedRoute: {routeTemplateRef: t, routeId: a, parameters: [{name: name, value: a}]}\n");
        Route other = deployOther();
        put("t.camel.yaml", template("t", "2"));
        assertEquals("2", ask("a"));
        assertSame(other, context.getRoute("other"));
        remove("t", Origin.FEATURE);
        assertEquals("2", ask("a"), "a route that runs does not need its template any more");
    }

    // ---- systems that are away

    @Test
    void routeWhoseSystemIsAwayIsTriedAgain() throws Exception {
        Flaky flaky = new Flaky();
        context.addComponent("flaky", flaky);
        flaky.away.set(true);
        put("in.camel.yaml", route("in", "flaky:x", "log: hello"));
        RouteFile file = file("in");
        assertEquals("starting", file.state());
        assertEquals("flaky is away", file.routes().get(0).error());

        flaky.away.set(false);
        assertTrue(await(() -> file("in").state().equals("started"), 5000));
    }

    @Test
    void systemThatWentAwayDoesNotHoldUpAnUpdate() throws Exception {
        Flaky flaky = new Flaky();
        context.addComponent("flaky", flaky);
        put("in.camel.yaml", route("in", "flaky:x", "log: v1"));
        flaky.away.set(true);
        put("in.camel.yaml", route("in", "flaky:x", "log: v2"));
        assertState("in", "starting");
        assertTrue(deployer.text("in").orElseThrow().contains("v2"));
        flaky.away.set(false);
        assertTrue(await(() -> file("in").state().equals("started"), 5000));
    }

    @Test
    void updateWhoseRouteDoesNotStartPutsTheOldVersionBack() throws Exception {
        deployOther();
        put("in.camel.yaml", answering("yaml", "in", "v1"));
        // direct: allows one consumer per name
        put("in.camel.yaml", answering("yaml", "in", "v2").replace("direct:in", "direct:other"));
        assertBroken("in", "in.camel.yaml", "direct://other");
        assertEquals("v1", ask("in"));
        assertEquals("other", ask("other"));
    }

    @Test
    void routeThatIsStartedByHandCountsAsReady() throws Exception {
        put("manual.camel.yaml", answering("yaml", "manual", "v1").replace("    from", "    autoStartup: false\n    from"));
        assertState("manual", "started");
        assertTrue(context.getRouteController().getRouteStatus("manual").isStopped());
    }

    // ---- beans and configuration

    @Test
    void brokenUpdateLeavesTheBeansAlone() throws Exception {
        String text = "- beans:\n    - {name: box, type: \"io.caravan.runtime.internal.RouteDeployerTest$Box\", constructors: {0: %s}}\n";
        put("a.camel.yaml", String.format(text, "one") + route("a", "direct:a", "bean: {ref: box, method: toString}"));
        Object box = context.getRegistry().lookupByName("box");
        put("a.camel.yaml", String.format(text, "two") + "- route: {id: a, from: {uri: \"direct:a\", steps: [{nonsense: 1}]}}\n");
        assertBroken("a", "a.camel.yaml", "nonsense");
        assertSame(box, context.getRegistry().lookupByName("box"));
        put("a.camel.yaml", String.format(text, "three") + route("a", "direct:a", "bean: {ref: box, method: toString}"));
        assertEquals("three", ask("a"));
    }

    @Test
    void changedKeyRedeploysOnlyItsUsers() throws Exception {
        java.util.Properties values = new java.util.Properties();
        values.put("the.greeting", "one");
        context.getPropertiesComponent().setOverrideProperties(values);
        put("user.camel.yaml", answering("yaml", "user", "\"{{the.greeting}}\""));
        Route other = deployOther();
        assertEquals("one", ask("user"));

        values.put("the.greeting", "two");
        Route before = context.getRoute("user");
        deployer.configChanged(Set.of("the.greeting", "the.other"));
        settle();
        assertNotSame(before, context.getRoute("user"));
        assertEquals("two", ask("user"));
        assertSame(other, context.getRoute("other"));

        before = context.getRoute("user");
        deployer.configChanged(Set.of("the.greetings", "greeting"));
        settle();
        assertSame(before, context.getRoute("user"));
    }

    // ---- helpers

    private void put(String name, String text) throws Exception {
        deployer.put(RouteSource.of(name, Origin.FEATURE, 0, text));
        settle();
    }

    private void deploy(String name, String text) throws Exception {
        deployer.put(RouteSource.of(name, Origin.DEPLOY, 0, text));
        settle();
    }

    private void remove(String stem, Origin origin) throws Exception {
        deployer.remove(stem, origin, 0, true);
        settle();
    }

    private void settle() throws Exception {
        assertTrue(deployer.await(Duration.ofSeconds(20)));
    }

    private Route deployOther() throws Exception {
        put("other.camel.yaml", answering("yaml", "other", "other"));
        assertNotNull(context.getRoute("other"));
        return context.getRoute("other");
    }

    private String ask(String name) {
        return context.createProducerTemplate().requestBody("direct:" + name, "", String.class);
    }

    private RouteFile file(String stem) {
        return deployer.list().stream().filter(f -> f.stem().equals(stem)).findFirst().orElseThrow();
    }

    private void assertState(String stem, String state) {
        assertEquals(state, file(stem).state(), () -> String.valueOf(file(stem)));
    }

    private void assertBroken(String stem, String start, String part) {
        assertState(stem, "broken");
        String error = file(stem).error();
        assertTrue(error.startsWith(start) && error.contains(part), error);
        assertFalse(error.contains("\n"), error);
    }

    private static String answering(String extension, String id, String text) {
        return extension.equals("xml")
                ? "<routes><route id='" + id + "'><from uri='direct:" + id + "'/><setBody><constant>" + text
                        + "</constant></setBody></route></routes>"
                : route(id, "direct:" + id, "setBody: {constant: " + text + "}");
    }

    private static String route(String id, String from, String step) {
        return """
                - route:
                    id: %s
                    from:
                      uri: "%s"
                      steps:
                        - %s
                """.formatted(id, from, step);
    }

    private static String template(String id, String answer) {
        return """
                - routeTemplate:
                    id: %s
                    parameters: [{name: name}]
                    from:
                      uri: "direct:{{name}}"
                      steps: [{setBody: {constant: "%s"}}]
                """.formatted(id, answer);
    }

    private interface Condition {
        boolean met();
    }

    private static boolean await(Condition condition, long timeoutMs) throws InterruptedException {
        long deadline = System.nanoTime() + timeoutMs * 1_000_000;
        while (!condition.met()) {
            if (System.nanoTime() > deadline) {
                return false;
            }
            java.util.concurrent.TimeUnit.MILLISECONDS.sleep(10);
        }
        return true;
    }

    /** A bean for route files. */
    public static final class Box {
        private final String text;

        public Box(String text) {
            this.text = text;
        }

        @Override
        public String toString() {
            return text;
        }
    }

    /** A system that can be away. */
    private static final class Flaky extends DefaultComponent {

        final AtomicBoolean away = new AtomicBoolean();

        @Override
        protected Endpoint createEndpoint(String uri, String remaining, Map<String, Object> parameters) {
            Component component = this;
            return new DefaultEndpoint(uri, component) {
                @Override
                public Producer createProducer() {
                    return new DefaultProducer(this) {
                        @Override
                        public void process(org.apache.camel.Exchange exchange) {
                            exchange.getMessage().setBody("flaky");
                        }
                    };
                }

                @Override
                public Consumer createConsumer(Processor processor) {
                    return new DefaultConsumer(this, processor) {
                        @Override
                        protected void doStart() throws Exception {
                            if (away.get()) {
                                throw new java.net.ConnectException("flaky is away");
                            }
                        }
                    };
                }
            };
        }
    }
}
