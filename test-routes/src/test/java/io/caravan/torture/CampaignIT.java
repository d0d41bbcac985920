// SPDX-License-Identifier: Apache-2.0
package io.caravan.torture;

import static org.awaitility.Awaitility.await;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.caravan.it.Distribution;
import io.caravan.torture.Campaign.Result;
import io.caravan.torture.Schedule.Step;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Map;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.TimeUnit;
import org.junit.jupiter.api.Test;

/** What becomes of a campaign at its ends. */
class CampaignIT {
  @Test
  void oneThatIsEndedWhileAWorldStartsHasDoneNothingAndFoundNothing() throws Exception {
    Path out = Distribution.REPO.resolve("test-routes/target/it/campaign");
    Distribution.delete(out);
    Files.createDirectories(out);
    Journal journal = Journal.begin(out, Map.of("seed", 1));
    Campaign campaign = new Campaign(out, 100, System.nanoTime() + TimeUnit.DAYS.toNanos(1), journal, line -> { }, result -> { });
    CompletableFuture<Result> running = CompletableFuture.supplyAsync(() -> {
      try {
        return campaign.run(List.of(List.of(new Step("stop-gateway", 0, 1)), List.of(new Step("stop-gateway", 1, 2))), 1, false, 1);
      } catch (Exception e) {
        throw new IllegalStateException(e);
      }
    });
    Path world = out.resolve("world-1");
    await("a world starts").atMost(World.BACK).until(() -> Files.exists(world));
    campaign.end();

    Result result = running.get(World.BACK.toSeconds(), TimeUnit.SECONDS);
    assertEquals(List.of(), result.cycles.stream().map(Cycle::json).toList());
    assertTrue(Files.notExists(world), "nothing was found in it, it was kept");
    Result again = Journal.open(out).result();
    assertEquals(0, again.cycles.size());
    assertEquals(0, result.worlds + again.worlds);
  }
}
