// SPDX-License-Identifier: Apache-2.0
package io.caravan.accounts;

import static org.awaitility.Awaitility.await;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.nimbusds.jose.JOSEObjectType;
import com.nimbusds.jose.JWSAlgorithm;
import com.nimbusds.jose.JWSHeader;
import com.nimbusds.jose.crypto.MACSigner;
import com.nimbusds.jose.crypto.RSASSASigner;
import com.nimbusds.jose.jwk.RSAKey;
import com.nimbusds.jwt.JWTClaimsSet;
import com.nimbusds.jwt.PlainJWT;
import com.nimbusds.jwt.SignedJWT;
import io.caravan.runtime.Grant;
import java.net.URI;
import java.net.http.HttpResponse;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.util.Date;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** Tokens of an OpenID provider, good and hostile ones, its login, and its keys. */
class OidcTest {
  private static final String TEST = "/api/v1/test/";

  @TempDir
  Path dir;

  private Box box(Box.Kind kind, Box.Wall wall, Issuer issuer, String... more) throws Exception {
    Map<String, String> settings = new LinkedHashMap<>(Map.of("api.oidc.issuer", issuer.url(), "api.oidc.audience", "caravan, other", "api.oidc.client.id", "phone",
        "api.oidc.roles.claim", "realm_access.roles", "api.oidc.roles", "chiefs=all:admin, north-staff=north:operator, broken=all:root", "api.oidc.timeout.ms", "30000"));
    for (int i = 0; i < more.length; i += 2) {
      settings.put(more[i], more[i + 1]);
    }
    return new Box(wall, dir, kind == Box.Kind.SQLITE ? null : io.caravan.postgres.test.PostgresServer.shared().database(),
        settings.entrySet().stream().flatMap(e -> java.util.stream.Stream.of(e.getKey(), e.getValue())).toArray(String[]::new));
  }

  @Test
  void onlyGoodTokensAreTaken() throws Exception {
    Box.Wall wall = new Box.Wall();
    try (Issuer issuer = new Issuer(wall); Box box = box(Box.Kind.SQLITE, wall, issuer)) {
      box.accounts().addSite("north", "North");
      String good = Issuer.sign(issuer.key, issuer.claims("caravan", "north-staff", "broken").build(), "at+jwt");
      HttpResponse<String> seen = box.bearer(good, "GET", TEST + "viewer");
      assertEquals("{\"user\":\"oidc:anna\",\"role\":\"operator\",\"sites\":[\"north\"],\"from\":\"192.0.2.7\"}", seen.body());
      assertEquals(403, box.bearer(good, "POST", TEST + "admin").statusCode());
      assertEquals(403, box.bearer(Issuer.sign(issuer.key, issuer.claims("caravan", "broken").build(), "JWT"), "GET", TEST + "viewer").statusCode(), "no role");
      assertEquals(200, box.bearer(Issuer.sign(issuer.key, issuer.claims("caravan", "chiefs").build(), "JWT"), "POST", TEST + "everywhere").statusCode());

      JWTClaimsSet chief = issuer.claims("caravan", "chiefs").build();
      RSAKey own = Issuer.key("k1");
      Map<String, String> hostile = new LinkedHashMap<>();
      hostile.put("alg none", new PlainJWT(chief).serialize());
      hostile.put("alg none, with the type of a signed one", new PlainJWT(chief).serialize() + "AAAA");
      hostile.put("another audience", Issuer.sign(issuer.key, issuer.claims("phone", "chiefs").build(), "JWT"));
      hostile.put("no audience", Issuer.sign(issuer.key, issuer.claims(null, "chiefs").build(), "JWT"));
      hostile.put("another issuer", Issuer.sign(issuer.key, issuer.claims("caravan", "chiefs").issuer("http://evil.example").build(), "JWT"));
      hostile.put("expired", Issuer.sign(issuer.key, issuer.claims("caravan", "chiefs").expirationTime(new Date(wall.ms - 61_000)).build(), "JWT"));
      hostile.put("never expires", Issuer.sign(issuer.key, issuer.claims("caravan", "chiefs").expirationTime(null).build(), "JWT"));
      hostile.put("not yet", Issuer.sign(issuer.key, issuer.claims("caravan", "chiefs").notBeforeTime(new Date(wall.ms + 61_000)).build(), "JWT"));
      hostile.put("no subject", Issuer.sign(issuer.key, issuer.claims("caravan", "chiefs").subject(null).build(), "JWT"));
      hostile.put("signed by another key of that id", Issuer.sign(own, chief, "JWT"));
      hostile.put("brings its own key", own(own, chief));
      // The public key, which everybody has, as the secret of an HMAC.
      for (String secret : List.of(issuer.key.toPublicJWK().toJSONString(), issuer.jwks, pem(issuer.key))) {
        SignedJWT confused = new SignedJWT(new JWSHeader.Builder(JWSAlgorithm.HS256).keyID("k1").build(), chief);
        confused.sign(new MACSigner(secret.getBytes(StandardCharsets.UTF_8)));
        hostile.put("key confusion " + secret.length(), confused.serialize());
      }
      hostile.put("an algorithm that is not listed", other(issuer.key, chief));
      hostile.put("another type", Issuer.sign(issuer.key, chief, "logout+jwt"));
      hostile.put("huge", Issuer.sign(issuer.key, issuer.claims("caravan", "chiefs").claim("x", "y".repeat(6_500)).build(), "JWT"));
      String[] parts = Issuer.sign(issuer.key, chief, "JWT").split("\\.");
      hostile.put("altered", parts[0] + "." + issuer.claims("caravan", "chiefs").claim("x", 1).build().toPayload().toBase64URL() + "." + parts[2]);
      hostile.put("no signature", parts[0] + "." + parts[1] + ".");
      hostile.put("not one", "a.b.c");
      hostile.put("empty", "..");
      hostile.put("nested", com.nimbusds.jose.util.Base64URL.encode("{\"alg\":\"RS256\",\"x\":" + "[".repeat(2_000) + "]".repeat(2_000) + "}") + ".e30.AAAA");
      for (Map.Entry<String, String> one : hostile.entrySet()) {
        int status = box.bearer(one.getValue(), "GET", TEST + "viewer").statusCode();
        assertTrue(status == 401 || status == 431 && one.getKey().equals("huge"), one.getKey() + ": " + status);
        assertEquals(401, box.away("POST", "/api/v1/session", "{\"token\":\"" + one.getValue() + "\"}").statusCode(), one.getKey());
      }
      assertEquals(200, box.bearer(Issuer.sign(issuer.key, chief, "JWT"), "GET", TEST + "viewer").statusCode(), "the one they were made of is good");

      // Clocks differ a little.
      assertEquals(200, box.bearer(Issuer.sign(issuer.key, issuer.claims("other", "chiefs").expirationTime(new Date(wall.ms - 30_000)).build(), "JWT"), "GET", TEST + "viewer")
          .statusCode());
      Grant grant = box.seen.grants.get("oidc:anna");
      wall.ms += 400_000;
      assertEquals(401, box.bearer(good, "GET", TEST + "viewer").statusCode(), "also one that is remembered");
      assertFalse(grant.valid());
    }
  }

  private static String own(RSAKey key, JWTClaimsSet claims) throws Exception {
    SignedJWT jwt = new SignedJWT(new JWSHeader.Builder(JWSAlgorithm.RS256).keyID("own").jwk(key.toPublicJWK()).jwkURL(URI.create("http://127.0.0.1:9/keys"))
        .type(JOSEObjectType.JWT).build(), claims);
    jwt.sign(new RSASSASigner(key));
    return jwt.serialize();
  }

  private static String other(RSAKey key, JWTClaimsSet claims) throws Exception {
    SignedJWT jwt = new SignedJWT(new JWSHeader.Builder(JWSAlgorithm.RS384).keyID(key.getKeyID()).build(), claims);
    jwt.sign(new RSASSASigner(key));
    return jwt.serialize();
  }

  private static String pem(RSAKey key) throws Exception {
    return "-----BEGIN PUBLIC KEY-----\n" + java.util.Base64.getMimeEncoder(64, new byte[] {'\n'}).encodeToString(key.toRSAPublicKey().getEncoded())
        + "\n-----END PUBLIC KEY-----\n";
  }

  @Test
  void keysAreKeptAndRotatedAndMayBeAwayForAWhile() throws Exception {
    Box.Wall wall = new Box.Wall();
    try (Issuer issuer = new Issuer(wall); Box box = box(Box.Kind.SQLITE, wall, issuer, "api.oidc.timeout.ms", "1000")) {
      for (int i = 0; i < 5; i++) {
        assertEquals(200, box.bearer(Issuer.sign(issuer.key, issuer.claims("caravan", "chiefs").claim("n", i).build(), "JWT"), "GET", TEST + "viewer").statusCode());
      }
      assertEquals(1, issuer.keysFetched.get(), "fetched once");
      String old = Issuer.sign(issuer.key, issuer.claims("caravan", "chiefs").claim("n", 6).build(), "JWT");
      issuer.rotate(Issuer.key("k2"));
      String renewed = Issuer.sign(issuer.key, issuer.claims("caravan", "chiefs").build(), "JWT");
      await().until(() -> box.bearer(renewed, "GET", TEST + "viewer").statusCode() == 200);
      assertEquals(401, box.bearer(old, "GET", TEST + "viewer").statusCode(), "the old key is gone");
      // Ids of keys that do not exist do not make us ask for each.
      int before = issuer.keysFetched.get();
      for (int i = 0; i < 20; i++) {
        assertEquals(401, box.bearer(Issuer.sign(issuer.key, issuer.claims("evil", "chiefs").claim("n", i).build(), "JWT"), "GET", TEST + "viewer")
            .statusCode());
        assertEquals(401, box.bearer(com.nimbusds.jose.util.Base64URL.encode("{\"alg\":\"RS256\",\"kid\":\"x" + i + "\"}") + "." + renewed.split("\\.")[1] + ".AAAA", "GET",
            TEST + "viewer").statusCode());
      }
      assertTrue(issuer.keysFetched.get() - before <= 6, issuer.keysFetched + " - " + before);
      // The provider hangs: known keys go on, nobody waits for longer than the time.
      issuer.silent = true;
      assertEquals(200, box.bearer(Issuer.sign(issuer.key, issuer.claims("caravan", "chiefs").claim("n", 7).build(), "JWT"), "GET", TEST + "viewer").statusCode());
    }
  }

  @Test
  void aProviderThatIsAwayIsNoReasonToLetAnybodyIn() throws Exception {
    Box.Wall wall = new Box.Wall();
    Issuer issuer = new Issuer(wall);
    String token = Issuer.sign(issuer.key, issuer.claims("caravan", "chiefs").build(), "JWT");
    try (Box box = box(Box.Kind.SQLITE, wall, issuer, "api.oidc.timeout.ms", "1000")) {
      issuer.close();
      HttpResponse<String> away = box.bearer(token, "GET", TEST + "viewer");
      assertEquals(503, away.statusCode());
      assertTrue(away.headers().firstValue("Retry-After").isPresent());
      assertEquals(503, box.away("GET", "/api/v1/session/oidc", null).statusCode());
      assertEquals(200, box.bearer(box.token("t", "*", "viewer"), "GET", TEST + "viewer").statusCode(), "others are not held up");
    }
  }

  @Test
  void peopleLogInThere() throws Exception {
    Box.Wall wall = new Box.Wall();
    try (Issuer issuer = new Issuer(wall); Box box = box(Box.Kind.POSTGRESQL, wall, issuer)) {
      assertEquals("{\"login\":\"/api/v1/session/oidc\",\"issuer\":\"" + issuer.url() + "\",\"client_id\":\"phone\"}",
          Box.json(box.away("GET", "/api/v1/me", null)).get("oidc").toString());
      HttpResponse<String> to = box.away("GET", "/api/v1/session/oidc", null);
      assertEquals(302, to.statusCode(), to.body());
      URI location = URI.create(to.headers().firstValue("Location").orElseThrow());
      Map<String, String> asked = Issuer.query(location.getRawQuery());
      assertTrue(location.toString().startsWith(issuer.url() + "/authorize?"), location.toString());
      assertEquals("code", asked.get("response_type"));
      assertEquals("https://127.0.0.1:" + box.caravan.httpPort() + "/api/v1/session/oidc/callback", asked.get("redirect_uri"));
      assertTrue(to.headers().firstValue("Set-Cookie").orElseThrow().contains("; HttpOnly; SameSite=Lax; Max-Age=600; Secure"));
      String browser = Box.cookie(to, "caravan_oidc");
      String back = "/api/v1/session/oidc/callback?state=" + asked.get("state") + "&code=";

      // Another browser's code, a state that was not ours, another provider's answer, a code that is not good.
      for (String[] bad : List.of(new String[] {back + issuer.agree(asked, "chiefs"), "x=y"}, new String[] {back.replace("state=", "state=A") + issuer.agree(asked, "chiefs"), browser},
          new String[] {back + issuer.agree(asked, "chiefs") + "&iss=http%3A%2F%2Fevil.example", browser}, new String[] {back + "nothing", browser},
          new String[] {back + issuer.agree(asked, "nobody"), browser}, new String[] {back + issuer.agree(asked, "chiefs") + "&state=" + asked.get("state"), browser})) {
        HttpResponse<String> failed = box.away("GET", bad[0], null, "Cookie", bad[1]);
        assertEquals("/?login=failed", failed.headers().firstValue("Location").orElseThrow(), bad[0]);
        assertFalse(String.valueOf(failed.headers().allValues("Set-Cookie")).contains("caravan_session"), bad[0]);
      }
      // Another nonce: the token was made for another login.
      Map<String, String> other = new LinkedHashMap<>(asked);
      other.put("nonce", "A".repeat(43));
      assertEquals("/?login=failed", box.away("GET", back + issuer.agree(other, "chiefs"), null, "Cookie", browser).headers().firstValue("Location").orElseThrow());

      HttpResponse<String> in = box.away("GET", back + issuer.agree(asked, "chiefs"), null, "Cookie", browser);
      assertEquals("/", in.headers().firstValue("Location").orElseThrow());
      String cookie = Box.cookie(in, "caravan_session");
      assertEquals("oidc:anna", Box.json(box.away("GET", "/api/v1/me", null, "Cookie", cookie)).get("user").asText());
      assertEquals(200, box.away("POST", TEST + "everywhere", "{}", "Cookie", cookie, "Origin", box.origin()).statusCode());
      assertEquals(403, box.away("POST", "/api/v1/me/password", "{\"password\":\"x\",\"new_password\":\"another long one\"}", "Cookie", cookie, "Origin", box.origin()).statusCode());
      assertEquals(1, box.accounts().logout("oidc:anna"));
      assertEquals(401, box.away("GET", "/api/v1/me", null, "Cookie", cookie).statusCode());

      // A token for a cookie, as an app that has one does; the token of a login is none for the API.
      String token = Issuer.sign(issuer.key, issuer.claims("caravan", "chiefs").build(), "JWT");
      assertEquals(200, box.away("POST", "/api/v1/session", "{\"token\":\"" + token + "\"}").statusCode());
      assertEquals(401, box.bearer(Issuer.sign(issuer.key, issuer.claims("phone", "chiefs").claim("nonce", "x").build(), "JWT"), "GET", TEST + "viewer").statusCode());
    }
  }
}
