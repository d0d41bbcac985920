INSERT INTO inbox (gateway_id, log_id, gateway_seq, kind, device_id, message_key, observed_at_ms, received_at_ms, body) VALUES
  ('g1', 'l1', 1, 'event', 'd1', 'k1', 5, 1000, '{"event":"e"}'),
  ('g1', 'l1', 2, 'event', 'd1', 'k2', 5, 1000, '{"event":"e"}');
-- The other consumer of the inbox has them already.
UPDATE sink_range SET acked_seq = 2, inflight_seq = 2 WHERE sink = 'command';
