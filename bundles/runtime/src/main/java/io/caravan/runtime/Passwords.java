// SPDX-License-Identifier: Apache-2.0
package io.caravan.runtime;

/**
 * Bean {@code passwords}: hashes of passwords, and guessing them made slow: one password at a time is tried in this process, and a
 * wrong one holds up the next for a second. Thread-safe; blocks, so callers do not ask it on an event loop.
 */
public interface Passwords {

    /** What came of a try. */
    enum Verdict {
        RIGHT, WRONG,
        /** Not tried: too many wait. */
        BUSY
    }

    /**
     * @param password 12 to 1024 characters; the caller clears it
     * @return salted, slow to compute (PBKDF2-HMAC-SHA512)
     * @throws IllegalArgumentException its length breaks the rule
     */
    String hash(char[] password);

    /**
     * @param password the caller clears it
     * @param hash     as {@link #hash} made it; null: there is no such user, which takes as long
     * @param wrong    run when it is {@link Verdict#WRONG}, before that has its price, so that it is counted at once
     */
    Verdict verify(char[] password, String hash, Runnable wrong);

    /** @return 24 characters of base64url, for the caller to clear */
    char[] random();
}
