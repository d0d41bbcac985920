// SPDX-License-Identifier: Apache-2.0
/** The cloud mirror's store in PostgreSQL. */
package io.caravan.postgres;
