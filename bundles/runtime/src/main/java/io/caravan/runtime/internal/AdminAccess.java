// SPDX-License-Identifier: Apache-2.0
package io.caravan.runtime.internal;

import io.caravan.runtime.Audit;
import io.caravan.runtime.Config;
import io.caravan.runtime.HttpCall;
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
 * not. Blocks while a password is checked; {@link Users} makes wrong ones slow and notes them, here an address that goes on is
 * locked out. This class is thread-safe.
 */
public final class AdminAccess {

    private static final Logger LOG = LoggerFactory.getLogger(AdminAccess.class);
    private static final Set<String> ROLES = Set.of("viewer", "operator", "admin");
    private static final String GRANTED = "granted";
    private static final String REALM = "Basic realm=\"caravan\", charset=\"UTF-8\"";
    private static final int MAX_ADDRESSES = 1_000;
    private static final int MAX_CREDENTIAL = 1_024;

    /** Failures of an address since it last succeeded or was locked out. */
    private record Failures(int count, long untilNs) {}

    private record Access(String outcome, long retryAfterS) {}

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
        Access access = decide(call);
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
            default -> {
                message.setHeader(Exchange.HTTP_RESPONSE_CODE, 401);
                message.setHeader("WWW-Authenticate", REALM);
                message.setBody(Refusals.json("unauthorized", "log in"));
            }
        }
    }

    private Access decide(HttpCall call) {
        if (call.local() && config.get("admin.login").equals("remote")) {
            return new Access(GRANTED, 0);
        }
        List<String> given = call.headers("Authorization");
        if (call.exposed()) {
            // Asking for a password here would make people send it.
            return new Access("exposed", 0);
        }
        if (given.isEmpty()) {
            return new Access("unauthorized", 0);
        }
        long lockedS = lockedS(call.address());
        if (lockedS > 0) {
            return new Access("locked_out", lockedS);
        }
        return login(call, given) ? new Access(GRANTED, 0) : new Access("unauthorized", 0);
    }

    private boolean login(HttpCall call, List<String> given) {
        char[] credential = given.size() == 1 ? basic(given.get(0)) : null;
        int colon = 0;
        while (credential != null && colon < credential.length && credential[colon] != ':') {
            colon++;
        }
        String user = credential == null ? "" : new String(credential, 0, colon);
        boolean known = false;
        if (credential != null && colon < credential.length) {
            char[] password = Arrays.copyOfRange(credential, colon + 1, credential.length);
            try {
                Users users = context.getRegistry().lookupByNameAndType("users", Users.class);
                known = users != null && users.roles(user, password).map(roles -> roles.stream().anyMatch(ROLES::contains)).orElse(false);
            } finally {
                Arrays.fill(password, '\0');
                Arrays.fill(credential, '\0');
            }
        }
        if (known) {
            synchronized (failures) {
                failures.remove(call.address());
            }
            return true;
        }
        if (failed(call.address())) {
            audit(user, call);
        }
        return false;
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

    private long lockedS(String address) {
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

    private void audit(String user, HttpCall call) {
        String shown = user.matches("[A-Za-z][A-Za-z0-9._-]{0,63}") ? user : "a name that no user can have";
        long failed = config.getLong("admin.login.failures");
        LOG.warn("Address {} is locked out of logins over HTTP after {} failures, the last one as [{}]", call.address(), failed, shown);
        try {
            Audit audit = context.getRegistry().lookupByNameAndType("audit", Audit.class);
            if (audit != null) {
                audit.record("user.lockout", call.address(), "locked", Map.of("failures", failed, "user", shown));
            }
        } catch (RuntimeException e) {
            // It is locked out all the same.
            LOG.error("A lock-out could not be written to the audit log", e);
        }
    }
}
