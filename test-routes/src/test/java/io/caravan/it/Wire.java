// SPDX-License-Identifier: Apache-2.0
package io.caravan.it;

import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.InputStream;
import java.io.OutputStream;
import java.net.InetAddress;
import java.net.InetSocketAddress;
import java.net.Socket;
import java.net.SocketTimeoutException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.KeyFactory;
import java.security.KeyStore;
import java.security.PrivateKey;
import java.security.SecureRandom;
import java.security.cert.Certificate;
import java.security.cert.CertificateFactory;
import java.security.spec.PKCS8EncodedKeySpec;
import java.util.Arrays;
import java.util.Base64;
import java.util.Collection;
import java.util.Map;
import java.util.TreeMap;
import javax.net.ssl.KeyManagerFactory;
import javax.net.ssl.SSLContext;
import javax.net.ssl.SSLSocket;
import javax.net.ssl.TrustManagerFactory;

/** Clients that do what no library would: any bytes, from any address of this machine, with any certificate. */
final class Wire {
  static final int TIMEOUT_MS = 20_000;

  private Wire() { }

  /** @param from address of the loopback network, so that an attacker is somebody else than the devices */
  static Socket connect(String from, int port) throws IOException {
    Socket socket = new Socket();
    socket.bind(new InetSocketAddress(from, 0));
    socket.connect(new InetSocketAddress(InetAddress.getByName("127.0.0.1"), port), TIMEOUT_MS);
    socket.setSoTimeout(TIMEOUT_MS);
    socket.setTcpNoDelay(true);
    return socket;
  }

  /** What the peer sends until it closes; a peer that resets has closed. */
  static byte[] drain(Socket socket) throws IOException {
    ByteArrayOutputStream out = new ByteArrayOutputStream();
    try {
      socket.getInputStream().transferTo(out);
    } catch (SocketTimeoutException e) {
      throw new AssertionError("the connection is still open after " + TIMEOUT_MS + " ms; so far: " + out, e);
    } catch (IOException reset) {
      // closed all the same
    }
    return out.toByteArray();
  }

  /** One HTTP answer. */
  record Answer(int status, Map<String, String> headers, String body) {
    static Answer read(InputStream in) throws IOException {
      String line = line(in);
      if (!line.startsWith("HTTP/1.")) {
        throw new IOException("no HTTP answer: [" + line + "]");
      }
      int status = Integer.parseInt(line.split(" ")[1]);
      Map<String, String> headers = new TreeMap<>(String.CASE_INSENSITIVE_ORDER);
      for (String h = line(in); !h.isEmpty(); h = line(in)) {
        headers.put(h.substring(0, h.indexOf(':')).trim(), h.substring(h.indexOf(':') + 1).trim());
      }
      if (status == 100) {
        return read(in);
      }
      byte[] body = headers.containsKey("Content-Length") ? in.readNBytes(Integer.parseInt(headers.get("Content-Length")))
          : "chunked".equalsIgnoreCase(headers.get("Transfer-Encoding")) ? chunks(in) : new byte[0];
      return new Answer(status, headers, new String(body, StandardCharsets.UTF_8));
    }

    private static byte[] chunks(InputStream in) throws IOException {
      ByteArrayOutputStream out = new ByteArrayOutputStream();
      for (int length = Integer.parseInt(line(in), 16); length > 0; length = Integer.parseInt(line(in), 16)) {
        out.writeBytes(in.readNBytes(length));
        line(in);
      }
      line(in);
      return out.toByteArray();
    }

    private static String line(InputStream in) throws IOException {
      StringBuilder line = new StringBuilder();
      for (int c = in.read(); c != '\n'; c = in.read()) {
        if (c < 0) {
          throw new IOException("the connection was closed" + (line.isEmpty() ? "" : " after [" + line + "]"));
        }
        if (c != '\r') {
          line.append((char) c);
        }
      }
      return line.toString();
    }
  }

  /** Sends a request exactly as it is given. @param headers lines without the length, which is added */
  static Answer http(String from, int port, String requestLine, byte[] body, String... headers) throws IOException {
    try (Socket socket = connect(from, port)) {
      StringBuilder head = new StringBuilder(requestLine).append("\r\nHost: localhost\r\nConnection: close\r\n");
      Arrays.stream(headers).forEach(h -> head.append(h).append("\r\n"));
      if (Arrays.stream(headers).noneMatch(h -> h.startsWith("Transfer-Encoding") || h.startsWith("Content-Length"))) {
        head.append("Content-Length: ").append(body.length).append("\r\n");
      }
      head.append("\r\n");
      OutputStream out = socket.getOutputStream();
      out.write(head.toString().getBytes(StandardCharsets.ISO_8859_1));
      try {
        out.write(body);
        out.flush();
      } catch (IOException hungUp) {
        // a server may answer before it has read everything
      }
      return Answer.read(socket.getInputStream());
    }
  }

  /** @param ca whom to trust; @param cert, key of the client, null: none */
  static SSLContext tls(Path ca, Path cert, Path key) throws Exception {
    SSLContext context = SSLContext.getInstance("TLS");
    context.init(cert == null ? null : keys(cert, key).getKeyManagers(), trust(ca).getTrustManagers(), new SecureRandom());
    return context;
  }

  static KeyManagerFactory keys(Path cert, Path key) throws Exception {
    KeyStore keys = KeyStore.getInstance(KeyStore.getDefaultType());
    keys.load(null);
    keys.setKeyEntry("client", privateKey(key), new char[0], certificates(cert).toArray(new Certificate[0]));
    KeyManagerFactory factory = KeyManagerFactory.getInstance(KeyManagerFactory.getDefaultAlgorithm());
    factory.init(keys, new char[0]);
    return factory;
  }

  static TrustManagerFactory trust(Path ca) throws Exception {
    KeyStore trust = KeyStore.getInstance(KeyStore.getDefaultType());
    trust.load(null);
    trust.setCertificateEntry("ca", certificates(ca).iterator().next());
    TrustManagerFactory factory = TrustManagerFactory.getInstance(TrustManagerFactory.getDefaultAlgorithm());
    factory.init(trust);
    return factory;
  }

  static SSLSocket secure(SSLContext context, Socket plain) throws IOException {
    SSLSocket socket = (SSLSocket) context.getSocketFactory().createSocket(plain, "localhost", plain.getPort(), true);
    socket.setSoTimeout(TIMEOUT_MS);
    return socket;
  }

  private static Collection<? extends Certificate> certificates(Path file) throws Exception {
    try (InputStream in = Files.newInputStream(file)) {
      return CertificateFactory.getInstance("X.509").generateCertificates(in);
    }
  }

  private static PrivateKey privateKey(Path file) throws Exception {
    String base64 = Files.readString(file).replaceAll("-----[A-Z ]+-----", "").replaceAll("\\s", "");
    return KeyFactory.getInstance("EC").generatePrivate(new PKCS8EncodedKeySpec(Base64.getDecoder().decode(base64)));
  }

  /** A CONNECT packet of MQTT 5. @param username, password null: none */
  static byte[] mqttConnect(String clientId, String username, String password) {
    ByteArrayOutputStream body = new ByteArrayOutputStream();
    body.writeBytes(new byte[] {0, 4, 'M', 'Q', 'T', 'T', 5, (byte) (2 | (username == null ? 0 : 0x80) | (password == null ? 0 : 0x40)), 0, 60, 0});
    for (String field : new String[] {clientId, username, password}) {
      if (field != null) {
        byte[] bytes = field.getBytes(StandardCharsets.UTF_8);
        body.write(bytes.length >> 8);
        body.write(bytes.length);
        body.writeBytes(bytes);
      }
    }
    ByteArrayOutputStream packet = new ByteArrayOutputStream();
    packet.write(0x10);
    packet.writeBytes(length(body.size()));
    packet.writeBytes(body.toByteArray());
    return packet.toByteArray();
  }

  /** MQTT's variable byte integer. */
  static byte[] length(int n) {
    ByteArrayOutputStream out = new ByteArrayOutputStream();
    do {
      out.write(n % 128 + (n >= 128 ? 128 : 0));
      n /= 128;
    } while (n > 0);
    return out.toByteArray();
  }

  /** The reason code of a CONNACK of MQTT 5; -1: closed without one. */
  static int mqttConnack(Socket socket, byte[] connect) throws IOException {
    OutputStream out = socket.getOutputStream();
    out.write(connect);
    out.flush();
    int type = socket.getInputStream().read();
    int length = socket.getInputStream().read();
    byte[] rest = length < 0 ? new byte[0] : socket.getInputStream().readNBytes(length);
    return type != 0x20 || rest.length < 2 ? -1 : rest[1] & 0xff;
  }
}
