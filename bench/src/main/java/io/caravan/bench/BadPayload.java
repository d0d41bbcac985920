// SPDX-License-Identifier: Apache-2.0
package io.caravan.bench;

import java.nio.charset.StandardCharsets;

/** What a broken device sends, and the reason (docs/contract.md section 6) the gateway must keep it under. */
record BadPayload(String reason, byte[] body) {

    static final int KINDS = 8;

    /**
     * @param which 0 to KINDS - 1
     * @param n makes the body unlike any other, so that the oracle can find it again
     */
    static BadPayload of(int which, String deviceId, long n) {
        String head = "{\"schema_version\":1,\"device_id\":\"" + deviceId + "\",\"metrics\":{\"n\":" + n;
        return switch (which) {
            case 0 -> new BadPayload("malformed_json", ascii(head + ",\"temperature_c\":21.")); // cut off by a reset
            case 1 -> new BadPayload("malformed_json", ascii(head + ",\"temperature_c\":NaN}}"));
            case 2 -> new BadPayload("schema_violation", ascii(head + ",\"temperature_c\":\"21.5\"}}"));
            case 3 -> new BadPayload("schema_violation", ascii(head + "},\"devise_seq\":" + n + "}"));
            case 4 -> new BadPayload("schema_violation", ascii("{\"schema_version\":1,\"boot_id\":\"bad" + n + "\",\"device_seq\":1}"));
            case 5 -> new BadPayload("unsupported_schema_version", ascii("{\"schema_version\":2,\"metrics\":{\"n\":" + n + "}}"));
            case 6 -> new BadPayload("device_id_mismatch", ascii("{\"schema_version\":1,\"device_id\":\"someone-else\",\"metrics\":{\"n\":" + n + "}}"));
            default -> {
                byte[] body = ascii(head + "},\"boot_id\":\"??\"}");
                body[body.length - 4] = (byte) 0xFF;
                body[body.length - 3] = (byte) 0xC3;   // the first half of a two-byte character
                yield new BadPayload("not_utf8", body);
            }
        };
    }

    private static byte[] ascii(String text) {
        return text.getBytes(StandardCharsets.US_ASCII);
    }
}
