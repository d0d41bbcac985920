// SPDX-License-Identifier: Apache-2.0
package io.caravan.broker.internal;

import java.security.GeneralSecurityException;
import java.security.MessageDigest;
import java.security.SecureRandom;
import java.util.Base64;
import java.util.HexFormat;
import javax.crypto.SecretKeyFactory;
import javax.crypto.spec.PBEKeySpec;

/** PBKDF2-HMAC-SHA512 of a password, as mosquitto keeps it. Arrays are not changed. */
record Secret(byte[] hash, byte[] salt, int iterations) {
  private static final int ITERATIONS = 101;
  private static final int SALT_BYTES = 12;
  private static final int MARK_BYTES = 8;
  private static final SecureRandom RANDOM = new SecureRandom();

  static Secret of(String password) {
    byte[] salt = new byte[SALT_BYTES];
    RANDOM.nextBytes(salt);
    return new Secret(derive(password, salt, ITERATIONS, 64), salt, ITERATIONS);
  }

  boolean matches(String password) {
    return MessageDigest.isEqual(hash, derive(password, salt, iterations, hash.length));
  }

  /** Tells this secret from others and says nothing of the password: where it stands at a user, the broker has this secret. */
  String mark() {
    try {
      MessageDigest digest = MessageDigest.getInstance("SHA-256");
      digest.update(salt);
      return HexFormat.of().formatHex(digest.digest(hash), 0, MARK_BYTES);
    } catch (GeneralSecurityException e) {
      throw new IllegalStateException("every Java 17 has SHA-256", e);
    }
  }

  /** @return a password that nobody is told */
  static String random() {
    byte[] bytes = new byte[32];
    RANDOM.nextBytes(bytes);
    return Base64.getUrlEncoder().withoutPadding().encodeToString(bytes);
  }

  private static byte[] derive(String password, byte[] salt, int iterations, int bytes) {
    PBEKeySpec spec = new PBEKeySpec(password.toCharArray(), salt, iterations, bytes * 8);
    try {
      return SecretKeyFactory.getInstance("PBKDF2WithHmacSHA512").generateSecret(spec).getEncoded();
    } catch (GeneralSecurityException e) {
      throw new IllegalStateException("every Java 17 has PBKDF2WithHmacSHA512", e);
    } finally {
      spec.clearPassword();
    }
  }

  @Override
  public String toString() {
    return "Secret[" + mark() + "]";
  }
}
