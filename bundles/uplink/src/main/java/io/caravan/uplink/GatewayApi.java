// SPDX-License-Identifier: Apache-2.0
package io.caravan.uplink;

import com.fasterxml.jackson.core.JsonProcessingException;
import com.fasterxml.jackson.databind.DeserializationFeature;
import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.json.JsonMapper;
import com.fasterxml.jackson.databind.node.ArrayNode;
import com.fasterxml.jackson.databind.node.ObjectNode;
import io.caravan.runtime.Config;
import io.caravan.runtime.HttpCall;
import io.caravan.runtime.Problem;
import java.io.IOException;
import java.sql.SQLException;
import java.util.ArrayList;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.NavigableMap;
import java.util.Set;
import java.util.TreeMap;
import java.util.TreeSet;
import java.util.function.Supplier;
import java.util.regex.Pattern;
import java.util.stream.Collectors;
import org.apache.camel.Exchange;
import org.apache.camel.Message;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/**
 * Bean {@code gatewayApi}: between HTTP and the registry and the fleet. Each method reads the request that a route has let in and makes the
 * whole answer, refusals included; docs/contract.md section 8. Thread-safe.
 */
public final class GatewayApi {

    private static final Logger LOG = LoggerFactory.getLogger(GatewayApi.class);
    private static final ObjectMapper JSON = JsonMapper.builder().enable(DeserializationFeature.FAIL_ON_TRAILING_TOKENS)
        .enable(com.fasterxml.jackson.core.StreamReadFeature.STRICT_DUPLICATE_DETECTION).build();
    private static final Pattern ID = Pattern.compile("[A-Za-z0-9][A-Za-z0-9._-]{0,63}");
    private static final long INVITATION_MS = 86_400_000;
    private static final long OVERLAP_MS = 86_400_000;
    private static final int RETRY_S = 5;
    private static final String NOT_FOUND = "not_found";

    private final Gateways gateways;
    private final Fleet fleet;
    private final Config config;

    GatewayApi(Gateways gateways, Fleet fleet, Config config) {
        this.gateways = gateways;
        this.fleet = fleet;
        this.config = config;
    }

    /** A request that is not served, for the reason that is told. */
    private static final class Refused extends Exception {
        private static final long serialVersionUID = 1L;
        final int status;
        final String error;
        final String field;

        Refused(int status, String error, String field, String message) {
            super(message);
            this.status = status;
            this.error = error;
            this.field = field;
        }
    }

    private interface Work {
        JsonNode of() throws IOException, SQLException, Refused;
    }

    private interface Listing {
        TreeMap<String, Supplier<JsonNode>> of() throws IOException, SQLException, Refused;
    }

    /** GET /api/v1/fleet */
    public void fleet(Exchange exchange) {
        page(exchange, "/api/v1/fleet", () -> {
            String state = header(exchange, "state");
            if (state != null && !state.equals("ok") && List.of(Fleet.State.values()).stream().noneMatch(s -> FleetView.name(s).equals(state))) {
                throw new Refused(400, "bad_request", "/state", "state [" + shown(state) + "] must be ok or one of "
                    + List.of(Fleet.State.values()).stream().map(FleetView::name).toList());
            }
            return fleet.list(sites(exchange)).stream()
                .filter(m -> state == null || state.equals("ok") && m.states().isEmpty() || m.states().stream().anyMatch(s -> FleetView.name(s).equals(state)))
                .collect(Collectors.toMap(Fleet.Member::id, m -> () -> json(m), (a, b) -> a, TreeMap::new));
        });
    }

    /** GET /api/v1/fleet/{gateway_id} */
    public void fleetShow(Exchange exchange) {
        answer(exchange, 200, () -> {
            String id = header(exchange, "gateway_id");
            return json(fleet.list(sites(exchange)).stream().filter(m -> m.id().equals(id)).findFirst()
                .orElseThrow(() -> new Refused(404, NOT_FOUND, null, "there is no gateway [" + shown(id) + "]")));
        });
    }

    /** GET /api/v1/admin/gateways */
    public void list(Exchange exchange) {
        page(exchange, "/api/v1/admin/gateways", () -> {
            Map<String, Long> open = invitations();
            List<String> sites = sites(exchange);
            Set<String> visible = sites == null ? null : new TreeSet<>(fleet.list(sites).stream().map(Fleet.Member::id).toList());
            return gateways.list().stream().filter(g -> visible == null || visible.contains(g.id()))
                .collect(Collectors.toMap(Gateways.Gateway::id, g -> () -> json(g, open.get(g.id())), (a, b) -> a, TreeMap::new));
        });
    }

    /** GET /api/v1/admin/gateways/{gateway_id} */
    public void show(Exchange exchange) {
        answer(exchange, 200, () -> json(known(exchange), invitations().get(header(exchange, "gateway_id"))));
    }

    /** POST /api/v1/admin/gateways: registers one, with an enrolment token; PUT semantics are not offered, ids are never reused by accident. */
    public void add(Exchange exchange) {
        answer(exchange, 201, () -> {
            ObjectNode body = body(exchange, Set.of("gateway_id", "note", "valid_ms"));
            String id = text(body, "gateway_id");
            if (sites(exchange) != null) {
                throw new Refused(403, "forbidden", null, "registering a gateway needs role admin for all sites");
            }
            if (id == null) {
                throw new Refused(400, "bad_request", "/gateway_id", "gateway_id must be there");
            }
            if (gateways.list().stream().anyMatch(g -> g.id().equals(id))) {
                throw new Refused(409, "conflict", "/gateway_id", "gateway [" + id + "] is there already: POST .../" + id + "/enrol makes an enrolment token for it");
            }
            JsonNode made = json(gateways.invite(id, text(body, "note"), number(body, "valid_ms", INVITATION_MS)));
            exchange.setVariable("location", "/api/v1/admin/gateways/" + id);
            return made;
        });
        String location = exchange.getVariable("location", String.class);
        if (location != null) {
            exchange.getMessage().setHeader("Location", location);
        }
    }

    /** POST /api/v1/admin/gateways/{gateway_id}/enrol */
    public void invite(Exchange exchange) {
        answer(exchange, 201, () -> {
            ObjectNode body = body(exchange, Set.of("valid_ms"));
            return json(gateways.invite(active(exchange).id(), null, number(body, "valid_ms", INVITATION_MS)));
        });
    }

    /** POST /api/v1/admin/gateways/{gateway_id}/rotate */
    public void rotate(Exchange exchange) {
        answer(exchange, 200, () -> {
            ObjectNode body = body(exchange, Set.of("overlap_ms", "not_after_ms"));
            return json(gateways.rotate(active(exchange).id(), number(body, "overlap_ms", OVERLAP_MS),
                body.has("not_after_ms") ? (Long) number(body, "not_after_ms", 0) : null));
        });
    }

    /** POST /api/v1/admin/gateways/{gateway_id}/revoke */
    public void revoke(Exchange exchange) {
        answer(exchange, 200, () -> json(gateways.revoke(known(exchange).id()), null));
    }

    /** POST /api/v1/admin/gateways/{gateway_id}/restore */
    public void restore(Exchange exchange) {
        answer(exchange, 200, () -> json(gateways.restore(known(exchange).id())));
    }

    /** DELETE /api/v1/admin/gateways/{gateway_id} */
    public void remove(Exchange exchange) {
        answer(exchange, 204, () -> {
            gateways.remove(known(exchange).id());
            return null;
        });
    }

    /** POST /api/v1/enrol: by the gateway itself; the enrolment token is what it shows. */
    public void enrol(Exchange exchange) {
        HttpCall call = HttpCall.of(exchange);
        answer(exchange, 200, () -> {
            if (call.exposed()) {
                throw new Refused(403, "forbidden", null, "an enrolment token that came without TLS may have been read on the way: it is not taken. Use https, and make a new one");
            }
            ObjectNode body = body(exchange, Set.of("token", "token_sha256"));
            String id = gateways.enrol(text(body, "token"), text(body, "token_sha256"), call.address());
            if (id == null) {
                call.refused("enrol");
                throw new Refused(401, "unauthorized", null, "the enrolment token is wrong, used or over, or its gateway is revoked: ask for a new one (gateway:enrol)");
            }
            return JSON.createObjectNode().put("gateway_id", id).put("uplink_path", "/uplink/" + id);
        });
    }

    private Map<String, Long> invitations() throws IOException {
        return gateways.shared() ? gateways.invitations() : Map.of();
    }

    private Gateways.Gateway known(Exchange exchange) throws Refused {
        String id = header(exchange, "gateway_id");
        return gateways.list().stream().filter(g -> g.id().equals(id)).findFirst()
            .orElseThrow(() -> new Refused(404, NOT_FOUND, null, "gateway [" + shown(id) + "] is not registered; POST /api/v1/admin/gateways registers one"));
    }

    private Gateways.Gateway active(Exchange exchange) throws Refused {
        Gateways.Gateway gateway = known(exchange);
        if (gateway.status() == Gateways.Status.REVOKED) {
            throw new Refused(409, "conflict", null, "gateway [" + gateway.id() + "] is revoked; POST .../restore makes it active again, with a new token");
        }
        return gateway;
    }

    /** @return null: all; the variable is what the route's access step found */
    private static List<String> sites(Exchange exchange) throws Refused {
        Object sites = exchange.getVariable("sites");
        if (sites == null) {
            return null;
        }
        try {
            List<String> all = sites instanceof List<?> list ? list.stream().map(String::valueOf).toList()
                : List.of(JSON.readValue(String.valueOf(sites), String[].class));
            return all.contains("*") ? null : all;
        } catch (JsonProcessingException e) {
            throw new Refused(500, "internal_error", null, "variable sites must be a JSON array of texts");
        }
    }

    private static ObjectNode json(Fleet.Member m) {
        ObjectNode node = JSON.createObjectNode().put("gateway_id", m.id());
        ArrayNode states = node.putArray("states");
        m.states().forEach(s -> states.add(FleetView.name(s)));
        return node.put("connected", m.connected()).put("seen_at_ms", m.seenMs()).put("connected_since_ms", m.connectedSinceMs()).put("address", m.address())
            .put("version", m.version()).put("stats_at_ms", m.statsMs()).put("backlog_rows", m.backlogRows()).put("lag_ms", m.lagMs())
            .put("clock_offset_ms", m.clockOffsetMs()).put("round_trip_ms", m.roundTripMs()).put("store_state", m.storeState())
            .put("store_bytes", m.storeBytes()).put("store_limit_bytes", m.storeLimitBytes()).put("ready", m.ready()).put("note", m.note());
    }

    private static ObjectNode json(Gateways.Gateway g, Long enrolmentUntilMs) {
        ObjectNode node = JSON.createObjectNode().put("gateway_id", g.id()).put("status", g.status().name().toLowerCase(Locale.ROOT))
            .put("certificate", g.certificate().name().toLowerCase(Locale.ROOT)).put("note", g.note()).put("enrolment_until_ms", enrolmentUntilMs);
        if (g.problem() != null) {
            node.put("problem", g.problem());
        }
        ArrayNode tokens = node.putArray("tokens");
        g.tokens().forEach(t -> tokens.addObject().put("id", t.id()).put("not_before_ms", t.notBeforeMs()).put("not_after_ms", t.notAfterMs()));
        return node;
    }

    private static ObjectNode json(Gateways.Enrolment made) {
        return json(made.gateway(), null).put("token", made.token());
    }

    private static ObjectNode json(Gateways.Invitation made) {
        return json(made.gateway(), made.untilMs()).put("enrolment_token", made.token());
    }

    /** A list by id, from behind {@code after}, at most {@code limit} of it; header Link says how the rest is asked for. */
    private void page(Exchange exchange, String path, Listing listing) {
        StringBuilder next = new StringBuilder();
        answer(exchange, 200, () -> {
            String after = header(exchange, "after");
            if (after != null && !ID.matcher(after).matches()) {
                throw new Refused(400, "bad_request", "/after", "after [" + shown(after) + "] must be the id of a gateway, as Link says it");
            }
            String asked = header(exchange, "limit");
            if (asked != null && !asked.matches("0*[1-9][0-9]{0,8}")) {
                throw new Refused(400, "bad_request", "/limit", "limit [" + shown(asked) + "] must be a whole number from 1");
            }
            long limit = Math.min(asked == null ? config.getLong("api.rows.default") : Long.parseLong(asked), config.getLong("api.rows.max"));
            TreeMap<String, Supplier<JsonNode>> all = listing.of();
            NavigableMap<String, Supplier<JsonNode>> rest = after == null ? all : all.tailMap(after, false);
            ArrayNode page = JSON.createArrayNode();
            rest.values().stream().limit(limit).forEach(one -> page.add(one.get()));
            if (rest.size() > limit) {
                String state = header(exchange, "state");
                next.append('<').append(path).append('?').append(state == null ? "" : "state=" + state + '&').append("limit=").append(limit)
                    .append("&after=").append(page.get(page.size() - 1).get("gateway_id").textValue()).append(">; rel=\"next\"");
            }
            return page;
        });
        if (next.length() > 0) {
            exchange.getMessage().setHeader("Link", next.toString());
        }
    }

    private void answer(Exchange exchange, int status, Work work) {
        try {
            JsonNode made = work.of();
            Message message = exchange.getMessage();
            message.removeHeaders("*");
            message.setHeader(Exchange.HTTP_RESPONSE_CODE, status);
            message.setHeader("Cache-Control", "no-store");
            if (made != null) {
                message.setHeader(Exchange.CONTENT_TYPE, "application/json");
            }
            message.setBody(made == null ? null : made.toString());
        } catch (Refused e) {
            Problem.answer(exchange, e.status, e.error, e.field, e.getMessage());
        } catch (IllegalArgumentException e) {
            Problem.answer(exchange, 400, "bad_request", null, e.getMessage());
        } catch (IllegalStateException e) {
            Problem.answer(exchange, 409, "conflict", null, e.getMessage());
        } catch (IOException | SQLException e) {
            LOG.warn("A request about gateways could not be served: {}", e.getMessage());
            Problem.answer(exchange, 503, "unavailable", null, e.getMessage());
            exchange.getMessage().setHeader("Retry-After", RETRY_S);
        }
    }

    private static ObjectNode body(Exchange exchange, Set<String> members) throws Refused {
        String type = header(exchange, Exchange.CONTENT_TYPE);
        String text = exchange.getMessage().getBody(String.class);
        if (text == null || text.isBlank()) {
            return JSON.createObjectNode();
        }
        if (type == null || !type.split(";")[0].strip().equalsIgnoreCase("application/json")) {
            throw new Refused(415, "unsupported_content_type", null, "the body must be application/json");
        }
        try {
            if (JSON.readTree(text) instanceof ObjectNode object) {
                List<String> names = new ArrayList<>();
                object.fieldNames().forEachRemaining(names::add);
                for (String name : names) {
                    if (!members.contains(name)) {
                        throw new Refused(400, "bad_request", "/" + shown(name), "there is no field [" + shown(name) + "]; there are " + new TreeSet<>(members));
                    }
                }
                return object;
            }
        } catch (JsonProcessingException e) {
            throw new Refused(400, "bad_request", null, "the body must be a JSON object: " + e.getOriginalMessage());
        }
        throw new Refused(400, "bad_request", null, "the body must be a JSON object");
    }

    private static String text(ObjectNode body, String name) throws Refused {
        JsonNode value = body.get(name);
        if (value == null || value.isNull()) {
            return null;
        }
        if (!value.isTextual()) {
            throw new Refused(400, "bad_request", "/" + name, name + " must be a text");
        }
        return value.textValue();
    }

    private static long number(ObjectNode body, String name, long otherwise) throws Refused {
        JsonNode value = body.get(name);
        if (value == null || value.isNull()) {
            return otherwise;
        }
        if (!value.isIntegralNumber() || !value.canConvertToLong()) {
            throw new Refused(400, "bad_request", "/" + name, name + " must be a whole number of milliseconds");
        }
        return value.longValue();
    }

    private static String header(Exchange exchange, String name) {
        return exchange.getMessage().getHeader(name, String.class);
    }

    private static String shown(String text) {
        String clean = String.valueOf(text).replaceAll("\\p{Cntrl}", "?");
        return clean.length() > 64 ? clean.substring(0, 64) : clean;
    }
}
