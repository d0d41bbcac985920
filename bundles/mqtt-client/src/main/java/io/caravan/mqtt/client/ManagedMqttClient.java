// SPDX-License-Identifier: Apache-2.0
package io.caravan.mqtt.client;

import io.caravan.mqtt.client.internal.Link;
import io.caravan.mqtt.client.internal.Meters;
import io.caravan.mqtt.client.internal.Settings;
import java.util.Map;
import org.apache.camel.CamelContext;
import org.apache.camel.CamelContextAware;
import org.apache.camel.Exchange;
import org.apache.camel.Route;
import org.apache.camel.health.HealthCheckRegistry;
import org.apache.camel.health.HealthCheckResultBuilder;
import org.apache.camel.impl.health.AbstractHealthCheck;
import org.apache.camel.spi.RoutePolicy;
import org.eclipse.paho.mqttv5.client.MqttClient;
import org.eclipse.paho.mqttv5.client.persist.MemoryPersistence;
import org.eclipse.paho.mqttv5.common.MqttException;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/**
 * A client for {@code paho-mqtt5:...?client=#name} that connects and reconnects in the background: a route with it starts at
 * once whether the broker is there or not, and the readiness check {@link #setCheck} tells which. The same bean must be the
 * route's {@code routePolicy}, by which it learns when the route stops and what became of an exchange.
 *
 * <p>Filled by setters before its route starts; nothing happens before. Then thread-safe. A start of the route fails with
 * IllegalArgumentException when a value breaks its rule or a file cannot be read. Files are read anew for each connection.
 */
public abstract class ManagedMqttClient extends MqttClient implements RoutePolicy, CamelContextAware {
  private static final Logger LOG = LoggerFactory.getLogger(ManagedMqttClient.class);

  final Settings settings = new Settings();
  private CamelContext context;
  private String check;
  private String metersName;
  private AbstractHealthCheck registered;
  private volatile Link link;
  private volatile Meters meters = Meters.NONE;

  ManagedMqttClient(String check, boolean durable) throws MqttException {
    // Never connected: every connection has a client of its own (see Line).
    super("tcp://127.0.0.1:1", "unused", new MemoryPersistence());
    this.check = check;
    settings.durable = durable;
  }

  /** @param url {@code tcp://host:port} or {@code ssl://host:port} (TLS 1.2 or later, host name verified) */
  public void setUrl(String url) {
    settings.url = url;
  }

  /** @param clientId fixed, and used by nobody else at that broker */
  public void setClientId(String clientId) {
    settings.clientId = clientId;
  }

  /** @param userName empty: none */
  public void setUserName(String userName) {
    settings.userName = userName;
  }

  /** @param password empty: none; better {@link #setPasswordFile} */
  public void setPassword(String password) {
    settings.password = password;
  }

  /** @param file its text without surrounding white space is the password; goes before {@link #setPassword} */
  public void setPasswordFile(String file) {
    settings.passwordFile = file;
  }

  /** @param file PEM, who may sign the broker's certificate; empty: whom Java trusts */
  public void setCaFile(String file) {
    settings.caFile = file;
  }

  /** @param file PEM, own certificate for a broker that asks for one; empty: none */
  public void setCertFile(String file) {
    settings.certFile = file;
  }

  /** @param file PEM, PKCS#8 without password, the key of {@link #setCertFile} */
  public void setKeyFile(String file) {
    settings.keyFile = file;
  }

  /** @param seconds how often a silent connection is tried out, at least 1 */
  public void setKeepAliveSeconds(int seconds) {
    settings.keepAliveSeconds = seconds;
  }

  /** @param ms for the TCP and TLS connection; the answers to CONNECT and SUBSCRIBE must come within twice that */
  public void setConnectTimeoutMs(long ms) {
    settings.connectTimeoutMs = ms;
  }

  /** @param ms delay before the first attempt to reconnect; doubles with each, and is between half and all of it */
  public void setReconnectMinMs(long ms) {
    settings.reconnectMinMs = ms;
  }

  /** @param ms longest delay before an attempt to reconnect */
  public void setReconnectMaxMs(long ms) {
    settings.reconnectMaxMs = ms;
  }

  /** @param check id of the readiness check, there while the route runs; null: none */
  public void setCheck(String check) {
    this.check = check;
  }

  /** @param name tag {@code connection} of the meters; without it the name of the check is */
  final void setMetersName(String name) {
    metersName = name;
  }

  @Override
  public void setCamelContext(CamelContext camelContext) {
    context = camelContext;
  }

  @Override
  public CamelContext getCamelContext() {
    return context;
  }

  /** Makes what happens with each connection. */
  abstract Link.Use use();

  final Link link() {
    return link;
  }

  final Meters meters() {
    return meters;
  }

  final synchronized void begin() {
    if (link != null) {
      return;
    }
    settings.options(); // a mistake in it is the route's, not the broker's
    if (settings.exposesPassword()) {
      LOG.warn("The password for [{}] crosses the network in the clear: use ssl://", settings.url);
    }
    meters = Meters.of(context, metersName == null ? check : metersName, this::isConnected);
    Link made = new Link(settings, use(), meters);
    link = made;
    HealthCheckRegistry checks = context == null || check == null ? null : HealthCheckRegistry.get(context);
    if (checks != null) {
      registered = new Ready(check, made, settings.url);
      checks.register(registered);
    }
    made.start();
  }

  final synchronized void end() {
    if (link == null) {
      return;
    }
    link.stop();
    link = null;
    meters.close();
    if (registered != null) {
      HealthCheckRegistry.get(context).unregister(registered);
      registered = null;
    }
  }

  /** @return whether the connection stands and does what it is for */
  @Override
  public boolean isConnected() {
    Link now = link;
    return now != null && now.trouble() == null;
  }

  @Override
  public void disconnect() {
    end();
  }

  @Override
  public void close() {
    end();
  }

  @Override
  public void onInit(Route route) {}

  @Override
  public void onStart(Route route) {}

  @Override
  public void onStop(Route route) {
    end();
  }

  @Override
  public void onRemove(Route route) {
    end();
  }

  @Override
  public void onSuspend(Route route) {
    end();
  }

  @Override
  public void onResume(Route route) {}

  @Override
  public void onExchangeBegin(Route route, Exchange exchange) {}

  @Override
  public void onExchangeDone(Route route, Exchange exchange) {}

  private static final class Ready extends AbstractHealthCheck {
    private final Link link;
    private final String url;

    Ready(String id, Link link, String url) {
      super("caravan", id);
      this.link = link;
      this.url = url;
    }

    @Override
    public boolean isLiveness() {
      return false;
    }

    @Override
    protected void doCall(HealthCheckResultBuilder builder, Map<String, Object> options) {
      String trouble = link.trouble();
      if (trouble == null) {
        builder.message("connected to " + url).up();
      } else {
        builder.message("no connection to " + url + ": " + trouble).down();
      }
    }
  }
}
