// SPDX-License-Identifier: Apache-2.0
package io.caravan.runtime.internal;

/** What runs for long, over JMX. */
public interface TasksMBean {

    /** @return what runs, then what ran last, a line each */
    String[] getTasks();

    /** Asks work to end at its next consistent point. @return how far it is */
    String cancel(String id);
}
