// SPDX-License-Identifier: Apache-2.0
package io.caravan.commands;

import java.util.List;
import java.util.Optional;
import java.util.concurrent.CompletionStage;

/**
 * Bean {@code twins}: desired and reported state of devices. Durable when a stage completes; thread-safe.
 */
public interface Twins {

  /**
   * JSON objects; versions count up by one with each change, 0: never set.
   *
   * @param delta what is desired and not, or otherwise, reported; {} when they agree
   */
  record Twin(String deviceId, String desired, long desiredVersion, Long desiredAtMs, String reported, long reportedVersion,
      Long reportedAtMs, String delta) {}

  /** @return empty: neither desired nor reported anything yet */
  Optional<Twin> find(String deviceId);

  List<Twin> list();

  /**
   * Changes what is desired, and tells the device as soon as it is there.
   *
   * @param patch    JSON merge patch (RFC 7396); null members remove
   * @param expected only if the desired version is that; null: any
   * @throws IllegalArgumentException (in the stage) no object, too large, unknown device; IllegalStateException: another version
   */
  CompletionStage<Twin> desire(String deviceId, String patch, Long expected, String by);
}
