// SPDX-License-Identifier: Apache-2.0
package io.caravan.fuzz;

import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.util.List;

/** Parsers with one mistake each, checked as the product's are: the negative controls of the harness, see HarnessTest. */
public final class Broken {
  private Broken() {}

  /** An exception that nobody declared: takes for granted that something follows the colon. */
  public static final class Exception {
    public static void fuzzerTestOneInput(byte[] input) {
      String text = new String(input, StandardCharsets.ISO_8859_1);
      if (text.startsWith("dev:")) {
        text.charAt(4);
      }
    }
  }

  /** What is read is not what was written: a zero is lost. */
  public static final class RoundTrip {
    public static void fuzzerTestOneInput(byte[] input) {
      String text = new String(input, StandardCharsets.ISO_8859_1);
      if (text.matches("=[0-9]{1,6}")) {
        String again = "=" + Integer.parseInt(text.substring(1));
        Invariant.that(again.equals(text), "written again it is " + again);
      }
    }
  }

  /** Takes for JSON what is none: looks at brackets only. */
  public static final class Reader {
    public static void fuzzerTestOneInput(byte[] input) {
      String text = new String(input, StandardCharsets.ISO_8859_1);
      if (text.startsWith("{") && text.endsWith("}")) {
        try {
          Invariant.STRICT.readTree(text);
        } catch (IOException e) {
          throw new AssertionError("Jackson does not take it", e);
        }
      }
    }
  }

  /** Believes the length that the input claims. */
  public static final class Memory {
    public static void fuzzerTestOneInput(byte[] input) throws java.lang.Exception {
      Invariant.bounded(input.length, 1_000, () -> input.length > 3 && input[0] == 'L' && input[1] == 'E' ? new byte[(input[2] & 0x7F) << 20].length : 0);
    }
  }

  /** Quotes the input as it came. */
  public static final class Message {
    public static void fuzzerTestOneInput(byte[] input) {
      String text = new String(input, StandardCharsets.ISO_8859_1);
      if (text.startsWith("id=")) {
        Invariant.message("id [" + text.substring(3) + "] is unknown", 10_000);
      }
    }
  }

  /** One connection ends the other's. */
  public static final class Neighbour {
    public static void fuzzerTestOneInput(byte[] input) {
      boolean well = !new String(input, StandardCharsets.ISO_8859_1).equals("quit");
      Invariant.same(well, true, "the neighbour is well");
    }
  }

  /** A listener that acknowledges what it does not route: one message, told by its body. */
  public static final class Listener {
    public static void fuzzerTestOneInput(byte[] input) {
      byte[] topic = "devices/d/telemetry".getBytes(StandardCharsets.US_ASCII);
      ByteArrayOutputStream sent = new ByteArrayOutputStream();
      sent.writeBytes(new byte[] {0x10, 13, 0, 4, 'M', 'Q', 'T', 'T', 4, 2, 0, 60, 0, 1, 'd', 0x32, (byte) (4 + topic.length + input.length), 0, (byte) topic.length});
      sent.writeBytes(topic);
      sent.writeBytes(new byte[] {0, 7});
      sent.writeBytes(input);
      String body = new String(input, StandardCharsets.ISO_8859_1);
      Mqtt.judge(sent.toByteArray(), new byte[] {0x20, 2, 0, 0, 0x40, 2, 0, 7}, false, body.equals("lost") ? List.of() : List.of(new Mqtt.Routed("devices/d/telemetry", body)));
    }
  }

  static void run(String target, byte[] input) throws java.lang.Exception {
    switch (target) {
      case "exception" -> Exception.fuzzerTestOneInput(input);
      case "roundTrip" -> RoundTrip.fuzzerTestOneInput(input);
      case "reader" -> Reader.fuzzerTestOneInput(input);
      case "memory" -> Memory.fuzzerTestOneInput(input);
      case "message" -> Message.fuzzerTestOneInput(input);
      case "listener" -> Listener.fuzzerTestOneInput(input);
      case "neighbour" -> Neighbour.fuzzerTestOneInput(input);
      default -> throw new IllegalArgumentException(target);
    }
  }
}
