// SPDX-License-Identifier: Apache-2.0
package io.caravan.ingest.internal;

/** Keys ingest.max.bytes, ingest.content.type.default and ingest.dedupe.window.ms at one moment. */
public record Settings(int maxBytes, String contentTypeDefault, long dedupeWindowMs) {}
