-- Version 2: commands and twins.

CREATE TABLE command (
  seq INTEGER PRIMARY KEY AUTOINCREMENT,
  gateway_id TEXT NOT NULL,
  command_id TEXT NOT NULL,
  device_id TEXT NOT NULL,                 -- 'gateway': the gateway itself
  name TEXT NOT NULL,
  arguments TEXT NOT NULL,
  units TEXT,
  precondition TEXT,
  content_hash BLOB,                       -- NULL: it began at the gateway
  origin TEXT NOT NULL,                    -- cloud | shell | mqtt
  issued_by TEXT NOT NULL,
  trace_context TEXT,
  status TEXT NOT NULL,
  reason TEXT,
  detail TEXT,
  result TEXT,
  created_at_ms INTEGER NOT NULL,
  expires_at_ms INTEGER NOT NULL,
  transmissions INTEGER NOT NULL DEFAULT 0, -- > 0: the gateway may have it; committed before it is sent
  transmitted_at_ms INTEGER,               -- last time
  cancel_requested_at_ms INTEGER,
  cancel_requested_by TEXT,
  gateway_revision INTEGER NOT NULL DEFAULT 0, -- newest event of the gateway that is in; those before it are too
  updated_at_ms INTEGER NOT NULL,
  final_at_ms INTEGER
) STRICT;
CREATE UNIQUE INDEX command_id ON command (gateway_id, command_id);
CREATE INDEX command_device ON command (gateway_id, device_id, seq);
CREATE INDEX command_open ON command (gateway_id, seq) WHERE final_at_ms IS NULL;
CREATE INDEX command_unsent ON command (gateway_id, seq) WHERE final_at_ms IS NULL AND transmissions = 0;
-- The gateway may have them and has not said so.
CREATE INDEX command_silent ON command (gateway_id, seq) WHERE final_at_ms IS NULL AND transmissions > 0 AND gateway_revision = 0;
CREATE INDEX command_cancel ON command (gateway_id, seq) WHERE final_at_ms IS NULL AND cancel_requested_at_ms IS NOT NULL;

-- What happened, in the order in which it is told (id); revision NULL: this cloud's own.
CREATE TABLE command_event (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  gateway_id TEXT NOT NULL,
  command_id TEXT NOT NULL,
  device_id TEXT NOT NULL,
  revision INTEGER,
  status TEXT NOT NULL,
  reason TEXT,
  detail TEXT,
  result TEXT,
  at_ms INTEGER NOT NULL                   -- by the clock of who says it
) STRICT;
CREATE INDEX command_event_command ON command_event (gateway_id, command_id, id);

-- Events of a gateway that came before their predecessor (live rows go before a backlog): they wait.
CREATE TABLE command_early (
  gateway_id TEXT NOT NULL,
  command_id TEXT NOT NULL,
  revision INTEGER NOT NULL,
  device_id TEXT NOT NULL,
  body TEXT NOT NULL,
  received_at_ms INTEGER NOT NULL,
  PRIMARY KEY (gateway_id, command_id, revision)
) STRICT, WITHOUT ROWID;

CREATE TABLE twin (
  gateway_id TEXT NOT NULL,
  device_id TEXT NOT NULL,
  log_id TEXT NOT NULL,                    -- versions count within one store of the gateway
  desired TEXT NOT NULL,
  desired_version INTEGER NOT NULL,
  reported TEXT NOT NULL,
  reported_version INTEGER NOT NULL,
  delta TEXT NOT NULL,
  updated_at_ms INTEGER NOT NULL,
  PRIMARY KEY (gateway_id, device_id)
) STRICT, WITHOUT ROWID;

-- A consumer of the inbox of its own. An inbox that is older than it starts at its end.
INSERT INTO sink (name, log) VALUES ('command', 'inbox');
INSERT INTO sink_range (sink, first_seq, acked_seq, inflight_seq)
SELECT 'command', e.seq + 1, e.seq, e.seq FROM (SELECT coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'inbox'), 0) AS seq) e;
