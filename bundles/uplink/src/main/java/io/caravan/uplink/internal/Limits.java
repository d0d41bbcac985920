// SPDX-License-Identifier: Apache-2.0
package io.caravan.uplink.internal;

import java.util.LinkedHashMap;
import java.util.Map;
import java.util.function.LongSupplier;

/**
 * How often handshakes may come, and lock-outs after repeated failures. Who shows a right credential is counted by its gateway id, and with
 * the others who do: a fleet behind one address is back at once after an outage, and strangers do not keep it out. Everybody else is counted by
 * address, and with all strangers. An IPv6
 * address counts as its /64. Memory is bounded: of {@value #REMEMBERED_MAX} addresses, and as many pairs of address and gateway,
 * the one seen longest ago is forgotten first. Time is monotonic. This class is thread-safe.
 */
public final class Limits {

    static final int REMEMBERED_MAX = 10_000;
    /** Seconds' worth of handshakes that may come at once after a quiet time. */
    private static final int BURST = 4;

    /**
     * @param perS            handshakes per second of all strangers, and of all gateways; 0: no limit
     * @param addressPerS     and of one address, and of one gateway
     * @param failures        failed ones of one gateway id from one address that lock that pair out; 0: never
     * @param addressFailures failed ones from one address that lock it out
     * @param lockMs          how long, and in which time failures add up
     */
    public record Options(int perS, int addressPerS, int failures, int addressFailures, long lockMs) { }

    private final Options options;
    private final LongSupplier clock;
    private final Bucket strangers = new Bucket();
    private final Bucket known = new Bucket();
    private final Map<String, Bucket> addresses = new Remembered<>();
    private final Map<String, Bucket> gateways = new Remembered<>();
    private final Map<String, Failures> failures = new Remembered<>();

    public Limits(Options options) {
        this(options, System::nanoTime);
    }

    Limits(Options options, LongSupplier clock) {
        this.options = options;
        this.clock = clock;
    }

    /** Takes one handshake's worth of a stranger. @return whether it may go on */
    public synchronized boolean mayTry(String address) {
        long now = clock.getAsLong();
        // The address first: one that floods must not use up what is for everybody.
        return addresses.computeIfAbsent(net(address), a -> new Bucket()).take(options.addressPerS, now) && strangers.take(options.perS, now);
    }

    /** Takes one handshake's worth of a gateway that showed a right credential. @return whether it may go on */
    public synchronized boolean mayReturn(String gateway) {
        long now = clock.getAsLong();
        return gateways.computeIfAbsent(gateway, g -> new Bucket()).take(options.addressPerS, now) && known.take(options.perS, now);
    }

    /** @return how long in milliseconds that address is locked out; 0: it is not */
    public synchronized long lockedMs(String address) {
        return left(failures.get(net(address)), clock.getAsLong());
    }

    /** @return how long in milliseconds this gateway id is locked out from that address; 0: it is not */
    public synchronized long lockedMs(String address, String gateway) {
        return left(failures.get(net(address) + " " + gateway), clock.getAsLong());
    }

    /** @return what is locked out from now on because of this failure: {@code address}, {@code gateway} or null */
    public synchronized String failed(String address, String gateway) {
        long now = clock.getAsLong();
        boolean pair = failures.computeIfAbsent(net(address) + " " + gateway, k -> new Failures(now)).add(options.failures, now);
        boolean whole = failures.computeIfAbsent(net(address), k -> new Failures(now)).add(options.addressFailures, now);
        return whole ? "address" : pair ? "gateway" : null;
    }

    /** The right credential: what failed before from there for this gateway is forgotten. */
    public synchronized void succeeded(String address, String gateway) {
        failures.remove(net(address) + " " + gateway);
    }

    private static long left(Failures failures, long now) {
        return failures == null || !failures.locked ? 0 : Math.max(0, (failures.until - now + 999_999) / 1_000_000);
    }

    /** @return the address, or the first half of an IPv6 one: whoever has one such address has all of its network */
    static String net(String address) {
        if (address == null || address.indexOf(':') < 0) {
            return String.valueOf(address);
        }
        try {
            // Numeric: no name is looked up.
            byte[] bytes = java.net.InetAddress.getByName(address).getAddress();
            StringBuilder net = new StringBuilder();
            for (int i = 0; i < (bytes.length == 4 ? 4 : 8); i++) {
                net.append(String.format("%02x", bytes[i]));
            }
            return net.toString();
        } catch (java.net.UnknownHostException e) {
            return address;
        }
    }

    private final class Failures {

        private long until;
        private int count;
        private boolean locked;

        Failures(long now) {
            until = now + options.lockMs * 1_000_000;
        }

        boolean add(int most, long now) {
            if (now - until >= 0) {
                count = 0;
                locked = false;
                until = now + options.lockMs * 1_000_000;
            }
            count++;
            if (most > 0 && count >= most && !locked) {
                locked = true;
                until = now + options.lockMs * 1_000_000;
                return true;
            }
            return false;
        }
    }

    private static final class Bucket {

        private double tokens = Double.NaN;
        private long at;

        boolean take(int perS, long now) {
            if (perS == 0) {
                return true;
            }
            double most = (double) perS * BURST;
            tokens = Double.isNaN(tokens) ? most : Math.min(most, tokens + (now - at) * (perS / 1e9));
            at = now;
            if (tokens < 1) {
                return false;
            }
            tokens--;
            return true;
        }
    }

    private static final class Remembered<V> extends LinkedHashMap<String, V> {

        private static final long serialVersionUID = 1L;

        Remembered() {
            super(16, 0.75f, true);
        }

        @Override
        protected boolean removeEldestEntry(Map.Entry<String, V> eldest) {
            return size() > 2 * REMEMBERED_MAX;
        }
    }
}
