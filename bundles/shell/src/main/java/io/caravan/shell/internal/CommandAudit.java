// SPDX-License-Identifier: Apache-2.0
package io.caravan.shell.internal;

import io.caravan.runtime.Audit;
import io.caravan.runtime.Caravan;
import java.io.UncheckedIOException;
import java.util.Map;
import java.util.function.Supplier;
import java.util.regex.Pattern;
import org.apache.felix.service.command.CommandSession;
import org.apache.felix.service.command.CommandSessionListener;
import org.apache.karaf.shell.api.console.Session;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/**
 * Puts into the audit log what people do in the shell: who, the line without secrets, how it ended. One place for all commands,
 * also those of others. A line is left out when it is one command that only reads; what is not known to read counts as a change.
 *
 * <p>What is not one of this program's own commands is noted before it runs as well: it could end the process. So are those that
 * run a route file's beans. This class is thread-safe.
 */
final class CommandAudit implements CommandSessionListener {

    private static final Logger LOG = LoggerFactory.getLogger(CommandAudit.class);
    /** No separator, pipe, closure or substitution: one command and its arguments. */
    private static final String ARGUMENTS = "([ \\t][^;|&{}()<>$`\\r\\n]*)?";
    private static final Pattern READS = Pattern.compile("((\\*:)?help|exit|(shell:)?(logout|info|clear|date|history)"
            + "|(account|audit|command|dead|device|feature|bundle|route|sink|site|token|uplink|user|config):list|(capability|command|device|route|twin):show|(command|gateway):watch|route:(diff|topology)|task:list"
            + "|device:firewall|audit:verify"
            + "|wal:(status|peek|ledger|incidents|verify)|gateway:(info|diagnose|list|show)"
            + "|(bundle|feature):(info|status|diag|headers|id|repo-list|version-list)|log:(display|tail|get|exception-display)|package:(exports|imports))"
            + ARGUMENTS);
    private static final Pattern OWN = Pattern.compile("(?!route:(check|edit)\\b)(account|audit|capability|command|config|dead|device|gateway|route|sink|site|task|token|twin|uplink|user|wal):[a-z-]+" + ARGUMENTS);
    private static final String ACTION = "shell.command";

    private final Supplier<Caravan> caravan;

    /** @param caravan null while there is no container */
    CommandAudit(Supplier<Caravan> caravan) {
        this.caravan = caravan;
    }

    static boolean changes(CharSequence line) {
        return !line.toString().isBlank() && !READS.matcher(line.toString().strip()).matches();
    }

    static boolean notedBefore(CharSequence line) {
        return changes(line) && !OWN.matcher(line.toString().strip()).matches();
    }

    @Override
    public void beforeExecute(CommandSession session, CharSequence line) {
        if (notedBefore(line)) {
            note(session, line, "begun");
        }
    }

    @Override
    public void afterExecute(CommandSession session, CharSequence line, Exception exception) {
        if (changes(line)) {
            note(session, line, "failed: " + (exception.getMessage() == null ? exception.toString() : exception.getMessage()));
        }
    }

    @Override
    public void afterExecute(CommandSession session, CharSequence line, Object result) {
        if (changes(line)) {
            note(session, line, "ok");
        }
    }

    private void note(CommandSession session, CharSequence line, String outcome) {
        Caravan container = caravan.get();
        Audit audit = container == null ? null : container.bean("audit", Audit.class).orElse(null);
        if (audit == null) {
            LOG.warn("Not in the audit log, there is none: a shell command {}", outcome);
            return;
        }
        try {
            Object scope = session.get(Session.SUBSHELL);
            audit.record(ACTION, container.redact(line.toString().strip()), container.redact(outcome),
                    scope == null || scope.toString().isEmpty() ? Map.of() : Map.of("scope", scope.toString()));
        } catch (UncheckedIOException e) {
            LOG.debug("Noted later: {}", ACTION, e);
        }
    }
}
