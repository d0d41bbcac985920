// SPDX-License-Identifier: Apache-2.0
package io.caravan.telemetry.internal;

import io.caravan.runtime.Config;
import java.math.BigDecimal;
import java.net.URI;
import java.nio.file.Path;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;

/**
 * The keys of {@code io.caravan.telemetry}, checked further than their types do.
 *
 * @param headersFile null: none
 * @param caFile      null: the authorities that Java trusts
 * @param resource    attributes of everything that is sent
 */
public record Settings(boolean enabled, URI endpoint, Path headersFile, Path caFile, double ratio, int queue, long timeoutMs,
    Map<String, String> resource) {

  /** @throws IllegalArgumentException a value breaks a rule; the message says which */
  public static Settings of(Config config) {
    boolean gateway = config.get("container.role").equals("gateway");
    Map<String, String> resource = new LinkedHashMap<>();
    resource.put("service.name", gateway ? "caravan-gateway" : "caravan-cloud");
    if (gateway) {
      resource.put("gateway.id", config.get("gateway.id"));
    }
    for (String each : config.getList("traces.resource.attributes")) {
      int equals = each.indexOf('=');
      if (equals < 1) {
        throw new IllegalArgumentException("traces.resource.attributes: [" + each + "] must be name=value");
      }
      resource.put(each.substring(0, equals).trim(), each.substring(equals + 1).trim());
    }
    return new Settings(config.getBoolean("traces.enabled"), endpoint(config.get("traces.endpoint")), path(config, "traces.headers.file"),
        path(config, "traces.ca.file"), ratio(config.get("traces.sample.ratio")), (int) config.getLong("traces.queue.spans"),
        config.getLong("traces.timeout.ms"), resource);
  }

  private static Path path(Config config, String key) {
    return config.get(key).isEmpty() ? null : config.getPath(key);
  }

  private static double ratio(String given) {
    try {
      BigDecimal ratio = new BigDecimal(given);
      if (ratio.signum() >= 0 && ratio.compareTo(BigDecimal.ONE) <= 0) {
        return ratio.doubleValue();
      }
    } catch (NumberFormatException e) {
      // Said below.
    }
    throw new IllegalArgumentException("traces.sample.ratio [" + given + "] must be a number from 0 to 1, such as 0.01");
  }

  private static URI endpoint(String given) {
    try {
      URI uri = URI.create(given);
      if (Set.of("http", "https").contains(String.valueOf(uri.getScheme())) && uri.getHost() != null) {
        return uri;
      }
    } catch (IllegalArgumentException e) {
      // Said below.
    }
    throw new IllegalArgumentException("traces.endpoint [" + given + "] must be http:// or https://, host, port and path, such as"
        + " http://127.0.0.1:4318/v1/traces");
  }

  /** @return the attributes, for people */
  List<String> described() {
    return resource.entrySet().stream().map(e -> e.getKey() + "=" + e.getValue()).toList();
  }
}
