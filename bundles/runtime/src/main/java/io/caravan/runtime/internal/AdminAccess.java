// SPDX-License-Identifier: Apache-2.0
package io.caravan.runtime.internal;

import io.caravan.runtime.Audit;
import io.caravan.runtime.Config;
import io.caravan.runtime.HttpCall;
import io.caravan.runtime.Logins;
import io.caravan.runtime.Users;
import java.nio.ByteBuffer;
import java.nio.CharBuffer;
import java.nio.charset.CharacterCodingException;
import java.nio.charset.StandardCharsets;
import java.util.Arrays;
import java.util.Base64;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.TimeUnit;
import org.apache.camel.CamelContext;
import org.apache.camel.Exchange;
import org.apache.camel.Message;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/**
 * Bean {@code adminAccess}: who may see more of this container than whether it is well. That is who asks from this machine
 * ({@code admin.login}), or logs in (HTTP Basic, bean {@code users}). Sets the variable {@code access} to {@code granted} or to why
 * not, and with {@link #viewer}, {@link #operator} and {@link #admin} the variable {@code user} to who it is. Blocks while a password is checked; {@link Users} makes wrong ones slow and notes them, here an address that goes on is
 * locked out. This class is thread-safe.
 */
public final class AdminAccess implements Logins {

    private static final Logger LOG = LoggerFactory.getLogger(AdminAccess.class);
    private static final Set<String> ROLES = Set.of("viewer", "operator", "admin");
    /** Who asks from this machine and does not say who they are. */
    private static final String LOCAL = "local";
    private static final Set<String> READING = Set.of("GET", "HEAD", "OPTIONS");
    private static final String REALM = "Basic realm=\"caravan\", charset=\"UTF-8\"";
    private static final int MAX_ADDRESSES = 1_000;
    private static final int MAX_CREDENTIAL = 1_024;

    /** Failures of an address since it last succeeded or was locked out. */
    private record Failures(int count, long untilNs) {}

    private static Login outcome(String outcome) {
        return new Login(outcome, 0, null, Set.of(), false);
    }

    private final CamelContext context;
    private final Config config;
    /** The eldest goes when there are too many: who can come from so many addresses is only slowed down, by {@link Users}. */
    private final Map<String, Failures> failures = new LinkedHashMap<>() {
        @Override
        protected boolean removeEldestEntry(Map.Entry<String, Failures> eldest) {
            return size() > MAX_ADDRESSES;
        }
    };

    AdminAccess(CamelContext context, Config config) {
        this.context = context;
        this.config = config;
    }

    /** For a route that answers everybody, and some in full: sets the variable and answers nothing. */
    public void identify(Exchange exchange) {
        exchange.setVariable("access", decide(HttpCall.of(exchange)).outcome());
    }

    /** For a route that answers only some: as {@link #identify}, and the message is the refusal where it is not {@code granted}. */
    public void check(Exchange exchange) {
        HttpCall call = HttpCall.of(exchange);
        answer(exchange, call, decide(call));
    }

    /** For a route that shows: as {@link #check}, for whoever may see. */
    public void viewer(Exchange exchange) {
        role(exchange, "viewer");
    }

    /** For a route that changes something: as {@link #viewer}, for operators. Refuses pages of other origins. */
    public void operator(Exchange exchange) {
        role(exchange, "operator");
    }

    /** As {@link #operator}, for administrators. */
    public void admin(Exchange exchange) {
        role(exchange, "admin");
    }

    private void role(Exchange exchange, String role) {
        HttpCall call = HttpCall.of(exchange);
        Login access = foreign(call) ? outcome("foreign_origin") : whoIs(call);
        if (access.outcome().equals(GRANTED) && !access.roles().contains(role)) {
            access = new Login("role", 0, access.user(), access.roles(), false);
        }
        exchange.setVariable("user", access.user());
        exchange.setVariable("role", role);
        answer(exchange, call, access);
    }

    /** Who says who they are is that, also on this machine; else as {@link #decide}. */
    @Override
    public Login whoIs(HttpCall call) {
        if (call.local() && config.get("admin.login").equals("remote")) {
            List<String> given = call.headers("Authorization");
            return given.isEmpty() ? new Login(GRANTED, 0, LOCAL, ROLES, true) : login(call, given);
        }
        return decide(call);
    }

    /**
     * A browser says where a page came from that sends something. One of elsewhere must not use that a person is on this machine, or
     * has logged in.
     */
    private static boolean foreign(HttpCall call) {
        List<String> origins = call.headers("Origin");
        if (READING.contains(call.method()) || origins.isEmpty()) {
            return false;
        }
        List<String> hosts = call.headers("Host");
        return origins.size() != 1 || hosts.size() != 1
                || !origins.get(0).replaceFirst("^https?://", "").equalsIgnoreCase(hosts.get(0));
    }

    private void answer(Exchange exchange, HttpCall call, Login access) {
        exchange.setVariable("access", access.outcome());
        if (access.outcome().equals(GRANTED)) {
            return;
        }
        call.refused(access.outcome());
        Message message = exchange.getMessage();
        message.removeHeaders("*");
        message.setHeader(Exchange.CONTENT_TYPE, "application/json");
        switch (access.outcome()) {
            case "locked_out" -> {
                message.setHeader(Exchange.HTTP_RESPONSE_CODE, 429);
                message.setHeader("Retry-After", access.retryAfterS());
                message.setBody(Refusals.json("too_many_requests", "too many logins; try again later"));
            }
            case "exposed" -> {
                message.setHeader(Exchange.HTTP_RESPONSE_CODE, 403);
                message.setBody(Refusals.json("forbidden",
                        "a password must not cross the network in the clear: use https, or a tunnel to this machine"));
            }
            case "role" -> {
                message.setHeader(Exchange.HTTP_RESPONSE_CODE, 403);
                message.setBody(Refusals.json("forbidden", "this needs the role " + exchange.getVariable("role", String.class)
                        + ", which [" + access.user() + "] does not have; user:role gives it"));
            }
            case "foreign_origin" -> {
                message.setHeader(Exchange.HTTP_RESPONSE_CODE, 403);
                message.setBody(Refusals.json("forbidden", "a page of another origin must not ask for that"));
            }
            default -> {
                message.setHeader(Exchange.HTTP_RESPONSE_CODE, 401);
                message.setHeader("WWW-Authenticate", REALM);
                message.setBody(Refusals.json("unauthorized", "log in"));
            }
        }
    }

    private Login decide(HttpCall call) {
        if (call.local() && config.get("admin.login").equals("remote")) {
            return outcome(GRANTED);
        }
        List<String> given = call.headers("Authorization");
        if (call.exposed()) {
            // Asking for a password here would make people send it.
            return outcome("exposed");
        }
        return given.isEmpty() ? outcome("unauthorized") : login(call, given);
    }

    private Login login(HttpCall call, List<String> given) {
        long lockedS = lockedS(call.address());
        if (lockedS > 0) {
            return new Login("locked_out", lockedS, null, Set.of(), false);
        }
        char[] credential = given.size() == 1 ? basic(given.get(0)) : null;
        int colon = 0;
        while (credential != null && colon < credential.length && credential[colon] != ':') {
            colon++;
        }
        String user = credential == null ? "" : new String(credential, 0, colon);
        Set<String> roles = Set.of();
        if (credential != null && colon < credential.length) {
            char[] password = Arrays.copyOfRange(credential, colon + 1, credential.length);
            try {
                Users users = context.getRegistry().lookupByNameAndType("users", Users.class);
                roles = users == null ? Set.of() : users.roles(user, password).orElse(Set.of());
            } finally {
                Arrays.fill(password, '\0');
                Arrays.fill(credential, '\0');
            }
        }
        if (roles.stream().anyMatch(ROLES::contains)) {
            succeeded(call.address());
            return new Login(GRANTED, 0, user, roles, false);
        }
        failed(call.address(), user);
        return outcome("unauthorized");
    }

    /** @return user, colon, password; null if it is not that */
    private static char[] basic(String header) {
        if (header.length() > MAX_CREDENTIAL || !header.regionMatches(true, 0, "Basic ", 0, 6)) {
            return null;
        }
        try {
            ByteBuffer bytes = ByteBuffer.wrap(Base64.getDecoder().decode(header.substring(6).trim()));
            CharBuffer text = StandardCharsets.UTF_8.newDecoder().decode(bytes);
            char[] chars = new char[text.remaining()];
            text.get(chars);
            Arrays.fill(text.array(), '\0');
            Arrays.fill(bytes.array(), (byte) 0);
            return chars;
        } catch (IllegalArgumentException | CharacterCodingException e) {
            return null;
        }
    }

    @Override
    public void succeeded(String address) {
        synchronized (failures) {
            failures.remove(address);
        }
    }

    @Override
    public void failed(String address, String user) {
        if (failed(address)) {
            audit(user, address);
        }
    }

    @Override
    public long lockedS(String address) {
        synchronized (failures) {
            Failures known = failures.get(address);
            if (known == null || known.count() < config.getLong("admin.login.failures")) {
                return 0;
            }
            long left = known.untilNs() - System.nanoTime();
            if (left <= 0) {
                failures.remove(address);
                return 0;
            }
            return TimeUnit.NANOSECONDS.toSeconds(left) + 1;
        }
    }

    /** @return whether it is locked out from now on */
    private boolean failed(String address) {
        synchronized (failures) {
            Failures known = failures.remove(address);
            int count = known == null ? 1 : known.count() + 1;
            failures.put(address, new Failures(count, System.nanoTime() + TimeUnit.MILLISECONDS.toNanos(config.getLong("admin.login.lock.ms"))));
            return count == config.getLong("admin.login.failures");
        }
    }

    private void audit(String user, String address) {
        String shown = user.matches("[A-Za-z][A-Za-z0-9._-]{0,63}") ? user : "a name that no user can have";
        long failed = config.getLong("admin.login.failures");
        LOG.warn("Address {} is locked out of logins over HTTP after {} failures, the last one as [{}]", address, failed, shown);
        try {
            Audit audit = context.getRegistry().lookupByNameAndType("audit", Audit.class);
            if (audit != null) {
                audit.record("user.lockout", address, "locked", Map.of("failures", failed, "user", shown));
            }
        } catch (RuntimeException e) {
            // It is locked out all the same.
            LOG.error("A lock-out could not be written to the audit log", e);
        }
    }
}
