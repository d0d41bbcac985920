// SPDX-License-Identifier: Apache-2.0
package io.caravan.camelk;

import io.caravan.runtime.Caravan;
import java.nio.file.Path;
import java.util.concurrent.CountDownLatch;

/**
 * The cloud in plain Camel, without OSGi: modules from the class path ({@code META-INF/services}), route files from a folder. It is what an image
 * for Camel K starts; the operator mounts the sources of an Integration into that folder.
 *
 * <p>{@code CARAVAN_SOURCES}: the folder, {@code /etc/camel/sources} if not set. {@code CARAVAN_HOME}: where {@code etc/} is and {@code data/}
 * comes, {@code /opt/caravan} if not set. Every key of the configuration can be given as {@code CARAVAN_SOME_KEY}.
 */
public final class Main {
  private Main() {}

  public static void main(String[] args) throws Exception {
    CountDownLatch stopped = new CountDownLatch(1);
    Caravan caravan = start(Path.of(System.getenv().getOrDefault("CARAVAN_HOME", "/opt/caravan")),
        Path.of(System.getenv().getOrDefault("CARAVAN_SOURCES", "/etc/camel/sources")));
    // SIGTERM: gateways are told, what is under way ends, what is not acked is sent again.
    Runtime.getRuntime().addShutdownHook(new Thread(() -> {
      caravan.close();
      stopped.countDown();
    }, "caravan-stop"));
    stopped.await();
  }

  /**
   * Starts, and does not wait until it is ready: that is what the readiness probe asks.
   *
   * @param home    has {@code etc/} with {@code keys/}
   * @param sources folder of route files
   * @throws Exception the configuration broke a rule, the HTTP port cannot be had, or there is not one route file
   */
  static Caravan start(Path home, Path sources) throws Exception {
    Caravan caravan = Caravan.builder().home(home).keys(home.resolve("etc/keys")).cfg(home.resolve("etc")).set("container.role", "cloud").routes(sources).start();
    if (caravan.routes().isEmpty()) {
      caravan.close();
      throw new IllegalStateException("[" + sources + "] must have route files *.camel.yaml: mount the Integration's sources there, or set CARAVAN_SOURCES");
    }
    return caravan;
  }
}
