-- Still open for an hour: it must wait; another one, older, is due.
INSERT INTO rollup_window (device_id, metric, start_ms, width_ms, count, min, max, sum, last, last_observed_ms, last_seq, updated_at_ms)
SELECT 'd1', 'open', now, 3600000, 1, 7, 7, 7, 7, now, 1, now FROM (SELECT unixepoch() * 1000 AS now);
INSERT INTO rollup_window (device_id, metric, start_ms, width_ms, count, min, max, sum, last, last_observed_ms, last_seq, updated_at_ms)
SELECT 'd1', 'over', now - 3600000, 60000, 1, 7, 7, 7, 7, now, 1, now FROM (SELECT unixepoch() * 1000 AS now);
