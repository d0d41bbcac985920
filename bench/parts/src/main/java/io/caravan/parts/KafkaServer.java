// SPDX-License-Identifier: Apache-2.0
package io.caravan.parts;

import java.nio.file.Files;
import java.nio.file.Path;
import kafka.Kafka;
import kafka.tools.StorageTool;

/** What {@link KafkaPart} runs in the server's JVM: formats the folder the first time, then is the broker. */
final class KafkaServer {
    private KafkaServer() {
    }

    /** @param args cluster id, server.properties, folder with the data */
    public static void main(String[] args) throws Exception {
        if (!Files.exists(Path.of(args[2], "meta.properties"))) {
            int code = StorageTool.execute(new String[] {"format", "-t", args[0], "-c", args[1]}, System.out);
            if (code != 0) {
                System.exit(code);
            }
        }
        Kafka.main(new String[] {args[1]});
    }
}
