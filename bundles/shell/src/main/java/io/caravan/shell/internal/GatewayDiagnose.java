// SPDX-License-Identifier: Apache-2.0
package io.caravan.shell.internal;

import io.caravan.wal.Recovery;
import io.caravan.wal.Recovery.Finding;
import java.util.List;
import org.apache.karaf.shell.api.action.Command;
import org.apache.karaf.shell.api.action.Option;
import org.apache.karaf.shell.api.action.lifecycle.Service;

/** {@code gateway:diagnose}: what is not as it should be here, and what to do about it. */
@Service
@Command(scope = "gateway", name = "diagnose", description = "Say what is wrong here and what to do about it",
        detailedDescription = "Examples:\n  gateway:diagnose\n  gateway:diagnose --deep --json")
public final class GatewayDiagnose extends GatewayCommand {

    @Option(name = "--deep", description = "Check the log's file and each row too; reads all of it")
    boolean deep;

    @Override
    Object run() {
        List<Finding> findings = Diagnosis.of(caravan, deep);
        if (json) {
            say(Output.jsonOf(findings).toJson());
            return null;
        }
        if (findings.isEmpty()) {
            paint(Paint.GREEN, "Nothing is wrong");
        }
        // Not a table: what to do is to be copied in one piece.
        for (Finding f : findings) {
            Text.wrap(Text.line(f.severity() + "  " + f.subject() + ": " + f.what()), width()).forEach(l -> paint(Paint.of(f.severity()), l));
            Text.wrap(Text.line(f.advice()), width() - 5).forEach(l -> say("  -> " + l));
        }
        if (caravan.bean("recovery", Recovery.class).isPresent() && !deep) {
            say("--deep checks the log's file and each row too.");
        }
        return null;
    }
}
