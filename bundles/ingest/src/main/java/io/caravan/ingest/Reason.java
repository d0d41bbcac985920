// SPDX-License-Identifier: Apache-2.0
package io.caravan.ingest;

import java.util.Locale;

/** Why a message is refused: the closed vocabulary of docs/contract.md section 6, as far as it is found here. */
public enum Reason {
  MALFORMED_JSON,
  MALFORMED_PROTOBUF,
  NOT_UTF8,
  TOO_LARGE,
  TOO_DEEP,
  SCHEMA_VIOLATION,
  UNSUPPORTED_SCHEMA_VERSION,
  DEVICE_ID_MISMATCH,
  BAD_DEVICE_ID,
  BAD_TOPIC,
  UNSUPPORTED_CONTENT_TYPE,
  BAD_SIGNATURE;

  /** As it stands in {@code rejected.reason}, in metrics and in answers. */
  @Override
  public String toString() {
    return name().toLowerCase(Locale.ROOT);
  }
}
