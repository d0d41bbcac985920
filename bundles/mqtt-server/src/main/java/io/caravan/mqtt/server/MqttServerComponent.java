// SPDX-License-Identifier: Apache-2.0
package io.caravan.mqtt.server;

import io.caravan.mqtt.server.internal.Hub;
import io.vertx.core.Vertx;
import io.vertx.core.VertxOptions;
import java.util.Map;
import java.util.concurrent.ExecutorService;
import org.apache.camel.Endpoint;
import org.apache.camel.support.DefaultComponent;

/**
 * {@code mqtt-server:name}: an MQTT 3.1.1 and 5 listener whose PUBACK follows the end of the route, and a producer that
 * publishes to the devices connected to it.
 *
 * <p>It is no broker: a device publishes to {@code devices/{id}/(telemetry|events|capabilities|command-status|reported)} and
 * subscribes to {@code devices/{id}/(commands|receipts|desired)}, a controller also uses {@code gateways/{id}/control} and {@code
 * /control-status}; nothing is kept for absent devices or sent twice, what is retained is for the route to keep, there are no
 * sessions beyond a connection, and a will is accepted and never published.
 *
 * <p>All listeners of a CamelContext share client ids (a second connection of a device with the same id ends the first) and the
 * devices a producer reaches. Runs on the bean {@code vertx}; without one the component makes its own. Thread-safe.
 */
public class MqttServerComponent extends DefaultComponent {
  private final Hub hub = new Hub();
  private Vertx vertx;
  private boolean ownVertx;
  private ExecutorService completions;

  @Override
  protected Endpoint createEndpoint(String uri, String remaining, Map<String, Object> parameters) throws Exception {
    if (remaining == null || remaining.isEmpty()) {
      throw new IllegalArgumentException("mqtt-server: needs a name, for example mqtt-server:devices");
    }
    MqttServerEndpoint endpoint = new MqttServerEndpoint(uri, this, remaining);
    setProperties(endpoint, parameters);
    return endpoint;
  }

  @Override
  protected void doInit() throws Exception {
    super.doInit();
    getCamelContext().getRegistry().bind("mqttConnections", Connections.class, hub);
  }

  @Override
  protected void doStart() throws Exception {
    super.doStart();
    vertx = getCamelContext().getRegistry().lookupByNameAndType("vertx", Vertx.class);
    if (vertx == null) {
      vertx = Vertx.vertx(new VertxOptions().setEventLoopPoolSize(2));
      ownVertx = true;
    }
    // The rest of a route after a device's PUBACK may block (SQL): not on an event loop.
    completions = getCamelContext().getExecutorServiceManager().newThreadPool(this, "MqttServerPublished", 1, 2);
  }

  @Override
  protected void doStop() throws Exception {
    if (completions != null) {
      getCamelContext().getExecutorServiceManager().shutdown(completions);
      completions = null;
    }
    if (ownVertx) {
      vertx.close();
      ownVertx = false;
    }
    super.doStop();
  }

  Vertx vertx() {
    return vertx;
  }

  Hub hub() {
    return hub;
  }

  ExecutorService completions() {
    return completions;
  }
}
