// SPDX-License-Identifier: Apache-2.0
package io.caravan.accounts.internal;

import com.fasterxml.jackson.core.JsonProcessingException;
import com.fasterxml.jackson.databind.JsonNode;
import com.nimbusds.jose.JOSEException;
import com.nimbusds.jose.JOSEObjectType;
import com.nimbusds.jose.JWSAlgorithm;
import com.nimbusds.jose.KeySourceException;
import com.nimbusds.jose.jwk.source.JWKSource;
import com.nimbusds.jose.jwk.source.JWKSourceBuilder;
import com.nimbusds.jose.jwk.source.RateLimitReachedException;
import com.nimbusds.jose.proc.BadJOSEException;
import com.nimbusds.jose.proc.DefaultJOSEObjectTypeVerifier;
import com.nimbusds.jose.proc.JWSVerificationKeySelector;
import com.nimbusds.jose.proc.SecurityContext;
import com.nimbusds.jwt.JWTClaimsSet;
import com.nimbusds.jwt.proc.DefaultJWTClaimsVerifier;
import com.nimbusds.jwt.proc.DefaultJWTProcessor;
import io.caravan.accounts.Accounts;
import io.caravan.runtime.Config;
import java.io.IOException;
import java.net.InetAddress;
import java.net.MalformedURLException;
import java.net.URI;
import java.net.URLEncoder;
import java.net.UnknownHostException;
import java.net.http.HttpResponse;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.security.GeneralSecurityException;
import java.text.ParseException;
import java.time.Clock;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collection;
import java.util.Date;
import java.util.HashSet;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.Set;
import java.util.TreeMap;
import java.util.concurrent.Semaphore;
import java.util.concurrent.TimeUnit;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/**
 * Tokens of the OpenID provider {@code api.oidc.issuer}, and its login (authorization code with PKCE, as a public client). Only the
 * algorithms of {@code api.oidc.algorithms}, all of them asymmetric; keys by the provider's JWKS alone, whatever a token's header points
 * to. Keys are kept {@code api.oidc.keys.ms}; a key id that is not known has them fetched again, at most every few seconds. The provider
 * does not answer: keys that are known are good for an hour more. Thread-safe; blocks at most {@code api.oidc.timeout.ms}.
 */
public final class Oidc implements AutoCloseable {
  static final int MAX_TOKEN = 8_192;

  private static final Logger LOG = LoggerFactory.getLogger(Oidc.class);
  private static final List<String> ALGORITHMS = List.of("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512");
  private static final long REFRESH_MS = 5_000;
  private static final long OUTAGE_MS = 3_600_000;
  private static final long AGAIN_MS = 2_000;
  private static final int MAX_USER = 122;
  private static final int MAX_CLAIMS = 200;
  private static final int AT_ONCE = 4;

  /** The provider, or its keys, cannot be had now. */
  static final class Away extends RuntimeException {
    private static final long serialVersionUID = 1L;

    Away(String message, Throwable cause) {
      super(message, cause);
    }
  }

  /** @param claims values of the claim with the roles */
  record Verified(String user, List<String> claims, long expiresAtMs, String nonce) {}

  /** Everything that is configured; another one makes a new provider. */
  private record Settings(String issuer, List<String> audience, String client, String scope, List<String> algorithms, long skewMs, long timeoutMs,
      long keysMs, Path ca) {}

  /** What discovery says. */
  private record Endpoints(URI authorization, URI token, DefaultJWTProcessor<SecurityContext> access, DefaultJWTProcessor<SecurityContext> login,
      JWKSource<SecurityContext> keys) {}

  private final Config config;
  private final Clock clock;
  private final Semaphore logins = new Semaphore(AT_ONCE);
  private Settings settings;
  private Fetch fetch;
  private Endpoints endpoints;
  private long failedNs;
  private String failure;
  private String rulesText;
  private List<String[]> rules = List.of();

  public Oidc(Config config, Clock clock) {
    this.config = config;
    this.clock = clock;
  }

  boolean enabled() {
    return !config.get("api.oidc.issuer").isEmpty();
  }

  /** Whether people can log in with it, not only programs with a token. */
  boolean offersLogin() {
    return enabled() && !config.get("api.oidc.client.id").isEmpty();
  }

  boolean isIssuer(String issuer) {
    return enabled() && config.get("api.oidc.issuer").equals(issuer);
  }

  String issuer() {
    return config.get("api.oidc.issuer");
  }

  /** @return null: not to be believed; @throws Away */
  Verified verify(String token) {
    return enabled() && !config.getList("api.oidc.audience").isEmpty() ? verify(token, false) : null;
  }

  private Verified verify(String token, boolean login) {
    if (token.length() > MAX_TOKEN || token.chars().filter(c -> c == '.').count() != 2) {
      return null;
    }
    Endpoints now = endpoints();
    try {
      JWTClaimsSet claims = (login ? now.login : now.access).process(token, null);
      String azp = claims.getStringClaim("azp");
      if (login && azp != null && !azp.equals(config.get("api.oidc.client.id"))) {
        return null;
      }
      return new Verified(user(claims), values(claims), claims.getExpirationTime().getTime() + config.getLong("api.oidc.skew.ms"),
          claims.getStringClaim("nonce"));
    } catch (RateLimitReachedException e) {
      LOG.debug("A token names a key that is not known, the keys were fetched just now", e);
      return null;
    } catch (KeySourceException e) {
      throw new Away("the keys of [" + issuer() + "] cannot be had: " + e.getMessage(), e);
    } catch (ParseException | BadJOSEException | JOSEException | RuntimeException e) {
      LOG.debug("A token is refused: {}", e.getMessage());
      return null;
    }
  }

  private String user(JWTClaimsSet claims) {
    Object name = claims.getClaim(config.get("api.oidc.user.claim"));
    String text = name instanceof String given && !given.isBlank() ? given : claims.getSubject();
    text = text.replaceAll("[^\\p{L}\\p{N}@._+-]", "_");
    return "oidc:" + (text.length() <= MAX_USER ? text : text.substring(0, MAX_USER));
  }

  /** The claim itself, or, as {@code realm_access.roles}, one within objects; a list, or words in a text. */
  private List<String> values(JWTClaimsSet claims) {
    String path = config.get("api.oidc.roles.claim");
    Object value = claims.getClaim(path);
    if (value == null) {
      value = claims.getClaims();
      for (String part : path.split("\\.")) {
        value = value instanceof Map<?, ?> map ? map.get(part) : null;
      }
    }
    Collection<?> all = value instanceof Collection<?> list ? list : value instanceof String text ? Arrays.asList(text.split("\\s+")) : List.of();
    return all.stream().filter(String.class::isInstance).map(String.class::cast).limit(MAX_CLAIMS).toList();
  }

  /** What {@code api.oidc.roles} makes of these. */
  Map<String, String> roles(List<String> claims) {
    Map<String, String> roles = new TreeMap<>();
    for (String[] rule : rules()) {
      if (claims.contains(rule[0])) {
        Roles.put(roles, rule[1], rule[2]);
      }
    }
    return roles;
  }

  private synchronized List<String[]> rules() {
    String text = config.get("api.oidc.roles");
    if (!text.equals(rulesText)) {
      rulesText = text;
      List<String[]> read = new ArrayList<>();
      for (String rule : config.getList("api.oidc.roles")) {
        int equals = rule.lastIndexOf('=');
        int colon = rule.lastIndexOf(':');
        if (equals > 0 && colon > equals + 1 && Accounts.ROLES.contains(rule.substring(colon + 1).trim())) {
          String site = rule.substring(equals + 1, colon).trim();
          read.add(new String[] {rule.substring(0, equals).trim(), site.equals("all") ? Accounts.ALL : site, rule.substring(colon + 1).trim()});
        } else {
          LOG.error("api.oidc.roles: [{}] must be <value of the claim>=<site, or all>:<viewer, operator or admin>; it gives nobody a role", rule);
        }
      }
      rules = List.copyOf(read);
    }
    return rules;
  }

  // ---- login

  /** @return where to send the browser; @throws Away */
  String authorization(String redirect, String state, String nonce, String verifier) {
    Settings now = settings();
    URI at = endpoints().authorization;
    return at + (at.getQuery() == null ? "?" : "&") + form(Map.of("response_type", "code", "client_id", now.client, "redirect_uri", redirect, "scope",
        now.scope, "state", state, "nonce", nonce, "code_challenge", Secrets.challenge(verifier), "code_challenge_method", "S256"));
  }

  /** @return null: the provider, or its answer, is not to be believed; @throws Away */
  Verified login(String code, String redirect, String verifier, String nonce) {
    Settings now = settings();
    Endpoints at = endpoints();
    if (!logins.tryAcquire()) {
      throw new Away("too many log in at once", null);
    }
    try {
      HttpResponse<byte[]> answer = fetch().post(at.token, form(Map.of("grant_type", "authorization_code", "code", code, "redirect_uri", redirect,
          "client_id", now.client, "code_verifier", verifier)));
      if (answer.statusCode() != 200) {
        LOG.warn("[{}] refuses a code: {}", at.token, answer.statusCode());
        return null;
      }
      Verified verified = verify(Callers.JSON.readTree(answer.body()).path("id_token").asText(), true);
      return verified != null && Objects.equals(verified.nonce(), nonce) ? verified : null;
    } catch (JsonProcessingException e) {
      return null;
    } catch (IOException e) {
      throw new Away(e.getMessage(), e);
    } finally {
      logins.release();
    }
  }

  static String form(Map<String, String> values) {
    StringBuilder text = new StringBuilder();
    new TreeMap<>(values).forEach((name, value) -> text.append(text.length() == 0 ? "" : "&").append(name).append('=')
        .append(URLEncoder.encode(value, StandardCharsets.UTF_8)));
    return text.toString();
  }

  // ---- the provider

  private Settings settings() {
    return new Settings(config.get("api.oidc.issuer"), config.getList("api.oidc.audience"), config.get("api.oidc.client.id"), config.get("api.oidc.scope"),
        config.getList("api.oidc.algorithms"), config.getLong("api.oidc.skew.ms"), config.getLong("api.oidc.timeout.ms"), config.getLong("api.oidc.keys.ms"),
        config.get("api.oidc.ca.file").isEmpty() ? null : config.getPath("api.oidc.ca.file"));
  }

  private synchronized Fetch fetch() {
    return fetch;
  }

  /** One asks, the others wait for it; what failed is not asked again at once. */
  private synchronized Endpoints endpoints() {
    Settings wanted = settings();
    if (!wanted.equals(settings)) {
      close();
      settings = wanted;
    }
    if (endpoints != null) {
      return endpoints;
    }
    if (failure != null && System.nanoTime() - failedNs < TimeUnit.MILLISECONDS.toNanos(AGAIN_MS)) {
      throw new Away(failure, null);
    }
    try {
      endpoints = discover(wanted);
      failure = null;
      return endpoints;
    } catch (IOException | GeneralSecurityException | RuntimeException e) {
      failure = "the OpenID provider [" + wanted.issuer + "] cannot be used: " + e.getMessage();
      failedNs = System.nanoTime();
      LOG.error("{}; nobody can log in with it, see api.oidc.issuer", failure);
      throw new Away(failure, e);
    }
  }

  private Endpoints discover(Settings s) throws IOException, GeneralSecurityException {
    List<String> odd = s.algorithms.stream().filter(a -> !ALGORITHMS.contains(a)).toList();
    if (!odd.isEmpty() || s.algorithms.isEmpty()) {
      throw new IOException("api.oidc.algorithms " + s.algorithms + " must be some of " + ALGORITHMS);
    }
    fetch = new Fetch(s.timeoutMs, s.ca);
    JsonNode found = Callers.JSON.readTree(fetch.get(checked(s.issuer.replaceFirst("/$", "") + "/.well-known/openid-configuration")));
    if (!s.issuer.equals(found.path("issuer").asText())) {
      throw new IOException("its discovery says that it is [" + found.path("issuer").asText() + "], which must be api.oidc.issuer to the letter");
    }
    JWKSource<SecurityContext> keys;
    try {
      keys = JWKSourceBuilder.<SecurityContext>create(checked(found.path("jwks_uri").asText()).toURL(), fetch).cache(s.keysMs, s.timeoutMs)
          .refreshAheadCache(false).rateLimited(Math.min(REFRESH_MS, s.keysMs - 1)).outageTolerant(OUTAGE_MS).build();
    } catch (MalformedURLException e) {
      throw new IOException("its jwks_uri [" + found.path("jwks_uri").asText() + "] is not an address", e);
    }
    String authorization = found.path("authorization_endpoint").asText("");
    String token = found.path("token_endpoint").asText("");
    return new Endpoints(authorization.isEmpty() ? null : checked(authorization), token.isEmpty() ? null : checked(token),
        processor(keys, s, s.audience), processor(keys, s, List.of(s.client)), keys);
  }

  /** Over TLS, or on this machine. */
  private static URI checked(String text) throws IOException {
    try {
      URI uri = URI.create(text);
      if ("https".equals(uri.getScheme()) && uri.getHost() != null
          || "http".equals(uri.getScheme()) && uri.getHost() != null && InetAddress.getByName(uri.getHost()).isLoopbackAddress()) {
        return uri;
      }
    } catch (IllegalArgumentException | UnknownHostException e) {
      throw new IOException("[" + text + "] is not an address: " + e.getMessage(), e);
    }
    throw new IOException("[" + text + "] must be an address with https");
  }

  private DefaultJWTProcessor<SecurityContext> processor(JWKSource<SecurityContext> keys, Settings s, List<String> audience) {
    Set<JWSAlgorithm> algorithms = new LinkedHashSet<>();
    s.algorithms.forEach(a -> algorithms.add(JWSAlgorithm.parse(a)));
    DefaultJWTProcessor<SecurityContext> processor = new DefaultJWTProcessor<>();
    processor.setJWSTypeVerifier(new DefaultJOSEObjectTypeVerifier<>(JOSEObjectType.JWT, new JOSEObjectType("at+jwt"), null));
    processor.setJWSKeySelector(new JWSVerificationKeySelector<>(algorithms, keys));
    DefaultJWTClaimsVerifier<SecurityContext> claims = new DefaultJWTClaimsVerifier<>(new HashSet<>(audience),
        new JWTClaimsSet.Builder().issuer(s.issuer).build(), new HashSet<>(List.of("sub", "exp")), null) {
      @Override
      protected Date currentTime() {
        return Date.from(clock.instant());
      }
    };
    claims.setMaxClockSkew((int) TimeUnit.MILLISECONDS.toSeconds(s.skewMs));
    processor.setJWTClaimsSetVerifier(claims);
    return processor;
  }

  @Override
  public synchronized void close() {
    if (endpoints != null && endpoints.keys instanceof AutoCloseable source) {
      try {
        source.close();
      } catch (Exception e) {
        LOG.debug("Closing the keys", e);
      }
    }
    endpoints = null;
    failure = null;
  }
}
