// SPDX-License-Identifier: Apache-2.0
package io.caravan.bench;

import com.hivemq.client.mqtt.mqtt5.exceptions.Mqtt5PubAckException;
import com.hivemq.client.mqtt.mqtt5.message.publish.Mqtt5PublishResult;
import com.hivemq.client.mqtt.mqtt5.message.publish.puback.Mqtt5PubAckReasonCode;
import java.util.Optional;

/** What a publication came to: the client reports a PUBACK that refuses as an exception, like a lost connection. */
final class Acks {
    private Acks() {
    }

    /** @return the PUBACK's reason code; negative: there was none, the connection went away */
    static int code(Mqtt5PublishResult result, Throwable e) {
        return reason(result, e).map(Mqtt5PubAckReasonCode::getCode).orElse(-1);
    }

    /** @return name of the reason for which the message was refused; null: it was not */
    static String refusal(Mqtt5PublishResult result, Throwable e) {
        return reason(result, e).filter(Mqtt5PubAckReasonCode::isError).map(Enum::toString).orElse(null);
    }

    private static Optional<Mqtt5PubAckReasonCode> reason(Mqtt5PublishResult result, Throwable e) {
        for (Throwable cause = e; cause != null; cause = cause.getCause()) {
            if (cause instanceof Mqtt5PubAckException refused) {
                return Optional.of(refused.getMqttMessage().getReasonCode());
            }
        }
        if (e == null && result instanceof Mqtt5PublishResult.Mqtt5Qos1Result acked) {
            return Optional.of(acked.getPubAck().getReasonCode());
        }
        return Optional.empty();
    }
}
