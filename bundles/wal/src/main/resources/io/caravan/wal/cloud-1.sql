-- The cloud mirror's store (embedded), version 1.

CREATE TABLE meta (
  one INTEGER PRIMARY KEY CHECK (one = 1),
  log_id TEXT NOT NULL,
  created_at_ms INTEGER NOT NULL
) STRICT;

CREATE TABLE gateway (
  gateway_id TEXT PRIMARY KEY,
  log_id TEXT NOT NULL,                    -- the log of its last session
  version TEXT,
  connected INTEGER NOT NULL DEFAULT 0,
  first_seen_ms INTEGER NOT NULL,
  last_seen_ms INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- How far the cloud has each range of a gateway's outbox.
CREATE TABLE gateway_range (
  gateway_id TEXT NOT NULL,
  log_id TEXT NOT NULL,
  first_seq INTEGER NOT NULL,
  acked_seq INTEGER NOT NULL,
  PRIMARY KEY (gateway_id, log_id, first_seq)
) STRICT, WITHOUT ROWID;

-- What gateways sent, once each. The bus' log: every consumer behind it is a cursor.
CREATE TABLE inbox (
  seq INTEGER PRIMARY KEY AUTOINCREMENT,
  gateway_id TEXT NOT NULL,
  log_id TEXT NOT NULL,
  gateway_seq INTEGER NOT NULL,
  kind TEXT NOT NULL,
  device_id TEXT NOT NULL,
  message_key TEXT NOT NULL,
  observed_at_ms INTEGER NOT NULL,
  received_at_ms INTEGER NOT NULL,
  trace_context TEXT,
  body TEXT NOT NULL
) STRICT;
CREATE UNIQUE INDEX inbox_gateway_seq ON inbox (gateway_id, log_id, gateway_seq);

CREATE TABLE sink (
  name TEXT PRIMARY KEY,
  log TEXT NOT NULL DEFAULT 'inbox',
  state TEXT NOT NULL DEFAULT 'running',
  attempts INTEGER NOT NULL DEFAULT 0,
  next_attempt_at_ms INTEGER,
  last_error TEXT,
  last_success_at_ms INTEGER,
  delivered INTEGER NOT NULL DEFAULT 0,
  dead INTEGER NOT NULL DEFAULT 0,
  discarded INTEGER NOT NULL DEFAULT 0
) STRICT, WITHOUT ROWID;
CREATE TABLE sink_range (
  sink TEXT NOT NULL,
  first_seq INTEGER NOT NULL,
  last_seq INTEGER,
  lane TEXT NOT NULL DEFAULT 'live',
  acked_seq INTEGER NOT NULL,
  inflight_seq INTEGER NOT NULL,
  PRIMARY KEY (sink, first_seq)
) STRICT, WITHOUT ROWID;

CREATE TABLE device (
  gateway_id TEXT NOT NULL,
  device_id TEXT NOT NULL,
  first_seen_ms INTEGER NOT NULL,
  last_seen_ms INTEGER NOT NULL,
  last_observed_ms INTEGER NOT NULL,
  PRIMARY KEY (gateway_id, device_id)
) STRICT, WITHOUT ROWID;

CREATE TABLE last_value (
  gateway_id TEXT NOT NULL,
  device_id TEXT NOT NULL,
  metric TEXT NOT NULL,
  value REAL NOT NULL,
  observed_at_ms INTEGER NOT NULL,
  PRIMARY KEY (gateway_id, device_id, metric)
) STRICT, WITHOUT ROWID;

-- "window" is a keyword of SQL.
CREATE TABLE rollup_window (
  gateway_id TEXT NOT NULL,
  device_id TEXT NOT NULL,
  metric TEXT NOT NULL,
  start_ms INTEGER NOT NULL,
  width_ms INTEGER NOT NULL,
  part INTEGER NOT NULL,
  revision INTEGER NOT NULL,
  count INTEGER NOT NULL,
  min REAL NOT NULL,
  max REAL NOT NULL,
  sum REAL NOT NULL,
  mean REAL NOT NULL,
  last REAL NOT NULL,
  last_observed_ms INTEGER NOT NULL,
  PRIMARY KEY (gateway_id, device_id, metric, start_ms, width_ms, part)
) STRICT, WITHOUT ROWID;

-- Messages that the data policy of a gateway lets through as they are.
CREATE TABLE message (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  gateway_id TEXT NOT NULL,
  device_id TEXT NOT NULL,
  message_key TEXT NOT NULL,
  kind TEXT NOT NULL,
  observed_at_ms INTEGER NOT NULL,
  received_at_ms INTEGER NOT NULL,
  body TEXT NOT NULL
) STRICT;
CREATE UNIQUE INDEX message_key ON message (gateway_id, message_key);
CREATE INDEX message_device ON message (gateway_id, device_id, id);

INSERT INTO sink (name, log) VALUES ('store', 'inbox');
INSERT INTO sink_range (sink, first_seq, acked_seq, inflight_seq) VALUES ('store', 1, 0, 0);
