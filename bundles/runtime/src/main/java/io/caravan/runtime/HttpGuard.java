// SPDX-License-Identifier: Apache-2.0
package io.caravan.runtime;

/**
 * Looks at requests before their bodies are read. The server asks the bean {@code httpAccess} if it is one.
 *
 * <p>A guard does not answer: the route does, whose first step asks the same bean. So what a route lets in stands in the route,
 * and a route that forgets to ask gets an empty body of what was not admitted.
 */
public interface HttpGuard {

    /** @return paths that begin with this are guarded */
    String prefix();

    /**
     * Asked first, for each request below the prefix, also one that no route takes: sets headers of the answer
     * ({@link HttpCall#answer}). On an event loop: must not block.
     *
     * @return status to answer with at once, without a body (a preflight); 0: go on
     */
    default int arrived(HttpCall call) {
        return 0;
    }

    /**
     * Decides and attaches what it decided to the call. On an event loop: must not block.
     *
     * @return whether the body is read; else it is dropped as it comes in, and the route goes on without
     */
    boolean admit(HttpCall call);
}
