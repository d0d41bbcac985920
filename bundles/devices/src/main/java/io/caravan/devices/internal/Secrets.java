// SPDX-License-Identifier: Apache-2.0
package io.caravan.devices.internal;

import java.nio.charset.StandardCharsets;
import java.security.GeneralSecurityException;
import java.security.MessageDigest;
import java.security.SecureRandom;
import java.util.Base64;
import java.util.HexFormat;
import javax.crypto.Mac;
import javax.crypto.SecretKeyFactory;
import javax.crypto.spec.PBEKeySpec;
import javax.crypto.spec.SecretKeySpec;

/** Makes tokens, and what is kept of them. */
final class Secrets {
  /** So that a token is known for one wherever it turns up. */
  static final String PREFIX = "cvn_";
  static final int TOKEN_BYTES = 32;
  /** Longer than a token is; more is not even hashed. */
  static final int MAX_PRESENTED = 128;
  /** mosquitto's own number for its dynamic security file. The token has 256 bits: there is nothing to slow a guesser down for. */
  static final int BROKER_ITERATIONS = 101;
  private static final int BROKER_SALT_BYTES = 12;
  private static final int BROKER_HASH_BITS = 512;
  private static final byte[] SIGNATURE = "caravan message signature v1".getBytes(StandardCharsets.US_ASCII);
  private static final SecureRandom RANDOM = new SecureRandom();

  /** Compared with where there is no token; nobody knows what it is the hash of. */
  static final byte[] NOBODY = random(32);

  private Secrets() {}

  static String token() {
    return PREFIX + text(random(TOKEN_BYTES));
  }

  static String text(byte[] secret) {
    return Base64.getUrlEncoder().withoutPadding().encodeToString(secret);
  }

  /** @return all that is kept of a token */
  static Credential kept(String token, int number, long nowMs, Long notBeforeMs, Long notAfterMs) {
    byte[] bytes = token.getBytes(StandardCharsets.US_ASCII);
    byte[] salt = random(BROKER_SALT_BYTES);
    try {
      Mac mac = Mac.getInstance("HmacSHA256");
      mac.init(new SecretKeySpec(bytes, "HmacSHA256"));
      PBEKeySpec spec = new PBEKeySpec(token.toCharArray(), salt, BROKER_ITERATIONS, BROKER_HASH_BITS);
      byte[] broker = SecretKeyFactory.getInstance("PBKDF2WithHmacSHA512").generateSecret(spec).getEncoded();
      spec.clearPassword();
      return new Credential(HexFormat.of().formatHex(random(4)), number, hash(bytes), mac.doFinal(SIGNATURE), broker, salt, BROKER_ITERATIONS,
          nowMs, notBeforeMs == null ? 0 : notBeforeMs, notAfterMs, null);
    } catch (GeneralSecurityException e) {
      throw new IllegalStateException("every Java 17 has HMAC and PBKDF2", e);
    }
  }

  static byte[] hash(byte[] token) {
    try {
      return MessageDigest.getInstance("SHA-256").digest(token);
    } catch (GeneralSecurityException e) {
      throw new IllegalStateException("every Java has SHA-256", e);
    }
  }

  private static byte[] random(int bytes) {
    byte[] random = new byte[bytes];
    RANDOM.nextBytes(random);
    return random;
  }
}
