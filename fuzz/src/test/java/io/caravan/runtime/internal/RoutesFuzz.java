// SPDX-License-Identifier: Apache-2.0
package io.caravan.runtime.internal;

import static io.caravan.fuzz.Invariant.same;
import static io.caravan.fuzz.Invariant.that;

import com.code_intelligence.jazzer.junit.DictionaryEntries;
import com.code_intelligence.jazzer.junit.FuzzTest;
import io.caravan.runtime.Caravan;
import io.caravan.runtime.RouteCheck;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Map;
import org.apache.camel.impl.DefaultCamelContext;
import org.apache.camel.model.Model;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.BeforeAll;

/** Route files through the container's own check: ok, pending or broken with a reason, and nothing of it stays behind. */
class RoutesFuzz {
  private static final int MAX_ERROR = 4_000;
  private static final String GOOD = "- route: {id: good, from: {uri: \"direct:good\", steps: [{setBody: {simple: \"${header.a} == 1\"}}, {to: \"log:good\"}]}}\n";
  private static Caravan caravan;
  private static int templates;
  private static int configurations;

  @BeforeAll
  static void start() throws Exception {
    Path folder = Files.createTempDirectory("fuzz-routes");
    caravan = Caravan.builder().keys(Path.of(System.getProperty("repo.dir", ".."), "bundles/runtime/src/test/resources/keys")).environment(Map.of())
        .withoutDiscovery().context(new DefaultCamelContext()).home(folder)
        .routes(Files.writeString(folder.resolve("in.camel.yaml"), GOOD.replace("good", "in"))).start();
    templates = model().getRouteTemplateDefinitions().size();
    configurations = model().getRouteConfigurationDefinitions().size();
  }

  @AfterAll
  static void stop() throws IOException {
    caravan.close();
  }

  private static Model model() {
    return caravan.context().getCamelContextExtension().getContextPlugin(Model.class);
  }

  /** A file that begins with {@code <} is XML, any other YAML. */
  @FuzzTest
  @DictionaryEntries({"- route:", "id: a", "from:", "uri: direct:a", "steps:", "- to:", "- setBody:", "simple: ", "${body}", "${header.a}", "- choice:", "when:", "otherwise:", "- filter:", "- routeTemplate:",
      "templateBody:", "- routeConfiguration:", "onException:", "- templatedRoute:", "routeTemplateRef:", "parameters:", "- rest:", "<route id=", "<from uri=", "<to uri=", "<routes xmlns=", "<!DOCTYPE a [", "&a ", "*a",
      "<<: *a", "!!int", "{{key}}", "{{?key}}", "timer:a?period=", "#bean:a", "expression:", "jsonpath:", "[[[[[[[[[[", "{{{{{{{{{{"})
  void check(byte[] input) throws Exception {
    String text = new String(input, StandardCharsets.UTF_8);
    RouteCheck check = caravan.check(text.startsWith("<") ? "fuzz.camel.xml" : "fuzz.camel.yaml", text);
    that(List.of("ok", "pending", "broken").contains(check.state()), "state " + check.state());
    that(check.state().equals("ok") == (check.error() == null), "what is not ok says why: " + check);
    that(check.error() == null || !check.error().isBlank() && check.error().length() <= MAX_ERROR, "the error is there, and bounded: " + check.error());
    that(check.line() >= 0 && check.line() <= text.lines().count() + 1, "line " + check.line() + " is in the file");
    same(caravan.context().getRoutes().size(), 1, "routes that run");
    same(model().getRouteTemplateDefinitions().size(), templates, "templates");
    same(model().getRouteConfigurationDefinitions().size(), configurations, "configurations");
    RouteCheck good = caravan.check("good.camel.yaml", GOOD);
    same(good.state(), "ok", "a good file after it: " + good.error());
  }
}
