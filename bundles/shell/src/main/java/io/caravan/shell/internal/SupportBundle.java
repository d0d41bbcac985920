// SPDX-License-Identifier: Apache-2.0
package io.caravan.shell.internal;

import io.caravan.runtime.Caravan;
import io.caravan.runtime.RouteFile;
import io.caravan.wal.Recovery;
import io.caravan.wal.Recovery.DeadFilter;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.RandomAccessFile;
import java.lang.management.ManagementFactory;
import java.lang.management.ThreadInfo;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.concurrent.Callable;
import java.util.zip.ZipEntry;
import java.util.zip.ZipOutputStream;
import org.osgi.framework.Bundle;
import org.osgi.framework.BundleContext;

/**
 * Everything a bug report needs. Each text goes through the container's redaction, and a part that fails is in the file as
 * its error: what is broken must not keep the rest from being told.
 */
final class SupportBundle {

    private static final int LOG_BYTES = 2_000_000;
    private static final int PAYLOADS = 1_000;

    private final Caravan caravan;
    private final BundleContext bundles;
    private final boolean payloads;
    private int entries;

    /** @param bundles null: not in OSGi */
    SupportBundle(Caravan caravan, BundleContext bundles, boolean payloads) {
        this.caravan = caravan;
        this.bundles = bundles;
        this.payloads = payloads;
    }

    /** @return how many entries the file has */
    int write(Path file) throws IOException {
        try (ZipOutputStream zip = new ZipOutputStream(Files.newOutputStream(file))) {
            add(zip, "about.json", () -> Output.object("role", caravan.role(), "version", caravan.version(), "uptime_s", caravan.uptime().toSeconds(),
                    "java", System.getProperty("java.runtime.version"), "vm", System.getProperty("java.vm.name"), "os", System.getProperty("os.name") + " "
                    + System.getProperty("os.version") + " " + System.getProperty("os.arch"), "processors", Runtime.getRuntime().availableProcessors(),
                    "heap_max_bytes", Runtime.getRuntime().maxMemory(), "karaf", System.getProperty("karaf.version")).toJson());
            add(zip, "readiness.json", () -> Output.json(caravan.role(), caravan.version(), caravan.uptime(), caravan.checks()));
            add(zip, "diagnosis.json", () -> Output.jsonOf(Diagnosis.of(caravan, false)).toJson());
            add(zip, "config.properties", this::config);
            add(zip, "routes.json", () -> Output.json(caravan.routes()));
            for (RouteFile route : caravan.routes()) {
                if (caravan.text(route.stem()).isPresent()) {
                    add(zip, "routes/" + route.file(), () -> caravan.text(route.stem()).orElse(""));
                }
            }
            if (bundles != null) {
                add(zip, "bundles.txt", this::bundles);
            }
            add(zip, "metrics.txt", caravan::metrics);
            if (caravan.role().equals("gateway")) {
                add(zip, "wal-status.json", () -> Output.jsonOf(recovery().status()).toJson());
                add(zip, "ledger.json", () -> Output.object("ledger", Output.jsonOf(recovery().ledger()), "discrepancies",
                        Output.jsonOf(recovery().discrepancies(false))).toJson());
                add(zip, "sinks.json", () -> Output.jsonOf(recovery().sinks()).toJson());
                add(zip, "incidents.json", () -> Output.jsonOf(recovery().incidents()).toJson());
                add(zip, "dead-letters.json", () -> Output.jsonOf(recovery().deadCauses(DeadFilter.ALL)).toJson());
            }
            if (payloads && caravan.role().equals("gateway")) {
                add(zip, "dead-letters.ndjson", () -> {
                    ByteArrayOutputStream out = new ByteArrayOutputStream();
                    recovery().deadExport(DeadFilter.ALL, out, PAYLOADS);
                    return out.toString(StandardCharsets.UTF_8);
                });
            }
            add(zip, "log.txt", () -> tail(Path.of(System.getProperty("karaf.log", "data/log"), "karaf.log")));
            add(zip, "threads.txt", SupportBundle::threads);
        }
        return entries;
    }

    private Recovery recovery() {
        return GatewayCommand.recovery(caravan);
    }

    private void add(ZipOutputStream zip, String name, Callable<String> part) throws IOException {
        String text;
        try {
            text = part.call();
        } catch (Exception | LinkageError e) {
            text = "could not be collected: " + e;
        }
        zip.putNextEntry(new ZipEntry(name));
        zip.write(caravan.redact(text).getBytes(StandardCharsets.UTF_8));
        zip.closeEntry();
        entries++;
    }

    private String config() {
        StringBuilder text = new StringBuilder();
        caravan.settings().forEach((key, value) -> text.append(key).append(" = ").append(value).append('\n'));
        return text.toString();
    }

    private String bundles() {
        StringBuilder text = new StringBuilder();
        for (Bundle bundle : bundles.getBundles()) {
            text.append(bundle.getBundleId()).append(' ').append(bundle.getSymbolicName()).append(' ').append(bundle.getVersion())
                    .append(bundle.getState() == Bundle.ACTIVE ? " active" : " state " + bundle.getState()).append('\n');
        }
        return text.toString();
    }

    static String tail(Path log) throws IOException {
        try (RandomAccessFile file = new RandomAccessFile(log.toFile(), "r")) {
            long from = Math.max(0, file.length() - LOG_BYTES);
            file.seek(from);
            byte[] bytes = new byte[(int) Math.min(LOG_BYTES, file.length() - from)];
            file.readFully(bytes);
            String text = new String(bytes, StandardCharsets.UTF_8);
            // Not from the middle of a line: what stands there could be half of something that would be masked.
            return from == 0 ? text : text.substring(text.indexOf('\n') + 1);
        }
    }

    private static String threads() {
        StringBuilder text = new StringBuilder();
        for (ThreadInfo thread : ManagementFactory.getThreadMXBean().dumpAllThreads(true, true)) {
            text.append('"').append(thread.getThreadName()).append("\" ").append(thread.getThreadState())
                    .append(thread.getLockName() == null ? "" : " on " + thread.getLockName())
                    .append(thread.getLockOwnerName() == null ? "" : " held by \"" + thread.getLockOwnerName() + '"').append('\n');
            for (StackTraceElement frame : thread.getStackTrace()) {
                text.append("    at ").append(frame).append('\n');
            }
            text.append('\n');
        }
        return text.toString();
    }
}
