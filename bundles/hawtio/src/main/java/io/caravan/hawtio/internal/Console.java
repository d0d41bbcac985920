// SPDX-License-Identifier: Apache-2.0
package io.caravan.hawtio.internal;

import io.caravan.runtime.Audit;
import io.caravan.runtime.Config;
import io.caravan.runtime.HttpCall;
import io.caravan.runtime.Logins;
import io.caravan.runtime.UserAdmin;
import java.io.IOException;
import java.io.InputStream;
import java.io.StringReader;
import java.nio.charset.StandardCharsets;
import java.util.Arrays;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Optional;
import java.util.Set;
import java.util.function.Supplier;
import java.util.function.UnaryOperator;
import java.util.zip.GZIPInputStream;
import org.apache.camel.CamelContext;
import org.apache.camel.Exchange;
import org.apache.camel.Message;
import org.apache.camel.spi.Registry;
import org.jolokia.json.JSONArray;
import org.jolokia.json.JSONObject;
import org.jolokia.json.parser.JSONParser;
import org.jolokia.json.parser.ParseException;
import org.jolokia.server.core.request.BadRequestException;

/**
 * Bean {@code hawtio}. Java, because hawtio asks for what a servlet of its own would answer, and that servlet needs a server this
 * container does not have. Every method answers only who is on this machine; thread-safe.
 */
public final class Console implements AutoCloseable {
  private static final String ROOT = "/hawtio/";
  private static final byte[] VERSION = "{\"type\":\"version\"}".getBytes(StandardCharsets.US_ASCII);
  private static final int MAX_PASSWORD = 1_024;
  private static final Map<String, String> TYPES = Map.of("html", "text/html; charset=utf-8", "js", "text/javascript; charset=utf-8",
      "css", "text/css; charset=utf-8", "svg", "image/svg+xml", "ico", "image/x-icon", "woff2", "font/woff2", "png", "image/png", "txt",
      "text/plain; charset=utf-8");
  /** Not there: a proxy to other hosts' JMX, other ways to log in, plugins of others. */
  private static final Map<String, String> FIXED = Map.of("proxy/enabled", "false", "keycloak/enabled", "false", "auth/config", "{}",
      "plugin", "[]", "preset-connections", "[]");

  private final Registry registry;
  private final Config config;
  private final Agent agent;
  private volatile Sessions sessions;
  private final AutoCloseable changes;
  private final String cookie;
  private final String page;

  private Console(CamelContext context, Config config, Agent agent) {
    this.registry = context.getRegistry();
    this.config = config;
    this.agent = agent;
    this.sessions = sessions();
    this.changes = config.onChange(keys -> {
      if (keys.stream().anyMatch(key -> key.startsWith("hawtio.session."))) {
        // Who is logged in logs in again.
        sessions = sessions();
      }
    });
    // Cookies do not know ports: gateway and cloud on one machine must not log each other out.
    this.cookie = "hawtio_" + config.get("container.role") + "_" + config.get("http.port");
    String name = "Caravan " + config.get("container.role") + " " + config.get("container.name");
    JSONArray disabled = new JSONArray();
    disabled.addAll(List.of("/connect", "/discover", "/diagnostics", "/logs", "/quartz", "/runtime", "/springboot"));
    JSONObject about = object("branding", object("appName", name, "showAppName", true), "login", object("title", name, "description",
        "Users of this container (user:list): a viewer looks, an operator and an admin may do what they may in the shell."),
        "about", object("title", name), "disabledRoutes", disabled);
    this.page = about.toJSONString();
  }

  private static JSONObject object(Object... pairs) {
    JSONObject object = new JSONObject();
    for (int i = 0; i < pairs.length; i += 2) {
      object.put((String) pairs[i], pairs[i + 1]);
    }
    return object;
  }

  /** @throws IOException the policy is not in the jar, or is damaged */
  @SuppressWarnings("unchecked")
  public static Console open(CamelContext context, Config config) throws IOException {
    Registry registry = context.getRegistry();
    Supplier<UnaryOperator<String>> redaction = () -> ((Supplier<UnaryOperator<String>>) registry.lookupByNameAndType("redaction", Supplier.class)).get();
    return new Console(context, config, new Agent(Policy.load(), redaction, () -> registry.lookupByNameAndType("audit", Audit.class)));
  }

  @Override
  public void close() throws Exception {
    changes.close();
    agent.close();
  }

  private Sessions sessions() {
    return new Sessions(() -> System.nanoTime() / 1_000_000, config.getLong("hawtio.session.idle.ms"), config.getLong("hawtio.session.max.ms"));
  }

  // ---- GET

  /** Answers with a file, or with what hawtio asks before it has a login. */
  public void page(Exchange exchange) throws BadRequestException, IOException {
    HttpCall call = HttpCall.of(exchange);
    Message answer = exchange.getMessage();
    answer.setBody(null);
    if (elsewhere(call, answer)) {
      return;
    }
    String path = call.path().length() < ROOT.length() ? "" : call.path().substring(ROOT.length());
    if (!call.path().startsWith(ROOT)) {
      // Its addresses are relative.
      redirect(answer, ROOT);
    } else if (path.equals("user")) {
      Optional<Sessions.Session> session = session(call);
      json(answer, session.isPresent() ? 200 : 401, session.map(s -> '"' + s.user() + '"').orElse("{\"error\":\"unauthorized\"}"));
    } else if (path.equals("jolokia")) {
      // How it finds out where Jolokia is; everything else comes with POST.
      Optional<Sessions.Session> session = session(call);
      json(answer, session.isPresent() ? 200 : 401, session.isPresent() ? ask(session.get().user(), VERSION) : "{\"error\":\"unauthorized\"}");
    } else if (path.equals("auth/config/session-timeout")) {
      json(answer, 200, "{\"timeout\":-1}");
    } else if (path.equals("hawtconfig.json")) {
      json(answer, 200, page);
    } else if (path.equals("auth/logout")) {
      token(call).ifPresent(sessions::end);
      call.answer("Set-Cookie", cookie(call, "", 0));
      redirect(answer, ROOT + "login");
    } else if (FIXED.containsKey(path)) {
      json(answer, 200, FIXED.get(path));
    } else {
      file(call, answer, path.matches("([A-Za-z0-9_-]+/)*[A-Za-z0-9_-]*") ? "index.html" : path);
    }
  }

  private void file(HttpCall call, Message answer, String path) throws IOException {
    String type = TYPES.get(path.substring(path.lastIndexOf('.') + 1));
    boolean named = type != null && path.matches("[A-Za-z0-9._/-]+");
    InputStream compressed = named ? Console.class.getResourceAsStream("files/" + path + ".gz") : null;
    boolean packed = compressed != null;
    InputStream in = packed || !named ? compressed : Console.class.getResourceAsStream("files/" + path);
    if (in == null) {
      json(answer, 404, "{\"error\":\"not_found\"}");
      return;
    }
    try (in) {
      answer.setHeader(Exchange.CONTENT_TYPE, type);
      // A name with a hash never stands for anything else.
      call.answer("Cache-Control", path.startsWith("static/") ? "private, max-age=31536000, immutable" : "no-cache");
      call.answer("Vary", "Accept-Encoding");
      boolean taken = call.headers("Accept-Encoding").stream().anyMatch(line -> line.toLowerCase(Locale.ROOT).matches(".*\\bgzip\\b(?!\\s*;\\s*q=0(\\.0*)?\\s*(,|$)).*"));
      if (packed && taken) {
        call.answer("Content-Encoding", "gzip");
        answer.setBody(in.readAllBytes());
      } else {
        answer.setBody(packed ? new GZIPInputStream(in).readAllBytes() : in.readAllBytes());
      }
    }
  }

  // ---- POST

  /** Takes {@code {"username": ..., "password": ...}}; sets a cookie. Blocks while a password is checked. */
  public void login(Exchange exchange) {
    HttpCall call = HttpCall.of(exchange);
    Message message = exchange.getMessage();
    byte[] body = message.getBody(byte[].class);
    message.setBody(null);
    if (elsewhere(call, message) || foreign(call, message)) {
      return;
    }
    Logins logins = registry.lookupByNameAndType("adminAccess", Logins.class);
    long lockedS = logins.lockedS(call.address());
    if (lockedS > 0) {
      call.refused("locked_out");
      call.answer("Retry-After", String.valueOf(lockedS));
      json(message, 429, "{\"error\":\"too_many_requests\",\"message\":\"too many logins; try again later\"}");
      return;
    }
    String user = "";
    boolean known = false;
    if (body != null && body.length <= MAX_PASSWORD * 2) {
      try {
        JSONObject given = new JSONParser().parse(new StringReader(new String(body, StandardCharsets.UTF_8)), JSONObject.class);
        user = given.get("username") instanceof String text ? text : "";
        char[] password = given.get("password") instanceof String text ? text.toCharArray() : new char[0];
        known = !users().roles(user, password).orElse(Set.of()).isEmpty();
        Arrays.fill(password, '\0');
      } catch (ParseException | IOException | ClassCastException e) {
        json(message, 400, "{\"error\":\"bad_request\"}");
        return;
      } finally {
        Arrays.fill(body, (byte) 0);
      }
    }
    String credential = known ? users().credential(user) : null;
    if (credential == null) {
      logins.failed(call.address(), user);
      call.refused("unauthorized");
      json(message, 401, "{\"error\":\"unauthorized\"}");
      return;
    }
    logins.succeeded(call.address());
    registry.lookupByNameAndType("audit", Audit.class).recordAs(user, "hawtio.login", user, "ok", Map.of("address", call.address()));
    call.answer("Set-Cookie", cookie(call, sessions.begin(user, credential), config.getLong("hawtio.session.max.ms") / 1000));
    json(message, 200, "{}");
  }

  /** Answers requests of Jolokia from who has logged in. */
  public void jolokia(Exchange exchange) throws IOException {
    HttpCall call = HttpCall.of(exchange);
    Message message = exchange.getMessage();
    byte[] body = message.getBody(byte[].class);
    message.setBody(null);
    if (elsewhere(call, message) || foreign(call, message)) {
      return;
    }
    Optional<Sessions.Session> session = session(call);
    if (session.isEmpty()) {
      call.refused("unauthorized");
      json(message, 401, "{\"error\":\"unauthorized\",\"message\":\"log in at " + ROOT + "login\"}");
      return;
    }
    try {
      json(message, 200, ask(session.get().user(), body == null ? new byte[0] : body));
    } catch (BadRequestException e) {
      json(message, 400, "{\"status\":400,\"error\":\"this is no request of Jolokia\"}");
    }
  }

  private String ask(String user, byte[] body) throws BadRequestException, IOException {
    return agent.answer(user, roles(user), body);
  }

  // ---- who

  private UserAdmin users() {
    return registry.lookupByNameAndType("users", UserAdmin.class);
  }

  /** Each role has all rights of those before it. */
  private Set<String> roles(String user) {
    String highest = users().list().stream().filter(u -> u.name().equals(user)).map(UserAdmin.User::role).findFirst().orElse("");
    return Set.copyOf(UserAdmin.ROLES.subList(0, UserAdmin.ROLES.indexOf(highest) + 1));
  }

  /** A session ends at once when the user is removed, or gets another password or role. */
  private Optional<Sessions.Session> session(HttpCall call) {
    Optional<String> token = token(call);
    Optional<Sessions.Session> session = token.flatMap(sessions::use);
    if (session.isPresent() && !session.get().credential().equals(users().credential(session.get().user()))) {
      sessions.end(token.get());
      return Optional.empty();
    }
    return session;
  }

  private Optional<String> token(HttpCall call) {
    return call.headers("Cookie").stream().flatMap(line -> Arrays.stream(line.split(";"))).map(String::strip)
        .filter(pair -> pair.startsWith(cookie + "=")).map(pair -> pair.substring(cookie.length() + 1)).findFirst();
  }

  private String cookie(HttpCall call, String token, long maxAgeS) {
    return cookie + "=" + token + "; Path=" + ROOT + "; HttpOnly; SameSite=Strict; Max-Age=" + maxAgeS + (call.tls() ? "; Secure" : "");
  }

  /** Only this machine, and only under a name that is its own: a page whose name was pointed here is refused too. */
  private static boolean elsewhere(HttpCall call, Message answer) {
    if (call.local()) {
      return false;
    }
    call.refused("not_local");
    json(answer, 403, "{\"error\":\"forbidden\",\"message\":\"hawtio is for browsers on this machine, at localhost: from elsewhere use ssh -L\"}");
    return true;
  }

  /** A browser says where a page came from that sends something; a cookie is sent to all ports of a host. */
  private static boolean foreign(HttpCall call, Message answer) {
    List<String> origins = call.headers("Origin");
    List<String> hosts = call.headers("Host");
    boolean same = origins.isEmpty() || origins.size() == 1 && hosts.size() == 1
        && origins.get(0).equalsIgnoreCase((call.tls() ? "https://" : "http://") + hosts.get(0));
    List<String> site = call.headers("Sec-Fetch-Site");
    if (same && (site.isEmpty() || site.equals(List.of("same-origin")))) {
      return false;
    }
    call.refused("foreign_origin");
    json(answer, 403, "{\"error\":\"forbidden\",\"message\":\"a page of another origin must not ask for that\"}");
    return true;
  }

  private static void redirect(Message answer, String to) {
    answer.setHeader(Exchange.HTTP_RESPONSE_CODE, 302);
    answer.setHeader("Location", to);
  }

  private static void json(Message answer, int status, String text) {
    answer.setHeader(Exchange.HTTP_RESPONSE_CODE, status);
    answer.setHeader(Exchange.CONTENT_TYPE, "application/json");
    answer.setBody(text);
  }
}
