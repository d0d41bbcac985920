// SPDX-License-Identifier: Apache-2.0
package io.caravan.logging;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.Reader;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicLong;
import org.apache.logging.log4j.Level;
import org.apache.logging.log4j.core.LogEvent;
import org.apache.logging.log4j.core.appender.AbstractAppender;
import org.apache.logging.log4j.core.config.AppenderRef;
import org.apache.logging.log4j.core.config.Configuration;
import org.apache.logging.log4j.core.config.DefaultConfiguration;
import org.apache.logging.log4j.core.config.Property;
import org.apache.logging.log4j.core.config.plugins.util.PluginManager;
import org.apache.logging.log4j.core.impl.Log4jLogEvent;
import org.apache.logging.log4j.layout.template.json.JsonTemplateLayout;
import org.apache.logging.log4j.message.SimpleMessage;
import org.apache.logging.log4j.util.SortedArrayStringMap;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** Lines as the distributions write them, with their template: {@code etc/log.json}. */
class LogLinesTest {
  private static final Path TEMPLATE = Path.of("../../karaf-assembly/common/etc/log.json");
  private static final ObjectMapper JSON = new ObjectMapper();
  /** Moves a cursor, ends a line for some readers, turns the direction of what follows. */
  private static final String HOSTILE = "dev\u001b[2J\r\n{\"ts\":\"2026-01-01T00:00:00.000Z\",\"level\":\"ERROR\",\"msg\":\"forged\"}\u0085\u2028\u2029\u202e\u0000\u007f\"\\";

  static {
    // Within OSGi the list of the layout's plugins is on the bundle's class path, in a folder of the same jar.
    PluginManager.addPackage("org.apache.logging.log4j.layout.template.json");
  }

  private final AtomicLong nanos = new AtomicLong(1);
  private final Configuration configuration = new DefaultConfiguration();
  private final JsonTemplateLayout layout = JsonTemplateLayout.newBuilder().setConfiguration(configuration).setEventTemplateUri(TEMPLATE.toUri().toString()).build();
  private final List<LogEvent> written = new ArrayList<>();
  private RepeatsAppender repeats;

  @AfterEach
  void stop() {
    System.getProperties().stringPropertyNames().stream().filter(name -> name.startsWith(ProcessResolver.PREFIX)).forEach(System::clearProperty);
    if (repeats != null) {
      repeats.stop();
    }
  }

  private RepeatsAppender repeats(int limit) {
    AbstractAppender sink = new AbstractAppender("sink", null, null, true, Property.EMPTY_ARRAY) {
      @Override
      public void append(LogEvent event) {
        synchronized (written) {
          written.add(event.toImmutable());
        }
      }
    };
    sink.start();
    configuration.addAppender(sink);
    repeats = new RepeatsAppender("repeats-" + System.nanoTime(), limit, 60, "io.caravan.audit", new AppenderRef[] {AppenderRef.createAppenderRef("sink", null, null)},
        configuration, nanos::get);
    repeats.start();
    return repeats;
  }

  private static Log4jLogEvent.Builder event(String logger, Level level, String message) {
    return Log4jLogEvent.newBuilder().setLoggerName(logger).setLevel(level).setMessage(new SimpleMessage(message)).setThreadName("main").setTimeMillis(1_767_225_600_123L);
  }

  private JsonNode line(LogEvent event) throws Exception {
    String line = layout.toSerializable(event);
    assertTrue(line.endsWith("\n"), line);
    assertEquals(1, line.split("\\R").length, () -> "one line for every reader: " + line);
    return JSON.readTree(line);
  }

  @Test
  void lineHasWhatAnOperatorAsksFor() throws Exception {
    SortedArrayStringMap context = new SortedArrayStringMap(Map.of("trace_id", "4bf92f3577b34da6a3ce929d0e0e4736", "span_id", "00f067aa0ba902b7", "correlation_id", "c1"));
    JsonNode without = line(event("io.caravan.wal", Level.INFO, "store is open").build());
    assertEquals(List.of("ts", "level", "logger", "thread", "msg"), names(without), "what there is not is not said");
    System.setProperty(ProcessResolver.PREFIX + "role", "gateway");
    System.setProperty(ProcessResolver.PREFIX + "gateway_id", "gw-1");
    JsonNode with = line(event("io.caravan.wal", Level.WARN, "grün").setContextData(context).build());
    assertEquals("{\"ts\":\"2026-01-01T00:00:00.123Z\",\"level\":\"WARN\",\"logger\":\"io.caravan.wal\",\"thread\":\"main\",\"msg\":\"grün\",\"role\":\"gateway\",\"gateway_id\":\"gw-1\","
        + "\"trace_id\":\"4bf92f3577b34da6a3ce929d0e0e4736\",\"span_id\":\"00f067aa0ba902b7\",\"correlation_id\":\"c1\"}", with.toString());
  }

  /** The distribution names its template by a URI, which has no blank as it is. */
  @Test
  void theTemplateIsFoundWhereverTheDistributionIs(@TempDir Path work) throws Exception {
    Path etc = Files.createDirectories(work.resolve("a b/100% grün/etc"));
    Files.copy(TEMPLATE, etc.resolve("log.json"));
    Properties logging = new Properties();
    try (Reader in = Files.newBufferedReader(TEMPLATE.resolveSibling("org.ops4j.pax.logging.cfg"))) {
      logging.load(in);
    }
    // As Karaf sets them.
    String uri = logging.getProperty("log4j2.appender.json.layout.eventTemplateUri").replace("${karaf.etc.uri}", etc.toUri().toString()).replace("${karaf.etc}", etc.toString());
    assertTrue(JsonTemplateLayout.newBuilder().setConfiguration(configuration).setEventTemplateUri(uri).build().toSerializable(event("x", Level.INFO, "there").build()).contains("\"msg\":\"there\""), uri);
  }

  private static List<String> names(JsonNode node) {
    List<String> names = new ArrayList<>();
    node.fieldNames().forEachRemaining(names::add);
    return names;
  }

  @Test
  void exceptionIsOneBoundedObjectWithItsCauses() throws Exception {
    Throwable cause = new IllegalArgumentException("value [" + HOSTILE + "] must be a number");
    for (int i = 0; i < 20; i++) {
      cause = new IllegalStateException("level " + i, cause);
    }
    JsonNode error = line(event("x", Level.ERROR, "it failed").setThrown(cause).build()).path("error");
    assertEquals(List.of("type", "message", "causes", "stack"), names(error));
    assertEquals("java.lang.IllegalStateException", error.path("type").asText());
    assertEquals("level 19", error.path("message").asText());
    assertEquals(ErrorResolver.CAUSES + 1, error.path("causes").size());
    assertTrue(error.path("stack").asText().lines().count() <= (ErrorResolver.CAUSES + 1) * (ErrorResolver.FRAMES + 2L));

    JsonNode direct = line(event("x", Level.ERROR, "it failed").setThrown(new RuntimeException(new IllegalArgumentException(HOSTILE))).build()).path("error");
    assertTrue(direct.path("causes").get(0).asText().startsWith("java.lang.IllegalArgumentException: dev?[2J?\n{"), direct::toString);
    // A cause that is its own cause's cause ends too.
    Exception a = new Exception("a");
    Exception b = new Exception("b", a);
    a.initCause(b);
    assertEquals("b", line(event("x", Level.ERROR, "round").setThrown(b).build()).path("error").path("message").asText());
  }

  @Test
  void hostileTextCannotForgeALine() throws Exception {
    repeats(20).append(event("io.caravan.ingest", Level.WARN, "device [" + HOSTILE + "] is refused").build());
    JsonNode line = line(written.get(0));
    assertEquals("WARN", line.path("level").asText());
    assertEquals("device [dev?[2J?\n{\"ts\":\"2026-01-01T00:00:00.000Z\",\"level\":\"ERROR\",\"msg\":\"forged\"}??????\"\\] is refused", line.path("msg").asText());
    // Negative control: past the appender, the layout alone lets through what ends a line for some readers.
    assertTrue(layout.toSerializable(event("x", Level.WARN, HOSTILE).build()).split("\\R").length > 1);
  }

  @Test
  void repeatsAreHeldBackAndCounted() throws Exception {
    repeats(20);
    for (int i = 0; i < 100; i++) {
      repeats.append(event("io.caravan.uplink", Level.WARN, "connection to [10.0.0." + i + "] failed after " + i + " ms").build());
      repeats.append(event("io.caravan.audit", Level.INFO, i + " anna device.add [dev-" + i + "] ok").build());
    }
    repeats.append(event("io.caravan.uplink", Level.ERROR, "connection to [10.0.0.1] failed after 5 ms").build());
    assertEquals(20 + 100 + 1, count(), "another level is another kind; the audit log is never held back");
    nanos.addAndGet(TimeUnit.SECONDS.toNanos(61));
    repeats.append(event("io.caravan.uplink", Level.WARN, "connection to [10.0.0.7] failed after 7 ms").build());
    LogEvent told = written.stream().filter(e -> e.getContextData().containsKey(RepeatsAppender.HELD_BACK)).findFirst().orElseThrow();
    JsonNode line = line(told);
    assertEquals("80", line.path("held_back").asText());
    assertEquals("WARN", line.path("level").asText());
    assertEquals("io.caravan.uplink", line.path("logger").asText());
    assertEquals("80 more lines like this one were held back within 60 s: connection to [10.0.0.0] failed after 0 ms", line.path("msg").asText());
    assertNull(written.get(written.size() - 1).getContextData().getValue(RepeatsAppender.HELD_BACK), "and the next window begins with a line");
  }

  private int count() {
    synchronized (written) {
      return written.size();
    }
  }

  /** Negative control: without a limit nothing is held back. */
  @Test
  void withoutALimitAllPass() {
    repeats(0);
    for (int i = 0; i < 100; i++) {
      repeats.append(event("x", Level.WARN, "again " + i).build());
    }
    assertEquals(100, count());
    repeats.stop();
    repeats(20);
    for (int i = 0; i < 100; i++) {
      repeats.append(event("x", Level.DEBUG, "again " + i).build());
    }
    assertEquals(200, count(), "who asks for DEBUG wants every line");
  }

  @Test
  void nothingIsLostSilentlyHoweverManyKinds() {
    repeats(1);
    int kinds = 3_000;
    for (int i = 0; i < kinds; i++) {
      String word = Integer.toString(i, 36).replaceAll("\\d", "-");
      for (int n = 0; n < 3; n++) {
        repeats.append(event("x", Level.WARN, "kind " + word + "." + "z".repeat(i % 100)).build());
      }
    }
    repeats.stop();
    long held = written.stream().mapToLong(e -> {
      String n = e.getContextData().getValue(RepeatsAppender.HELD_BACK);
      return n == null ? 0 : Long.parseLong(n);
    }).sum();
    long lines = written.stream().filter(e -> !e.getContextData().containsKey(RepeatsAppender.HELD_BACK)).count();
    assertEquals(3L * kinds, lines + held);
    assertTrue(held > 0);
  }

  @Test
  void kindIsWhatIsSaidWithoutNumbersAndNames() {
    assertEquals("sink [#] failed after # attempts", RepeatsAppender.pattern("sink [kafka] failed after 3 attempts"));
    assertEquals(RepeatsAppender.pattern("at 10.0.0.1:443 refused"), RepeatsAppender.pattern("at 10.0.0.27:8443 refused"));
    assertFalse(RepeatsAppender.pattern("Module wal started").equals(RepeatsAppender.pattern("Module uplink started")));
  }
}
