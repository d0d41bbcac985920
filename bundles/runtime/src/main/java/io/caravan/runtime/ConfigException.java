// SPDX-License-Identifier: Apache-2.0
package io.caravan.runtime;

import java.util.List;

/** The configuration broke a rule and the container must not start with it. This class is immutable. */
public final class ConfigException extends RuntimeException {

    /** Exit code of a container whose start was refused (EX_CONFIG of sysexits.h). */
    public static final int EXIT_CODE = 78;

    private static final long serialVersionUID = 1L;

    private final List<String> problems;

    /** @param problems one sentence per problem: key, value, rule, and the file, variable or argument it stands in */
    public ConfigException(List<String> problems) {
        super(String.join("\n", readable(problems)));
        this.problems = readable(problems);
    }

    /** They quote files, which must not steer a terminal or forge a line. */
    private static List<String> readable(List<String> problems) {
        return problems.stream().map(problem -> problem.strip().replaceAll("\\R", " ").replaceAll("\\p{Cc}", "?")).toList();
    }

    /** @return one sentence per problem, in the order of files and keys */
    public List<String> problems() {
        return problems;
    }
}
