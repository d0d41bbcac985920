// SPDX-License-Identifier: Apache-2.0
package io.caravan.accounts.internal;

import java.nio.charset.StandardCharsets;
import java.security.MessageDigest;
import java.security.NoSuchAlgorithmException;
import java.security.SecureRandom;
import java.util.Base64;
import java.util.HexFormat;

/** Secrets that nobody can guess, of which only the hash is kept: 256 random bits need no slow one. */
final class Secrets {
  static final String TOKEN_PREFIX = "cvt_";
  private static final SecureRandom RANDOM = new SecureRandom();

  private Secrets() {}

  /** @return 43 characters of base64url */
  static String random() {
    byte[] bytes = new byte[32];
    RANDOM.nextBytes(bytes);
    return Base64.getUrlEncoder().withoutPadding().encodeToString(bytes);
  }

  /** @return SHA-256, hex */
  static String hash(String secret) {
    return HexFormat.of().formatHex(sha256(secret));
  }

  /** @return SHA-256, base64url: the challenge of RFC 7636 */
  static String challenge(String verifier) {
    return Base64.getUrlEncoder().withoutPadding().encodeToString(sha256(verifier));
  }

  private static byte[] sha256(String text) {
    try {
      return MessageDigest.getInstance("SHA-256").digest(text.getBytes(StandardCharsets.UTF_8));
    } catch (NoSuchAlgorithmException e) {
      throw new IllegalStateException(e);
    }
  }
}
