-- Version 4: commands, what devices can do, desired and reported state.

-- A command for a device, or for the gateway itself (device_id 'gateway'). A row stays command.keep.ms after its end: until then its id
-- is known, and the same id is not carried out again.
CREATE TABLE command (
  seq INTEGER PRIMARY KEY AUTOINCREMENT,   -- commands of one device are published in this order
  command_id TEXT NOT NULL,
  device_id TEXT NOT NULL,
  name TEXT NOT NULL,
  arguments TEXT NOT NULL,                 -- JSON object
  units TEXT,                              -- JSON object
  precondition TEXT,                       -- JSON object
  content_hash BLOB NOT NULL,              -- SHA-256 of device, name, arguments, units, precondition: the same id must mean the same
  origin TEXT NOT NULL,                    -- cloud | shell | mqtt
  issued_by TEXT NOT NULL,
  trace_context TEXT,
  status TEXT NOT NULL,                    -- io.caravan.commands.Status
  reason TEXT,
  detail TEXT,
  result TEXT,                             -- JSON
  revision INTEGER NOT NULL,               -- of its newest command_event
  capability_version TEXT,                 -- against which it was checked
  idempotent INTEGER NOT NULL DEFAULT 0,
  timeout_ms INTEGER NOT NULL DEFAULT 0,
  accepted_at_ms INTEGER NOT NULL,
  expires_at_ms INTEGER NOT NULL,          -- wall clock, for people, for devices, and after the machine was started anew
  os_boot_id TEXT NOT NULL,                -- of which the next two are the monotonic clock
  deadline_mono_ms INTEGER NOT NULL,
  answer_until_mono_ms INTEGER,            -- until when evidence is waited for
  attempts INTEGER NOT NULL DEFAULT 0,     -- > 0: it may have been published; committed before it is
  attempted_at_ms INTEGER,                 -- first attempt
  attempted_mono_ms INTEGER,
  final_at_ms INTEGER
) STRICT;
CREATE UNIQUE INDEX command_id ON command (command_id);
CREATE INDEX command_device ON command (device_id, seq);
CREATE INDEX command_open ON command (seq) WHERE final_at_ms IS NULL;
CREATE INDEX command_final ON command (final_at_ms) WHERE final_at_ms IS NOT NULL;

-- Every change of status, in the order of revision; the same went to the outbox in the same transaction.
CREATE TABLE command_event (
  command_seq INTEGER NOT NULL REFERENCES command (seq) ON DELETE CASCADE,
  revision INTEGER NOT NULL,
  status TEXT NOT NULL,
  reason TEXT,
  detail TEXT,
  at_ms INTEGER NOT NULL,
  PRIMARY KEY (command_seq, revision)
) STRICT, WITHOUT ROWID;

-- What a device announced; what is configured is in the registry of devices.
CREATE TABLE capability (
  device_id TEXT PRIMARY KEY,
  version TEXT,
  body TEXT NOT NULL,                      -- JSON, valid by schema/capabilities-1.json
  wal_seq INTEGER NOT NULL,
  updated_at_ms INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE twin (
  device_id TEXT PRIMARY KEY,
  desired TEXT NOT NULL DEFAULT '{}',      -- JSON objects
  desired_version INTEGER NOT NULL DEFAULT 0,
  desired_at_ms INTEGER,
  desired_by TEXT,
  reported TEXT NOT NULL DEFAULT '{}',
  reported_version INTEGER NOT NULL DEFAULT 0,
  reported_at_ms INTEGER
) STRICT, WITHOUT ROWID;

-- The consumer of what devices answer, announce and report. A log that is older than it starts at its end.
INSERT INTO sink (name, log, internal, start_seq)
SELECT 'answers', 'wal', 1, coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'wal'), 0) + 1;
INSERT INTO sink_range (sink, first_seq, acked_seq, inflight_seq)
SELECT name, start_seq, start_seq - 1, start_seq - 1 FROM sink WHERE name = 'answers';
