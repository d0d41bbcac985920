// SPDX-License-Identifier: Apache-2.0
package io.caravan.runtime;

/**
 * Body of an answer that goes on: a route that answers with it sends status and headers, and is done; the feed sends the rest,
 * for as long as it likes, without holding a thread.
 */
public interface HttpFeed {

    /** Called once, when status and headers have been written, on an event loop: must not block. */
    void open(HttpStream stream);
}
