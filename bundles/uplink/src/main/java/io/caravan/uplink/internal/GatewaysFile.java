// SPDX-License-Identifier: Apache-2.0
package io.caravan.uplink.internal;

import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.NoSuchFileException;
import java.nio.file.Path;
import java.nio.file.attribute.BasicFileAttributes;
import java.security.MessageDigest;
import java.security.NoSuchAlgorithmException;
import java.util.HashMap;
import java.util.HexFormat;
import java.util.Map;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/**
 * Which gateways may connect: lines {@code gateway_id = sha256:<hex of sha256(token)>}, empty lines and {@code #}
 * comments. Only hashes are stored, and tokens are compared in constant time. The file is read again when it changed; a
 * file that is missing, unreadable or larger than 4 MiB lets nobody in, and neither does a line that breaks the form or
 * names a gateway a second time. This class is thread-safe.
 */
public final class GatewaysFile {

    private static final Logger LOG = LoggerFactory.getLogger(GatewaysFile.class);
    private static final Pattern LINE = Pattern.compile("([A-Za-z0-9][A-Za-z0-9._-]{0,63})\\s*=\\s*sha256:([0-9a-fA-F]{64})");
    private static final long MAX_BYTES = 4 << 20;
    /** Compared with when the gateway is not known, so that both cases take the same time. */
    private static final byte[] NOBODY = new byte[32];

    private final Path file;
    private String stamp = "";
    private Map<String, byte[]> hashes = Map.of();

    public GatewaysFile(Path file) {
        this.file = file;
    }

    /** @return whether the token is this gateway's, as the file says now */
    public boolean allows(String gatewayId, String token) {
        byte[] expected = current().get(gatewayId);
        boolean same = MessageDigest.isEqual(sha256(token), expected == null ? NOBODY : expected);
        return expected != null && same;
    }

    private synchronized Map<String, byte[]> current() {
        String now;
        try {
            BasicFileAttributes a = Files.readAttributes(file, BasicFileAttributes.class);
            now = a.lastModifiedTime().toMillis() + "/" + a.size() + "/" + a.fileKey();
            if (!now.equals(stamp)) {
                hashes = a.size() > MAX_BYTES ? tooLarge(a.size()) : read();
                LOG.info("gateways file [{}] read: {} gateways may connect", file, hashes.size());
            }
        } catch (IOException e) {
            now = e.toString();
            hashes = Map.of();
            if (!now.equals(stamp)) {
                LOG.warn("gateways file [{}] {}: no gateway may connect; put lines 'gateway_id = sha256:<hex>' there"
                    + " (uplink.gateways.file)", file, e instanceof NoSuchFileException ? "does not exist" : "cannot be read: " + e);
            }
        }
        stamp = now;
        return hashes;
    }

    private Map<String, byte[]> tooLarge(long bytes) {
        LOG.error("gateways file [{}] of [{}] bytes must not exceed {}: no gateway may connect", file, bytes, MAX_BYTES);
        return Map.of();
    }

    private Map<String, byte[]> read() throws IOException {
        Map<String, byte[]> found = new HashMap<>();
        int number = 0;
        for (String line : Files.readAllLines(file, StandardCharsets.UTF_8)) {
            number++;
            String text = line.strip();
            if (text.isEmpty() || text.startsWith("#")) {
                continue;
            }
            Matcher m = LINE.matcher(text);
            if (!m.matches()) {
                // Not the line itself: somebody may have put the token there.
                LOG.error("gateways file [{}] line {} must be 'gateway_id = sha256:<64 hex digits>': ignored", file, number);
            } else if (found.putIfAbsent(m.group(1), HexFormat.of().parseHex(m.group(2))) != null) {
                LOG.error("gateways file [{}] line {} names gateway [{}] a second time: ignored", file, number, m.group(1));
            }
        }
        return found;
    }

    private static byte[] sha256(String text) {
        try {
            return MessageDigest.getInstance("SHA-256").digest(text.getBytes(StandardCharsets.UTF_8));
        } catch (NoSuchAlgorithmException e) {
            throw new IllegalStateException(e);
        }
    }
}
