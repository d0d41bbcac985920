// SPDX-License-Identifier: Apache-2.0
package io.caravan.runtime.internal;

import io.caravan.runtime.Config;
import io.caravan.runtime.ControlException;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.concurrent.TimeUnit;
import java.util.function.LongSupplier;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/**
 * The bean {@code logLevel}: another level for a logger, for a time. Only in memory: a restart, the end of the time, or a change of the
 * log's configuration file brings back what the file says. Only for loggers of this program, never for the audit log: others write
 * what they send, credentials included, when they are asked to write everything. This class is thread-safe.
 */
public final class LogLevels {

    static final String DEFAULT = "DEFAULT";
    static final String LOGGERS = "io.caravan";
    static final String AUDIT = "io.caravan.audit";
    static final List<String> LEVELS = List.of("TRACE", "DEBUG", "INFO", "WARN", DEFAULT);

    private static final Logger LOG = LoggerFactory.getLogger(LogLevels.class);

    /** Where levels are in force. */
    public interface Backend {
        /**
         * Puts these levels in force, and for all other loggers what is configured.
         *
         * @param levels logger to level
         */
        void set(Map<String, String> levels) throws Exception;
    }

    /** @param untilNanos as System.nanoTime has it; null: until the restart */
    private record Level(String level, Long untilNanos) { }

    private final AuditLog audit;
    private final Backend backend;
    private final LongSupplier nanos;
    private final Map<String, Level> levels = new TreeMap<>();

    /** @param backend null: none here */
    LogLevels(AuditLog audit, Backend backend, LongSupplier nanos) {
        this.audit = audit;
        this.backend = backend;
        this.nanos = nanos;
    }

    /**
     * Sets a level.
     *
     * @param logger {@code io.caravan}, or one below it
     * @param level  one of TRACE, DEBUG, INFO, WARN; DEFAULT: what is configured
     * @param forMs  after which it goes back, ms; null: at the next restart
     * @param by     who asked
     * @return levels that are not as configured
     * @throws ControlException nothing was changed
     */
    public synchronized Map<String, Object> set(String logger, String level, Long forMs, String by) {
        if (logger == null || !logger.equals(LOGGERS) && !logger.startsWith(LOGGERS + ".") || logger.equals(AUDIT) || !logger.matches("[A-Za-z0-9_.]{1,200}")) {
            throw new ControlException("logger [" + logger + "] must be " + LOGGERS + ", or one below it, but not " + AUDIT
                    + ": other programs' loggers would write credentials");
        }
        if (!LEVELS.contains(level)) {
            throw new ControlException("level [" + level + "] must be one of " + String.join(", ", LEVELS));
        }
        if (backend == null) {
            throw new ControlException("The log of this container is not one whose levels can be set while it runs");
        }
        audit.record("control.log.level", logger, "begun", Map.of("level", level, "for_ms", String.valueOf(forMs), "by", String.valueOf(by)));
        Map<String, Level> before = new TreeMap<>(levels);
        if (level.equals(DEFAULT)) {
            levels.remove(logger);
        } else {
            levels.put(logger, new Level(level, forMs == null ? null : nanos.getAsLong() + TimeUnit.MILLISECONDS.toNanos(forMs)));
        }
        try {
            apply();
        } catch (Exception e) {
            levels.clear();
            levels.putAll(before);
            throw new ControlException(ControlException.FAILED, "The level cannot be set: " + Causes.text(e), null, e);
        }
        Map<String, Object> answer = new LinkedHashMap<>();
        levels.forEach((name, l) -> answer.put(name, l.level));
        return Map.of("levels", answer);
    }

    /** Takes back what has had its time. Called every now and then. */
    synchronized void retry() {
        long now = nanos.getAsLong();
        List<String> over = levels.entrySet().stream().filter(e -> e.getValue().untilNanos != null && now - e.getValue().untilNanos >= 0).map(Map.Entry::getKey).toList();
        if (over.isEmpty()) {
            return;
        }
        Map<String, Level> before = new TreeMap<>(levels);
        levels.keySet().removeAll(over);
        try {
            apply();
            audit.note("control.log.level", String.join(" ", over), "ended", Map.of());
        } catch (Exception e) {
            LOG.error("Levels of {} cannot be taken back, tried again", over, e);
            levels.putAll(before);
        }
    }

    private void apply() throws Exception {
        Map<String, String> now = new TreeMap<>();
        levels.forEach((name, l) -> now.put(name, l.level));
        if (now.containsKey(LOGGERS)) {
            // Else it would be silenced with its parent.
            now.put(AUDIT, "INFO");
        }
        backend.set(now);
    }
}
