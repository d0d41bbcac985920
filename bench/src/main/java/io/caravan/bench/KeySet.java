// SPDX-License-Identifier: Apache-2.0
package io.caravan.bench;

import java.nio.file.Path;
import java.sql.Connection;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.Statement;
import java.util.BitSet;
import java.util.HashMap;
import java.util.HashSet;
import java.util.Map;
import java.util.Set;

import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ObjectNode;

/** Which message keys arrived at a sink. Numbered keys take a bit each, so that millions of them fit. Not thread-safe. */
final class KeySet {
    private final Map<String, BitSet> numbered = new HashMap<>();
    private final Set<String> others = new HashSet<>();
    private long records;
    private long distinct;

    void add(String key) {
        records++;
        int n = number(key);
        boolean added;
        if (n < 0) {
            added = others.add(key);
        } else {
            BitSet bits = numbered.computeIfAbsent(prefix(key), k -> new BitSet());
            added = !bits.get(n);
            bits.set(n);
        }
        distinct += added ? 1 : 0;
    }

    long distinct() {
        return distinct;
    }

    boolean contains(String key) {
        int n = number(key);
        if (n < 0) {
            return others.contains(key);
        }
        BitSet bits = numbered.get(prefix(key));
        return bits != null && bits.get(n);
    }

    /** @return how many records arrived, how many distinct ones, and how they compare to the rows of a gateway's log */
    ObjectNode compare(Path db) throws SQLException {
        long stored = 0;
        long missing = 0;
        String example = null;
        try (Connection c = Databases.readOnly(db); Statement s = c.createStatement();
                ResultSet r = s.executeQuery("SELECT message_key FROM wal")) {
            while (r.next()) {
                stored++;
                if (!contains(r.getString(1))) {
                    missing++;
                    example = r.getString(1);
                }
            }
        }
        return new ObjectMapper().createObjectNode().put("records", records).put("distinct", distinct).put("stored", stored)
                .put("missing", missing).put("unexpected", distinct - (stored - missing)).put("missing_example", example);
    }

    /** @return the number at the end of a key with as many digits as a bit set has room for; -1: it has none */
    private static int number(String key) {
        int digits = key.length() - key.lastIndexOf('/') - 1;
        if (digits != Keys.DIGITS) {
            return -1;
        }
        long n = 0;
        for (int i = key.length() - digits; i < key.length(); i++) {
            char c = key.charAt(i);
            if (c < '0' || c > '9') {
                return -1;
            }
            n = n * 10 + c - '0';
        }
        return n < 100_000_000 ? (int) n : -1;
    }

    private static String prefix(String key) {
        return key.substring(0, key.lastIndexOf('/'));
    }
}
