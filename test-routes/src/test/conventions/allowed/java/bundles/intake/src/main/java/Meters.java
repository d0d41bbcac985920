// SPDX-License-Identifier: Apache-2.0
package io.caravan.intake;

import io.micrometer.core.instrument.Counter;

class Meters {
  static final String MALFORMED = "malformed_json";
  Counter kept = Counter.builder("caravan.intake.kept.bytes").tag("device", "durable").register(null);
}
// lint: allow metric-tag - one device per gateway here
