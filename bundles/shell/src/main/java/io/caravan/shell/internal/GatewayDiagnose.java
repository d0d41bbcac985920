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
@Command(scope = "gateway", name = "diagnose", description = "Say what is wrong here and what to do about it")
public final class GatewayDiagnose extends GatewayCommand {

    @Option(name = "--deep", description = "Check the log's file and each row too; reads all of it")
    boolean deep;

    @Override
    Object run() {
        List<Finding> findings = Diagnosis.of(caravan, deep);
        table(findings, "Nothing is wrong", Output.FINDING, Output::finding);
        if (!json && caravan.bean("recovery", Recovery.class).isPresent() && !deep) {
            say("--deep checks the log's file and each row too.");
        }
        return null;
    }
}
