-- A row from before the gateway had a clock: its own time was 1970.
INSERT INTO wal (message_key, correlation_id, device_id, kind, lane, observed_at_ms, received_at_ms, mono_ms, schema_version,
  content_type, body, crc)
VALUES ('d1/k/1', '0', 'd1', 'telemetry', 'live', 61000, 61000, 1, 1, 'application/json', CAST('{"metrics":{"t":7}}' AS BLOB), 2150811590);
