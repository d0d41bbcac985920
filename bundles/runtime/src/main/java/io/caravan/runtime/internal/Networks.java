// SPDX-License-Identifier: Apache-2.0
package io.caravan.runtime.internal;

import io.vertx.core.http.HttpConnection;
import io.vertx.core.net.impl.ConnectionBase;
import java.net.InetAddress;
import java.net.InetSocketAddress;
import java.net.UnknownHostException;
import java.util.ArrayList;
import java.util.List;
import java.util.regex.Pattern;

/** A list of networks, and whom the proxies in them speak for. Immutable. Never asks the DNS. */
final class Networks {

    private static final Pattern NUMERIC = Pattern.compile("\\d{1,3}(\\.\\d{1,3}){3}|[0-9A-Fa-f.]*:[0-9A-Fa-f:.]*");
    private static final int MAX_HOPS = 32;

    private record Network(byte[] prefix, int bits) {

        boolean contains(byte[] address) {
            if (address.length != prefix.length) {
                return false;
            }
            for (int bit = 0; bit < bits; bit += 8) {
                int mask = bits - bit >= 8 ? 0xFF : 0xFF << (8 - (bits - bit)) & 0xFF;
                if (((address[bit / 8] ^ prefix[bit / 8]) & mask) != 0) {
                    return false;
                }
            }
            return true;
        }
    }

    private final List<Network> networks = new ArrayList<>();

    /**
     * @param cidrs addresses, or networks as address/bits
     * @throws IllegalArgumentException one of them is neither
     */
    Networks(List<String> cidrs) {
        for (String cidr : cidrs) {
            String[] parts = cidr.split("/", 2);
            InetAddress address = numeric(parts[0]);
            String bits = parts.length == 1 && address != null ? String.valueOf(address.getAddress().length * 8) : parts[parts.length - 1];
            if (address == null || !bits.matches("\\d{1,3}") || Integer.parseInt(bits) > address.getAddress().length * 8) {
                throw new IllegalArgumentException("[" + cidr + "] must be an address or a network, for example 192.168.7.0/24 or fd00::/8");
            }
            networks.add(new Network(address.getAddress(), Integer.parseInt(bits)));
        }
    }

    boolean contains(InetAddress address) {
        if (networks.isEmpty()) {
            return false;
        }
        byte[] bytes = address.getAddress();
        return networks.stream().anyMatch(n -> n.contains(bytes));
    }

    /**
     * @param peer      one of these networks
     * @param forwarded values of X-Forwarded-For, each hop's peer appended on the right
     * @return the first address from the right that is not one of these; the peer if there is none, or something else stands there:
     *         left of that a client can have written what it likes
     */
    InetAddress client(InetAddress peer, List<String> forwarded) {
        String[] hops = String.join(",", forwarded).split(",", -1);
        InetAddress last = peer;
        for (int i = hops.length - 1; i >= Math.max(0, hops.length - MAX_HOPS); i--) {
            InetAddress hop = numeric(hops[i].trim());
            if (hop == null) {
                return last;
            }
            last = hop;
            if (!contains(hop)) {
                return hop;
            }
        }
        return last;
    }

    /** The netty channel's own: Vert.x keeps a copy that a PROXY header could replace. */
    static InetAddress peer(HttpConnection connection) {
        return ((InetSocketAddress) ((ConnectionBase) connection).channel().remoteAddress()).getAddress();
    }

    /** @return without the zone of a link-local address */
    static String text(InetAddress address) {
        String text = address.getHostAddress();
        int zone = text.indexOf('%');
        return zone < 0 ? text : text.substring(0, zone);
    }

    private static InetAddress numeric(String text) {
        try {
            return NUMERIC.matcher(text).matches() ? InetAddress.getByName(text) : null;
        } catch (UnknownHostException e) {
            return null;
        }
    }
}
