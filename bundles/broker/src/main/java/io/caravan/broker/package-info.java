// SPDX-License-Identifier: Apache-2.0
/** Drives a mosquitto broker, and the firewall before it, from the registry of devices. */
package io.caravan.broker;
