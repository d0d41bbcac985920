// SPDX-License-Identifier: Apache-2.0
package io.caravan.runtime.internal;

import io.caravan.runtime.Passwords;
import java.security.GeneralSecurityException;
import java.security.MessageDigest;
import java.security.SecureRandom;
import java.util.Base64;
import java.util.HexFormat;
import java.util.concurrent.Semaphore;
import java.util.concurrent.TimeUnit;
import javax.crypto.SecretKeyFactory;
import javax.crypto.spec.PBEKeySpec;

/** See {@link Passwords}; the hashes stand in the users' file and in the cloud's table of accounts. */
final class PasswordHashes implements Passwords {

    private static final String ALGORITHM = "PBKDF2WithHmacSHA512";
    private static final String LABEL = "pbkdf2-sha512";
    /** OWASP's figure for this algorithm; some 0.2 s on a desktop, a second on a small board. */
    private static final int ITERATIONS = 210_000;
    private static final int MAX_ITERATIONS = 10_000_000;
    private static final int SALT_BYTES = 16;
    private static final int HASH_BITS = 512;
    private static final int MIN_PASSWORD = 12;
    private static final int MAX_PASSWORD = 1_024;
    private static final int MAX_WAITING = 8;

    private final long penaltyMs;
    private final SecureRandom random = new SecureRandom();
    private final Semaphore turn = new Semaphore(1, true);
    /** What an unknown user's password is compared with, so that it takes as long. */
    private final String dummy;

    /** @param penaltyMs what a wrong password costs */
    PasswordHashes(long penaltyMs) {
        this.penaltyMs = penaltyMs;
        byte[] never = new byte[SALT_BYTES + HASH_BITS / 8];
        random.nextBytes(never);
        String hex = HexFormat.of().formatHex(never);
        this.dummy = LABEL + ':' + ITERATIONS + ':' + hex.substring(0, 2 * SALT_BYTES) + ':' + hex.substring(2 * SALT_BYTES);
    }

    @Override
    public Verdict verify(char[] password, String hash, Runnable wrong) {
        if (turn.getQueueLength() >= MAX_WAITING) {
            return Verdict.BUSY;
        }
        try {
            turn.acquire();
        } catch (InterruptedException e) {
            Thread.currentThread().interrupt();
            return Verdict.BUSY;
        }
        try {
            if (matches(password, hash == null ? dummy : hash) && hash != null) {
                return Verdict.RIGHT;
            }
            wrong.run();
            TimeUnit.MILLISECONDS.sleep(penaltyMs);
        } catch (InterruptedException e) {
            Thread.currentThread().interrupt();
        } finally {
            turn.release();
        }
        return Verdict.WRONG;
    }

    @Override
    public String hash(char[] password) {
        if (password.length < MIN_PASSWORD || password.length > MAX_PASSWORD) {
            throw new IllegalArgumentException("the password must have " + MIN_PASSWORD + " to " + MAX_PASSWORD + " characters, not " + password.length);
        }
        byte[] salt = new byte[SALT_BYTES];
        random.nextBytes(salt);
        return LABEL + ':' + ITERATIONS + ':' + HexFormat.of().formatHex(salt) + ':' + HexFormat.of().formatHex(derive(password, salt, ITERATIONS));
    }

    @Override
    public char[] random() {
        byte[] bytes = new byte[18];
        random.nextBytes(bytes);
        return Base64.getUrlEncoder().withoutPadding().encodeToString(bytes).toCharArray();
    }

    private static boolean matches(char[] password, String stored) {
        String[] parts = stored.split(":");
        try {
            int iterations = Integer.parseInt(parts[1]);
            return parts.length == 4 && parts[0].equals(LABEL) && password.length <= MAX_PASSWORD && iterations > 0 && iterations <= MAX_ITERATIONS
                    && MessageDigest.isEqual(derive(password, HexFormat.of().parseHex(parts[2]), iterations), HexFormat.of().parseHex(parts[3]));
        } catch (RuntimeException e) {
            return false;
        }
    }

    private static byte[] derive(char[] password, byte[] salt, int iterations) {
        PBEKeySpec spec = new PBEKeySpec(password, salt, iterations, HASH_BITS);
        try {
            return SecretKeyFactory.getInstance(ALGORITHM).generateSecret(spec).getEncoded();
        } catch (GeneralSecurityException e) {
            throw new IllegalStateException(e);
        } finally {
            spec.clearPassword();
        }
    }
}
