// SPDX-License-Identifier: Apache-2.0
package io.caravan.logging;

import java.util.ArrayList;
import java.util.List;
import org.apache.logging.log4j.core.LogEvent;
import org.apache.logging.log4j.core.config.plugins.Plugin;
import org.apache.logging.log4j.core.config.plugins.PluginFactory;
import org.apache.logging.log4j.layout.template.json.resolver.EventResolver;
import org.apache.logging.log4j.layout.template.json.resolver.EventResolverContext;
import org.apache.logging.log4j.layout.template.json.resolver.EventResolverFactory;
import org.apache.logging.log4j.layout.template.json.resolver.TemplateResolverConfig;
import org.apache.logging.log4j.layout.template.json.resolver.TemplateResolverFactory;
import org.apache.logging.log4j.layout.template.json.util.JsonWriter;

/**
 * {@code {"$resolver": "caravanError"}}: the exception of a line as an object of type, message, the causes and a stack. In Java because
 * log4j's own resolver bounds a stack by characters, behind which the causes are lost. At most {@value #CAUSES} causes and
 * {@value #FRAMES} frames each. Instances are thread-safe.
 */
final class ErrorResolver implements EventResolver {
  static final int CAUSES = 8;
  static final int FRAMES = 12;
  private static final int MESSAGE_CHARS = 2_000;

  private final Texts texts = new Texts();

  /** Found by log4j2 in the plugin list. */
  @Plugin(name = "CaravanErrorResolverFactory", category = TemplateResolverFactory.CATEGORY)
  public static final class Factory implements EventResolverFactory {
    private static final Factory INSTANCE = new Factory();

    @PluginFactory
    public static Factory getInstance() {
      return INSTANCE;
    }

    @Override
    public String getName() {
      return "caravanError";
    }

    @Override
    public ErrorResolver create(EventResolverContext context, TemplateResolverConfig config) {
      return new ErrorResolver();
    }
  }

  @Override
  public boolean isResolvable(LogEvent event) {
    return event.getThrown() != null;
  }

  @Override
  public void resolve(LogEvent event, JsonWriter writer) {
    Throwable error = event.getThrown();
    List<String> causes = new ArrayList<>();
    StringBuilder stack = new StringBuilder();
    Throwable each = error;
    for (int depth = 0; each != null; depth++, each = each.getCause()) {
      if (depth > CAUSES) {
        causes.add("...");
        break;
      }
      if (depth > 0) {
        causes.add(each.getClass().getName() + (each.getMessage() == null ? "" : ": " + message(each)));
      }
      frames(each, stack);
    }
    writer.writeObjectStart();
    pair(writer, "type", error.getClass().getName());
    writer.writeSeparator();
    pair(writer, "message", message(error));
    writer.writeSeparator();
    writer.writeObjectKey("causes");
    writer.writeArrayStart();
    for (int i = 0; i < causes.size(); i++) {
      if (i > 0) {
        writer.writeSeparator();
      }
      writer.writeString(causes.get(i));
    }
    writer.writeArrayEnd();
    writer.writeSeparator();
    pair(writer, "stack", stack.toString());
    writer.writeObjectEnd();
  }

  private String message(Throwable error) {
    String message = texts.clean(String.valueOf(error.getMessage()));
    return message.length() > MESSAGE_CHARS ? message.substring(0, MESSAGE_CHARS) + "..." : message;
  }

  private static void frames(Throwable error, StringBuilder stack) {
    stack.append(stack.length() == 0 ? "" : "Caused by: ").append(error.getClass().getName()).append('\n');
    StackTraceElement[] frames = error.getStackTrace();
    for (int i = 0; i < frames.length && i < FRAMES; i++) {
      stack.append("\tat ").append(frames[i]).append('\n');
    }
    if (frames.length > FRAMES) {
      stack.append("\t... ").append(frames.length - FRAMES).append(" more\n");
    }
  }

  private static void pair(JsonWriter writer, String key, String value) {
    writer.writeObjectKey(key);
    writer.writeString(value);
  }
}
