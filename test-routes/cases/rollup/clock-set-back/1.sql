-- A window of next year, last changed in "next year": the clock was wrong then and has been set back since.
INSERT INTO rollup_window (device_id, metric, start_ms, width_ms, count, min, max, sum, last, last_observed_ms, last_seq, updated_at_ms)
SELECT 'd1', 't', year, 60000, 1, 7, 7, 7, 7, year + 1, 1, year + 2
FROM (SELECT unixepoch() * 1000 / 60000 * 60000 + 31536000000 AS year);
