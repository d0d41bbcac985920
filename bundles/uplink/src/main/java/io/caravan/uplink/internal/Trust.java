// SPDX-License-Identifier: Apache-2.0
package io.caravan.uplink.internal;

import io.caravan.uplink.internal.GatewaysFile.Decision;
import io.caravan.uplink.internal.GatewaysFile.Entry;
import io.caravan.uplink.internal.GatewaysFile.Shown;
import java.io.IOException;
import java.time.Instant;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.function.UnaryOperator;

/**
 * Who may connect, out of the file and the store. A gateway that the store has is the store's; what the file says of it counts only
 * if it says {@code revoked}. A decision reads neither disk nor store. This class is thread-safe.
 */
public final class Trust {

    private final GatewaysFile file;
    private final GatewaysTable table;

    /** @param table null: there is only the file */
    public Trust(GatewaysFile file, GatewaysTable table) {
        this.file = file;
        this.table = table;
    }

    public GatewaysFile file() {
        return file;
    }

    public boolean hasTable() {
        return table != null;
    }

    /** @throws IllegalStateException there is only the file */
    public GatewaysTable table() {
        if (table == null) {
            throw new IllegalStateException("the registry of gateways is the file (uplink.registry = file): enrolment tokens and import need it in the"
                + " store; set uplink.registry = store and start the cloud again");
        }
        return table;
    }

    /** @return whether the gateway is in the store, and so the same for all replicas */
    public boolean stored(String id) {
        return table != null && table.entries().containsKey(id);
    }

    public Map<String, Entry> entries() {
        Map<String, Entry> all = new HashMap<>(file.entries());
        if (table != null) {
            table.entries().keySet().forEach(id -> all.put(id, entry(id)));
        }
        return all;
    }

    private Entry entry(String id) {
        Entry filed = file.entries().get(id);
        Entry stored = table == null ? null : table.entries().get(id);
        return stored == null ? filed : filed == null || !filed.revoked() || stored.revoked() ? stored
            : new Entry(id, stored.tokens(), stored.certificate(), true, stored.note(), null);
    }

    /** @return what is wrong with file and store now, one sentence each */
    public List<String> problems() {
        List<String> all = new ArrayList<>(file.problems());
        if (table != null && table.problem() != null) {
            all.add(table.problem());
        }
        return all;
    }

    /** Decides whether who shows this may be that gateway. */
    public Decision decide(String id, Shown shown) {
        return GatewaysFile.decide(id, entry(id), file.isDenied(id), shown, Instant.now());
    }

    /**
     * Changes one gateway where it is kept; a new one is kept in the store, if there is one. On disk, or committed, when it returns.
     *
     * @param edit as of {@link GatewaysFile#edit}
     */
    public Entry edit(String id, UnaryOperator<Entry> edit) throws IOException {
        if (table == null || !stored(id) && file.entries().containsKey(id)) {
            return file.edit(id, edit);
        }
        Entry made = table.edit(id, edit);
        if (file.entries().containsKey(id)) {
            // It would come into force when the store's is removed.
            file.edit(id, old -> null);
        }
        return made;
    }
}
