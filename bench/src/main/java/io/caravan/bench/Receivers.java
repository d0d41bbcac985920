// SPDX-License-Identifier: Apache-2.0
package io.caravan.bench;

import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.concurrent.Callable;

import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ObjectNode;
import picocli.CommandLine.Command;
import picocli.CommandLine.Option;

/**
 * Holds the servers that sinks deliver to for as long as its standard input is open. A line in is a request, a line out its
 * answer: JSON, with {@code error} when it failed.
 */
@Command(name = "receivers", mixinStandardHelpOptions = true, sortOptions = false,
        description = "Real servers for sinks, told what to do by lines on stdin: '(kafka|s3|https|postgres) start', '... none|hang|slow|dead',"
                + " '... bare DB ROWS', '... check DB', 'file check DB FOLDER'. They end with it.")
final class Receivers implements Callable<Integer> {
    @Option(names = "--dir", required = true, description = "folder for what the servers store, on the disk to measure")
    Path dir;

    private final Map<String, Receiver> started = new LinkedHashMap<>();

    @Override
    public Integer call() throws Exception {
        BufferedReader in = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        try {
            for (String line = in.readLine(); line != null; line = in.readLine()) {
                ObjectNode answer;
                try {
                    answer = answer(List.of(line.trim().split(" ")));
                } catch (Exception e) {
                    answer = new ObjectMapper().createObjectNode().put("error", "[" + line + "]: " + e);
                }
                System.out.println(answer);
            }
        } finally {
            for (Receiver receiver : started.values()) {
                receiver.close();
            }
        }
        return 0;
    }

    private ObjectNode answer(List<String> words) throws Exception {
        String name = words.get(0);
        switch (words.get(1)) {
            case "start" -> {
                Receiver receiver = start(name);
                started.put(name, receiver);
                return receiver.address();
            }
            case "bare" -> {
                return started.get(name).bare(Path.of(words.get(2)), Integer.parseInt(words.get(3)));
            }
            case "check" -> {
                KeySet arrived = new KeySet();
                if (name.equals("file")) {
                    FileRows.keys(Path.of(words.get(3)), arrived::add);
                } else {
                    started.get(name).keys(arrived::add);
                }
                return arrived.compare(Path.of(words.get(2)));
            }
            default -> {
                Receiver receiver = started.get(name);
                receiver.trouble(Receiver.Trouble.valueOf(words.get(1).toUpperCase(Locale.ROOT)));
                return receiver.address();
            }
        }
    }

    private Receiver start(String name) throws Exception {
        return switch (name) {
            case "kafka" -> new KafkaReceiver(dir.resolve(name));
            case "s3" -> new S3Receiver(dir.resolve(name));
            case "https" -> new HttpsReceiver();
            case "postgres" -> new PostgresReceiver();
            default -> throw new IllegalArgumentException("receiver [" + name + "] is none of kafka, s3, https, postgres");
        };
    }
}
