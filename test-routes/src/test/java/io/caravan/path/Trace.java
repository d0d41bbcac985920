// SPDX-License-Identifier: Apache-2.0
package io.caravan.path;

import java.util.ArrayList;
import java.util.List;
import java.util.Queue;
import java.util.concurrent.ConcurrentLinkedQueue;
import org.apache.camel.AsyncCallback;
import org.apache.camel.CamelContext;
import org.apache.camel.Exchange;
import org.apache.camel.NamedNode;
import org.apache.camel.Processor;
import org.apache.camel.spi.InterceptStrategy;
import org.apache.camel.support.AsyncCallbackToCompletableFutureAdapter;
import org.apache.camel.support.AsyncProcessorConverterHelper;
import org.apache.camel.support.AsyncProcessorSupport;

/** Which steps of routes ran when, for somebody who asks where the milliseconds go (-Dpath.trace=true). */
final class Trace implements InterceptStrategy {
  record Step(String side, String route, String step, String thread, long from, long to) {}

  final Queue<Step> steps = new ConcurrentLinkedQueue<>();
  private final String side;

  Trace(String side) {
    this.side = side;
  }

  @Override
  public Processor wrapProcessorInInterceptors(CamelContext context, NamedNode definition, Processor target, Processor next) {
    var async = AsyncProcessorConverterHelper.convert(target);
    return new AsyncProcessorSupport() {
      @Override
      public boolean process(Exchange exchange, AsyncCallback callback) {
        long from = System.nanoTime();
        String thread = Thread.currentThread().getName();
        return async.process(exchange, sync -> {
          steps.add(new Step(side, exchange.getFromRouteId(), definition.getShortName() + ":" + definition.getId(), thread, from, System.nanoTime()));
          callback.done(sync);
        });
      }
    };
  }

  List<Step> between(long from, long to) {
    List<Step> found = new ArrayList<>();
    steps.forEach(s -> {
      if (s.to >= from && s.from <= to) {
        found.add(s);
      }
    });
    return found;
  }
}
