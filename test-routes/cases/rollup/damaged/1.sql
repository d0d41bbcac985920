-- Rows that have lain for a while. Of the second a bit flip has made what is no JSON, of the third another number.
INSERT INTO wal (message_key, correlation_id, device_id, kind, lane, observed_at_ms, received_at_ms, mono_ms, schema_version,
  content_type, body, crc)
VALUES ('d1/k/1', '0', 'd1', 'telemetry', 'live', 61001, 61000, 1, 1, 'application/json', CAST('{"metrics":{"t":7}}' AS BLOB), 2150811590),
  ('d1/k/2', '0', 'd1', 'telemetry', 'live', 61002, 61000, 1, 1, 'application/json', CAST('{"metrics":{"t":}}}' AS BLOB), 3432226154),
  ('d1/k/3', '0', 'd1', 'telemetry', 'live', 61003, 61000, 1, 1, 'application/json', CAST('{"metrics":{"t":9}}' AS BLOB), 1367552465),
  ('d1/k/4', '0', 'd1', 'telemetry', 'live', 61004, 61000, 1, 1, 'application/json', CAST('{"metrics":{"t":5}}' AS BLOB), 3479016907);
