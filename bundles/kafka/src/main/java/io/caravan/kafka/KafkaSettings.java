// SPDX-License-Identifier: Apache-2.0
package io.caravan.kafka;

import java.io.IOException;
import java.io.Reader;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Properties;
import org.apache.kafka.common.config.ConfigException;

/** How a client of Kafka gets in, as routes configure it. Set before use, then only read. */
public abstract class KafkaSettings {
    private static final String LOGIN = "org.apache.kafka.common.security.";

    final Properties properties = new Properties();
    String topic;
    private String mechanism = "PLAIN";
    private String user;
    private String password;
    private Path passwordFile;
    private Path caFile;
    private Path certFile;
    private Path keyFile;
    private Path propertiesFile;

    KafkaSettings() {
        // Not asked for: the broker may otherwise subscribe to this client's metrics.
        properties.put("enable.metrics.push", "false");
    }

    /** @param brokers {@code host:port}, comma separated */
    public void setBrokers(String brokers) {
        properties.put("bootstrap.servers", brokers);
    }

    public void setTopic(String topic) {
        this.topic = topic;
    }

    /** @param ms for one request to be answered */
    public void setRequestTimeoutMs(int ms) {
        properties.put("request.timeout.ms", ms);
    }

    /** @param protocol PLAINTEXT, SSL, SASL_PLAINTEXT or SASL_SSL */
    public void setSecurityProtocol(String protocol) {
        properties.put("security.protocol", protocol);
    }

    /** @param mechanism PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512 */
    public void setSaslMechanism(String mechanism) {
        this.mechanism = mechanism;
    }

    public void setUserName(String user) {
        this.user = user;
    }

    public void setPassword(String password) {
        this.password = password;
    }

    /** @param file with the password, read for every connection; goes before the password */
    public void setPasswordFile(String file) {
        passwordFile = path(file);
    }

    /** @param file PEM of who may sign the brokers' certificates; none: whom Java trusts */
    public void setCaFile(String file) {
        caFile = path(file);
    }

    /** @param file PEM of the gateway's certificate chain, for brokers that ask for one */
    public void setCertFile(String file) {
        certFile = path(file);
    }

    /** @param file PEM (PKCS#8, not encrypted) of that certificate's key */
    public void setKeyFile(String file) {
        keyFile = path(file);
    }

    /** @param file Java properties of Kafka's client, which go before all other settings */
    public void setPropertiesFile(String file) {
        propertiesFile = path(file);
    }

    /** Takes over how to get in, and where to. */
    final void like(KafkaSettings other) {
        properties.putAll(other.properties);
        topic = other.topic;
        mechanism = other.mechanism;
        user = other.user;
        password = other.password;
        passwordFile = other.passwordFile;
        caFile = other.caFile;
        certFile = other.certFile;
        keyFile = other.keyFile;
        propertiesFile = other.propertiesFile;
    }

    /** All of it, with what is in files as it is there now. */
    final Properties configuration() throws IOException {
        Properties all = new Properties();
        all.putAll(properties);
        String protocol = String.valueOf(all.get("security.protocol"));
        if (protocol.startsWith("SASL")) {
            String secret = passwordFile == null ? password : Files.readString(passwordFile).trim();
            if (user == null || secret == null) {
                throw new ConfigException("security protocol [" + protocol + "] needs a user and a password or password file");
            }
            all.put("sasl.mechanism", mechanism);
            all.put("sasl.jaas.config", LOGIN + (mechanism.startsWith("SCRAM") ? "scram.Scram" : "plain.Plain")
                    + "LoginModule required username=" + quoted(user) + " password=" + quoted(secret) + ";");
        }
        if (protocol.endsWith("SSL")) {
            if (caFile != null) {
                all.put("ssl.truststore.type", "PEM");
                all.put("ssl.truststore.certificates", Files.readString(caFile));
            }
            if (certFile != null) {
                if (keyFile == null) {
                    throw new ConfigException("certificate file [" + certFile + "] needs the file with its key");
                }
                all.put("ssl.keystore.type", "PEM");
                all.put("ssl.keystore.certificate.chain", Files.readString(certFile));
                all.put("ssl.keystore.key", Files.readString(keyFile));
            }
        }
        if (propertiesFile != null) {
            try (Reader in = Files.newBufferedReader(propertiesFile)) {
                all.load(in);
            }
        }
        return all;
    }

    private static String quoted(String value) {
        return '"' + value.replace("\\", "\\\\").replace("\"", "\\\"") + '"';
    }

    private static Path path(String file) {
        return file == null || file.isBlank() ? null : Path.of(file);
    }
}
