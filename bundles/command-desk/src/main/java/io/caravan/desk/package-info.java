// SPDX-License-Identifier: Apache-2.0
/** Commands in the cloud. */
package io.caravan.desk;
