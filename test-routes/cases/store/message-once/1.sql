INSERT INTO inbox (gateway_id, log_id, gateway_seq, kind, device_id, message_key, observed_at_ms, received_at_ms, body) VALUES
  ('g1', 'l1', 1, 'event', 'd1', 'd1/b1/1', 5, 1000, '{"event":"e"}'),
  ('g1', 'l1', 2, 'event', 'd1', 'd1/b1/1', 5, 1000, '{"event":"e"}'),
  ('g1', 'l1', 3, 'event', 'd1', 'd1/b1/2', 5, 1000, '{"event":"e"}'),
  ('g2', 'l1', 1, 'event', 'd1', 'd1/b1/1', 5, 1000, '{"event":"e"}');
