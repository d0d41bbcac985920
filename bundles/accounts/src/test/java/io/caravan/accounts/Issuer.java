// SPDX-License-Identifier: Apache-2.0
package io.caravan.accounts;

import com.nimbusds.jose.JOSEObjectType;
import com.nimbusds.jose.JWSAlgorithm;
import com.nimbusds.jose.JWSHeader;
import com.nimbusds.jose.crypto.RSASSASigner;
import com.nimbusds.jose.jwk.JWKSet;
import com.nimbusds.jose.jwk.RSAKey;
import com.nimbusds.jose.jwk.gen.RSAKeyGenerator;
import com.nimbusds.jwt.JWTClaimsSet;
import com.nimbusds.jwt.SignedJWT;
import com.sun.net.httpserver.HttpExchange;
import com.sun.net.httpserver.HttpServer;
import java.io.IOException;
import java.net.InetAddress;
import java.net.InetSocketAddress;
import java.net.URLDecoder;
import java.nio.charset.StandardCharsets;
import java.security.MessageDigest;
import java.time.Clock;
import java.util.Base64;
import java.util.Date;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.Executors;
import java.util.concurrent.atomic.AtomicInteger;

/** An OpenID provider: discovery, keys, codes for tokens with PKCE. */
final class Issuer implements AutoCloseable {
  private record Code(Map<String, String> asked, List<String> roles) {}

  final HttpServer server = HttpServer.create(new InetSocketAddress(InetAddress.getLoopbackAddress(), 0), 0);
  final AtomicInteger keysFetched = new AtomicInteger();
  final Clock clock;
  volatile RSAKey key = key("k1");
  volatile String jwks = new JWKSet(key.toPublicJWK()).toString();
  volatile boolean silent;
  private final Map<String, Code> codes = new ConcurrentHashMap<>();

  Issuer(Clock clock) throws Exception {
    this.clock = clock;
    server.setExecutor(Executors.newCachedThreadPool());
    server.createContext("/.well-known/openid-configuration", x -> answer(x, 200, "{\"issuer\":\"" + url() + "\",\"jwks_uri\":\"" + url()
        + "/keys\",\"authorization_endpoint\":\"" + url() + "/authorize\",\"token_endpoint\":\"" + url() + "/token\"}"));
    server.createContext("/keys", x -> {
      keysFetched.incrementAndGet();
      if (!silent) {
        answer(x, 200, jwks);
      }
    });
    server.createContext("/token", this::token);
    server.start();
  }

  static RSAKey key(String id) throws Exception {
    return new RSAKeyGenerator(2048).keyID(id).generate();
  }

  void rotate(RSAKey to) {
    key = to;
    jwks = new JWKSet(to.toPublicJWK()).toString();
  }

  String url() {
    return "http://127.0.0.1:" + server.getAddress().getPort();
  }

  /** Somebody agrees, in the browser. @param asked the query the browser came with */
  String agree(Map<String, String> asked, String... roles) {
    String code = "code-" + (codes.size() + 1);
    codes.put(code, new Code(asked, List.of(roles)));
    return code;
  }

  private void token(HttpExchange x) throws IOException {
    try {
      Map<String, String> form = query(new String(x.getRequestBody().readAllBytes(), StandardCharsets.UTF_8));
      Code code = codes.remove(form.get("code"));
      String challenge = Base64.getUrlEncoder().withoutPadding()
          .encodeToString(MessageDigest.getInstance("SHA-256").digest(form.get("code_verifier").getBytes(StandardCharsets.US_ASCII)));
      if (code == null || !challenge.equals(code.asked.get("code_challenge")) || !"S256".equals(code.asked.get("code_challenge_method"))
          || !form.get("redirect_uri").equals(code.asked.get("redirect_uri")) || !form.get("client_id").equals(code.asked.get("client_id"))
          || form.containsKey("client_secret")) {
        answer(x, 400, "{\"error\":\"invalid_grant\"}");
        return;
      }
      answer(x, 200, "{\"token_type\":\"Bearer\",\"id_token\":\"" + sign(key, claims(code.asked.get("client_id"), code.roles.toArray(String[]::new))
          .claim("nonce", code.asked.get("nonce")).build(), "JWT") + "\"}");
    } catch (Exception e) {
      answer(x, 500, String.valueOf(e));
    }
  }

  JWTClaimsSet.Builder claims(String audience, String... roles) {
    return new JWTClaimsSet.Builder().issuer(url()).subject("4711").audience(audience).claim("preferred_username", "anna").claim("realm_access",
        Map.of("roles", List.of(roles))).issueTime(Date.from(clock.instant())).expirationTime(Date.from(clock.instant().plusSeconds(300)));
  }

  static String sign(RSAKey key, JWTClaimsSet claims, String type) throws Exception {
    SignedJWT jwt = new SignedJWT(new JWSHeader.Builder(JWSAlgorithm.RS256).keyID(key.getKeyID()).type(new JOSEObjectType(type)).build(), claims);
    jwt.sign(new RSASSASigner(key));
    return jwt.serialize();
  }

  static Map<String, String> query(String text) {
    Map<String, String> all = new HashMap<>();
    for (String part : text.split("&")) {
      int equals = part.indexOf('=');
      all.put(part.substring(0, equals), URLDecoder.decode(part.substring(equals + 1), StandardCharsets.UTF_8));
    }
    return all;
  }

  private static void answer(HttpExchange x, int status, String body) throws IOException {
    byte[] bytes = body.getBytes(StandardCharsets.UTF_8);
    x.getResponseHeaders().set("Content-Type", "application/json");
    x.sendResponseHeaders(status, bytes.length);
    x.getResponseBody().write(bytes);
    x.close();
  }

  @Override
  public void close() {
    server.stop(0);
  }
}
