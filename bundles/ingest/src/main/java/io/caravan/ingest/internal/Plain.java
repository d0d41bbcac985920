// SPDX-License-Identifier: Apache-2.0
package io.caravan.ingest.internal;

/** Text that quotes a device, made fit to be shown: it must not steer a terminal, forge a line, or be no text at all. */
public final class Plain {

  private Plain() {}

  /**
   * Puts {@code ?} for what steers instead of being read (controls, line separators, marks of direction) and for halves of
   * characters.
   *
   * @param text may be null
   * @param max  most characters; what is beyond is cut off
   */
  public static String text(String text, int max) {
    if (text == null) {
      return null;
    }
    int length = Math.min(text.length(), max);
    int at = 0;
    while (at < length && text.charAt(at) >= ' ' && text.charAt(at) < 127) {
      at++;
    }
    if (at == length) {
      return length == text.length() ? text : text.substring(0, length);
    }
    StringBuilder plain = new StringBuilder(length).append(text, 0, at);
    while (at < length) {
      int c = text.codePointAt(at);
      int chars = Character.charCount(c);
      if (at + chars > length) {
        break;
      }
      switch (Character.getType(c)) {
        case Character.CONTROL, Character.FORMAT, Character.LINE_SEPARATOR, Character.PARAGRAPH_SEPARATOR, Character.SURROGATE,
            Character.UNASSIGNED, Character.PRIVATE_USE -> plain.append('?');
        default -> plain.appendCodePoint(c);
      }
      at += chars;
    }
    return plain.toString();
  }
}
