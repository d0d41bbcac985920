# SPDX-License-Identifier: Apache-2.0
# Images of the gateway, of the cloud, and of a mosquitto that the gateway drives; docs/containers.md says what of it was run.
#   docker build --target gateway -t caravan-gateway:0.1.0 .
#   docker build --target cloud -t caravan-cloud:0.1.0 .
#   docker build --target broker -t caravan-broker:0.1.0 .
ARG DEBIAN=debian:12.11-slim
FROM ${DEBIAN} AS base

# The distributions are the same for every processor: this stage runs on the builder's own.
FROM --platform=${BUILDPLATFORM} ${DEBIAN} AS build
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates maven nodejs npm openjdk-17-jdk-headless \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY . .
ENV npm_config_cache=/cache/npm
RUN --mount=type=cache,target=/cache \
    mvn -B -q -ntp -Dmaven.repo.local=/cache/m2 -DskipTests -pl karaf-assembly/gateway,karaf-assembly/cloud -am package \
    && for role in gateway cloud; do \
        mkdir -p /dist/$role \
        && tar -xzf karaf-assembly/$role/target/caravan-$role-*.tar.gz -C /dist/$role --strip-components=1 --no-same-owner \
        && chmod -R go-w /dist/$role && mkdir -p /dist/$role/data/broker || exit 1; \
    done

# A Java with what the distributions use and no more; jcmd for thread dumps. The certificates are Debian's.
FROM base AS jre
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends binutils ca-certificates-java openjdk-17-jdk-headless \
    && rm -rf /var/lib/apt/lists/*
RUN jlink --output /jre --strip-debug --no-header-files --no-man-pages --compress=2 \
        --add-modules java.se,jdk.charsets,jdk.crypto.cryptoki,jdk.crypto.ec,jdk.httpserver,jdk.jcmd,jdk.localedata,jdk.management,jdk.management.agent,jdk.naming.dns,jdk.net,jdk.security.auth,jdk.security.jgss,jdk.unsupported,jdk.xml.dom,jdk.zipfs \
        --include-locales=en \
    && rm -f /jre/lib/security/cacerts && cp -L /etc/ssl/certs/java/cacerts /jre/lib/security/cacerts

FROM base AS runtime
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates curl zlib1g \
    && rm -rf /var/lib/apt/lists/* \
    && groupadd --system --gid 10001 caravan \
    && useradd --system --uid 10001 --gid 10001 --home-dir /nonexistent --no-create-home --shell /usr/sbin/nologin caravan
COPY --from=jre /jre /opt/java
ENV JAVA_HOME=/opt/java PATH=/opt/java/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
COPY --chmod=0755 containers/healthcheck /usr/local/bin/healthcheck
WORKDIR /opt/caravan
USER 10001:10001
# bin/caravan becomes Java (exec), which is process 1 and stops cleanly on this within 10 s; there are no children to reap.
STOPSIGNAL SIGTERM
ENTRYPOINT ["/opt/caravan/bin/caravan"]
CMD ["run"]

FROM runtime AS gateway
ENV HEALTH_PORT=8080
COPY --from=build /dist/gateway /opt/caravan
# Only this is written; natives are unpacked below it (data/tmp), so it must not be mounted noexec.
COPY --from=build --chown=10001:10001 /dist/gateway/data /opt/caravan/data
VOLUME /opt/caravan/data
EXPOSE 1883 8080 8883
HEALTHCHECK --interval=30s --timeout=6s --start-period=120s --retries=3 CMD ["healthcheck"]

FROM runtime AS cloud
ENV HEALTH_PORT=8090 \
    JAVA_OPTS="-Xms256m -Xmx640m -Xss512k -XX:+UseG1GC -XX:-UsePerfData"
COPY --from=build /dist/cloud /opt/caravan
COPY --from=build --chown=10001:10001 /dist/cloud/data /opt/caravan/data
VOLUME /opt/caravan/data
EXPOSE 8090 8443
HEALTHCHECK --interval=30s --timeout=6s --start-period=120s --retries=3 CMD ["healthcheck"]

# mosquitto with the users and rights of the gateway's registry: same user, and a folder of the gateway's shared (compose.yaml).
FROM base AS broker
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends mosquitto mosquitto-clients \
    && rm -rf /var/lib/apt/lists/* \
    && groupadd --system --gid 10001 caravan \
    && useradd --system --uid 10001 --gid 10001 --home-dir /nonexistent --no-create-home --shell /usr/sbin/nologin caravan \
    && install -d -o 10001 -g 10001 -m 0700 /var/lib/caravan-broker /var/lib/caravan-mosquitto
COPY --chmod=0755 mosquitto/run /usr/local/bin/mosquitto-run
COPY mosquitto/mosquitto.conf /tmp/mosquitto.conf
# Two listeners: the gateway's, which is not published, and the devices', where the client id is the user name.
RUN sed -e '/^user /d' \
        -e 's|^persistence_location .*|persistence_location /var/lib/caravan-mosquitto/|' \
        -e 's|^plugin_opt_config_file .*|plugin_opt_config_file /var/lib/caravan-mosquitto/dynamic-security.json|' \
        -e 's|^listener 1883 127\.0\.0\.1$|listener 1884\nlistener 1883\nuse_username_as_clientid true|' \
        /tmp/mosquitto.conf >/etc/mosquitto/caravan.conf && rm /tmp/mosquitto.conf
USER 10001:10001
VOLUME /var/lib/caravan-broker /var/lib/caravan-mosquitto
EXPOSE 1883
HEALTHCHECK --interval=30s --timeout=6s --start-period=30s --retries=3 \
    CMD ["sh", "-c", "mosquitto_sub -p 1884 -u _admin -P \"$(cat /var/lib/caravan-broker/admin.password)\" -t '$CONTROL/dynamic-security/v1/response' -E -W 5"]
ENTRYPOINT ["/usr/local/bin/mosquitto-run"]
CMD ["--state", "/var/lib/caravan-broker", "--conf", "/etc/mosquitto/caravan.conf"]
