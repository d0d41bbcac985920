-- Version 2: sinks that come and go, records that fail one by one, a ledger that is counted and not deduced.

-- Every row from here on is in the log, unless lost (lost_range). Below it retention has left only rows of dead letters.
ALTER TABLE meta ADD COLUMN retained_from_seq INTEGER NOT NULL DEFAULT 1;

-- internal: a part of the gateway (rollup, passthrough, uplink): cannot be removed, reset or replayed to.
ALTER TABLE sink ADD COLUMN internal INTEGER NOT NULL DEFAULT 0;
-- The sink is responsible for rows from here on: 1, or where the log ended when it was enabled to start at "now".
ALTER TABLE sink ADD COLUMN start_seq INTEGER NOT NULL DEFAULT 1;
ALTER TABLE sink ADD COLUMN reason TEXT;               -- of last_error; closed vocabulary, docs/contract.md section 10
ALTER TABLE sink ADD COLUMN failing_since_ms INTEGER;
UPDATE sink SET internal = 1 WHERE name IN ('rollup', 'passthrough', 'uplink');

-- End of the batch that was claimed last. After a crash or a failure the same rows are claimed again, so that a sink
-- that names what it writes by the rows (S3 key, Idempotency-Key) writes it once.
ALTER TABLE sink_range ADD COLUMN planned_seq INTEGER NOT NULL DEFAULT 0;
-- normal | replay | requeue: who made the range.
ALTER TABLE sink_range ADD COLUMN origin TEXT NOT NULL DEFAULT 'normal';

-- CRC-32C of seq and of every column but body, which has its own: a flipped bit in a key or a time is found as well.
-- NULL in rows of version 1.
ALTER TABLE wal ADD COLUMN row_crc INTEGER;

ALTER TABLE dead_letter ADD COLUMN note TEXT;          -- what the operator said when discarding
CREATE INDEX dead_letter_open ON dead_letter (sink, reason) WHERE state = 'dead';

-- Rows a sink will not get, counted by reason: lost (the file was damaged), or discarded from the dead letters.
CREATE TABLE discarded (
  sink TEXT NOT NULL,
  reason TEXT NOT NULL,
  row_count INTEGER NOT NULL,
  PRIMARY KEY (sink, reason)
) STRICT, WITHOUT ROWID;
INSERT INTO discarded (sink, reason, row_count) SELECT name, 'operator', discarded FROM sink WHERE discarded > 0;
-- Which rows a sink was told to leave out (sink:reset), so that a replay of them is counted right. Ranges of one sink do
-- not overlap; each is counted in discarded 'operator'.
CREATE TABLE discarded_range (
  sink TEXT NOT NULL,
  first_seq INTEGER NOT NULL,
  last_seq INTEGER NOT NULL,
  PRIMARY KEY (sink, first_seq)
) STRICT, WITHOUT ROWID;
DROP VIEW ledger;
DROP VIEW message_status;
ALTER TABLE sink DROP COLUMN discarded;

-- What went wrong with the store itself; readiness is red while one is not acknowledged.
CREATE TABLE incident (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  kind TEXT NOT NULL,                      -- corrupt_file | corrupt_rows
  at_ms INTEGER NOT NULL,
  file TEXT,                               -- where the damaged file is kept
  salvaged_rows INTEGER NOT NULL,
  lost_rows INTEGER NOT NULL,
  detail TEXT NOT NULL,
  acknowledged_at_ms INTEGER,
  acknowledged_by TEXT
) STRICT;
-- Sequences that were in the log and are not any more, other than by retention. Exact; ranges do not overlap.
CREATE TABLE lost_range (
  first_seq INTEGER PRIMARY KEY,
  last_seq INTEGER NOT NULL,
  incident INTEGER NOT NULL
) STRICT;

-- Where is a message, for every sink that should have it: one indexed query, and no message is rewritten.
CREATE VIEW message_status AS
SELECT w.seq, w.message_key, w.correlation_id, w.device_id, w.boot_id, w.device_seq, w.received_at_ms, s.name AS sink,
  CASE
    WHEN EXISTS (SELECT 1 FROM dead_letter d WHERE d.sink = s.name AND d.seq = w.seq AND d.state <> 'requeued') THEN 'Dead'
    WHEN EXISTS (SELECT 1 FROM sink_range r WHERE r.sink = s.name AND w.seq >= r.first_seq
                 AND (r.last_seq IS NULL OR w.seq <= r.last_seq) AND w.seq > r.inflight_seq) THEN 'Enqueued'
    WHEN EXISTS (SELECT 1 FROM sink_range r WHERE r.sink = s.name AND w.seq >= r.first_seq
                 AND (r.last_seq IS NULL OR w.seq <= r.last_seq) AND w.seq > r.acked_seq) THEN 'InFlight'
    WHEN EXISTS (SELECT 1 FROM discarded_range o WHERE o.sink = s.name AND w.seq BETWEEN o.first_seq AND o.last_seq) THEN 'Dead'
    ELSE 'Acked'                           -- behind a cursor, or in a range that is finished and gone
  END AS status,
  coalesce((SELECT d.state || ': ' || d.reason || ': ' || d.error FROM dead_letter d WHERE d.sink = s.name AND d.seq = w.seq),
    (SELECT 'discarded: operator: left out by sink:reset or wal:replay' FROM discarded_range o
     WHERE o.sink = s.name AND w.seq BETWEEN o.first_seq AND o.last_seq)) AS detail
FROM wal w CROSS JOIN sink s ON s.log = 'wal' AND w.seq >= s.start_seq;

-- The ledger, per sink: appended = acked + dead + discarded + backlog. Each is counted by itself where it happens, so
-- that unaccounted is a check: anything but 0 is a defect.
CREATE VIEW ledger AS
SELECT l.*, l.appended - l.acked - l.dead - l.discarded - l.backlog AS unaccounted FROM (
  SELECT s.name AS sink, s.log, s.internal,
    max(0, coalesce((SELECT q.seq FROM sqlite_sequence q WHERE q.name = s.log), 0) - s.start_seq + 1) AS appended,
    s.delivered AS acked,
    s.dead,
    coalesce((SELECT sum(d.row_count) FROM discarded d WHERE d.sink = s.name), 0) AS discarded,
    coalesce((SELECT sum(r.inflight_seq - r.acked_seq) FROM sink_range r WHERE r.sink = s.name), 0) AS inflight,
    coalesce((SELECT sum(coalesce(r.last_seq,
        coalesce((SELECT q.seq FROM sqlite_sequence q WHERE q.name = s.log), 0)) - r.acked_seq)
        FROM sink_range r WHERE r.sink = s.name), 0) AS backlog
  FROM sink s) l;
