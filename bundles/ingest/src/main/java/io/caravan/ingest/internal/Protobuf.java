// SPDX-License-Identifier: Apache-2.0
package io.caravan.ingest.internal;

import com.fasterxml.jackson.core.JsonEncoding;
import com.fasterxml.jackson.core.JsonFactory;
import com.fasterxml.jackson.core.JsonGenerator;
import com.google.protobuf.InvalidProtocolBufferException;
import com.google.protobuf.Message;
import io.caravan.ingest.Reason;
import io.caravan.ingest.RejectedException;
import io.caravan.ingest.internal.proto.Event;
import io.caravan.ingest.internal.proto.Telemetry;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.charset.StandardCharsets;
import java.util.Map;

/** Protobuf payloads (telemetry.proto) as the JSON they mean; from there on they are read like any other. */
final class Protobuf {
  private static final JsonFactory JSON = new JsonFactory();

  private Protobuf() {}

  static byte[] toJson(Draft draft) throws RejectedException {
    try {
      return draft.kind.equals(Draft.EVENT) ? event(known(Event.parseFrom(draft.original)))
          : telemetry(known(Telemetry.parseFrom(draft.original)));
    } catch (InvalidProtocolBufferException e) {
      throw new RejectedException(Reason.MALFORMED_PROTOBUF, null, "malformed Protobuf: " + e.getMessage());
    } catch (IOException e) {
      throw new UncheckedIOException("writing to memory failed", e);
    }
  }

  private static <T extends Message> T known(T message) throws RejectedException {
    if (!message.getUnknownFields().asMap().isEmpty()) {
      throw new RejectedException(Reason.SCHEMA_VIOLATION, "", "Protobuf fields " + message.getUnknownFields().asMap().keySet()
          + " are not in telemetry.proto");
    }
    return message;
  }

  private static byte[] telemetry(Telemetry in) throws IOException, RejectedException {
    ByteArrayOutputStream bytes = new ByteArrayOutputStream(512);
    try (JsonGenerator out = JSON.createGenerator(bytes, JsonEncoding.UTF8)) {
      out.writeStartObject();
      head(out, in.hasSchemaVersion(), in.getSchemaVersion(), in.hasDeviceId() ? in.getDeviceId() : null,
          in.hasBootId() ? in.getBootId() : null, in.hasDeviceSeq(), in.getDeviceSeq(), in.hasObservedAtMs(), in.getObservedAtMs());
      out.writeObjectFieldStart("metrics");
      for (Map.Entry<String, Double> each : in.getMetricsMap().entrySet()) {
        if (!Double.isFinite(each.getValue())) {
          throw new RejectedException(Reason.SCHEMA_VIOLATION,
              "/metrics/" + each.getKey().replace("~", "~0").replace("/", "~1"), "number must be finite");
        }
        out.writeNumberField(each.getKey(), each.getValue());
      }
      out.writeEndObject();
      out.writeEndObject();
    }
    return bytes.toByteArray();
  }

  private static byte[] event(Event in) throws IOException, RejectedException {
    ByteArrayOutputStream bytes = new ByteArrayOutputStream(512);
    try (JsonGenerator out = JSON.createGenerator(bytes, JsonEncoding.UTF8)) {
      out.writeStartObject();
      head(out, in.hasSchemaVersion(), in.getSchemaVersion(), in.hasDeviceId() ? in.getDeviceId() : null,
          in.hasBootId() ? in.getBootId() : null, in.hasDeviceSeq(), in.getDeviceSeq(), in.hasObservedAtMs(), in.getObservedAtMs());
      if (in.hasEvent()) {
        out.writeStringField("event", in.getEvent());
      }
      if (in.hasSeverity()) {
        out.writeStringField("severity", in.getSeverity());
      }
      if (in.hasDataJson()) {
        // Checked by itself: it must not be able to close the object it stands in.
        PayloadReader.checkObject(in.getDataJson().getBytes(StandardCharsets.UTF_8), "/data");
        out.writeFieldName("data");
        out.writeRawValue(in.getDataJson());
      }
      out.writeEndObject();
    }
    return bytes.toByteArray();
  }

  private static void head(JsonGenerator out, boolean hasVersion, int version, String deviceId, String bootId, boolean hasSeq,
      long deviceSeq, boolean hasObserved, long observedAtMs) throws IOException {
    if (hasVersion) {
      out.writeNumberField("schema_version", Integer.toUnsignedLong(version));
    }
    if (deviceId != null) {
      out.writeStringField("device_id", deviceId);
    }
    if (bootId != null) {
      out.writeStringField("boot_id", bootId);
    }
    if (hasSeq) {
      out.writeFieldName("device_seq");
      out.writeNumber(Long.toUnsignedString(deviceSeq));
    }
    if (hasObserved) {
      out.writeNumberField("observed_at", observedAtMs);
    }
  }
}
