// SPDX-License-Identifier: Apache-2.0
package io.caravan.uplink;

import io.caravan.runtime.Audit;
import io.caravan.uplink.internal.GatewaysFile;
import io.caravan.uplink.internal.GatewaysFile.Entry;
import java.io.IOException;
import java.security.SecureRandom;
import java.time.Instant;
import java.util.ArrayList;
import java.util.Base64;
import java.util.Comparator;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.function.Function;
import java.util.function.Supplier;
import java.util.function.UnaryOperator;
import java.util.stream.Collectors;

/** {@link Gateways} on the file, the sessions and the audit log. */
final class GatewayRegistry implements Gateways {

    private static final SecureRandom RANDOM = new SecureRandom();
    private static final long OVERLAP_MAX_MS = 366L * 86_400_000;

    private final GatewaysFile file;
    private final Sessions sessions;
    private final Supplier<Audit> audit;

    GatewayRegistry(GatewaysFile file, Sessions sessions, Supplier<Audit> audit) {
        this.file = file;
        this.sessions = sessions;
        this.audit = audit;
    }

    @Override
    public List<Gateway> list() {
        Map<String, Sessions.Connected> connected = sessions.list().stream()
            .collect(Collectors.toMap(Sessions.Connected::gatewayId, Function.identity(), (a, b) -> b));
        return file.entries().values().stream().map(e -> gateway(e, connected.get(e.id()))).sorted(Comparator.comparing(Gateway::id)).toList();
    }

    @Override
    public List<String> problems() {
        return file.problems();
    }

    @Override
    public Enrolment add(String id, Certificate certificate, boolean withToken, String note, Long notAfterMs) throws IOException {
        if (!withToken && certificate == Certificate.NO) {
            throw new IllegalArgumentException("gateway [" + id + "] must have a token or be allowed a certificate");
        }
        String clean = note == null || note.isBlank() ? null : note.strip();
        if (clean != null && !clean.matches("[^\\p{Cntrl}]{1,200}")) {
            throw new IllegalArgumentException("note must be one line of at most 200 characters");
        }
        String token = withToken ? token() : null;
        Entry made = change("gateway.add", id, Map.of("certificate", certificate.name(), "token", token == null ? "none" : tokenId(token)), old -> {
            if (old != null) {
                throw new IllegalArgumentException("gateway [" + id + "] is there already" + (old.problem() == null ? "" : ", and invalid: "
                    + old.problem()) + "; uplink:rotate gives it a new token, uplink:remove forgets it");
            }
            return new Entry(id, token == null ? List.of() : List.of(fresh(token, notAfterMs)), certificate, false, clean, null);
        });
        return enrolment(made, token);
    }

    @Override
    public Enrolment rotate(String id, long overlapMs, Long notAfterMs) throws IOException {
        if (overlapMs < 0 || overlapMs > OVERLAP_MAX_MS) {
            throw new IllegalArgumentException("overlap [" + overlapMs + "] ms must be 0 to a year");
        }
        String token = token();
        Entry made = change("gateway.rotate", id, Map.of("token", tokenId(token), "overlap_ms", overlapMs), old -> {
            valid(id, old);
            if (old.revoked()) {
                throw new IllegalArgumentException("gateway [" + id + "] is revoked; uplink:restore makes it active again, with a new token");
            }
            List<GatewaysFile.Token> tokens = new ArrayList<>(List.of(fresh(token, notAfterMs)));
            Instant now = Instant.now();
            Instant end = now.plusMillis(overlapMs);
            // Newest first, as every command here writes them.
            old.tokens().stream().filter(t -> overlapMs > 0 && (t.from() == null || !now.isBefore(t.from())) && (t.until() == null || now.isBefore(t.until())))
                .findFirst().ifPresent(t -> tokens.add(new GatewaysFile.Token(t.hash(), t.from(), t.until() != null && t.until().isBefore(end) ? t.until() : end)));
            return new Entry(id, List.copyOf(tokens), old.certificate(), false, old.note(), null);
        });
        return enrolment(made, token);
    }

    @Override
    public Gateway revoke(String id) throws IOException {
        Entry known = file.entries().get(id);
        valid(id, known);
        // First of all in force: the disk may fail, and must not be waited for.
        file.deny(id);
        sessions.recheck(false);
        IOException failed = null;
        Entry made = known;
        try {
            made = file.edit(id, old -> {
                valid(id, old);
                return new Entry(id, old.tokens(), old.certificate(), true, old.note(), null);
            });
            file.allow(id);
            sessions.recheck(false);
        } catch (IOException e) {
            failed = new IOException("gateway [" + id + "] is revoked and cut off, but only until this cloud is restarted: " + e.getMessage()
                + "; mend the disk and give the command again", e);
        }
        record("gateway.revoke", id, failed == null ? "ok" : "not on disk", Map.of());
        if (failed != null) {
            throw failed;
        }
        return gateway(made, null);
    }

    @Override
    public Enrolment restore(String id) throws IOException {
        Entry known = file.entries().get(id);
        valid(id, known);
        String token = known.tokens().isEmpty() && known.certificate() != Certificate.NO ? null : token();
        Entry made = change("gateway.restore", id, Map.of("token", token == null ? "none" : tokenId(token)), old -> {
            valid(id, old);
            if (!old.revoked() && !file.isDenied(id)) {
                throw new IllegalArgumentException("gateway [" + id + "] must be revoked to be restored; uplink:rotate gives it a new token");
            }
            return new Entry(id, token == null ? List.of() : List.of(fresh(token, null)), old.certificate(), false, old.note(), null);
        });
        file.allow(id);
        return enrolment(made, token);
    }

    @Override
    public void remove(String id) throws IOException {
        if (!file.entries().containsKey(id)) {
            throw new IllegalArgumentException("gateway [" + id + "] must be in the gateways file; uplink:list shows who is");
        }
        file.deny(id);
        sessions.recheck(false);
        try {
            file.edit(id, old -> null);
        } catch (IOException e) {
            record("gateway.remove", id, "not on disk", Map.of());
            throw new IOException("gateway [" + id + "] is cut off, but its line could not be removed: " + e.getMessage(), e);
        }
        file.allow(id);
        sessions.recheck(false);
        record("gateway.remove", id, "ok", Map.of());
    }

    /** Audited before it is done: what gives rights must not be done unseen. */
    private Entry change(String action, String id, Map<String, ?> details, UnaryOperator<Entry> edit) throws IOException {
        // Once to see whether it is allowed at all: what is refused is no news.
        GatewaysFile.checkId(id);
        edit.apply(file.entries().get(id));
        record(action, id, "ok", details);
        Entry made;
        try {
            made = file.edit(id, edit);
        } catch (IOException | RuntimeException e) {
            record(action, id, "failed: " + e.getMessage(), details);
            throw e;
        }
        sessions.recheck(false);
        return made;
    }

    private void record(String action, String id, String outcome, Map<String, ?> details) {
        Audit log = audit.get();
        if (log != null) {
            log.record(action, id, outcome, new HashMap<>(details));
        }
    }

    private static void valid(String id, Entry entry) {
        if (entry == null) {
            throw new IllegalArgumentException("gateway [" + id + "] must be in the gateways file; uplink:list shows who is, uplink:add adds it");
        }
        if (entry.problem() != null) {
            throw new IllegalArgumentException("gateway [" + id + "] is refused already, its line is invalid: " + entry.problem()
                + "; mend the file, or uplink:remove it");
        }
    }

    private static Enrolment enrolment(Entry entry, String token) {
        return new Enrolment(gateway(entry, null), token);
    }

    private static Gateway gateway(Entry e, Sessions.Connected c) {
        return new Gateway(e.id(), e.problem() != null ? Status.INVALID : e.revoked() ? Status.REVOKED : Status.ACTIVE,
            e.tokens().stream().map(t -> new Token(t.id(), ms(t.from()), ms(t.until()))).toList(), e.certificate(), e.note(), e.problem(),
            c == null ? null : c.sinceMs(), c == null ? null : c.address(), c == null ? null : c.credential(), c == null ? null : c.version());
    }

    private static Long ms(Instant time) {
        return time == null ? null : time.toEpochMilli();
    }

    private static GatewaysFile.Token fresh(String token, Long notAfterMs) {
        if (notAfterMs != null && notAfterMs <= System.currentTimeMillis()) {
            throw new IllegalArgumentException("the end [" + Instant.ofEpochMilli(notAfterMs) + "] of a token must be in the future");
        }
        return new GatewaysFile.Token(GatewaysFile.sha256(token), null, notAfterMs == null ? null : Instant.ofEpochMilli(notAfterMs));
    }

    /** As the devices' tokens: 256 bits. */
    private static String token() {
        byte[] bytes = new byte[32];
        RANDOM.nextBytes(bytes);
        return "cvn_" + Base64.getUrlEncoder().withoutPadding().encodeToString(bytes);
    }

    private static String tokenId(String token) {
        return GatewaysFile.sha256(token).substring(0, 8);
    }
}
