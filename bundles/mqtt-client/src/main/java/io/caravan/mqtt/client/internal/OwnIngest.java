// SPDX-License-Identifier: Apache-2.0
package io.caravan.mqtt.client.internal;

import java.net.InetAddress;
import java.net.NetworkInterface;
import java.net.SocketException;
import java.net.URI;
import java.net.UnknownHostException;
import java.util.HashSet;
import java.util.List;
import java.util.Set;

/** Where this gateway takes messages from: what is published there comes in again, and again. Not changed once filled. */
public final class OwnIngest {
  /** Whether messages are read from a broker at all, which, and what. */
  public boolean reads;
  public String url = "";
  public List<String> filters = List.of();
  /** Whether there is an own listener, and one with TLS beside it. */
  public boolean listens;
  public int port;
  public boolean tls;
  public int tlsPort;

  /** @return why publishing there would be a loop; null: it is none */
  public String loop(String target, TopicPattern topic) {
    URI to = URI.create(target);
    int toPort = port(to);
    if (listens && (toPort == port || tls && toPort == tlsPort) && isHere(to.getHost())) {
      return "[" + target + "] is the gateway's own listener (port " + toPort + "), which is no broker and would take every message"
          + " in again: set url to another broker";
    }
    if (!reads) {
      return null;
    }
    URI from = URI.create(url);
    if (port(from) == toPort && same(from.getHost(), to.getHost())) {
      for (String filter : filters) {
        if (topic.mayMatch(filter)) {
          return "topic [" + topic + "] matches [" + filter + "], which this gateway reads from the same broker [" + url
              + "]: every message would come in again; set topic to another tree, or url to another broker";
        }
      }
    }
    return null;
  }

  private static int port(URI uri) {
    return uri.getPort() >= 0 ? uri.getPort() : "ssl".equals(uri.getScheme()) ? 8883 : 1883;
  }

  private static boolean same(String one, String other) {
    if (one == null || other == null || one.equalsIgnoreCase(other)) {
      return one != null && other != null;
    }
    Set<InetAddress> common = new HashSet<>(addresses(one));
    common.retainAll(addresses(other));
    return !common.isEmpty() || isHere(one) && isHere(other);
  }

  private static boolean isHere(String host) {
    for (InetAddress address : addresses(host)) {
      try {
        if (address.isLoopbackAddress() || address.isAnyLocalAddress() || NetworkInterface.getByInetAddress(address) != null) {
          return true;
        }
      } catch (SocketException e) {
        continue; // not an address of this machine, as far as can be known
      }
    }
    return false;
  }

  private static List<InetAddress> addresses(String host) {
    try {
      return List.of(InetAddress.getAllByName(host));
    } catch (UnknownHostException e) {
      return List.of(); // then nothing can be published there either
    }
  }
}
