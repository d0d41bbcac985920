// SPDX-License-Identifier: Apache-2.0
package io.caravan.runtime;

/**
 * Variable {@code grant} of a request that a route has let in: what its caller may see, for answers that go on. Both answers follow
 * changes of accounts, tokens and sites within seconds. Thread-safe; answers from memory, and at most every few seconds from the store.
 */
public interface Grant {

    /** @return false: the caller's credential is not good any more, or lost the role; end the answer */
    boolean valid();

    /** @return whether the caller may see what is of that gateway */
    boolean sees(String gatewayId);
}
