// SPDX-License-Identifier: Apache-2.0
package io.caravan.runtime.internal;

import java.util.Collection;
import java.util.Comparator;

/** Finds the name that was probably meant. */
final class Nearest {

    private Nearest() {
    }

    /** @return the candidate fewest edits away (ties: the first), or null when more than a third of it would change */
    static String of(String name, Collection<String> candidates) {
        return candidates.stream()
                .min(Comparator.comparingInt(c -> edits(name, c)))
                .filter(c -> edits(name, c) <= Math.max(2, name.length() / 3))
                .orElse(null);
    }

    private static int edits(String a, String b) {
        int[] row = new int[b.length() + 1];
        for (int j = 0; j < row.length; j++) {
            row[j] = j;
        }
        for (int i = 1; i <= a.length(); i++) {
            int diagonal = row[0];
            row[0] = i;
            for (int j = 1; j <= b.length(); j++) {
                int replaced = diagonal + (a.charAt(i - 1) == b.charAt(j - 1) ? 0 : 1);
                diagonal = row[j];
                row[j] = Math.min(replaced, 1 + Math.min(row[j], row[j - 1]));
            }
        }
        return row[b.length()];
    }
}
