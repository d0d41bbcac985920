// SPDX-License-Identifier: Apache-2.0
package io.caravan.shell.internal;

import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.stream.Collectors;

/**
 * A table that is never wider than it may be: what is too long goes on in the next line of its column. Karaf's ShellTable cuts off
 * what people look for, counts wide characters as one column, and prints what devices call themselves as it is.
 */
final class Table {

    /** Width where there is no terminal to ask. */
    static final int WIDTH = 100;
    private static final int NARROW = 8;
    private static final int LINES = 12;
    private static final String GAP = " │ ";

    private final List<String> head;
    private final List<Object[]> rows = new ArrayList<>();

    Table(List<String> head) {
        this.head = head;
    }

    void add(Object... cells) {
        rows.add(cells);
    }

    /** @return lines without line ends */
    List<String> lines(int width, boolean colours) {
        int[] columns = widths(Math.max(width, 4 * head.size()));
        List<String> lines = new ArrayList<>(print(head.toArray(), columns, colours, Paint.BOLD));
        lines.add(Arrays.stream(columns).mapToObj("─"::repeat).collect(Collectors.joining("─┼─")));
        rows.forEach(row -> lines.addAll(print(row, columns, colours, null)));
        return lines;
    }

    private static String text(Object cell) {
        return cell == null ? "" : Text.line(cell.toString());
    }

    private int[] widths(int limit) {
        int[] natural = head.stream().mapToInt(Text::columns).toArray();
        for (Object[] row : rows) {
            for (int i = 0; i < natural.length; i++) {
                natural[i] = Math.max(natural[i], Text.columns(text(row[i])));
            }
        }
        int space = limit - GAP.length() * (natural.length - 1);
        int[] least = head.stream().mapToInt(h -> Math.max(NARROW, Text.columns(h))).toArray();
        while (Arrays.stream(natural).sum() > space) {
            int widest = -1;
            for (int i = 0; i < natural.length; i++) {
                if (natural[i] > least[i] && (widest < 0 || natural[i] > natural[widest])) {
                    widest = i;
                }
            }
            if (widest < 0) {
                // Too many columns for all their heads.
                Arrays.fill(least, 1);
            } else {
                natural[widest] = Math.max(least[widest], Math.min(natural[widest] - 1, space));
            }
        }
        return natural;
    }

    private static List<String> print(Object[] row, int[] columns, boolean colours, Paint paint) {
        List<List<String>> cells = new ArrayList<>();
        int height = 1;
        for (int i = 0; i < columns.length; i++) {
            List<String> cell = Text.wrap(text(row[i]), columns[i]);
            if (cell.size() > LINES) {
                cell = new ArrayList<>(cell.subList(0, LINES));
                cell.set(LINES - 1, Text.cut(cell.get(LINES - 1) + " ".repeat(columns[i]), columns[i]));
            }
            cells.add(cell);
            height = Math.max(height, cell.size());
        }
        List<String> lines = new ArrayList<>();
        for (int n = 0; n < height; n++) {
            StringBuilder line = new StringBuilder();
            for (int i = 0; i < columns.length; i++) {
                String part = n < cells.get(i).size() ? cells.get(i).get(n) : "";
                Paint how = paint != null ? paint : row[i] instanceof Paint.Cell cell ? cell.paint() : Paint.PLAIN;
                line.append(i == 0 ? "" : GAP).append(how.on(colours, part)).append(" ".repeat(Math.max(0, columns[i] - Text.columns(part))));
            }
            lines.add(line.toString().stripTrailing());
        }
        return lines;
    }
}
