// SPDX-License-Identifier: Apache-2.0
package io.caravan.app;

import io.caravan.app.internal.AppFiles;
import io.caravan.app.internal.AppHeaders;
import io.caravan.runtime.Config;
import io.caravan.runtime.Module;
import org.apache.camel.CamelContext;

/** Cloud: beans {@code app}, the files of the phone app, and {@code appHeaders}, the headers its answers may have. */
public final class AppModule implements Module {
  @Override
  public AutoCloseable start(CamelContext context, Config config) throws Exception {
    AppFiles files = AppFiles.load();
    context.getRegistry().bind("appHeaders", new AppHeaders());
    context.getRegistry().bind("app", files);
    return () -> {
      context.getRegistry().unbind("app");
      context.getRegistry().unbind("appHeaders");
    };
  }
}
