// SPDX-License-Identifier: Apache-2.0
package io.caravan.runtime;

/**
 * How far a long piece of work is, told by the work itself; see {@link Tasks#run}. Cheap enough for each row: nothing is allocated.
 * The work calls it on its own threads, others may look at it meanwhile: implementations are thread-safe.
 */
public interface Task {

    /** Of who does not tell anybody: never cancelled. */
    Task NONE = new Task() {
        @Override
        public void total(long total) { }

        @Override
        public void progress(long done) { }

        @Override
        public void check() { }
    };

    /** @param total how many there will be, in the task's unit; 0: nobody knows */
    void total(long total);

    /**
     * Says how many are done, and is a point where the work may end: what is done until here is consistent.
     *
     * @param done in the task's unit, from the beginning
     * @throws TaskCancelledException somebody wants it to end here
     */
    void progress(long done);

    /** A point where the work may end, without news. @throws TaskCancelledException somebody wants it to end here */
    void check();
}
