// SPDX-License-Identifier: Apache-2.0
package io.caravan.model;

/**
 * Time as a run wants it: what really passes, the monotonic clock, which begins anew with each boot of the machine, and the
 * wall clock, which anybody may set. Thread-safe.
 */
final class SimTime {
  /** 2026-11-21; far from both ends of what is plausible. */
  private static final long WALL = 1_795_255_200_000L;
  private static final long UPTIME_MS = 3_600_000;

  private long trueMs;
  private long bootedAt = -UPTIME_MS;
  private int boot = 1;
  private long wallOffset = WALL;

  /** What really passed since the run began, milliseconds. */
  synchronized long now() {
    return trueMs;
  }

  synchronized long monoMs() {
    return trueMs - bootedAt;
  }

  synchronized long wallMs() {
    return trueMs + wallOffset;
  }

  /** The cloud's wall clock is somebody else's business, and right. */
  synchronized long cloudMs() {
    return trueMs + WALL;
  }

  synchronized String bootId() {
    return "boot-" + boot;
  }

  synchronized void pass(long ms) {
    trueMs += ms;
  }

  /** Somebody sets the wall clock. */
  synchronized void jump(long ms) {
    wallOffset += ms;
  }

  /** The machine starts anew: its monotonic clock counts from there. */
  synchronized void reboot(long tookMs) {
    trueMs += tookMs;
    bootedAt = trueMs - 1_000;
    boot++;
  }
}
