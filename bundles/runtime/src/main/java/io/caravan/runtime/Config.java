// SPDX-License-Identifier: Apache-2.0
package io.caravan.runtime;

import java.nio.file.Path;
import java.util.List;
import java.util.Set;
import java.util.function.Consumer;

/**
 * Typed view of the layered configuration: defaults, then {@code etc/io.caravan.*.cfg}, then environment, then system
 * properties.
 *
 * <p>Every value has been checked against its declaration before it can be read here; each getter reads the snapshot in
 * force at that moment. This class is thread-safe.
 */
public interface Config {

    /**
     * @param key dotted lower case, for example {@code http.port}
     * @return the value as text, a secret included; the empty string where neither a default nor a value is given
     * @throws IllegalArgumentException the key is not declared
     */
    String get(String key);

    /** @return the value of an {@code int} or {@code long} key, in the unit the key ends with */
    long getLong(String key);

    /** @return the value of a {@code bool} key */
    boolean getBoolean(String key);

    /** @return the value of a {@code path} key; relative paths are relative to the container's home folder */
    Path getPath(String key);

    /** @return the comma-separated elements of a {@code list} key, trimmed, without empty ones */
    List<String> getList(String key);

    /**
     * Tells which keys changed, after the new values are in force. A key that takes effect only at the next start
     * ({@code hot: false}) is never among them.
     *
     * @param listener called on one thread, one change at a time; what it throws is logged
     * @return ends the subscription
     */
    AutoCloseable onChange(Consumer<Set<String>> listener);
}
