// SPDX-License-Identifier: Apache-2.0
/** Who may send: the registry of devices, their tokens, and every decision about a connection, a request, a signature. */
package io.caravan.devices;
