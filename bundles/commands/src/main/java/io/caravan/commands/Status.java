// SPDX-License-Identifier: Apache-2.0
package io.caravan.commands;

/**
 * How far a command is. It advances on evidence only, and every change is durable before anybody is told.
 *
 * <p>{@code ACCEPTED -> QUEUED -> SENT -> DELIVERED -> SUCCEEDED | FAILED}; also REJECTED, EXPIRED, CANCELLED, INDETERMINATE. The
 * last six are final, with one exception: evidence that comes later than expected turns INDETERMINATE into SUCCEEDED or
 * FAILED.
 */
public enum Status {
  /** Kept on disk by who was asked; nothing is checked yet. */
  ACCEPTED,
  /** The gateway has it on disk and has checked it; it waits for the device or its turn. */
  QUEUED,
  /** It left for the device: the socket, or the broker, took it. */
  SENT,
  /** The device has it: its own PUBACK at the gateway's listener, or its answer "received". */
  DELIVERED,
  /** The device said so. */
  SUCCEEDED,
  /** The device said so, or that it will not do it. */
  FAILED,
  /** Against a rule, named in the reason; it was never sent. */
  REJECTED,
  /** Its time was over before it was sent; it never will be. */
  EXPIRED,
  /** Taken back before it was sent; it never will be. */
  CANCELLED,
  /** It may have been carried out or not: there is no evidence. Look at the device. */
  INDETERMINATE;

  /** @return whether nothing more is to be expected (INDETERMINATE: but late evidence counts) */
  public boolean isFinal() {
    return ordinal() >= SUCCEEDED.ordinal();
  }
}
