// SPDX-License-Identifier: Apache-2.0
package io.caravan.hostile;

import java.util.Map;
import java.util.Set;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.ConcurrentSkipListSet;
import org.apache.camel.AsyncCallback;
import org.apache.camel.CamelContext;
import org.apache.camel.Exchange;
import org.apache.camel.NamedNode;
import org.apache.camel.Processor;
import org.apache.camel.model.ProcessorDefinition;
import org.apache.camel.model.ProcessorDefinitionHelper;
import org.apache.camel.model.RemoveHeadersDefinition;
import org.apache.camel.model.RouteDefinition;
import org.apache.camel.spi.InterceptStrategy;
import org.apache.camel.support.processor.DelegateAsyncProcessor;

/**
 * Stands before every step of every route and looks for headers that an attacker sent: their values have the mark. The one
 * step it does not look at is the first of a route where that is removeHeaders, which has to get them.
 */
final class HeaderWatch implements InterceptStrategy {
  /** In the value of each hostile header. */
  static final String MARK = "evil7d1f";

  /** {@code <route> <step> <header>}. */
  final Set<String> seen = new ConcurrentSkipListSet<>();
  /** Steps that were looked at, so that an empty {@link #seen} is worth something. */
  final Set<String> steps = ConcurrentHashMap.newKeySet();

  @Override
  public Processor wrapProcessorInInterceptors(CamelContext context, NamedNode node, Processor target, Processor next) {
    RouteDefinition route = ProcessorDefinitionHelper.getRoute(node);
    if (route == null || node instanceof RemoveHeadersDefinition && route.getOutputs().get(0) == node) {
      return target;
    }
    String step = route.getRouteId() + " " + ((ProcessorDefinition<?>) node).getShortName() + ":" + node.getId();
    return new DelegateAsyncProcessor(target) {
      @Override
      public boolean process(Exchange exchange, AsyncCallback callback) {
        steps.add(step);
        for (Map.Entry<String, Object> header : exchange.getMessage().getHeaders().entrySet()) {
          if (String.valueOf(header.getValue()).contains(MARK) || header.getKey().contains(MARK)) {
            seen.add(step + " " + header.getKey());
          }
        }
        return super.process(exchange, callback);
      }
    };
  }
}
