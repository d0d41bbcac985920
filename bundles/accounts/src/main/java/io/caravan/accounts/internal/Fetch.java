// SPDX-License-Identifier: Apache-2.0
package io.caravan.accounts.internal;

import com.nimbusds.jose.util.Resource;
import com.nimbusds.jose.util.ResourceRetriever;
import java.io.IOException;
import java.io.InputStream;
import java.net.URI;
import java.net.URISyntaxException;
import java.net.URL;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.net.http.HttpResponse.BodySubscriber;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.GeneralSecurityException;
import java.security.KeyStore;
import java.security.cert.Certificate;
import java.security.cert.CertificateFactory;
import java.time.Duration;
import java.util.List;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CompletionStage;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.Flow;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.TimeoutException;
import javax.net.ssl.SSLContext;
import javax.net.ssl.TrustManagerFactory;

/** Small answers of the provider, within a time in all and up to a size; no redirects. nimbus' own counts the time of each read. */
final class Fetch implements ResourceRetriever {
  private static final int MAX_BYTES = 262_144;

  private final HttpClient client;
  private final long timeoutMs;

  /** @param ca PEM; null: the authorities Java trusts */
  Fetch(long timeoutMs, Path ca) throws IOException, GeneralSecurityException {
    this.timeoutMs = timeoutMs;
    HttpClient.Builder builder = HttpClient.newBuilder().connectTimeout(Duration.ofMillis(timeoutMs)).followRedirects(HttpClient.Redirect.NEVER);
    if (ca != null) {
      KeyStore store = KeyStore.getInstance(KeyStore.getDefaultType());
      store.load(null, null);
      try (InputStream in = Files.newInputStream(ca)) {
        for (Certificate certificate : CertificateFactory.getInstance("X.509").generateCertificates(in)) {
          store.setCertificateEntry("ca" + store.size(), certificate);
        }
      }
      TrustManagerFactory trust = TrustManagerFactory.getInstance(TrustManagerFactory.getDefaultAlgorithm());
      trust.init(store);
      SSLContext tls = SSLContext.getInstance("TLS");
      tls.init(null, trust.getTrustManagers(), null);
      builder.sslContext(tls);
    }
    this.client = builder.build();
  }

  @Override
  public Resource retrieveResource(URL url) throws IOException {
    return new Resource(get(uri(url)), "application/json");
  }

  String get(URI uri) throws IOException {
    HttpResponse<byte[]> response = send(HttpRequest.newBuilder(uri).header("Accept", "application/json").build());
    if (response.statusCode() != 200) {
      throw new IOException("[" + uri + "] was answered " + response.statusCode());
    }
    return new String(response.body(), StandardCharsets.UTF_8);
  }

  HttpResponse<byte[]> post(URI uri, String form) throws IOException {
    return send(HttpRequest.newBuilder(uri).header("Accept", "application/json").header("Content-Type", "application/x-www-form-urlencoded")
        .POST(HttpRequest.BodyPublishers.ofString(form)).build());
  }

  private HttpResponse<byte[]> send(HttpRequest request) throws IOException {
    CompletableFuture<HttpResponse<byte[]>> answer = client.sendAsync(request, head -> new Limited());
    try {
      return answer.get(timeoutMs, TimeUnit.MILLISECONDS);
    } catch (TimeoutException e) {
      answer.cancel(true);
      throw new IOException("[" + request.uri() + "] did not answer within " + timeoutMs + " ms", e);
    } catch (ExecutionException e) {
      throw new IOException("[" + request.uri() + "]: " + e.getCause().getMessage(), e);
    } catch (InterruptedException e) {
      answer.cancel(true);
      Thread.currentThread().interrupt();
      throw new IOException("interrupted", e);
    }
  }

  private static URI uri(URL url) throws IOException {
    try {
      return url.toURI();
    } catch (URISyntaxException e) {
      throw new IOException(e);
    }
  }

  /** All of a body that is not too large. */
  private static final class Limited implements BodySubscriber<byte[]> {
    private final CompletableFuture<byte[]> body = new CompletableFuture<>();
    private final java.io.ByteArrayOutputStream bytes = new java.io.ByteArrayOutputStream();
    private Flow.Subscription subscription;

    @Override
    public CompletionStage<byte[]> getBody() {
      return body;
    }

    @Override
    public void onSubscribe(Flow.Subscription subscription) {
      this.subscription = subscription;
      subscription.request(Long.MAX_VALUE);
    }

    @Override
    public void onNext(List<ByteBuffer> parts) {
      for (ByteBuffer part : parts) {
        byte[] chunk = new byte[part.remaining()];
        part.get(chunk);
        if (bytes.size() + chunk.length > MAX_BYTES) {
          subscription.cancel();
          body.completeExceptionally(new IOException("the answer has more than " + MAX_BYTES + " bytes"));
          return;
        }
        bytes.write(chunk, 0, chunk.length);
      }
    }

    @Override
    public void onError(Throwable failure) {
      body.completeExceptionally(failure);
    }

    @Override
    public void onComplete() {
      body.complete(bytes.toByteArray());
    }
  }
}
