// SPDX-License-Identifier: Apache-2.0
package io.caravan.trust;

import com.sun.management.OperatingSystemMXBean;
import io.caravan.devices.Devices.Enrolment;
import io.caravan.devices.Devices.NewDevice;
import io.caravan.devices.HttpAccess;
import io.caravan.runtime.Caravan;
import io.caravan.runtime.HttpCall;
import java.io.IOException;
import java.lang.management.ManagementFactory;
import java.lang.reflect.Proxy;
import java.net.Socket;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.List;
import java.util.Locale;
import java.util.concurrent.atomic.AtomicLong;

/**
 * What authentication costs per HTTP request: the shipped routes twice in one JVM, {@code device.access=open} and {@code registry}, the
 * same bytes sent to both in turns. Prints the median of requests/s and of CPU time per request (clients included) of each, and the ratios.
 * Arguments: rounds, seconds of a round, connections.
 */
public final class HttpAccessBench {
  private HttpAccessBench() {}

  public static void main(String[] arguments) throws Exception {
    int rounds = arguments.length > 0 ? Integer.parseInt(arguments[0]) : 7;
    int seconds = arguments.length > 1 ? Integer.parseInt(arguments[1]) : 4;
    int connections = arguments.length > 2 ? Integer.parseInt(arguments[2]) : 16;
    double[][] rate = new double[2][rounds];
    double[][] cpu = new double[2][rounds];
    try (Caravan open = start("open"); Caravan registry = start("registry")) {
      Enrolment device = HttpAccessTest.devices(registry).add(new NewDevice("d1", null, null, null, 0, 0L, null, null, null));
      System.out.printf(Locale.ROOT, "the decision alone: open %.2f us CPU, registry %.2f us CPU%n", decide(open, device.token()),
          decide(registry, device.token()));
      Caravan[] both = {open, registry};
      AtomicLong number = new AtomicLong();
      for (int round = -2; round < rounds; round++) {
        for (int side = 0; side < 2; side++) {
          double[] got = round(both[side], device.token(), seconds, connections, number);
          if (round >= 0) {
            rate[side][round] = got[0];
            cpu[side][round] = got[1];
          }
        }
      }
    }
    System.out.printf(Locale.ROOT, "open %.0f/s %.1f us CPU; registry %.0f/s %.1f us CPU; ratio of rates %.3f, of CPU %.3f%n", median(rate[0]),
        median(cpu[0]), median(rate[1]), median(cpu[1]), median(rate[1]) / median(rate[0]), median(cpu[1]) / median(cpu[0]));
    System.exit(0);
  }

  private static Caravan start(String access) throws Exception {
    HttpAccessTest test = new HttpAccessTest();
    test.home = Files.createTempDirectory(Path.of(System.getProperty("java.io.tmpdir")), "http-access-" + access);
    return test.start("device.access", access, "http.requests.per.s", "0");
  }

  private static double[] round(Caravan caravan, String token, int seconds, int connections, AtomicLong number) throws Exception {
    OperatingSystemMXBean os = (OperatingSystemMXBean) ManagementFactory.getOperatingSystemMXBean();
    AtomicLong done = new AtomicLong();
    long begin = System.nanoTime();
    long cpu = os.getProcessCpuTime();
    long end = begin + seconds * 1_000_000_000L;
    Thread[] threads = new Thread[connections];
    for (int i = 0; i < connections; i++) {
      threads[i] = new Thread(() -> {
        try (Socket socket = new Socket("127.0.0.1", caravan.httpPort())) {
          socket.setTcpNoDelay(true);
          while (System.nanoTime() < end) {
            String body = "{\"schema_version\":1,\"boot_id\":\"b\",\"device_seq\":" + number.incrementAndGet() + ",\"metrics\":{\"t\":21.5,\"h\":40.2}}";
            HttpAccessTest.send(socket, (HttpAccessTest.head("/ingest/d1", body.length(), "Authorization: Bearer " + token) + body).getBytes());
            if (HttpAccessTest.read(socket).status() != 202) {
              throw new IOException("not taken");
            }
            done.incrementAndGet();
          }
        } catch (IOException e) {
          throw new java.io.UncheckedIOException(e);
        }
      });
      threads[i].start();
    }
    for (Thread thread : threads) {
      thread.join();
    }
    return new double[] {done.get() * 1e9 / (System.nanoTime() - begin), (os.getProcessCpuTime() - cpu) / 1e3 / done.get()};
  }

  /** CPU time of this thread per decision, microseconds. */
  private static double decide(Caravan caravan, String token) {
    HttpAccess access = caravan.bean("httpAccess", HttpAccess.class).orElseThrow();
    List<String> header = List.of("Bearer " + token);
    HttpCall call = (HttpCall) Proxy.newProxyInstance(HttpCall.class.getClassLoader(), new Class<?>[] {HttpCall.class},
        (proxy, method, parameters) -> switch (method.getName()) {
          case "path" -> "/ingest/d1";
          case "headers" -> header;
          case "address" -> "127.0.0.1";
          case "tls" -> false;
          default -> null;
        });
    int times = 200_000;
    long cpu = 0;
    for (int warm = 0; warm < 3; warm++) {
      long before = ManagementFactory.getThreadMXBean().getCurrentThreadCpuTime();
      for (int i = 0; i < times; i++) {
        if (!access.admit(call)) {
          throw new IllegalStateException("refused");
        }
      }
      cpu = ManagementFactory.getThreadMXBean().getCurrentThreadCpuTime() - before;
    }
    return cpu / 1e3 / times;
  }

  private static double median(double[] values) {
    double[] sorted = values.clone();
    Arrays.sort(sorted);
    return sorted[sorted.length / 2];
  }
}
