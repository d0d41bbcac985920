// SPDX-License-Identifier: Apache-2.0
package io.caravan.logging;

import java.util.function.UnaryOperator;
import org.osgi.framework.Bundle;
import org.osgi.framework.BundleContext;
import org.osgi.framework.Filter;
import org.osgi.framework.FrameworkUtil;
import org.osgi.framework.InvalidSyntaxException;
import org.osgi.util.tracker.ServiceTracker;

/**
 * What a text must not have before it becomes a part of a line: control characters that move a cursor, end a line or turn its
 * direction, and secrets. Which texts are secrets is known to the container, a service of which takes them out as soon as it is
 * there. This class is thread-safe.
 */
final class Texts implements AutoCloseable {
  private static final String REDACTION = "(&(objectClass=java.util.function.UnaryOperator)(caravan.log.redaction=true))";

  private final ServiceTracker<UnaryOperator<String>, UnaryOperator<String>> redaction;

  Texts() {
    redaction = tracker();
  }

  private static ServiceTracker<UnaryOperator<String>, UnaryOperator<String>> tracker() {
    Bundle bundle = FrameworkUtil.getBundle(Texts.class);
    BundleContext context = bundle == null ? null : bundle.getBundleContext();
    if (context == null) {
      return null;
    }
    try {
      Filter filter = FrameworkUtil.createFilter(REDACTION);
      ServiceTracker<UnaryOperator<String>, UnaryOperator<String>> tracker = new ServiceTracker<>(context, filter, null);
      tracker.open();
      return tracker;
    } catch (InvalidSyntaxException | IllegalStateException e) {
      // The framework goes down under us: there is nothing to ask any more.
      return null;
    }
  }

  /** @return the text without secrets, and with ? for each control character but line feed and tab; the same object if it has none */
  String clean(String text) {
    if (text == null) {
      return null;
    }
    UnaryOperator<String> operator = redaction == null ? null : redaction.getService();
    String answer = operator == null ? text : operator.apply(text);
    for (int i = 0; i < answer.length(); i++) {
      if (isControl(answer.charAt(i))) {
        return replaced(answer, i);
      }
    }
    return answer;
  }

  private static String replaced(String text, int from) {
    char[] characters = text.toCharArray();
    for (int i = from; i < characters.length; i++) {
      if (isControl(characters[i])) {
        characters[i] = '?';
      }
    }
    return new String(characters);
  }

  private static boolean isControl(char c) {
    return c < 0x20 && c != '\n' && c != '\t' || c >= 0x7f && c <= 0x9f || c == 0x2028 || c == 0x2029 || c >= 0x202a && c <= 0x202e
        || c >= 0x2066 && c <= 0x2069;
  }

  @Override
  public void close() {
    if (redaction != null) {
      redaction.close();
    }
  }
}
