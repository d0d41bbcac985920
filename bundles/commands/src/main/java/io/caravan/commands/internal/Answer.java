// SPDX-License-Identifier: Apache-2.0
package io.caravan.commands.internal;

/**
 * @param deviceId  who says so
 * @param commandId as sent; may be anything
 * @param status    {@code received}, {@code succeeded}, {@code failed}, {@code rejected}; anything else is counted only
 * @param reason    instead of {@code device_failed}, {@code device_rejected}; null: those
 * @param result    JSON text; null: none
 * @param message   for people; null: none
 */
public record Answer(String deviceId, String commandId, String status, String reason, String result, String message) {}
