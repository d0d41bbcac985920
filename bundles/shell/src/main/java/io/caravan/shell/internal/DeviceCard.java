// SPDX-License-Identifier: Apache-2.0
package io.caravan.shell.internal;

import io.caravan.devices.Devices.Device;
import io.caravan.devices.Devices.Enrolment;
import io.caravan.devices.Devices.Signing;
import java.net.InetAddress;
import java.net.UnknownHostException;
import java.util.Map;

/** What a board must be flashed with, out of its enrolment and this gateway's configuration: the only text with its secrets. */
final class DeviceCard {

    private final Map<String, String> settings;
    private final Enrolment enrolment;
    private final Device device;
    private final StringBuilder text = new StringBuilder();

    private DeviceCard(Map<String, String> settings, Enrolment enrolment) {
        this.settings = settings;
        this.enrolment = enrolment;
        this.device = enrolment.device();
    }

    /** @param settings the gateway's, without secrets; what is not there is not mentioned */
    static String of(Map<String, String> settings, Enrolment enrolment) {
        DeviceCard card = new DeviceCard(settings, enrolment);
        card.identity();
        card.mqtt();
        card.http();
        return card.text.toString();
    }

    private void identity() {
        line("device id", device.id());
        line("token", enrolment.token());
        if (device.signing() != Signing.OFF) {
            line("signing key", enrolment.signingKey() + "  (base64url, 32 bytes; signatures are " + (device.signing() == Signing.REQUIRE ? "required" : "checked") + ")");
        }
        var token = device.tokens().get(0);
        if (token.notBeforeMs() > 0 || token.notAfterMs() != null) {
            line("valid", (token.notBeforeMs() > 0 ? "from " + Output.time(token.notBeforeMs()) + " " : "")
                    + (token.notAfterMs() == null ? "" : "until " + Output.time(token.notAfterMs())));
        }
        line("from", device.allow().isEmpty() ? "any address" : String.join(" ", device.allow()));
    }

    private void mqtt() {
        if ("true".equals(settings.get("ingest.direct.enabled"))) {
            String host = settings.getOrDefault("mqtt.server.bind.host", "");
            text.append("\nMQTT 3.1.1 or 5\n");
            line("host", host(host, "mqtt.server.bind.host"));
            line("port", settings.get("mqtt.server.port"));
            if ("true".equals(settings.get("mqtt.server.tls.enabled"))) {
                line("port, TLS", settings.get("mqtt.server.tls.port"));
                certificate("mqtt.server.tls.client.ca.file");
            }
            credentials();
        }
        if ("true".equals(settings.get("ingest.mqtt.enabled"))) {
            text.append("\nMQTT, by the broker\n");
            line("broker", settings.get("mqtt.client.url") + " as the gateway reaches it");
            credentials();
        }
    }

    private void credentials() {
        line("user name", device.id());
        line("password", "the token");
        line("publish", "devices/" + device.id() + "/telemetry, .../events, .../capabilities, .../command-status, .../reported");
        line("subscribe", "devices/" + device.id() + "/commands, .../desired, .../receipts");
        if (device.controller()) {
            String control = "gateways/" + settings.getOrDefault("gateway.id", "{gateway.id}") + "/control";
            line("control", "publish " + control + "/" + device.id() + ", subscribe " + control + "-status/" + device.id());
        }
    }

    private void http() {
        if (!settings.containsKey("http.port")) {
            return;
        }
        boolean tls = "true".equals(settings.get("http.tls.enabled"));
        text.append("\nHTTP\n");
        line("host", host(settings.getOrDefault("http.bind.host", ""), "http.bind.host"));
        if (tls) {
            certificate("http.tls.client.ca.file");
        }
        text.append("  curl ").append(tls ? "--cacert ca.crt https" : "http").append("://").append(bare(settings.getOrDefault("http.bind.host", "")))
                .append(':').append(settings.get("http.port")).append("/ingest/").append(device.id())
                .append(" -H 'Authorization: Bearer ").append(enrolment.token())
                .append("' -H 'Content-Type: application/json' -d '{\"schema_version\":1,\"metrics\":{\"temperature_c\":21.5}}'\n");
    }

    private void certificate(String caKey) {
        String ca = settings.getOrDefault(caKey, "");
        if (!ca.isEmpty()) {
            line("certificate", "CN=" + device.id() + " of an authority in " + ca + "; with the pilot's: mosquitto/certs client DIR " + device.id());
        }
    }

    private static String host(String bind, String key) {
        boolean loopback = bind.startsWith("127.") || bind.equals("localhost") || bind.equals("::1") || bind.equals("[::1]");
        return bare(bind) + (loopback ? "  (this machine only: " + key + " opens it)" : "");
    }

    /** Where it listens on all addresses, this machine's name. */
    private static String bare(String bind) {
        if (!bind.equals("0.0.0.0") && !bind.equals("::") && !bind.equals("[::]")) {
            return bind.indexOf(':') >= 0 && !bind.startsWith("[") ? "[" + bind + "]" : bind;
        }
        try {
            return InetAddress.getLocalHost().getHostName();
        } catch (UnknownHostException e) {
            return "<this gateway>";
        }
    }

    private void line(String name, String value) {
        text.append(String.format("  %-12s %s%n", name, value));
    }
}
