// SPDX-License-Identifier: Apache-2.0
/** Real servers as test parts: each starts on free ports, answers before its constructor returns, and can be killed, paused and restarted. */
package io.caravan.parts;
