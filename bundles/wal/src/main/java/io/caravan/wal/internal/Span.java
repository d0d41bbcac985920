// SPDX-License-Identifier: Apache-2.0
package io.caravan.wal.internal;

import java.util.ArrayList;
import java.util.List;

/** Sequences from first to last, both included; lists of them are sorted and do not overlap. */
record Span(long first, long last) {

    long count() {
        return last - first + 1;
    }

    static long count(List<Span> spans) {
        return spans.stream().mapToLong(Span::count).sum();
    }

    /** What is in both. */
    static List<Span> meet(List<Span> a, List<Span> b) {
        List<Span> met = new ArrayList<>();
        for (int i = 0, j = 0; i < a.size() && j < b.size();) {
            long first = Math.max(a.get(i).first, b.get(j).first);
            long last = Math.min(a.get(i).last, b.get(j).last);
            if (first <= last) {
                met.add(new Span(first, last));
            }
            if (a.get(i).last < b.get(j).last) {
                i++;
            } else {
                j++;
            }
        }
        return met;
    }

    /** What is in the first only. */
    static List<Span> minus(List<Span> from, List<Span> what) {
        List<Span> left = new ArrayList<>();
        int j = 0;
        for (Span span : from) {
            long next = span.first;
            while (j < what.size() && what.get(j).last < next) {
                j++;
            }
            for (int k = j; k < what.size() && what.get(k).first <= span.last; k++) {
                if (what.get(k).first > next) {
                    left.add(new Span(next, what.get(k).first - 1));
                }
                next = Math.max(next, what.get(k).last + 1);
            }
            if (next <= span.last) {
                left.add(new Span(next, span.last));
            }
        }
        return left;
    }

    /** Sorted sequences as runs. */
    static List<Span> runs(List<Long> seqs) {
        List<Span> runs = new ArrayList<>();
        for (int i = 0, begin = 0; i < seqs.size(); i++) {
            if (i + 1 == seqs.size() || seqs.get(i + 1) != seqs.get(i) + 1) {
                runs.add(new Span(seqs.get(begin), seqs.get(i)));
                begin = i + 1;
            }
        }
        return runs;
    }

    /** For messages: the first few, and how many more there are. */
    static String text(List<Span> spans) {
        StringBuilder text = new StringBuilder();
        for (Span span : spans.subList(0, Math.min(5, spans.size()))) {
            text.append(text.isEmpty() ? "" : ", ").append(span);
        }
        return spans.size() > 5 ? text + " and " + (spans.size() - 5) + " more" : text.toString();
    }

    @Override
    public String toString() {
        return first == last ? Long.toString(first) : first + "-" + last;
    }
}
