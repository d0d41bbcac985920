-- The gateway's store, version 1. One append-only log; everything else is a position in it or derived from it.
-- STRICT: a device id "0012" stays text. Times are wall-clock milliseconds unless named mono (System.nanoTime based).

-- One row per database file: its identity towards the cloud, and what only this file knows.
CREATE TABLE meta (
  one INTEGER PRIMARY KEY CHECK (one = 1),
  log_id TEXT NOT NULL,                    -- UUID, made with the file; outbox sequences mean nothing without it
  created_at_ms INTEGER NOT NULL,
  rollup_pruned_before_ms INTEGER NOT NULL DEFAULT 0
) STRICT;

-- AUTOINCREMENT: a sequence number is never given twice, not even after the newest rows were deleted.
CREATE TABLE wal (
  seq INTEGER PRIMARY KEY AUTOINCREMENT,
  message_key TEXT NOT NULL,
  correlation_id TEXT NOT NULL,            -- UUIDv7
  device_id TEXT NOT NULL,
  kind TEXT NOT NULL,                      -- telemetry | event | capabilities | command-status
  lane TEXT NOT NULL,                      -- live | historical, as the device flagged it
  boot_id TEXT,
  device_seq INTEGER,
  observed_at_ms INTEGER NOT NULL,
  received_at_ms INTEGER NOT NULL,
  mono_ms INTEGER NOT NULL,
  schema_version INTEGER NOT NULL,
  content_type TEXT NOT NULL,
  trace_context TEXT,
  body BLOB NOT NULL,                      -- canonical JSON, UTF-8
  crc INTEGER NOT NULL                     -- CRC-32C of body
) STRICT;
CREATE UNIQUE INDEX wal_message_key ON wal (message_key);

-- Keys that must be remembered after their row was deleted (retention), for messages the device does not number.
CREATE TABLE key_memory (
  message_key TEXT PRIMARY KEY,
  seen_at_ms INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Highest contiguous durable device_seq per device and boot: what a receipt says, and the memory of numbered keys.
CREATE TABLE device_progress (
  device_id TEXT NOT NULL,
  boot_id TEXT NOT NULL,
  contiguous_seq INTEGER NOT NULL,
  highest_seq INTEGER NOT NULL,
  updated_at_ms INTEGER NOT NULL,
  PRIMARY KEY (device_id, boot_id)
) STRICT, WITHOUT ROWID;

-- Bad input, kept.
CREATE TABLE rejected (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  received_at_ms INTEGER NOT NULL,
  correlation_id TEXT NOT NULL,
  source TEXT NOT NULL,                    -- mqtt-server | mqtt | http
  topic TEXT NOT NULL,                     -- topic or path as received
  device_id TEXT,
  content_type TEXT,
  reason TEXT NOT NULL,                    -- closed vocabulary, docs/contract.md section 6
  field TEXT,
  error TEXT NOT NULL,
  body BLOB NOT NULL                       -- as received, cut at ingest.max.bytes
) STRICT;

-- A sink's work is a set of ranges of a log: normally one, open at the end.
CREATE TABLE sink (
  name TEXT PRIMARY KEY,
  log TEXT NOT NULL DEFAULT 'wal',         -- wal | outbox
  state TEXT NOT NULL DEFAULT 'running',   -- running | paused | failed
  attempts INTEGER NOT NULL DEFAULT 0,
  next_attempt_at_ms INTEGER,
  last_error TEXT,
  last_success_at_ms INTEGER,
  delivered INTEGER NOT NULL DEFAULT 0,    -- rows acked, ever
  dead INTEGER NOT NULL DEFAULT 0,
  discarded INTEGER NOT NULL DEFAULT 0
) STRICT, WITHOUT ROWID;
CREATE TABLE sink_range (
  sink TEXT NOT NULL,
  first_seq INTEGER NOT NULL,
  last_seq INTEGER,                        -- NULL: open at the end
  lane TEXT NOT NULL DEFAULT 'live',
  acked_seq INTEGER NOT NULL,              -- everything from first_seq to here is acked
  inflight_seq INTEGER NOT NULL,           -- everything from acked_seq + 1 to here is in flight
  PRIMARY KEY (sink, first_seq)
) STRICT, WITHOUT ROWID;

CREATE TABLE dead_letter (
  sink TEXT NOT NULL,
  seq INTEGER NOT NULL,
  reason TEXT NOT NULL,
  error TEXT NOT NULL,
  attempts INTEGER NOT NULL,
  first_failed_at_ms INTEGER NOT NULL,
  dead_at_ms INTEGER NOT NULL,
  state TEXT NOT NULL DEFAULT 'dead',      -- dead | requeued | discarded
  PRIMARY KEY (sink, seq)
) STRICT, WITHOUT ROWID;

-- Where is a message, for every sink: one indexed query, and no message is rewritten to change its state.
CREATE VIEW message_status AS
SELECT w.seq, w.message_key, w.correlation_id, w.device_id, w.boot_id, w.device_seq, w.received_at_ms, s.name AS sink,
  CASE
    WHEN EXISTS (SELECT 1 FROM dead_letter d WHERE d.sink = s.name AND d.seq = w.seq AND d.state = 'dead') THEN 'Dead'
    WHEN EXISTS (SELECT 1 FROM sink_range r WHERE r.sink = s.name AND w.seq >= r.first_seq
                 AND (r.last_seq IS NULL OR w.seq <= r.last_seq) AND w.seq > r.inflight_seq) THEN 'Enqueued'
    WHEN EXISTS (SELECT 1 FROM sink_range r WHERE r.sink = s.name AND w.seq >= r.first_seq
                 AND (r.last_seq IS NULL OR w.seq <= r.last_seq) AND w.seq > r.acked_seq) THEN 'InFlight'
    WHEN EXISTS (SELECT 1 FROM sink_range r WHERE r.sink = s.name AND w.seq >= r.first_seq
                 AND (r.last_seq IS NULL OR w.seq <= r.last_seq)) THEN 'Acked'
    ELSE 'Acked'                           -- before the sink's first range: finished ranges are dropped
  END AS status
FROM wal w CROSS JOIN sink s
WHERE s.log = 'wal';

-- The ledger, per sink: appended = acked + dead + discarded + backlog, exact at every moment.
CREATE VIEW ledger AS
SELECT s.name AS sink, s.log,
  coalesce((SELECT q.seq FROM sqlite_sequence q WHERE q.name = s.log), 0) AS appended,
  coalesce((SELECT q.seq FROM sqlite_sequence q WHERE q.name = s.log), 0) - s.dead - s.discarded
    - coalesce((SELECT sum(coalesce(r.last_seq,
        coalesce((SELECT q.seq FROM sqlite_sequence q WHERE q.name = s.log), 0)) - r.acked_seq)
        FROM sink_range r WHERE r.sink = s.name), 0) AS acked,
  s.dead, s.discarded,
  coalesce((SELECT sum(r.inflight_seq - r.acked_seq) FROM sink_range r WHERE r.sink = s.name), 0) AS inflight,
  coalesce((SELECT sum(coalesce(r.last_seq,
        coalesce((SELECT q.seq FROM sqlite_sequence q WHERE q.name = s.log), 0)) - r.acked_seq)
        FROM sink_range r WHERE r.sink = s.name), 0) AS backlog,
  s.delivered
FROM sink s;

-- Tumbling event-time windows. A revision that was not emitted yet is work; the cloud keeps the highest revision.
CREATE TABLE rollup_window (
  device_id TEXT NOT NULL,
  metric TEXT NOT NULL,
  start_ms INTEGER NOT NULL,
  width_ms INTEGER NOT NULL,
  part INTEGER NOT NULL DEFAULT 0,         -- > 0: opened again after the window had been pruned here
  count INTEGER NOT NULL,
  min REAL NOT NULL,
  max REAL NOT NULL,
  sum REAL NOT NULL,
  last REAL NOT NULL,
  last_observed_ms INTEGER NOT NULL,
  last_seq INTEGER NOT NULL,               -- decides between two values of the same observed time
  updated_at_ms INTEGER NOT NULL,
  revision INTEGER NOT NULL DEFAULT 0,     -- of the last emission
  dirty INTEGER NOT NULL DEFAULT 1,        -- 1: changed since the last emission; 2: being emitted
  PRIMARY KEY (device_id, metric, start_ms, width_ms, part)
) STRICT, WITHOUT ROWID;
CREATE INDEX rollup_window_dirty ON rollup_window (dirty, start_ms) WHERE dirty <> 0;

-- What may leave the LAN, in order; the uplink is the sink 'uplink' of this log.
CREATE TABLE outbox (
  seq INTEGER PRIMARY KEY AUTOINCREMENT,
  kind TEXT NOT NULL,                      -- window | telemetry | event | capabilities | command-status
  device_id TEXT NOT NULL,
  message_key TEXT NOT NULL,
  observed_at_ms INTEGER NOT NULL,
  created_at_ms INTEGER NOT NULL,
  trace_context TEXT,
  body TEXT NOT NULL                       -- JSON
) STRICT;

INSERT INTO sink (name, log) VALUES ('rollup', 'wal'), ('passthrough', 'wal'), ('uplink', 'outbox');
INSERT INTO sink_range (sink, first_seq, acked_seq, inflight_seq) VALUES
  ('rollup', 1, 0, 0), ('passthrough', 1, 0, 0), ('uplink', 1, 0, 0);
