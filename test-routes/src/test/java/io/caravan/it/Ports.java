// SPDX-License-Identifier: Apache-2.0
package io.caravan.it;

import java.io.IOException;
import java.net.InetAddress;
import java.net.ServerSocket;
import java.util.HashSet;
import java.util.Set;
import java.util.concurrent.ThreadLocalRandom;

/** Free ports above 20000 and below the range the kernel gives out by itself, so that none is taken before it is used. */
public final class Ports {
  private static final Set<Integer> GIVEN = new HashSet<>();

  private Ports() { }

  /** A port that nothing listens on and that was not given out before. */
  public static synchronized int free() {
    for (int i = 0; i < 1000; i++) {
      int port = ThreadLocalRandom.current().nextInt(20_001, 32_000);
      try (ServerSocket socket = new ServerSocket(port, 1, InetAddress.getLoopbackAddress())) {
        if (GIVEN.add(port)) {
          return port;
        }
      } catch (IOException taken) {
        // the next one
      }
    }
    throw new IllegalStateException("no free port from 20001 to 32000");
  }
}
