// SPDX-License-Identifier: Apache-2.0
package io.caravan.torture;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ObjectNode;
import io.caravan.torture.Controls.Control;
import io.caravan.torture.Cycle.Kind;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Map;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** What a campaign says of itself; above all, when it must not say that all is well. */
class ReportTest {
  @TempDir
  Path folder;

  private static Cycle cycle(int index, double recovery) {
    Cycle cycle = new Cycle("kill-gateway", 41 + index, index);
    cycle.promised(100);
    cycle.took(10, recovery);
    cycle.figure("images", 2);
    return cycle;
  }

  private static Campaign.Result result(Cycle... cycles) {
    Campaign.Result result = new Campaign.Result();
    result.cycles.addAll(List.of(cycles));
    Controls.NAMES.forEach(name -> result.controls.add(new Control(name, "one record is <taken> out", 1)));
    result.planned = cycles.length;
    result.parts.add(new ObjectMapper().createObjectNode().put("commit", "abc"));
    return result;
  }

  private static ObjectNode json(Campaign.Result result) {
    List<Fault> faults = Faults.all().stream().filter(f -> f.name().equals("kill-gateway") || f.name().equals("uplink-dropped")).toList();
    return Report.json(Map.of("campaign", "short", "seed", 41), faults, Map.of("uplink-dropped", "needs root"), result);
  }

  @Test
  void figuresAreThoseOfTheCycles() {
    ObjectNode report = json(result(cycle(0, 3), cycle(1, 1), cycle(2, 2)));
    assertTrue(report.path("ok").asBoolean());
    assertEquals("abc", report.at("/parts/0/commit").asText());
    assertEquals(3, report.at("/faults/0/cycles").asInt());
    assertEquals(300, report.at("/faults/0/promised").asLong());
    assertEquals(2.0, report.at("/faults/0/first_promise_p50_s").asDouble());
    assertEquals(3.0, report.at("/faults/0/first_promise_p99_s").asDouble());
    assertEquals(6.0, report.at("/faults/0/figures/images").asDouble());
    assertEquals("needs root", report.at("/faults/1/not_injected").asText());
    assertEquals(0, report.at("/total/lost").asLong());
  }

  @Test
  void whatWasFoundIsCountedNamedAndSaysHowToRepeatIt() {
    Cycle bad = cycle(1, 1);
    bad.fault(Kind.LOST, 7, "file: d/b/1 <is> gone");
    ObjectNode report = json(result(cycle(0, 1), bad));
    assertFalse(report.path("ok").asBoolean());
    assertEquals(7, report.at("/faults/0/lost").asLong());
    assertEquals(1, report.at("/faults/0/failed").asInt());
    assertEquals("bin/torture --seed 42 --only kill-gateway --cycles 1", report.at("/failures/0/again").asText());
    assertTrue(Report.table(report).contains("kill-gateway"));
  }

  @Test
  void aBlindControlNoControlAndNoCycleAreFailures() {
    Campaign.Result blind = result(cycle(0, 1));
    blind.controls.replaceAll(c -> c.name().equals("order-s3") ? new Control(c.name(), c.does(), 0) : c);
    assertFalse(json(blind).path("ok").asBoolean());
    for (String name : Controls.NAMES) {
      Campaign.Result without = result(cycle(0, 1));
      without.controls.removeIf(control -> control.name().equals(name));
      assertFalse(json(without).path("ok").asBoolean(), name);
    }
    Campaign.Result ofProduct = result(cycle(0, 1));
    ofProduct.mustBeFound.addAll(Controls.OF_PRODUCT);
    assertFalse(json(ofProduct).path("ok").asBoolean());
    Controls.OF_PRODUCT.forEach(name -> ofProduct.controls.add(new Control(name, "killed", 1)));
    assertTrue(json(ofProduct).path("ok").asBoolean());
    assertFalse(json(result()).path("ok").asBoolean());
  }

  @Test
  void faultsThatWereNeverDoneAreInTheHeading() {
    ObjectNode all = json(result(cycle(0, 1)));
    assertEquals(0, all.path("never_done").size(), "one that is not possible here is named as such");
    assertFalse(Report.html(all).contains("never done") || Report.table(all).contains("never done"));
    ObjectNode none = json(result());
    assertEquals("[\"kill-gateway\"]", none.path("never_done").toString());
    assertTrue(Report.html(none).contains("</span>, 1 of 2 faults never done</h1>"), Report.html(none));
    assertTrue(Report.table(none).contains("all, 1 of 2 faults never done"));
  }

  @Test
  void thePageNeedsNothingElseAndSaysTheSame() throws Exception {
    Cycle bad = cycle(0, 1);
    bad.fault(Kind.ORDER, 1, "kafka: <script>alert(1)</script>");
    Report.write(json(result(bad)), folder);
    String page = Files.readString(folder.resolve("torture.html"));
    assertTrue(page.contains("failed") && page.contains("kill-gateway") && page.contains("needs root") && page.contains("commit abc") && page.contains("--seed 41"), page);
    assertFalse(page.contains("<script") || page.contains("http://") || page.contains("https://") || page.contains("<taken>"), page);
    assertEquals(1, new ObjectMapper().readTree(folder.resolve("torture.json").toFile()).at("/total/order").asLong());
  }

  @Test
  void quantilesAreOfWhatIsThere() {
    assertEquals(1.0, Report.quantile(List.of(1.0), 0.99));
    assertEquals(2.0, Report.quantile(List.of(1.0, 2.0, 3.0, 4.0), 0.5));
    assertEquals(4.0, Report.quantile(List.of(1.0, 2.0, 3.0, 4.0), 0.99));
  }
}
