// SPDX-License-Identifier: Apache-2.0
package io.caravan.bench;

import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.Callable;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicLong;
import java.util.concurrent.atomic.AtomicReference;

import com.fasterxml.jackson.databind.ObjectMapper;
import org.HdrHistogram.ConcurrentHistogram;
import org.HdrHistogram.Histogram;
import picocli.CommandLine.Command;
import picocli.CommandLine.Option;

/** Reads over HTTP, some at a time, each connection one request after the other. */
@Command(name = "get", mixinStandardHelpOptions = true, sortOptions = false,
        description = "GETs an address again and again; {n} in it becomes a number. Prints rate and latencies. Exit 1 when an answer is not 200.")
final class Get implements Callable<Integer> {
    @Option(names = "--url", required = true, description = "the address; {n}: a number from 1 to --numbers, another one each time")
    String url;

    @Option(names = "--numbers", defaultValue = "1", description = "(${DEFAULT-VALUE})")
    int numbers;

    @Option(names = "--connections", defaultValue = "4", description = "requests at a time (${DEFAULT-VALUE})")
    int connections;

    @Option(names = "--warmup", defaultValue = "3s", description = "not measured (${DEFAULT-VALUE})")
    Duration warmup;

    @Option(names = "--seconds", defaultValue = "10s", description = "measure this long (${DEFAULT-VALUE})")
    Duration seconds;

    @Override
    public Integer call() throws Exception {
        HttpClient client = HttpClient.newBuilder().version(HttpClient.Version.HTTP_1_1).build();
        Histogram nanos = new ConcurrentHistogram(TimeUnit.MINUTES.toNanos(5), 3);
        AtomicReference<String> wrong = new AtomicReference<>();
        AtomicLong bytes = new AtomicLong();
        long from = System.nanoTime() + warmup.toNanos();
        long until = from + seconds.toNanos();
        List<Thread> threads = new ArrayList<>();
        for (int i = 0; i < connections; i++) {
            int first = i;
            Thread thread = new Thread(() -> {
                // A prime apart, so that no two ask for the same one after the other.
                for (long n = first * 7_919L; System.nanoTime() < until && wrong.get() == null; n += 104_729) {
                    URI uri = URI.create(url.replace("{n}", Long.toString(1 + n % numbers)));
                    try {
                        long begun = System.nanoTime();
                        HttpResponse<byte[]> answer = client.send(HttpRequest.newBuilder(uri).timeout(Duration.ofSeconds(60)).build(), HttpResponse.BodyHandlers.ofByteArray());
                        if (answer.statusCode() != 200) {
                            wrong.compareAndSet(null, uri + " was answered " + answer.statusCode() + " " + new String(answer.body()));
                        } else if (begun >= from) {
                            nanos.recordValue(System.nanoTime() - begun);
                            bytes.addAndGet(answer.body().length);
                        }
                    } catch (Exception e) {
                        wrong.compareAndSet(null, uri + ": " + e);
                    }
                }
            });
            thread.start();
            threads.add(thread);
        }
        for (Thread thread : threads) {
            thread.join();
        }
        if (wrong.get() != null) {
            System.err.println(wrong.get());
            return 1;
        }
        long count = nanos.getTotalCount();
        System.out.println(new ObjectMapper().createObjectNode().put("requests", count).put("rate", Math.round(count / (seconds.toMillis() / 1e3)))
                .put("bytes_each", count == 0 ? 0 : bytes.get() / count).put("p50_ms", ms(nanos, 50)).put("p99_ms", ms(nanos, 99)).put("max_ms", ms(nanos, 100)));
        return count > 0 ? 0 : 1;
    }

    private static double ms(Histogram h, double percentile) {
        return Math.round(h.getValueAtPercentile(percentile) / 1e3) / 1e3;
    }
}
