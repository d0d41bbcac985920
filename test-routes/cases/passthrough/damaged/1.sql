-- Rows that have lain for a while. In the second a bit has flipped.
INSERT INTO wal (message_key, correlation_id, device_id, kind, lane, observed_at_ms, received_at_ms, mono_ms, schema_version,
  content_type, body, crc)
VALUES ('d1/k/1', '0', 'd1', 'event', 'live', 61001, 61000, 1, 1, 'application/json', CAST('{"event":"a"}' AS BLOB), 2880611300),
  ('d1/k/2', '0', 'd1', 'event', 'live', 61002, 61000, 1, 1, 'application/json', CAST('{"event":"b"}' AS BLOB), 3839750633),
  ('d1/k/3', '0', 'd1', 'event', 'live', 61003, 61000, 1, 1, 'application/json', CAST('{"event":"d"}' AS BLOB), 2418906496);
