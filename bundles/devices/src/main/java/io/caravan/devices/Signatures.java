// SPDX-License-Identifier: Apache-2.0
package io.caravan.devices;

import io.caravan.ingest.Ingest;
import io.caravan.ingest.Reason;
import io.caravan.ingest.Received;
import io.caravan.ingest.RejectedException;
import java.nio.charset.StandardCharsets;
import java.security.GeneralSecurityException;
import java.security.MessageDigest;
import java.util.HexFormat;
import java.util.List;
import java.util.Optional;
import java.util.function.LongSupplier;
import javax.crypto.Mac;
import javax.crypto.spec.SecretKeySpec;
import org.apache.camel.Exchange;

/**
 * Bean {@code signatures}: whether a message is from whom its topic says, unchanged, and not replayed (docs/contract.md
 * section 3). A credential says that of a connection only, and behind a broker or a proxy the connection is another's.
 *
 * <p>Java, because the comparison must take the same time wherever two signatures differ, which no language of Camel
 * promises. Thread-safe; never blocks.
 */
public final class Signatures {
  private static final String HEADER = "CaravanSignature";
  private static final String VERSION = "v1=";
  private static final String ALGORITHM = "HmacSHA256";
  private static final int HEX_DIGITS = 64;
  private static final HexFormat HEX = HexFormat.of();

  private final Devices devices;
  private final LongSupplier window;

  /** @param window key device.signature.window: how many numbers a signed message may be behind the newest of its boot */
  public Signatures(Devices devices, LongSupplier window) {
    this.devices = devices;
    this.window = window;
  }

  /**
   * Step between {@code ingest.parse} and {@code ingest.enrich}: does what the device's policy asks. A signature that holds
   * is noted in the message, and the log then refuses it as {@code replayed} if it is too old.
   *
   * @throws RejectedException     {@code bad_signature}: missing though required, malformed, wrong, or of a message without a
   *     number, which could be replayed
   * @throws IllegalStateException {@code ingest.parse} has not been called
   */
  public void verify(Exchange exchange) throws RejectedException {
    Received message = Ingest.received(exchange);
    Optional<Devices.SigningPolicy> policy = devices.signingPolicy(message.deviceId());
    Devices.Signing signing;
    List<byte[]> keys;
    if (policy.isPresent()) {
      signing = policy.get().signing();
      keys = policy.get().keys();
    } else {
      // Revoked, perhaps while the message waited in a broker: what had to be signed must not get through unsigned now.
      signing = devices.find(message.deviceId()).map(Devices.Device::signing).orElse(Devices.Signing.OFF);
      keys = List.of();
    }
    if (signing == Devices.Signing.OFF) {
      return;
    }
    Object header = exchange.getMessage().getHeader(HEADER);
    String given = header == null ? "" : header.toString();
    if (given.isEmpty()) {
      if (signing == Devices.Signing.REQUIRE) {
        throw refused("message of device [" + message.deviceId() + "] has no signature, which its policy requires: send HTTP header"
            + " Caravan-Signature, or MQTT 5 user property caravan-signature");
      }
      return;
    }
    byte[] signature = parse(given);
    if (message.bootId() == null) {
      throw refused("signed message of device [" + message.deviceId() + "] must have boot_id and device_seq: without them it could be"
          + " replayed");
    }
    boolean holds = false;
    for (byte[] key : keys) {
      // All keys are tried: which one it was is nobody's business.
      holds |= MessageDigest.isEqual(signature, hmac(key, message.topic(), message.bootId(), message.deviceSeq(), message.payload()));
    }
    if (!holds) {
      throw refused("signature is not the one of topic [" + message.topic() + "], boot_id [" + message.bootId() + "], device_seq ["
          + message.deviceSeq() + "] and the payload of " + message.payload().length + " bytes under a valid key of the device");
    }
    message.signed(window.getAsLong());
  }

  /**
   * What a device sends with a message: HTTP header {@code Caravan-Signature}, MQTT 5 user property {@code caravan-signature}.
   *
   * @param key     32 bytes, {@link Devices.Enrolment#signingKey} without its base64url
   * @param payload as it is sent
   */
  public static String sign(byte[] key, String topic, String bootId, long deviceSeq, byte[] payload) {
    return VERSION + HEX.formatHex(hmac(key, topic, bootId, deviceSeq, payload));
  }

  /** The parts cannot run into each other: topic and boot id have no line feed by their rules, the number has digits only. */
  private static byte[] hmac(byte[] key, String topic, String bootId, long deviceSeq, byte[] payload) {
    try {
      Mac mac = Mac.getInstance(ALGORITHM);
      mac.init(new SecretKeySpec(key, ALGORITHM));
      mac.update((topic + '\n' + bootId + '\n' + deviceSeq + '\n').getBytes(StandardCharsets.UTF_8));
      return mac.doFinal(payload);
    } catch (GeneralSecurityException e) {
      throw new IllegalStateException("every Java has " + ALGORITHM, e);
    }
  }

  private static byte[] parse(String given) throws RejectedException {
    if (given.length() == VERSION.length() + HEX_DIGITS && given.startsWith(VERSION)) {
      try {
        return HEX.parseHex(given, VERSION.length(), given.length());
      } catch (IllegalArgumentException e) {
        // Said below.
      }
    }
    throw refused("signature of " + given.length() + " characters must be [v1=] and " + HEX_DIGITS + " hexadecimal digits, once");
  }

  private static RejectedException refused(String why) {
    return new RejectedException(Reason.BAD_SIGNATURE, null, why);
  }
}
