// SPDX-License-Identifier: Apache-2.0
package io.caravan.runtime.internal;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Comparator;
import java.util.TreeSet;
import java.util.regex.Pattern;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/** Takes secrets out of texts that leave the machine: those that are known, and what stands where one would. Not thread-safe. */
public final class Redaction {

    static final String MASK = "***";

    private static final Logger LOG = LoggerFactory.getLogger(Redaction.class);
    /** A shorter one would be found everywhere. */
    private static final int MIN_CHARS = 4;
    private static final int MAX_FILE_BYTES = 16_384;
    private static final Pattern SECRET_NAME = Pattern.compile("(?i).*(password|passwd|passphrase|secret|token|credential|apikey|private|key).*");
    private static final Pattern NAMED = Pattern.compile("(?i)((?:password|passwd|passphrase|secret|token|credentials?|api[-_.]?key|access[-_.]?key(?:[-_.]?id)?"
            + "|private[-_.]?key|authorization)[\"']?\\s*[:=]\\s*[\"']?(?:bearer\\s+|basic\\s+)?)(?!\\{\\{)[^\\s\"',;&}\\])]+");
    private static final Pattern BEARER = Pattern.compile("(?i)\\b(bearer|basic)\\s+[A-Za-z0-9._~+/=-]{8,}");
    private static final Pattern USER_INFO = Pattern.compile("://[^/\\s:@\"']+:[^/\\s@\"']+@");
    /** Tokens of this program say themselves what they are. */
    private static final Pattern OWN = Pattern.compile("\\bcvn_[A-Za-z0-9_-]{16,}");
    private static final Pattern PEM = Pattern.compile("-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(-----END [A-Z ]*PRIVATE KEY-----|\\z)", Pattern.DOTALL);

    /** Longest first: one may contain another. */
    private final TreeSet<String> known = new TreeSet<>(Comparator.comparing(String::length).reversed().thenComparing(Comparator.naturalOrder()));

    /** @return whether a path of that name leads to one file that is a secret, unlike a certificate, a list of hashes or a folder */
    static boolean isSecretFile(String name) {
        return isSecretName(name) && !name.matches(".*(folder|directory|dir)");
    }

    static boolean isSecretName(String name) {
        return SECRET_NAME.matcher(name).matches();
    }

    void add(String secret) {
        if (secret.strip().length() >= MIN_CHARS) {
            known.add(secret.strip());
        }
    }

    /** Each line of the file. One that cannot be read is nobody's secret here: this process could not have used it. */
    void addFile(Path file) {
        try {
            if (Files.isRegularFile(file) && Files.size(file) <= MAX_FILE_BYTES) {
                Files.readString(file).lines().filter(line -> !line.startsWith("-----")).forEach(this::add);
            }
        } catch (IOException e) {
            LOG.debug("{} is not read", file, e);
        }
    }

    /** @return the text with {@value #MASK} in place of each secret, and of what stands behind a name that sounds like one */
    public String of(String text) {
        return NAMED.matcher(ofLine(text)).replaceAll("$1" + MASK);
    }

    /** @return as {@link #of}, but for words behind names: in a line of a log those are about a token, and not one. After the last add it is thread-safe */
    public String ofLine(String text) {
        String answer = PEM.matcher(text).replaceAll(MASK);
        for (String secret : known) {
            answer = answer.replace(secret, MASK);
        }
        answer = OWN.matcher(answer).replaceAll("cvn_" + MASK);
        answer = USER_INFO.matcher(answer).replaceAll("://" + MASK + "@");
        return BEARER.matcher(answer).replaceAll("$1 " + MASK);
    }
}
