// SPDX-License-Identifier: Apache-2.0
package io.caravan.bench;

import java.util.Locale;

/** Ways in which a device can answer badly. Whatever it does, it carries a command out once, and only in time. */
enum CommandFault {
    /** Answers after {@code --late}, having said now and then that it has it. */
    LATE,
    /** Carries it out and says nothing. */
    NEVER,
    /** Says the same twice. */
    TWICE,
    /** Says something that is no answer. */
    GARBAGE,
    /** Answers for a command that it never got. */
    OTHER_ID,
    /** Says that it succeeded, then that it failed. */
    CONTRADICT,
    /** Is gone for {@code --offline} as soon as it has it; answers when it is back. */
    OFFLINE;

    @Override
    public String toString() {
        return name().toLowerCase(Locale.ROOT).replace('_', '-');
    }
}
