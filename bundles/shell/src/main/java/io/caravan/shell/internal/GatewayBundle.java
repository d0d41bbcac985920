// SPDX-License-Identifier: Apache-2.0
package io.caravan.shell.internal;

import java.nio.file.FileAlreadyExistsException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Instant;
import java.time.ZoneOffset;
import java.time.format.DateTimeFormatter;
import java.util.List;
import org.apache.karaf.shell.api.action.Argument;
import org.apache.karaf.shell.api.action.Command;
import org.apache.karaf.shell.api.action.Completion;
import org.apache.karaf.shell.api.action.Option;
import org.apache.karaf.shell.api.action.lifecycle.Reference;
import org.apache.karaf.shell.api.action.lifecycle.Service;
import org.apache.karaf.shell.support.completers.FileCompleter;
import org.osgi.framework.BundleContext;

/** {@code gateway:bundle}: one file with everything a bug report needs. */
@Service
@Command(scope = "gateway", name = "bundle", description = "Write versions, configuration without secrets, routes, ledger, incidents, metrics, log and threads into one zip file",
        detailedDescription = "Examples:\n  gateway:bundle\n  gateway:bundle /tmp/report.zip --with-payloads")
public final class GatewayBundle extends GatewayCommand {

    private static final DateTimeFormatter NAME = DateTimeFormatter.ofPattern("yyyyMMdd'T'HHmmss'Z'").withZone(ZoneOffset.UTC);

    @Argument(index = 0, name = "file", description = "A new file; by default data/diagnostics/caravan-<role>-<time>.zip")
    @Completion(FileCompleter.class)
    String file;

    @Option(name = "--with-payloads", description = "Also the records of the first 1000 dead letters, as devices sent them")
    boolean payloads;

    @Reference
    BundleContext bundles;

    @Argument(index = 1, name = "options", multiValued = true, description = "Options may stand here too")
    @Completion(TrailingCompleter.class)
    List<String> trailing;

    @Override
    List<String> trailing() {
        return trailing;
    }

    @Override
    Object run() throws Exception {
        Path path;
        if (file != null) {
            path = Path.of(file).toAbsolutePath();
        } else {
            Path folder = Files.createDirectories(Path.of(System.getProperty("karaf.data", "data")).toAbsolutePath().resolve("diagnostics"));
            path = folder.resolve("caravan-" + caravan.role() + "-" + NAME.format(Instant.now()) + ".zip");
        }
        try {
            Output.newFile(path);
        } catch (FileAlreadyExistsException e) {
            throw new IllegalArgumentException("file [" + path + "] is there already: name another one", e);
        }
        int entries;
        try {
            entries = new SupportBundle(caravan, bundles, payloads).write(path);
        } catch (Exception e) {
            Files.deleteIfExists(path);
            throw e;
        }
        say(json ? Output.object("file", path.toString(), "bytes", Files.size(path), "entries", entries).toJson()
                : path + ": " + Output.bytes(Files.size(path)) + ", secrets are masked" + (payloads ? ", with records of devices" : "")
                        + ". Look through it before you send it.");
        return null;
    }
}
