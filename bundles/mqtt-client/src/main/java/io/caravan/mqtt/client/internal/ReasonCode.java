// SPDX-License-Identifier: Apache-2.0
package io.caravan.mqtt.client.internal;

import io.caravan.wal.SinkException;
import io.caravan.wal.SinkException.Kind;
import java.io.EOFException;
import java.io.IOException;
import java.net.SocketTimeoutException;
import java.security.GeneralSecurityException;
import java.util.Map;
import java.util.regex.Pattern;
import javax.net.ssl.SSLException;
import org.eclipse.paho.mqttv5.client.MqttClientException;
import org.eclipse.paho.mqttv5.common.MqttException;

/** What a broker's answer, or the lack of one, means for a sink (MQTT 5.0 sections 3.2.2.2, 3.4.2.1 and 3.14.2.1). */
public final class ReasonCode {
  public static final int UNSPECIFIED = 0x80;
  public static final int NOT_AUTHORIZED = 0x87;
  public static final int PACKET_TOO_LARGE = 0x95;
  public static final int QUOTA_EXCEEDED = 0x97;
  private static final int PACKET_ID_IN_USE = 0x91;

  private static final Map<Integer, String> TEXTS = Map.ofEntries(Map.entry(0x80, "unspecified error"),
      Map.entry(0x83, "implementation specific error"), Map.entry(0x84, "unsupported protocol version"),
      Map.entry(0x85, "client identifier not valid"), Map.entry(0x86, "bad user name or password"),
      Map.entry(0x87, "not authorized"), Map.entry(0x88, "server unavailable"), Map.entry(0x89, "server busy"),
      Map.entry(0x8A, "banned"), Map.entry(0x8B, "server shutting down"), Map.entry(0x8C, "bad authentication method"),
      Map.entry(0x8D, "keep alive timeout"), Map.entry(0x8E, "session taken over"), Map.entry(0x90, "topic name invalid"),
      Map.entry(0x91, "packet identifier in use"), Map.entry(0x93, "receive maximum exceeded"),
      Map.entry(0x95, "packet too large"), Map.entry(0x96, "message rate too high"), Map.entry(0x97, "quota exceeded"),
      Map.entry(0x98, "administrative action"), Map.entry(0x99, "payload format invalid"),
      Map.entry(0x9B, "QoS not supported"), Map.entry(0x9C, "use another server"), Map.entry(0x9D, "server moved"),
      Map.entry(0x9F, "connection rate exceeded"));
  /** A TLS peer that does not want our certificate, or wants one. */
  private static final Pattern ALERT = Pattern.compile(
      ".*(bad_certificate|certificate_\\w+|unsupported_certificate|unknown_ca|access_denied).*");

  private ReasonCode() {}

  /** @return the code and its name in the standard, in brackets */
  public static String text(int code) {
    return "[0x" + Integer.toHexString(code) + " " + TEXTS.getOrDefault(code, "unknown reason") + "]";
  }

  /** @return whether a PUBACK with this code says: not now */
  public static boolean later(int pubAck) {
    return pubAck == QUOTA_EXCEEDED || pubAck == PACKET_ID_IN_USE;
  }

  /** What a CONNACK or DISCONNECT of the broker means. */
  static SinkException ofConnection(int code, String url, String clientId, Throwable cause) {
    String said = "the broker " + url + " said " + text(code);
    return switch (code) {
      case 0x86, NOT_AUTHORIZED, 0x8A, 0x8C -> failure(Kind.CONFIGURATION, "unauthorized", said
          + ": correct user, password or certificate, or the broker's access list", cause);
      case 0x84, 0x85, 0x9B, 0x9C, 0x9D -> failure(Kind.CONFIGURATION, "misconfigured", said
          + ": correct its address or the client id [" + clientId + "]", cause);
      case 0x8E -> failure(Kind.CONFIGURATION, "misconfigured", said + ": another client uses the client id [" + clientId
          + "], give each its own", cause);
      case PACKET_TOO_LARGE, 0x99 -> failure(Kind.RECORD, code == PACKET_TOO_LARGE ? "too_large" : "refused", said, cause);
      case 0x96, QUOTA_EXCEEDED, 0x9F -> failure(Kind.TRANSIENT, "throttled", said, cause);
      case 0x8D -> failure(Kind.TRANSIENT, "timeout", said, cause);
      case 0x88, 0x89, 0x8B, 0x98 -> failure(Kind.TRANSIENT, "unavailable", said, cause);
      default -> failure(Kind.TRANSIENT, "server_error", said, cause);
    };
  }

  /** What an exception of Paho means. */
  public static SinkException of(Throwable error, String url, String clientId) {
    for (Throwable cause = error; cause != null; cause = cause.getCause() == cause ? null : cause.getCause()) {
      if (cause instanceof SinkException known) {
        return known;
      }
      // Paho has own codes below 0x80 and above 32000, and the broker's in the same field.
      if (cause instanceof MqttException e && e.getReasonCode() >= 0x80 && e.getReasonCode() <= 0xA2) {
        return ofConnection(e.getReasonCode(), url, clientId, error);
      }
      if (cause instanceof GeneralSecurityException
          || cause instanceof SSLException && ALERT.matcher(String.valueOf(cause.getMessage())).matches()) {
        return failure(Kind.CONFIGURATION, "misconfigured", "TLS with the broker " + url + " failed: " + root(error)
            + "; check ca.file, cert.file, key.file, and the name in the broker's certificate", error);
      }
    }
    Throwable root = rootCause(error);
    boolean late = root instanceof SocketTimeoutException
        || root instanceof MqttException e && e.getReasonCode() == MqttClientException.REASON_CODE_CLIENT_TIMEOUT;
    boolean line = root instanceof IOException || root instanceof MqttException;
    return failure(Kind.TRANSIENT, late ? "timeout" : line ? "unavailable" : "error",
        "no connection to the broker " + url + ": " + (root instanceof EOFException ? "it closed the connection" : root(error)), error);
  }

  private static String root(Throwable error) {
    Throwable root = rootCause(error);
    String name = root instanceof MqttException ? "" : root.getClass().getSimpleName() + ": ";
    return name + root.getMessage();
  }

  private static Throwable rootCause(Throwable error) {
    Throwable root = error;
    while (root.getCause() != null && root.getCause() != root) {
      root = root.getCause();
    }
    return root;
  }

  public static SinkException failure(Kind kind, String reason, String message, Throwable cause) {
    return new SinkException(kind, reason, message, 0, cause);
  }
}
