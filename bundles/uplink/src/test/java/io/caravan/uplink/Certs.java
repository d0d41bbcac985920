// SPDX-License-Identifier: Apache-2.0
package io.caravan.uplink;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.TimeUnit;

/** A throw-away authority and its certificates, made with the openssl command. */
final class Certs {

    final Path folder;
    final Path ca;

    Certs(Path folder) throws Exception {
        this.folder = Files.createDirectories(folder);
        this.ca = folder.resolve("ca.pem");
        openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
            "-subj", "/CN=test authority", "-keyout", "ca.key", "-out", "ca.pem");
    }

    /** Writes {@code name}.pem and {@code name}.key (PKCS#8), valid for the given names. */
    void issue(String name, String subjectAltName) throws Exception {
        openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", "/CN=" + name,
            "-keyout", name + ".key", "-out", name + ".csr");
        Files.writeString(folder.resolve(name + ".ext"), "subjectAltName=" + subjectAltName + "\n");
        openssl("x509", "-req", "-in", name + ".csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial",
            "-days", "2", "-extfile", name + ".ext", "-out", name + ".pem");
    }

    String cert(String name) {
        return folder.resolve(name + ".pem").toString();
    }

    String key(String name) {
        return folder.resolve(name + ".key").toString();
    }

    private void openssl(String... args) throws IOException, InterruptedException {
        List<String> command = new ArrayList<>(List.of("openssl"));
        command.addAll(List.of(args));
        Process process = new ProcessBuilder(command).directory(folder.toFile()).redirectErrorStream(true)
            .redirectOutput(folder.resolve("openssl.log").toFile()).start();
        if (!process.waitFor(30, TimeUnit.SECONDS) || process.exitValue() != 0) {
            process.destroyForcibly();
            throw new IOException("openssl failed: " + Files.readString(folder.resolve("openssl.log")));
        }
    }
}
