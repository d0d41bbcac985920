// SPDX-License-Identifier: Apache-2.0
package io.caravan.uplink;

import io.caravan.runtime.Audit;
import io.caravan.uplink.internal.GatewaysFile;
import io.caravan.uplink.internal.GatewaysFile.Entry;
import io.caravan.uplink.internal.GatewaysTable;
import io.caravan.uplink.internal.Trust;
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

/** {@link Gateways} on file and store, the sessions and the audit log. */
final class GatewayRegistry implements Gateways {

    private static final SecureRandom RANDOM = new SecureRandom();
    private static final long OVERLAP_MAX_MS = 366L * 86_400_000;
    private static final long INVITATION_MIN_MS = 1_000;
    private static final long INVITATION_MAX_MS = 30L * 86_400_000;

    private final Trust trust;
    private final GatewaysFile file;
    private final Sessions sessions;
    private final Supplier<Audit> audit;

    GatewayRegistry(Trust trust, Sessions sessions, Supplier<Audit> audit) {
        this.trust = trust;
        this.file = trust.file();
        this.sessions = sessions;
        this.audit = audit;
    }

    @Override
    public List<Gateway> list() {
        Map<String, Sessions.Connected> connected = sessions.list().stream()
            .collect(Collectors.toMap(Sessions.Connected::gatewayId, Function.identity(), (a, b) -> b));
        return trust.entries().values().stream().map(e -> gateway(e, connected.get(e.id()))).sorted(Comparator.comparing(Gateway::id)).toList();
    }

    @Override
    public List<String> problems() {
        return trust.problems();
    }

    @Override
    public Enrolment add(String id, Certificate certificate, boolean withToken, String note, Long notAfterMs) throws IOException {
        if (!withToken && certificate == Certificate.NO) {
            throw new IllegalArgumentException("gateway [" + id + "] must have a token or be allowed a certificate");
        }
        String clean = note(note);
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
        Entry known = trust.entries().get(id);
        valid(id, known);
        // First of all in force: the disk may fail, and must not be waited for.
        file.deny(id);
        sessions.recheck(false);
        IOException failed = null;
        Entry made = known;
        try {
            made = trust.edit(id, old -> {
                valid(id, old);
                return new Entry(id, old.tokens(), old.certificate(), true, old.note(), null);
            });
            settle(id);
            sessions.recheck(false);
        } catch (IOException e) {
            failed = new IOException("gateway [" + id + "] is revoked and cut off, but only " + (trust.stored(id) ? "at this replica and " : "")
                + "until this cloud is restarted: " + e.getMessage() + "; mend " + (trust.stored(id) ? "the store" : "the disk") + " and give the command again", e);
        }
        record("gateway.revoke", id, failed == null ? "ok" : "not on disk", Map.of());
        if (failed != null) {
            throw failed;
        }
        return gateway(made, null);
    }

    @Override
    public Enrolment restore(String id) throws IOException {
        Entry known = trust.entries().get(id);
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
        if (!trust.entries().containsKey(id)) {
            throw new IllegalArgumentException("gateway [" + id + "] must be in the registry; uplink:list shows who is");
        }
        file.deny(id);
        sessions.recheck(false);
        try {
            trust.edit(id, old -> null);
        } catch (IOException e) {
            record("gateway.remove", id, "not on disk", Map.of());
            throw new IOException("gateway [" + id + "] is cut off, but its line could not be removed: " + e.getMessage(), e);
        }
        settle(id);
        sessions.recheck(false);
        record("gateway.remove", id, "ok", Map.of());
    }

    @Override
    public Invitation invite(String id, String note, long validMs) throws IOException {
        GatewaysTable table = trust.table();
        GatewaysFile.checkId(id);
        if (validMs < INVITATION_MIN_MS || validMs > INVITATION_MAX_MS) {
            throw new IllegalArgumentException("an enrolment token must be valid for " + INVITATION_MIN_MS + " to " + INVITATION_MAX_MS + " ms, not [" + validMs + "]");
        }
        if (file.entries().containsKey(id) && !trust.stored(id)) {
            throw new IllegalArgumentException("gateway [" + id + "] is only in the gateways file (uplink.gateways.file): gateway:import takes the file over into the store");
        }
        String clean = note(note);
        UnaryOperator<Entry> edit = old -> {
            if (old != null && old.revoked()) {
                throw new IllegalArgumentException("gateway [" + id + "] is revoked; uplink:restore makes it active again");
            }
            return old == null ? new Entry(id, List.of(), Certificate.NO, false, clean, null)
                : new Entry(id, old.tokens(), old.certificate(), false, clean == null ? old.note() : clean, null);
        };
        edit.apply(trust.entries().get(id));
        String token = "cve_" + random();
        long endMs = System.currentTimeMillis() + validMs;
        Map<String, ?> details = Map.of("token", tokenId(token), "until_ms", endMs);
        record("gateway.invite", id, "ok", details);
        try {
            return new Invitation(gateway(table.invite(id, edit, GatewaysFile.sha256(token), endMs), null), token, endMs);
        } catch (IOException e) {
            record("gateway.invite", id, "failed: " + e.getMessage(), details);
            throw e;
        }
    }

    @Override
    public String enrol(String token, String credentialHash, String address) throws IOException {
        if (token == null || !token.matches("cve_[A-Za-z0-9_-]{43}")) {
            return null;
        }
        if (credentialHash == null || !credentialHash.matches("[0-9a-f]{64}")) {
            throw new IllegalArgumentException("token_sha256 must be 64 lower case hex digits");
        }
        GatewaysTable.Enrolled done = trust.table().enrol(GatewaysFile.sha256(token), credentialHash);
        // Behind it: whether the token is good is known only then. What cannot be audited is taken back.
        if (done != null && !done.repeated()) {
            try {
                record("gateway.enrol", done.gatewayId(), "ok", Map.of("enrolment", tokenId(token), "token", credentialHash.substring(0, 8), "address", address));
            } catch (RuntimeException e) {
                trust.edit(done.gatewayId(), old -> old == null ? null : new Entry(old.id(), List.of(), old.certificate(), old.revoked(), old.note(), null));
                sessions.recheck(false);
                throw e;
            }
            // Connections of the machine that was there before.
            sessions.recheck(false);
        }
        return done == null ? null : done.gatewayId();
    }

    @Override
    public List<String> importFile() throws IOException {
        GatewaysTable table = trust.table();
        List<Entry> filed = file.entries().values().stream().filter(e -> e.problem() == null && !trust.stored(e.id()))
            .sorted(Comparator.comparing(Entry::id)).toList();
        filed.forEach(e -> record("gateway.import", e.id(), "ok", Map.of("revoked", e.revoked(), "tokens", e.tokens().size())));
        List<String> taken = table.take(filed);
        for (String id : taken) {
            file.edit(id, old -> null);
        }
        return taken;
    }

    @Override
    public Map<String, Long> invitations() throws IOException {
        Map<String, Long> all = new java.util.TreeMap<>();
        trust.table().open().forEach((id, open) -> all.put(id, open.notAfterMs()));
        return all;
    }

    @Override
    public boolean shared() {
        return trust.hasTable();
    }

    /** Only now that the registry says it too: a store that cannot be read again must not let it in. */
    private void settle(String id) {
        Entry now = trust.entries().get(id);
        if (now == null || now.revoked()) {
            file.allow(id);
        }
    }

    private static String note(String note) {
        String clean = note == null || note.isBlank() ? null : note.strip();
        if (clean != null && !clean.matches("[^\\p{Cntrl}]{1,200}")) {
            throw new IllegalArgumentException("note must be one line of at most 200 characters");
        }
        return clean;
    }

    /** Audited before it is done: what gives rights must not be done unseen. */
    private Entry change(String action, String id, Map<String, ?> details, UnaryOperator<Entry> edit) throws IOException {
        // Once to see whether it is allowed at all: what is refused is no news.
        GatewaysFile.checkId(id);
        edit.apply(trust.entries().get(id));
        record(action, id, "ok", details);
        Entry made;
        try {
            made = trust.edit(id, edit);
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
            throw new IllegalArgumentException("gateway [" + id + "] must be in the registry; uplink:list shows who is, uplink:add adds it");
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
        return "cvn_" + random();
    }

    private static String random() {
        byte[] bytes = new byte[32];
        RANDOM.nextBytes(bytes);
        return Base64.getUrlEncoder().withoutPadding().encodeToString(bytes);
    }

    private static String tokenId(String token) {
        return GatewaysFile.sha256(token).substring(0, 8);
    }
}
