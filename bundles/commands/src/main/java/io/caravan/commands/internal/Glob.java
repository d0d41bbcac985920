// SPDX-License-Identifier: Apache-2.0
package io.caravan.commands.internal;

/** SQLite's GLOB, as in the data policy: {@code *}, {@code ?}, {@code [a-z]}, {@code [^a-z]}. At most pattern times text steps. */
final class Glob {
  private Glob() {}

  static boolean matches(String pattern, String text) {
    int p = 0;
    int t = 0;
    int star = -1;
    int from = 0;
    while (t < text.length()) {
      int next = p < pattern.length() && pattern.charAt(p) != '*' ? one(pattern, p, text.charAt(t)) : -1;
      if (p < pattern.length() && pattern.charAt(p) == '*') {
        star = p++;
        from = t;
      } else if (next > 0) {
        p = next;
        t++;
      } else if (star >= 0) {
        p = star + 1;
        t = ++from;
      } else {
        return false;
      }
    }
    while (p < pattern.length() && pattern.charAt(p) == '*') {
      p++;
    }
    return p == pattern.length();
  }

  /** @return where the pattern goes on if its element at p takes the character; -1: it does not */
  private static int one(String pattern, int p, char c) {
    char element = pattern.charAt(p);
    if (element != '[') {
      return element == '?' || element == c ? p + 1 : -1;
    }
    int i = p + 1;
    boolean not = i < pattern.length() && pattern.charAt(i) == '^';
    if (not) {
      i++;
    }
    boolean found = false;
    if (i < pattern.length() && pattern.charAt(i) == ']') {
      found = c == ']';
      i++;
    }
    // What a hyphen makes a range of: not the bracket above, and not the end of another range.
    int low = -1;
    while (i < pattern.length() && pattern.charAt(i) != ']') {
      char next = pattern.charAt(i++);
      if (next == '-' && low >= 0 && i < pattern.length() && pattern.charAt(i) != ']') {
        char high = pattern.charAt(i++);
        found |= c >= low && c <= high;
        low = -1;
      } else {
        found |= c == next;
        low = next;
      }
    }
    return i < pattern.length() && found != not ? i + 1 : -1;
  }
}
