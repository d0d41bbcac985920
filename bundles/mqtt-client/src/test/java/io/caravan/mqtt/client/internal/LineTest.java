// SPDX-License-Identifier: Apache-2.0
package io.caravan.mqtt.client.internal;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.concurrent.CompletableFuture;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.TimeoutException;
import org.junit.jupiter.api.Test;

class LineTest {
  private final Line line = new Line();

  /** A broker that sends more than Receive Maximum is held up, whatever its reason. */
  @Test
  void aFullWindowWaitsForRoom() throws Exception {
    assertTrue(line.enter(2));
    assertTrue(line.enter(2));
    CompletableFuture<Boolean> third = CompletableFuture.supplyAsync(() -> line.enter(2));
    assertThrows(TimeoutException.class, () -> third.get(300, TimeUnit.MILLISECONDS));
    line.leave();
    assertEquals(true, third.get(5, TimeUnit.SECONDS));
  }

  @Test
  void whoWaitsIsLetGoWhenTheConnectionEnds() throws Exception {
    assertTrue(line.enter(1));
    CompletableFuture<Boolean> second = CompletableFuture.supplyAsync(() -> line.enter(1));
    line.over = true;
    assertFalse(second.get(5, TimeUnit.SECONDS));
  }
}
