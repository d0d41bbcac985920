// SPDX-License-Identifier: Apache-2.0
package io.caravan.uplink;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.TimeUnit;

/** An authority of the pilot script, {@code mosquitto/certs}: what the docs tell people to use is what is tested. */
final class Pki {

    final Path folder;

    Pki(Path folder) throws Exception {
        this.folder = Files.createDirectories(folder);
        certs("init");
    }

    Pki server(String name) throws Exception {
        certs("server", name, "localhost", "127.0.0.1");
        return this;
    }

    Pki client(String name) throws Exception {
        certs("client", name);
        return this;
    }

    void certs(String command, String... more) throws Exception {
        List<String> line = new ArrayList<>(List.of("sh", Box.REPO.resolve("mosquitto/certs").toString(), command, folder.toString()));
        line.addAll(List.of(more));
        run(line);
    }

    /** Signed by this authority, and over as soon as it is made. */
    void expired(String name, String extensions) throws Exception {
        run(List.of("openssl", "req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", "/CN=" + name, "-keyout",
            name + ".key", "-out", name + ".csr"));
        Files.writeString(folder.resolve(name + ".ext"), extensions + "\n");
        run(List.of("openssl", "x509", "-req", "-in", name + ".csr", "-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial", "-days", "0",
            "-extfile", name + ".ext", "-out", name + ".crt"));
    }

    private void run(List<String> line) throws IOException, InterruptedException {
        Path log = folder.resolve("run.log");
        Process process = new ProcessBuilder(line).directory(folder.toFile()).redirectErrorStream(true).redirectOutput(log.toFile()).start();
        if (!process.waitFor(30, TimeUnit.SECONDS) || process.exitValue() != 0) {
            process.destroyForcibly();
            throw new IOException(line + " failed: " + Files.readString(log));
        }
    }

    Path ca() {
        return folder.resolve("ca.crt");
    }

    Path crl() {
        return folder.resolve("ca.crl");
    }

    Path cert(String name) {
        return folder.resolve(name + ".crt");
    }

    Path key(String name) {
        return folder.resolve(name + ".key");
    }
}
