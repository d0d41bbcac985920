// SPDX-License-Identifier: Apache-2.0
package io.caravan.ingest.internal;

import java.lang.invoke.MethodHandles;
import java.lang.invoke.VarHandle;
import java.nio.ByteOrder;

/** What Jackson does not check of its input: that it is UTF-8 and nothing else, without NUL and without half characters. */
final class Text {
  private static final VarHandle LONGS = MethodHandles.byteArrayViewVarHandle(long[].class, ByteOrder.LITTLE_ENDIAN);
  private static final long HIGH_BITS = 0x8080808080808080L;

  private Text() {}

  /** Whether the bytes are well-formed UTF-8: no overlong forms, no surrogates, nothing above U+10FFFF. */
  static boolean utf8(byte[] bytes) {
    int at = 0;
    int end = bytes.length;
    while (at < end) {
      if (at + 8 <= end && ((long) LONGS.get(bytes, at) & HIGH_BITS) == 0) {
        at += 8;
        continue;
      }
      int b = bytes[at++] & 0xFF;
      if (b < 0x80) {
        continue;
      }
      int more;
      int min = 0x80;
      int max = 0xBF;
      if (b >= 0xC2 && b <= 0xDF) {
        more = 1;
      } else if (b >= 0xE0 && b <= 0xEF) {
        more = 2;
        min = b == 0xE0 ? 0xA0 : 0x80;
        max = b == 0xED ? 0x9F : 0xBF;
      } else if (b >= 0xF0 && b <= 0xF4) {
        more = 3;
        min = b == 0xF0 ? 0x90 : 0x80;
        max = b == 0xF4 ? 0x8F : 0xBF;
      } else {
        return false;
      }
      if (at + more > end || (bytes[at] & 0xFF) < min || (bytes[at] & 0xFF) > max) {
        return false;
      }
      for (int i = 1; i < more; i++) {
        if ((bytes[at + i] & 0xC0) != 0x80) {
          return false;
        }
      }
      at += more;
    }
    return true;
  }

  /** Position of a NUL, by which Jackson would take the text for UTF-16 or UTF-32; -1 without. */
  static int nul(byte[] bytes) {
    for (int i = 0; i < bytes.length; i++) {
      if (bytes[i] == 0) {
        return i;
      }
    }
    return -1;
  }

  static boolean byteOrderMark(byte[] bytes) {
    return bytes.length >= 3 && bytes[0] == (byte) 0xEF && bytes[1] == (byte) 0xBB && bytes[2] == (byte) 0xBF;
  }

  /** Position of an escaped surrogate without its other half in well-formed JSON; -1 without. */
  static int loneSurrogate(byte[] json) {
    boolean high = false;
    for (int i = 0; i < json.length; i++) {
      if (json[i] != '\\') {
        if (high) {
          return i;
        }
        continue;
      }
      i++;
      if (json[i] != 'u') {
        if (high) {
          return i;
        }
        continue;
      }
      int unit = Character.digit(json[i + 1], 16) << 12 | Character.digit(json[i + 2], 16) << 8
          | Character.digit(json[i + 3], 16) << 4 | Character.digit(json[i + 4], 16);
      boolean low = unit >= 0xDC00 && unit <= 0xDFFF;
      if (high != low) {
        return i;
      }
      high = unit >= 0xD800 && unit <= 0xDBFF;
      i += 4;
    }
    return -1;
  }

  /**
   * Milliseconds since 1970 of an RFC 3339 time; digits beyond milliseconds are dropped, a leap second is the second
   * after it.
   *
   * @return Long.MIN_VALUE if it is none
   */
  static long rfc3339(String text) {
    int length = text.length();
    if (length < 20 || length > 40 || text.charAt(4) != '-' || text.charAt(7) != '-' || (text.charAt(10) | 0x20) != 't'
        || text.charAt(13) != ':' || text.charAt(16) != ':') {
      return Long.MIN_VALUE;
    }
    int year = number(text, 0, 4);
    int month = number(text, 5, 2);
    int day = number(text, 8, 2);
    int hour = number(text, 11, 2);
    int minute = number(text, 14, 2);
    int second = number(text, 17, 2);
    if (year < 0 || month < 1 || month > 12 || day < 1 || day > days(year, month) || hour < 0 || hour > 23 || minute < 0
        || minute > 59 || second < 0 || second > 60) {
      return Long.MIN_VALUE;
    }
    int at = 19;
    int millis = 0;
    if (text.charAt(at) == '.') {
      int digits = 0;
      for (at++; at < length && text.charAt(at) >= '0' && text.charAt(at) <= '9'; at++) {
        if (digits < 3) {
          millis = millis * 10 + text.charAt(at) - '0';
        }
        digits++;
      }
      if (digits == 0) {
        return Long.MIN_VALUE;
      }
      for (; digits < 3; digits++) {
        millis *= 10;
      }
    }
    int offsetMinutes = 0;
    if (at == length - 1 && (text.charAt(at) | 0x20) == 'z') {
      at++;
    } else if (at == length - 6 && (text.charAt(at) == '+' || text.charAt(at) == '-') && text.charAt(at + 3) == ':') {
      int hours = number(text, at + 1, 2);
      int minutes = number(text, at + 4, 2);
      if (hours < 0 || hours > 23 || minutes < 0 || minutes > 59) {
        return Long.MIN_VALUE;
      }
      offsetMinutes = (hours * 60 + minutes) * (text.charAt(at) == '-' ? -1 : 1);
    } else {
      return Long.MIN_VALUE;
    }
    long seconds = epochDay(year, month, day) * 86_400 + hour * 3600L + (minute - offsetMinutes) * 60L + second;
    return seconds * 1000 + millis;
  }

  private static int number(String text, int at, int digits) {
    int value = 0;
    for (int i = at; i < at + digits; i++) {
      int digit = text.charAt(i) - '0';
      if (digit < 0 || digit > 9) {
        return -1;
      }
      value = value * 10 + digit;
    }
    return value;
  }

  private static int days(int year, int month) {
    return switch (month) {
      case 2 -> year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) ? 29 : 28;
      case 4, 6, 9, 11 -> 30;
      default -> 31;
    };
  }

  private static long epochDay(int year, int month, int day) {
    // Years begin in March, so that the leap day is the last of a year.
    long y = month <= 2 ? year - 1 : year;
    long era = Math.floorDiv(y, 400L);
    long yearOfEra = y - era * 400;
    long dayOfYear = (153L * (month + (month > 2 ? -3 : 9)) + 2) / 5 + day - 1;
    return era * 146_097 + yearOfEra * 365 + yearOfEra / 4 - yearOfEra / 100 + dayOfYear - 719_468;
  }
}
