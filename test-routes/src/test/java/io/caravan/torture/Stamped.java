// SPDX-License-Identifier: Apache-2.0
package io.caravan.torture;

import com.hivemq.client.mqtt.datatypes.MqttQos;
import com.hivemq.client.mqtt.mqtt5.Mqtt5AsyncClient;
import com.hivemq.client.mqtt.mqtt5.Mqtt5Client;
import com.hivemq.client.mqtt.mqtt5.message.publish.Mqtt5Publish;
import io.caravan.wal.Record;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.ConcurrentLinkedQueue;
import java.util.concurrent.Semaphore;
import java.util.concurrent.TimeUnit;

/** Devices that note when they were promised what, by the clock that the recorder uses too. Thread-safe. */
final class Stamped implements AutoCloseable {
  private static final int WINDOW = 100;
  private static final int WAIT_S = 30;

  /** @param stamp System.nanoTime() after the acknowledgement was there */
  record Ack(long stamp, String key) { }

  private final ConcurrentLinkedQueue<Ack> acks = new ConcurrentLinkedQueue<>();
  private final List<Mqtt5AsyncClient> clients = new ArrayList<>();
  private final List<Thread> threads = new ArrayList<>();
  private final java.util.concurrent.atomic.AtomicInteger count = new java.util.concurrent.atomic.AtomicInteger();
  private volatile boolean ended;

  Stamped(int port, int devices) throws Exception {
    for (int i = 0; i < devices; i++) {
      String device = "stamped-" + i;
      Mqtt5AsyncClient client = Mqtt5Client.builder().identifier(device).serverHost("127.0.0.1").serverPort(port).buildAsync();
      client.connectWith().cleanStart(true).send().get(WAIT_S, TimeUnit.SECONDS);
      clients.add(client);
      Thread thread = new Thread(() -> run(client, device), device);
      thread.setDaemon(true);
      threads.add(thread);
    }
    threads.forEach(Thread::start);
  }

  private void run(Mqtt5AsyncClient client, String device) {
    Semaphore window = new Semaphore(WINDOW);
    try {
      for (long seq = 1; !ended; seq++) {
        window.acquire();
        String key = Record.numberedKey(device, "b1", seq);
        String json = "{\"schema_version\":1,\"boot_id\":\"b1\",\"device_seq\":" + seq + ",\"metrics\":{\"t\":" + seq + "}}";
        client.publish(Mqtt5Publish.builder().topic("devices/" + device + "/telemetry").qos(MqttQos.AT_LEAST_ONCE)
            .payload(json.getBytes(StandardCharsets.UTF_8)).build()).whenComplete((result, failure) -> {
              long now = System.nanoTime();
              if (failure == null && result.getError().isEmpty()) {
                acks.add(new Ack(now, key));
                count.incrementAndGet();
              }
              window.release();
            });
      }
    } catch (InterruptedException e) {
      Thread.currentThread().interrupt();
    }
  }

  int count() {
    return count.get();
  }

  /** Oldest first. */
  List<Ack> acks() {
    return acks.stream().sorted(java.util.Comparator.comparingLong(Ack::stamp)).toList();
  }

  /** Nothing new is sent any more, and nothing is noted of what was under way. */
  @Override
  public void close() {
    ended = true;
    threads.forEach(Thread::interrupt);
    clients.forEach(client -> client.disconnect());
  }
}
