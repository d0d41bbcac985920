// SPDX-License-Identifier: Apache-2.0
package io.caravan.torture;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.SerializationFeature;
import com.fasterxml.jackson.databind.node.ObjectNode;
import io.caravan.torture.Controls.Control;
import io.caravan.torture.Cycle.Kind;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;

/** A campaign in figures: JSON for machines, and a page of its own for people, made from that JSON. */
final class Report {
  private static final ObjectMapper JSON = new ObjectMapper().enable(SerializationFeature.INDENT_OUTPUT);

  private Report() { }

  /**
   * @param what        of the command line: {@code seed}, {@code campaign}, ...
   * @param faults      all that were asked for
   * @param missing     by name: why a fault could not be injected here
   */
  static ObjectNode json(Map<String, Object> what, List<Fault> faults, Map<String, String> missing, Campaign.Result result) {
    ObjectNode out = JSON.createObjectNode();
    what.forEach((key, value) -> out.set(key, JSON.valueToTree(value)));
    out.withArray("/parts").addAll(result.parts);
    out.put("seconds", round(result.seconds)).put("worlds", result.worlds).put("cycles_planned", result.planned).put("cycles", result.cycles.size());
    out.put("ok", result.ok());
    ObjectNode all = out.putObject("total");
    figures(all, result.cycles);
    for (Fault fault : faults) {
      List<Cycle> cycles = result.cycles.stream().filter(c -> c.fault().equals(fault.name())).toList();
      ObjectNode one = out.withArray("/faults").addObject();
      one.put("fault", fault.name()).put("number", fault.number()).put("does", fault.does());
      if (missing.containsKey(fault.name())) {
        one.put("not_injected", missing.get(fault.name()));
      }
      figures(one, cycles);
      Map<String, Double> own = new LinkedHashMap<>();
      cycles.forEach(c -> c.figures().forEach((k, v) -> own.merge(k, v, Double::sum)));
      own.forEach((k, v) -> one.withObject("/figures").put(k, round(v)));
    }
    faults.stream().map(Fault::name).filter(name -> !missing.containsKey(name) && result.cycles.stream().noneMatch(c -> c.fault().equals(name)))
        .forEach(out.withArray("/never_done")::add);
    result.again.forEach((sink, n) -> out.withObject("/records_again").put(sink, n));
    result.counts.forEach((name, n) -> out.withObject("/oracle").put(name, n));
    for (Control control : result.controls) {
      out.withArray("/controls").addObject().put("control", control.name()).put("does", control.does()).put("found", control.found()).put("ok", control.ok());
    }
    for (Cycle cycle : result.cycles) {
      for (Cycle.Found found : cycle.found()) {
        out.withArray("/failures").addObject().put("fault", cycle.fault()).put("cycle", cycle.index()).put("kind", found.kind().name())
            .put("count", found.count()).put("text", found.text()).put("again", Campaign.again(cycle));
      }
    }
    result.evidence.forEach(folder -> out.withArray("/evidence").add(folder.getFileName().toString()));
    return out;
  }

  private static void figures(ObjectNode to, List<Cycle> cycles) {
    to.put("cycles", cycles.size()).put("failed", cycles.stream().filter(c -> !c.ok()).count())
        .put("promised", cycles.stream().mapToLong(Cycle::promises).sum())
        .put("lost", sum(cycles, Kind.LOST)).put("doubled", sum(cycles, Kind.DOUBLED)).put("order", sum(cycles, Kind.ORDER))
        .put("altered", sum(cycles, Kind.ALTERED)).put("unsettled", sum(cycles, Kind.UNSETTLED)).put("stuck", sum(cycles, Kind.STUCK))
        .put("broken", sum(cycles, Kind.BROKEN));
    List<Double> recoveries = new ArrayList<>(cycles.stream().map(Cycle::recoverySeconds).filter(s -> !s.isNaN()).sorted().toList());
    if (!recoveries.isEmpty()) {
      to.put("first_promise_p50_s", round(quantile(recoveries, 0.5))).put("first_promise_p99_s", round(quantile(recoveries, 0.99)));
    }
    to.put("cycle_seconds", round(cycles.stream().mapToDouble(Cycle::seconds).sum()));
  }

  private static long sum(List<Cycle> cycles, Kind kind) {
    return cycles.stream().mapToLong(c -> c.count(kind)).sum();
  }

  /** @param sorted not empty */
  static double quantile(List<Double> sorted, double q) {
    return sorted.get(Math.min(sorted.size() - 1, (int) Math.ceil(q * sorted.size()) - 1 < 0 ? 0 : (int) Math.ceil(q * sorted.size()) - 1));
  }

  private static double round(double value) {
    return Math.round(value * 100) / 100.0;
  }

  /** Writes torture.json and torture.html. */
  static void write(ObjectNode report, Path folder) throws IOException {
    Files.writeString(folder.resolve("torture.json"), JSON.writeValueAsString(report) + "\n");
    Files.writeString(folder.resolve("torture.html"), html(report));
  }

  /** A page that needs nothing but itself. */
  static String html(JsonNode report) {
    StringBuilder page = new StringBuilder("""
        <!doctype html>
        <html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width,initial-scale=1">
        <title>Caravan torture</title>
        <style>
        body{font:15px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:76rem;padding:0 1rem;color:#1c2128;background:#fff}
        table{border-collapse:collapse;width:100%;margin:1rem 0;font-variant-numeric:tabular-nums}
        th,td{border-bottom:1px solid #d5dae0;padding:.25rem .5rem;text-align:right;vertical-align:top}
        th:first-child,td:first-child,td.text,th.text{text-align:left}
        .ok{color:#116329}.bad{color:#a40e26;font-weight:600}.note{color:#57606a;font-size:13px}
        pre{background:#f6f8fa;padding:.75rem;overflow:auto}
        @media(prefers-color-scheme:dark){body{background:#14171a;color:#d6dbe0}th,td{border-color:#383e45}.ok{color:#56d364}.bad{color:#ff7b72}.note{color:#9aa4ae}pre{background:#1e2328}}
        </style>
        """);
    page.append("<h1>Torture: <span class=\"").append(report.path("ok").asBoolean() ? "ok\">nothing found" : "bad\">failed").append("</span>")
        .append(escape(neverDone(report))).append("</h1>\n");
    page.append("<p>").append(text(report.path("campaign"))).append(" campaign, seed ").append(text(report.path("seed"))).append("; ")
        .append(text(report.path("cycles"))).append(" of ").append(text(report.path("cycles_planned"))).append(" cycles in ")
        .append(text(report.path("seconds"))).append(" s</p>\n<p class=\"note\">");
    for (JsonNode part : report.path("parts")) {
      page.append(text(part.path("date"))).append(", commit ").append(text(part.path("commit"))).append(", side by side ").append(text(part.path("jobs"))).append("; ");
      part.path("environment").properties().forEach(e -> page.append(escape(e.getKey())).append(": ").append(text(e.getValue())).append("; "));
      page.append("<br>");
    }
    page.append("</p>\n<table><tr><th>fault<th>cycles<th>promised<th>lost<th>doubled<th>order<th>altered<th>unsettled<th>stuck<th>broken"
        + "<th>first promise p50 s<th>p99 s<th>seconds</tr>\n");
    for (JsonNode fault : report.path("faults")) {
      row(page, "<b>" + text(fault.path("fault")) + "</b> <span class=\"note\">(" + text(fault.path("number")) + ") " + text(fault.path("does"))
          + (fault.has("not_injected") ? " <span class=\"bad\">not injected: " + text(fault.path("not_injected")) + "</span>" : "") + own(fault) + "</span>", fault);
    }
    row(page, "<b>all</b>", report.path("total"));
    page.append("</table>\n<h2>Negative controls</h2>\n<p>Evidence of this campaign, spoilt on purpose: each must be found.</p>\n"
        + "<table><tr><th>control<th class=\"text\">what was done<th>found</tr>\n");
    for (JsonNode control : report.path("controls")) {
      page.append("<tr><td>").append(text(control.path("control"))).append("<td class=\"text\">").append(text(control.path("does"))).append("<td class=\"")
          .append(control.path("ok").asBoolean() ? "ok" : "bad").append("\">").append(text(control.path("found"))).append("</tr>\n");
    }
    page.append("</table>\n");
    if (report.has("failures")) {
      page.append("<h2>Failures</h2>\n<pre>");
      for (JsonNode f : report.path("failures")) {
        page.append(text(f.path("fault"))).append(" #").append(text(f.path("cycle"))).append(": ").append(text(f.path("kind"))).append(' ')
            .append(text(f.path("count"))).append(": ").append(text(f.path("text"))).append("\n  ").append(text(f.path("again"))).append('\n');
      }
      page.append("</pre>\n");
    }
    page.append("<p class=\"note\">Records that came to a receiver once more, which tells them apart: ").append(text(report.path("records_again").toString()))
        .append("</p>\n</html>\n");
    return page.toString();
  }

  /** What was found by nobody who looked. */
  private static String neverDone(JsonNode report) {
    return report.path("never_done").isEmpty() ? "" : ", " + report.path("never_done").size() + " of " + report.path("faults").size() + " faults never done";
  }

  private static String own(JsonNode fault) {
    StringBuilder own = new StringBuilder();
    fault.path("figures").properties().forEach(e -> own.append(own.length() == 0 ? "<br>" : ", ").append(escape(e.getKey())).append(' ').append(text(e.getValue())));
    return own.toString();
  }

  private static void row(StringBuilder page, String name, JsonNode f) {
    page.append("<tr><td>").append(name).append("<td>").append(text(f.path("cycles"))).append("<td>").append(text(f.path("promised")));
    for (String gate : List.of("lost", "doubled", "order", "altered", "unsettled", "stuck", "broken")) {
      page.append("<td class=\"").append(f.path(gate).asLong() == 0 ? "ok" : "bad").append("\">").append(text(f.path(gate)));
    }
    page.append("<td>").append(text(f.path("first_promise_p50_s"))).append("<td>").append(text(f.path("first_promise_p99_s"))).append("<td>")
        .append(text(f.path("cycle_seconds"))).append("</tr>\n");
  }

  private static String text(JsonNode node) {
    return escape(node.isMissingNode() ? "" : node.asText());
  }

  private static String text(String s) {
    return escape(s);
  }

  private static String escape(String s) {
    return s.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace("\"", "&quot;");
  }

  /** One line per fault, for a terminal. */
  static String table(JsonNode report) {
    StringBuilder out = new StringBuilder(String.format(Locale.ROOT, "%-24s %6s %9s %5s %7s %5s %6s %8s %8s %8s%n", "fault", "cycles", "promised", "lost",
        "doubled", "order", "other", "p50 s", "p99 s", "s"));
    for (JsonNode f : report.path("faults")) {
      line(out, f.path("fault").asText() + (f.has("not_injected") ? " (not injected: " + f.path("not_injected").asText() + ")" : ""), f);
    }
    line(out, "all" + neverDone(report), report.path("total"));
    return out.toString();
  }

  private static void line(StringBuilder out, String name, JsonNode f) {
    long other = List.of("altered", "unsettled", "stuck", "broken").stream().mapToLong(k -> f.path(k).asLong()).sum();
    out.append(String.format(Locale.ROOT, "%-24s %6d %9d %5d %7d %5d %6d %8s %8s %8.1f%n", name, f.path("cycles").asLong(), f.path("promised").asLong(),
        f.path("lost").asLong(), f.path("doubled").asLong(), f.path("order").asLong(), other, f.path("first_promise_p50_s").asText("-"),
        f.path("first_promise_p99_s").asText("-"), f.path("cycle_seconds").asDouble()));
  }
}
