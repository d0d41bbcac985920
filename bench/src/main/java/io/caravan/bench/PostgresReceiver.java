// SPDX-License-Identifier: Apache-2.0
package io.caravan.bench;

import java.nio.file.Path;
import java.util.function.Consumer;

import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ObjectNode;
import io.caravan.postgres.test.PostgresServer;

/** A PostgreSQL with an empty database for a cloud's store, which flushes as one that is used in earnest. */
final class PostgresReceiver implements Receiver {
    private final PostgresServer server;
    private final PostgresServer.Database database;

    PostgresReceiver() throws Exception {
        server = PostgresServer.start("fsync=on", "synchronous_commit=on", "full_page_writes=on", "max_connections=100");
        database = server.database();
    }

    @Override
    public ObjectNode address() {
        return new ObjectMapper().createObjectNode().put("url", database.url()).put("user", database.user()).put("password", database.password());
    }

    @Override
    public void trouble(Trouble trouble) {
        throw new IllegalArgumentException("postgres cannot be told [" + trouble + "]");
    }

    @Override
    public ObjectNode bare(Path db, int rows) {
        throw new IllegalArgumentException("postgres has no baseline of its own");
    }

    @Override
    public void keys(Consumer<String> each) {
        throw new IllegalArgumentException("postgres is compared by the fleet's oracle");
    }

    @Override
    public void close() throws Exception {
        server.close();
    }
}
