// SPDX-License-Identifier: Apache-2.0
package io.caravan.runtime.internal;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.attribute.PosixFilePermission;
import java.util.EnumSet;
import java.util.Set;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/** Files with secrets that others than their owner can read. */
final class OpenFiles {

    private static final Logger LOG = LoggerFactory.getLogger(OpenFiles.class);
    private static final Set<PosixFilePermission> OTHERS = EnumSet.of(PosixFilePermission.GROUP_READ, PosixFilePermission.GROUP_WRITE,
            PosixFilePermission.OTHERS_READ, PosixFilePermission.OTHERS_WRITE);

    private OpenFiles() {
    }

    /** @return what is wrong and what to do; null: nothing, or there is no such file */
    static String problem(Path file, String what) {
        try {
            if (Files.isRegularFile(file) && Files.getPosixFilePermissions(file).stream().anyMatch(OTHERS::contains)) {
                return "File [" + file + "] with " + what + " can be read by others than its owner: chmod 600 " + file;
            }
        } catch (IOException | UnsupportedOperationException e) {
            LOG.debug("{} does not tell its mode", file, e);
        }
        return null;
    }

    static void warn(Path file, String what) {
        String problem = problem(file, what);
        if (problem != null) {
            LOG.warn("{}", problem);
        }
    }
}
