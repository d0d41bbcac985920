// SPDX-License-Identifier: Apache-2.0
package io.caravan.conventions;

/**
 * One broken rule.
 *
 * @param rule    its name, as in {@code # lint: allow <rule> - <reason>}
 * @param file    relative to the repository
 * @param line    from 1; 0: the file as a whole
 * @param message what [value] breaks it, and the fix
 */
record Finding(String rule, String file, int line, String message) {
  @Override
  public String toString() {
    return file + (line > 0 ? ":" + line : "") + " [" + rule + "] " + message;
  }
}
