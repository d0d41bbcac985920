// SPDX-License-Identifier: Apache-2.0
package io.caravan.runtime;

/** Work ended because somebody wanted it to; the message says how far it was and what to do to go on. */
public final class TaskCancelledException extends RuntimeException {

    private static final long serialVersionUID = 1L;

    public TaskCancelledException(String message) {
        super(message);
    }
}
