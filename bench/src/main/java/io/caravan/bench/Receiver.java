// SPDX-License-Identifier: Apache-2.0
package io.caravan.bench;

import java.nio.file.Path;
import java.util.function.Consumer;

import com.fasterxml.jackson.databind.node.ObjectNode;

/** The far end of a sink: a real server. Used by one thread. */
interface Receiver extends AutoCloseable {
    /** What can be wrong with it: takes connections and never answers, answers a second late, is not there. */
    enum Trouble { NONE, HANG, SLOW, DEAD }

    /** @return how a gateway reaches it, and {@code pid} of its process */
    ObjectNode address() throws Exception;

    void trouble(Trouble trouble) throws Exception;

    /**
     * What the same server takes without a gateway: the records of the log as a sink sends them, from memory.
     *
     * @param rows at least so many
     * @return {@code rows}, {@code seconds}, {@code rate}
     */
    ObjectNode bare(Path db, int rows) throws Exception;

    /** Calls for each record that is there. */
    void keys(Consumer<String> each) throws Exception;
}
