// SPDX-License-Identifier: Apache-2.0
package io.caravan.intake;

import io.micrometer.core.instrument.Counter;

class Meters {
  static final String MALFORMED = "malformed_json";
  Counter kept = Counter.builder("caravan.kept").tag("outcome", "durable").register(null);
}
