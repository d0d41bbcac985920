// SPDX-License-Identifier: Apache-2.0
package io.caravan.torture;

import java.util.BitSet;
import java.util.HashSet;
import java.util.Map;
import java.util.Set;
import java.util.TreeMap;
import java.util.function.Consumer;

/** Message keys, a bit each where they are numbered ({@code device/boot/} and 16 digits). Used by one thread. */
final class KeySet {
  private static final int DIGITS = 16;

  private final Map<String, BitSet> numbered = new TreeMap<>();
  private final Set<String> others = new HashSet<>();

  static boolean isNumbered(String key) {
    int cut = key.length() - DIGITS;
    return cut > 1 && key.charAt(cut - 1) == '/' && key.chars().skip(cut).allMatch(c -> c >= '0' && c <= '9');
  }

  static String padded(int number) {
    return String.format("%0" + DIGITS + "d", number);
  }

  /** @return whether it was not there */
  boolean add(String key) {
    if (!isNumbered(key)) {
      return others.add(key);
    }
    BitSet bits = numbered.computeIfAbsent(prefix(key), p -> new BitSet());
    int n = number(key);
    boolean isNew = !bits.get(n);
    bits.set(n);
    return isNew;
  }

  boolean has(String key) {
    if (!isNumbered(key)) {
      return others.contains(key);
    }
    BitSet bits = numbered.get(prefix(key));
    return bits != null && bits.get(number(key));
  }

  /** @return the highest number up to which all of a prefix are there, from 1 */
  int length(String prefix) {
    BitSet bits = numbered.get(prefix);
    return bits == null ? 0 : bits.nextClearBit(1) - 1;
  }

  long size() {
    return others.size() + numbered.values().stream().mapToLong(BitSet::cardinality).sum();
  }

  void forEach(Consumer<String> each) {
    numbered.forEach((prefix, bits) -> bits.stream().forEach(n -> each.accept(prefix + padded(n))));
    others.forEach(each);
  }

  private static String prefix(String key) {
    return key.substring(0, key.length() - DIGITS);
  }

  static int number(String key) {
    return Integer.parseInt(key.substring(key.length() - DIGITS));
  }
}
