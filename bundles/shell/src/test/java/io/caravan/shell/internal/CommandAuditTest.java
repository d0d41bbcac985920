// SPDX-License-Identifier: Apache-2.0
package io.caravan.shell.internal;

import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

class CommandAuditTest {

    @ParameterizedTest
    @ValueSource(strings = {"sink:list", "  sink:list --json ", "wal:peek dev-1/b7/42", "help", "*:help sink", "device:show dev-1", "logout", "log:display -n 10", "",
        "command:list --open", "command:watch c-1", "twin:show sim-1", "capability:show"})
    void oneCommandThatOnlyReadsIsLeftOut(String line) {
        assertFalse(CommandAudit.changes(line));
    }

    @ParameterizedTest
    @ValueSource(strings = {"sink:pause kafka", "sink:list; sink:pause kafka", "sink:list\nsink:pause kafka", "sink:list | tac x", "sink:list > x",
        "sink:list $(sink:pause kafka)", "sink:list `x`", "sink:list & x", "x = { sink:list }", "sink:listing", "device:add dev-1", "shell:echo x", "list", "pause kafka",
        "gateway:bundle", "dead:export x", "sink:list --x {y}", "sink:list (y)", "sink:list ${y}", "command:send sim-1 led on=true", "command:cancel c-1", "twin:set sim-1 led=true",
        "capability:set sim-1 x", "device:controller sim-1 on", "route:check /tmp/x.camel.yaml", "route:edit rollup"})
    void whatIsNotKnownToReadCountsAsAChange(String line) {
        assertTrue(CommandAudit.changes(line));
    }

    /** Their code could end the process before it is noted how they ended. */
    @ParameterizedTest
    @ValueSource(strings = {"route:check /tmp/x.camel.yaml", "route:edit rollup", " route:check", "shell:exec true"})
    void whatRunsCodeIsNotedBeforeToo(String line) {
        assertTrue(CommandAudit.notedBefore(line));
    }

    @ParameterizedTest
    @ValueSource(strings = {"route:restore rollup", "sink:pause kafka", "route:diff", "sink:list"})
    void otherCommandsOfOursAreNotedOnce(String line) {
        assertFalse(CommandAudit.notedBefore(line));
    }
}
