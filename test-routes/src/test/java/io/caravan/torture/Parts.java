// SPDX-License-Identifier: Apache-2.0
package io.caravan.torture;

import io.caravan.parts.HttpsPart;
import io.caravan.parts.KafkaPart;
import io.caravan.parts.S3Part;
import java.nio.file.Path;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ExecutionException;

/** The real servers at the far ends of the sinks; they live as long as the campaign, each world has its own topic, bucket and path. */
final class Parts implements AutoCloseable {
  final KafkaPart kafka;
  final S3Part s3;
  final HttpsPart https;

  /** @param folder of what they keep */
  Parts(Path folder) throws Exception {
    CompletableFuture<KafkaPart> starting = CompletableFuture.supplyAsync(() -> new KafkaPart.Builder().folder(folder.resolve("kafka")).start());
    S3Part store = null;
    try {
      store = new S3Part.Builder().folder(folder.resolve("s3")).start();
      https = new HttpsPart();
      kafka = starting.get();
      s3 = store;
    } catch (Exception e) {
      starting.whenComplete((part, failure) -> {
        if (part != null) {
          part.close();
        }
      });
      if (store != null) {
        store.close();
      }
      throw e instanceof ExecutionException failed && failed.getCause() instanceof Exception cause ? cause : e;
    }
  }

  @Override
  public void close() throws Exception {
    kafka.close();
    s3.close();
    https.close();
  }
}
