// SPDX-License-Identifier: Apache-2.0
package io.caravan.logging;

import java.util.ArrayList;
import java.util.Iterator;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.TimeUnit;
import java.util.function.LongSupplier;
import org.apache.logging.log4j.Level;
import org.apache.logging.log4j.core.Appender;
import org.apache.logging.log4j.core.Core;
import org.apache.logging.log4j.core.LogEvent;
import org.apache.logging.log4j.core.appender.AbstractAppender;
import org.apache.logging.log4j.core.config.AppenderControl;
import org.apache.logging.log4j.core.config.AppenderRef;
import org.apache.logging.log4j.core.config.Configuration;
import org.apache.logging.log4j.core.config.Property;
import org.apache.logging.log4j.core.config.plugins.Plugin;
import org.apache.logging.log4j.core.config.plugins.PluginAttribute;
import org.apache.logging.log4j.core.config.plugins.PluginConfiguration;
import org.apache.logging.log4j.core.config.plugins.PluginElement;
import org.apache.logging.log4j.core.config.plugins.PluginFactory;
import org.apache.logging.log4j.core.impl.Log4jLogEvent;
import org.apache.logging.log4j.message.Message;
import org.apache.logging.log4j.message.SimpleMessage;
import org.apache.logging.log4j.util.SortedArrayStringMap;
import org.apache.logging.log4j.util.StringMap;

/**
 * The appender {@code Repeats}, in front of others: of lines of one logger and level that say the same apart from numbers and from what
 * stands in brackets, {@code limit} per {@code windowSeconds} pass. What was held back is counted, and one line with the first one's
 * text says how many, at the end of the window, when a line must be forgotten for others, or when the log is stopped: the sum of lines
 * and counts is exact. Lines of DEBUG and TRACE pass always. Loggers in {@code exempt}, comma-separated, and those below them, pass always. Texts are cleaned on the way, see
 * {@link Texts}. In Java because log4j2's BurstFilter counts all lines of a level together and does not say how many are gone.
 * This class is thread-safe.
 */
@Plugin(name = "Repeats", category = Core.CATEGORY_NAME, elementType = Appender.ELEMENT_TYPE, printObject = true)
public final class RepeatsAppender extends AbstractAppender {
  /** The key of the number of lines in the context of the line that says it. */
  public static final String HELD_BACK = "held_back";
  private static final int PATTERNS_MAX = 1_000;
  private static final int PATTERN_CHARS = 160;
  private static final int QUOTE_CHARS = 300;

  private final int limit;
  private final long windowNanos;
  private final List<String> exempt;
  private final AppenderRef[] references;
  private final Configuration configuration;
  private final LongSupplier nanos;
  private final List<AppenderControl> next = new ArrayList<>();
  private final Texts texts = new Texts();
  private final Map<String, Window> windows;
  private Thread timer;

  /** By appender: a change of the configuration, which a change of a level is, makes another appender, which goes on counting. */
  private static final Map<String, Map<String, Window>> WINDOWS = new ConcurrentHashMap<>();

  private static final class Window {
    final long endNanos;
    final String first;
    long passed;
    long held;
    LogEvent last;

    Window(long endNanos, String first) {
      this.endNanos = endNanos;
      this.first = first;
    }
  }

  RepeatsAppender(String name, int limit, int windowSeconds, String exempt, AppenderRef[] references, Configuration configuration, LongSupplier nanos) {
    super(name, null, null, /* ignoreExceptions= */ true, Property.EMPTY_ARRAY);
    this.limit = limit;
    this.windowNanos = TimeUnit.SECONDS.toNanos(windowSeconds);
    this.exempt = exempt.isBlank() ? List.of() : List.of(exempt.strip().split("\\s*,\\s*"));
    this.references = references;
    this.configuration = configuration;
    this.nanos = nanos;
    this.windows = WINDOWS.computeIfAbsent(name, n -> new LinkedHashMap<>());
  }

  /**
   * Made by log4j2 from its configuration.
   *
   * @param limit         lines of a kind that pass in a window; 0: all
   * @param windowSeconds length of a window, s
   * @param exempt        loggers whose lines pass always
   */
  @PluginFactory
  public static RepeatsAppender create(@PluginAttribute("name") String name, @PluginAttribute(value = "limit", defaultInt = 20) int limit,
      @PluginAttribute(value = "windowSeconds", defaultInt = 60) int windowSeconds, @PluginAttribute(value = "exempt", defaultString = "") String exempt,
      @PluginElement("AppenderRef") AppenderRef[] references, @PluginConfiguration Configuration configuration) {
    if (name == null || limit < 0 || windowSeconds < 1 || references == null) {
      LOGGER.error("appender Repeats [{}]: limit [{}] must be at least 0, windowSeconds [{}] at least 1, and it needs an AppenderRef", name, limit, windowSeconds);
      return null;
    }
    return new RepeatsAppender(name, limit, windowSeconds, exempt, references, configuration, System::nanoTime);
  }

  @Override
  public void start() {
    for (AppenderRef reference : references) {
      Appender appender = configuration.getAppender(reference.getRef());
      if (appender == null) {
        LOGGER.error("appender Repeats [{}] names appender [{}], which is not configured", getName(), reference.getRef());
      } else {
        next.add(new AppenderControl(appender, reference.getLevel(), reference.getFilter()));
      }
    }
    super.start();
    // Of a kind that comes no more nobody else would say how many were held back.
    timer = new Thread(this::tick, "caravan-log-repeats");
    timer.setDaemon(true);
    timer.start();
  }

  private void tick() {
    try {
      while (!Thread.currentThread().isInterrupted()) {
        TimeUnit.SECONDS.sleep(1);
        sweep(/* all= */ false);
      }
    } catch (InterruptedException e) {
      Thread.currentThread().interrupt();
    }
  }

  @Override
  public boolean stop(long timeout, TimeUnit unit) {
    if (timer != null) {
      timer.interrupt();
    }
    if (!next.isEmpty() && next.stream().allMatch(control -> control.getAppender().isStarted())) {
      sweep(/* all= */ true);
    }
    texts.close();
    return super.stop(timeout, unit);
  }

  @Override
  public void append(LogEvent event) {
    LogEvent cleaned = cleaned(event);
    // Who asks for DEBUG wants every line.
    if (limit > 0 && event.getLevel().isMoreSpecificThan(Level.INFO) && !exempt(event.getLoggerName()) && held(cleaned)) {
      return;
    }
    pass(cleaned);
  }

  private LogEvent cleaned(LogEvent event) {
    Message message = event.getMessage();
    String text = message.getFormattedMessage();
    String clean = texts.clean(text);
    return clean == null || clean.equals(text) ? event : new Log4jLogEvent.Builder(event).setMessage(new SimpleMessage(clean)).build();
  }

  private boolean exempt(String logger) {
    for (String name : exempt) {
      if (logger.startsWith(name) && (logger.length() == name.length() || logger.charAt(name.length()) == '.')) {
        return true;
      }
    }
    return false;
  }

  private boolean held(LogEvent event) {
    String text = String.valueOf(event.getMessage().getFormattedMessage());
    String key = event.getLoggerName() + ' ' + event.getLevel() + ' ' + pattern(text);
    long now = nanos.getAsLong();
    Window over = null;
    Window forgotten = null;
    boolean held;
    synchronized (windows) {
      Window window = windows.get(key);
      if (window != null && now - window.endNanos >= 0) {
        over = windows.remove(key);
        window = null;
      }
      if (window == null) {
        if (windows.size() >= PATTERNS_MAX) {
          Iterator<Window> oldest = windows.values().iterator();
          forgotten = oldest.next();
          oldest.remove();
        }
        window = new Window(now + windowNanos, text.length() > QUOTE_CHARS ? text.substring(0, QUOTE_CHARS) + "..." : text);
        windows.put(key, window);
      }
      held = window.passed >= limit;
      if (held) {
        window.held++;
        window.last = event.toImmutable();
      } else {
        window.passed++;
      }
    }
    tell(over);
    tell(forgotten);
    return held;
  }

  /** What lines of a kind have in common: numbers, ids and what stands in brackets are #. */
  static String pattern(String text) {
    StringBuilder pattern = new StringBuilder();
    int i = 0;
    while (i < text.length() && pattern.length() < PATTERN_CHARS) {
      char c = text.charAt(i);
      int close = c == '[' ? text.indexOf(']', i) : -1;
      if (close > 0) {
        pattern.append("[#]");
        i = close + 1;
      } else if (isWord(c)) {
        int from = i;
        boolean digit = false;
        for (; i < text.length() && isWord(text.charAt(i)); i++) {
          digit |= Character.isDigit(text.charAt(i));
        }
        pattern.append(digit ? "#" : text.substring(from, i));
      } else {
        pattern.append(c);
        i++;
      }
    }
    return pattern.toString();
  }

  private static boolean isWord(char c) {
    return Character.isLetterOrDigit(c) || c == '_' || c == '-' || c == '.' || c == '/' || c == ':';
  }

  private void sweep(boolean all) {
    List<Window> over = new ArrayList<>();
    long now = nanos.getAsLong();
    synchronized (windows) {
      for (Iterator<Window> each = windows.values().iterator(); each.hasNext(); ) {
        Window window = each.next();
        if (all || now - window.endNanos >= 0) {
          over.add(window);
          each.remove();
        }
      }
    }
    over.forEach(this::tell);
  }

  private void tell(Window window) {
    if (window == null || window.held == 0) {
      return;
    }
    LogEvent last = window.last;
    StringMap context = new SortedArrayStringMap(last.getContextData());
    context.putValue(HELD_BACK, Long.toString(window.held));
    pass(Log4jLogEvent.newBuilder().setLoggerName(last.getLoggerName()).setLoggerFqcn(last.getLoggerFqcn()).setLevel(last.getLevel()).setContextData(context)
        .setThreadName(last.getThreadName()).setTimeMillis(System.currentTimeMillis()).setThrown(last.getThrown())
        .setMessage(new SimpleMessage(window.held + " more lines like this one were held back within " + TimeUnit.NANOSECONDS.toSeconds(windowNanos)
            + " s: " + window.first)).build());
  }

  private void pass(LogEvent event) {
    for (AppenderControl control : next) {
      control.callAppender(event);
    }
  }
}
