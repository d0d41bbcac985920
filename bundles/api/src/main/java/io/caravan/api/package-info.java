// SPDX-License-Identifier: Apache-2.0
/** The cloud's HTTP API. */
package io.caravan.api;
