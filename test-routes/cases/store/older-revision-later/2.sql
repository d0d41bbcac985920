INSERT INTO inbox (gateway_id, log_id, gateway_seq, kind, device_id, message_key, observed_at_ms, received_at_ms, body) VALUES
  ('g1', 'l1', 2, 'window', 'd1', 'd1/w/t/60000/60000/0/1', 60010, 1000, '{"device_id": "d1", "metric": "t", "start_ms": 60000, "width_ms": 60000, "part": 0, "revision": 1, "count": 1, "min": 1, "max": 9, "sum": 5, "mean": 5.0, "last": 5, "last_observed_ms": 60010}');
