// SPDX-License-Identifier: Apache-2.0
package io.caravan.uplink;

import io.caravan.uplink.internal.Connection;
import java.net.URI;
import java.net.URISyntaxException;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import org.apache.camel.Consumer;
import org.apache.camel.Processor;
import org.apache.camel.Producer;
import org.apache.camel.support.DefaultEndpoint;
import org.apache.camel.support.SynchronousDelegateProducer;

/**
 * Options of {@code uplink:name}. A consumer takes all but {@code awaitAck}, {@code action} and {@code synchronous},
 * which are a producer's; a producer takes nothing else.
 */
public class UplinkEndpoint extends DefaultEndpoint {

    private final String name;
    private String url;
    private String path;
    private String tokenFile;
    private String caFile;
    private String clientCert;
    private String clientKey;
    private long connectTimeoutMs = 10_000;
    private long pingMs = 15_000;
    private long probeMs;
    private long reconnectMinMs = 1_000;
    private long reconnectMaxMs = 60_000;
    private long sendTimeoutMs = 10_000;
    private long ackTimeoutMs = 30_000;
    private int maxFrameBytes = 1_048_576;
    private int maxInFlight = 64;
    private boolean readiness;
    private long readyAfterMs = 900_000;
    private boolean awaitAck;
    private boolean synchronous;
    private String reply;
    private String action = "send";

    UplinkEndpoint(String uri, UplinkComponent component, String name) {
        super(uri, component);
        this.name = name;
    }

    @Override
    public Consumer createConsumer(Processor processor) throws Exception {
        Consumer consumer = new UplinkConsumer(this, processor, options());
        configureConsumer(consumer);
        return consumer;
    }

    @Override
    public Producer createProducer() {
        if (!action.equals("send") && !action.equals("close") && !action.equals("stats")) {
            throw new IllegalArgumentException("uplink:" + name + " option action [" + action
                + "] must be send, close or stats");
        }
        UplinkProducer producer = new UplinkProducer(this);
        return synchronous ? new SynchronousDelegateProducer(producer) : producer;
    }

    @Override
    public UplinkComponent getComponent() {
        return (UplinkComponent) super.getComponent();
    }

    String name() {
        return name;
    }

    private Connection.Options options() {
        List<Connection.Address> addresses = new ArrayList<>();
        for (String one : (url == null ? "" : url).split(",")) {
            if (!one.isBlank() || addresses.isEmpty()) {
                addresses.add(address(one.trim()));
            }
        }
        positive("connectTimeoutMs", connectTimeoutMs);
        positive("pingMs", pingMs);
        if (probeMs < 0) {
            throw new IllegalArgumentException("uplink option probeMs [" + probeMs + "] must not be below 0");
        }
        positive("reconnectMinMs", reconnectMinMs);
        positive("sendTimeoutMs", sendTimeoutMs);
        positive("ackTimeoutMs", ackTimeoutMs);
        positive("maxFrameBytes", maxFrameBytes);
        positive("maxInFlight", maxInFlight);
        if (reconnectMaxMs < reconnectMinMs) {
            throw new IllegalArgumentException("uplink reconnectMaxMs [" + reconnectMaxMs
                + "] must not be below reconnectMinMs [" + reconnectMinMs + "]");
        }
        if ((empty(clientCert)) != (empty(clientKey))) {
            throw new IllegalArgumentException("uplink clientCert [" + clientCert + "] and clientKey [" + clientKey
                + "] must be given together, or neither");
        }
        return new Connection.Options(name, List.copyOf(addresses), file(tokenFile), file(caFile), file(clientCert), file(clientKey),
            connectTimeoutMs, pingMs, probeMs, reconnectMinMs, reconnectMaxMs, sendTimeoutMs, ackTimeoutMs, maxFrameBytes, maxInFlight);
    }

    private Connection.Address address(String one) {
        URI uri;
        try {
            uri = new URI(one);
        } catch (URISyntaxException e) {
            throw new IllegalArgumentException("uplink url [" + one + "] is not a URL: " + e.getMessage(), e);
        }
        if (!"wss".equalsIgnoreCase(uri.getScheme())) {
            throw new IllegalArgumentException("uplink url [" + one + "] must start with wss://: the uplink is never"
                + " sent without TLS, not even to localhost; set uplink.url");
        }
        if (uri.getHost() == null || uri.getUserInfo() != null || uri.getRawQuery() != null || uri.getFragment() != null) {
            throw new IllegalArgumentException("uplink url [" + one + "] must be wss://host[:port]/path, without user,"
                + " query or fragment: the token comes from tokenFile; set uplink.url");
        }
        String whole = (uri.getRawPath() == null ? "" : uri.getRawPath()) + (path == null ? "" : path.trim());
        return new Connection.Address(uri.getHost(), uri.getPort() < 0 ? 443 : uri.getPort(), whole.isEmpty() ? "/" : whole);
    }

    private static void positive(String option, long value) {
        if (value < 1) {
            throw new IllegalArgumentException("uplink option " + option + " [" + value + "] must be at least 1");
        }
    }

    private static boolean empty(String value) {
        return value == null || value.isBlank();
    }

    private static Path file(String value) {
        return empty(value) ? null : Path.of(value.trim());
    }

    public String getUrl() {
        return url;
    }

    /**
     * Where the cloud listens: {@code wss://host[:port]/path}, or several of these with commas between them, for a cloud of several
     * replicas: after a failure the next one is tried. Nothing but {@code wss} is taken.
     */
    public void setUrl(String url) {
        this.url = url;
    }

    public String getPath() {
        return path;
    }

    /** What is put behind each address of {@code url}. */
    public void setPath(String path) {
        this.path = path;
    }

    public String getTokenFile() {
        return tokenFile;
    }

    /** File with the bearer token; may be missing where there is a client certificate. When it changes the connection is made anew. */
    public void setTokenFile(String tokenFile) {
        this.tokenFile = tokenFile;
    }

    public String getCaFile() {
        return caFile;
    }

    /** PEM file of the authorities the cloud's certificate may come from; none: those of the JVM. Watched like the token. */
    public void setCaFile(String caFile) {
        this.caFile = caFile;
    }

    public String getClientCert() {
        return clientCert;
    }

    /** PEM file of the client certificate, together with {@code clientKey}; none: no client certificate. Watched like the token. */
    public void setClientCert(String clientCert) {
        this.clientCert = clientCert;
    }

    public String getClientKey() {
        return clientKey;
    }

    /** PEM file (PKCS#8) of the client certificate's key. */
    public void setClientKey(String clientKey) {
        this.clientKey = clientKey;
    }

    public long getConnectTimeoutMs() {
        return connectTimeoutMs;
    }

    /** Longest time for TCP, TLS and the WebSocket handshake together. */
    public void setConnectTimeoutMs(long connectTimeoutMs) {
        this.connectTimeoutMs = connectTimeoutMs;
    }

    public long getPingMs() {
        return pingMs;
    }

    /** Time between pings. The connection is ended when two in a row had no answer and nothing else came either. */
    public void setPingMs(long pingMs) {
        this.pingMs = pingMs;
    }

    public long getProbeMs() {
        return probeMs;
    }

    /**
     * A ping or a frame that nothing followed for this time is followed by a second ping; after the same time again, and what the bytes
     * under way may take, the connection is ended. 0: only by {@code pingMs}, {@code sendTimeoutMs} and {@code ackTimeoutMs}.
     */
    public void setProbeMs(long probeMs) {
        this.probeMs = probeMs;
    }

    public long getReconnectMinMs() {
        return reconnectMinMs;
    }

    /** First delay before connecting again; it doubles with each failure. Each delay is drawn from its upper half. */
    public void setReconnectMinMs(long reconnectMinMs) {
        this.reconnectMinMs = reconnectMinMs;
    }

    public long getReconnectMaxMs() {
        return reconnectMaxMs;
    }

    /** Longest delay before connecting again. */
    public void setReconnectMaxMs(long reconnectMaxMs) {
        this.reconnectMaxMs = reconnectMaxMs;
    }

    public long getSendTimeoutMs() {
        return sendTimeoutMs;
    }

    /** A frame that was not written to the socket within this time ends the connection. */
    public void setSendTimeoutMs(long sendTimeoutMs) {
        this.sendTimeoutMs = sendTimeoutMs;
    }

    public long getAckTimeoutMs() {
        return ackTimeoutMs;
    }

    /** A frame whose ack did not come within this time after the frame was handed over ends the connection. */
    public void setAckTimeoutMs(long ackTimeoutMs) {
        this.ackTimeoutMs = ackTimeoutMs;
    }

    public int getMaxFrameBytes() {
        return maxFrameBytes;
    }

    /** Largest message in either direction, in bytes. */
    public void setMaxFrameBytes(int maxFrameBytes) {
        this.maxFrameBytes = maxFrameBytes;
    }

    public int getMaxInFlight() {
        return maxInFlight;
    }

    /** Most sends that may wait for their write or their ack; one more fails at once. */
    public void setMaxInFlight(int maxInFlight) {
        this.maxInFlight = maxInFlight;
    }

    public boolean isReadiness() {
        return readiness;
    }

    /** Whether being disconnected makes the container not ready at once. */
    public void setReadiness(boolean readiness) {
        this.readiness = readiness;
    }

    public long getReadyAfterMs() {
        return readyAfterMs;
    }

    /** How long there may be no connection before the container is not ready. */
    public void setReadyAfterMs(long readyAfterMs) {
        this.readyAfterMs = readyAfterMs;
    }

    public boolean isAwaitAck() {
        return awaitAck;
    }

    /** Producer: complete when the ack came, not when the frame was written. Header CaravanAwaitAck overrides it. */
    public void setAwaitAck(boolean awaitAck) {
        this.awaitAck = awaitAck;
    }

    public boolean isSynchronous() {
        return synchronous;
    }

    /** Producer: hold the calling thread until the exchange is complete, so that a queue in front keeps its order. */
    public void setSynchronous(boolean synchronous) {
        this.synchronous = synchronous;
    }

    public String getReply() {
        return reply;
    }

    /** Producer: type of the message that must follow what is sent within {@code ackTimeoutMs}, or the connection is ended; not waited for here. */
    public void setReply(String reply) {
        this.reply = reply;
    }

    public String getAction() {
        return action;
    }

    /** Producer: {@code send} the body, {@code close} the session, both of header CaravanSession, or send {@code stats}: the body, a Map, and more. */
    public void setAction(String action) {
        this.action = action;
    }
}
