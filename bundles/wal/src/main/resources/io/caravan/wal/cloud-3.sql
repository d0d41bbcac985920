-- Version 3: what the API shows, coarse windows. PostgreSQL: bundles/postgres, cloud-3.sql; the same tables and columns.

ALTER TABLE device ADD COLUMN changed_at_ms INTEGER NOT NULL DEFAULT 0; -- when the store applied it, by the store's clock
CREATE INDEX device_changed ON device (changed_at_ms);
ALTER TABLE last_value ADD COLUMN changed_at_ms INTEGER NOT NULL DEFAULT 0;
ALTER TABLE rollup_window ADD COLUMN received_at_ms INTEGER NOT NULL DEFAULT 0; -- the inbox had this revision; 0: it is not known
-- For retention.
CREATE INDEX message_observed ON message (observed_at_ms);

CREATE INDEX message_event ON message (id) WHERE kind = 'event';
CREATE INDEX message_event_device ON message (gateway_id, device_id, id) WHERE kind = 'event';

-- What a device said last that it can.
CREATE TABLE capability (
  gateway_id TEXT NOT NULL,
  device_id TEXT NOT NULL,
  body TEXT NOT NULL,
  observed_at_ms INTEGER NOT NULL,
  received_at_ms INTEGER NOT NULL,
  PRIMARY KEY (gateway_id, device_id)
) STRICT, WITHOUT ROWID;

-- Windows of an hour and of a day, made of those of rollup_window by route downsample.
CREATE TABLE rollup_coarse (
  gateway_id TEXT NOT NULL,
  device_id TEXT NOT NULL,
  metric TEXT NOT NULL,
  width_ms INTEGER NOT NULL,               -- 3600000 or 86400000
  start_ms INTEGER NOT NULL,
  count INTEGER NOT NULL,
  min REAL NOT NULL,
  max REAL NOT NULL,
  sum REAL NOT NULL,
  last REAL NOT NULL,
  last_observed_ms INTEGER NOT NULL,
  late INTEGER NOT NULL,
  revision INTEGER NOT NULL,
  PRIMARY KEY (gateway_id, device_id, metric, width_ms, start_ms)
) STRICT, WITHOUT ROWID;
-- Hours in which windows changed since.
CREATE TABLE rollup_dirty (
  gateway_id TEXT NOT NULL,
  device_id TEXT NOT NULL,
  metric TEXT NOT NULL,
  start_ms INTEGER NOT NULL,
  marked_at_ms INTEGER NOT NULL,
  PRIMARY KEY (gateway_id, device_id, metric, start_ms)
) STRICT, WITHOUT ROWID;
CREATE INDEX rollup_dirty_marked ON rollup_dirty (marked_at_ms);
INSERT INTO rollup_dirty (gateway_id, device_id, metric, start_ms, marked_at_ms)
SELECT DISTINCT gateway_id, device_id, metric, start_ms - start_ms % 3600000, 0 FROM rollup_window;

-- A replica of the cloud lives as long as it prolongs its lease. SQLite has one.
CREATE TABLE replica (
  replica_id TEXT PRIMARY KEY,
  address TEXT,
  version TEXT,
  started_at_ms INTEGER NOT NULL,
  seen_at_ms INTEGER NOT NULL,
  until_ms INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Sinks that come and go, as at a gateway: template sink reads the inbox too.
-- internal: 1: a part of the cloud (store, command), cannot be removed, reset or replayed to; 2: bus, which is one too, and
-- made of template sink.
ALTER TABLE sink ADD COLUMN internal INTEGER NOT NULL DEFAULT 0;
ALTER TABLE sink ADD COLUMN start_seq INTEGER NOT NULL DEFAULT 1;
ALTER TABLE sink ADD COLUMN reason TEXT;
ALTER TABLE sink ADD COLUMN failing_since_ms INTEGER;
UPDATE sink SET internal = 1;
-- End of the batch that was claimed last: the same rows are claimed again, under the same key.
ALTER TABLE sink_range ADD COLUMN planned_seq INTEGER NOT NULL DEFAULT 0;
ALTER TABLE sink_range ADD COLUMN origin TEXT NOT NULL DEFAULT 'normal';
-- The row of a dead letter stays in the inbox as long as it is one.
CREATE TABLE dead_letter (
  sink TEXT NOT NULL,
  seq INTEGER NOT NULL,
  reason TEXT NOT NULL,
  error TEXT NOT NULL,
  attempts INTEGER NOT NULL,
  first_failed_at_ms INTEGER NOT NULL,
  dead_at_ms INTEGER NOT NULL,
  state TEXT NOT NULL DEFAULT 'dead',      -- dead | requeued | discarded
  note TEXT,
  PRIMARY KEY (sink, seq)
) STRICT, WITHOUT ROWID;
CREATE INDEX dead_letter_seq ON dead_letter (seq) WHERE state = 'dead';
CREATE TABLE discarded (
  sink TEXT NOT NULL,
  reason TEXT NOT NULL,
  row_count INTEGER NOT NULL,
  PRIMARY KEY (sink, reason)
) STRICT, WITHOUT ROWID;

-- The topic that is the bus (bus.type=kafka): which one, how far the store has each partition, and what has to be there
-- before the store's cursor may pass a batch. Another topic, or the same name made anew, is another topic_id.
CREATE TABLE bus (
  one INTEGER PRIMARY KEY CHECK (one = 1),
  topic TEXT NOT NULL,
  topic_id TEXT NOT NULL
) STRICT;
CREATE TABLE bus_offset (
  topic_id TEXT NOT NULL,
  partition_id INTEGER NOT NULL,
  next_offset INTEGER NOT NULL,            -- everything before it is in the tables
  PRIMARY KEY (topic_id, partition_id)
) STRICT, WITHOUT ROWID;
CREATE TABLE bus_mark (
  topic_id TEXT NOT NULL,
  partition_id INTEGER NOT NULL,
  next_offset INTEGER NOT NULL,
  first_seq INTEGER NOT NULL,              -- of the batch that ends there
  PRIMARY KEY (topic_id, partition_id, next_offset)
) STRICT, WITHOUT ROWID;
-- Records of the topic that are no rows, or rows the store refuses.
CREATE TABLE bus_dead (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  topic_id TEXT NOT NULL,
  partition_id INTEGER NOT NULL,
  record_offset INTEGER NOT NULL,
  reason TEXT NOT NULL,
  error TEXT NOT NULL,
  record_key TEXT,
  body BLOB,
  dead_at_ms INTEGER NOT NULL,
  state TEXT NOT NULL DEFAULT 'dead',
  note TEXT
) STRICT;
CREATE UNIQUE INDEX bus_dead_record ON bus_dead (topic_id, partition_id, record_offset);
-- Connected is derived: a gateway has a session of a replica that lives. Both NULL: it has none.
ALTER TABLE gateway DROP COLUMN connected;
ALTER TABLE gateway ADD COLUMN replica_id TEXT;
ALTER TABLE gateway ADD COLUMN session_id TEXT;

-- Which gateways may connect; who changes anything of it counts gateway_revision up first, which is the lock among replicas.
CREATE TABLE gateway_revision (
  one INTEGER PRIMARY KEY CHECK (one = 1),
  revision INTEGER NOT NULL
) STRICT;
INSERT INTO gateway_revision (one, revision) VALUES (1, 0);
CREATE TABLE gateway_registration (
  gateway_id TEXT PRIMARY KEY,
  certificate TEXT NOT NULL,               -- no | accepted | required
  revoked_at_ms INTEGER,
  note TEXT,
  created_at_ms INTEGER NOT NULL,
  updated_at_ms INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE gateway_credential (
  gateway_id TEXT NOT NULL,
  token_hash TEXT NOT NULL,                -- hex of SHA-256
  position INTEGER NOT NULL,               -- 0: the newest
  not_before_ms INTEGER,
  not_after_ms INTEGER,
  PRIMARY KEY (gateway_id, token_hash)
) STRICT, WITHOUT ROWID;
-- One-time enrolment tokens. A used one is kept for a while, so that a request whose answer was lost can be repeated.
CREATE TABLE gateway_enrolment (
  token_hash TEXT PRIMARY KEY,
  gateway_id TEXT NOT NULL,
  not_after_ms INTEGER NOT NULL,
  created_at_ms INTEGER NOT NULL,
  used_at_ms INTEGER,
  credential_hash TEXT                     -- what it was used for
) STRICT, WITHOUT ROWID;
CREATE INDEX gateway_enrolment_gateway ON gateway_enrolment (gateway_id);

-- How each gateway is, as the replica that has its connection saw it last.
CREATE TABLE gateway_health (
  gateway_id TEXT PRIMARY KEY,
  seen_at_ms INTEGER NOT NULL,
  connected_at_ms INTEGER,                 -- NULL: not connected
  address TEXT,
  version TEXT,
  stats_at_ms INTEGER,
  backlog_rows INTEGER,
  lag_ms INTEGER,
  clock_offset_ms INTEGER,
  round_trip_ms INTEGER,
  store_state TEXT,                        -- DURABLE | DEGRADED | REFUSING | UNKNOWN
  store_bytes INTEGER,
  store_limit_bytes INTEGER,
  ready INTEGER
) STRICT, WITHOUT ROWID;

-- Who may do what over HTTP; the same for all replicas. Roles are per site, '*' is all sites. Secrets are here as hashes only.
CREATE TABLE site (
  site_id TEXT PRIMARY KEY,
  name TEXT NOT NULL,
  created_at_ms INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
INSERT INTO site (site_id, name, created_at_ms) VALUES ('default', 'Default', 0);
-- A gateway that is not here is of site 'default'.
CREATE TABLE gateway_site (
  gateway_id TEXT PRIMARY KEY,
  site_id TEXT NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX gateway_site_site ON gateway_site (site_id);
CREATE TABLE account (
  name TEXT PRIMARY KEY,
  password_hash TEXT NOT NULL,
  disabled_at_ms INTEGER,
  created_at_ms INTEGER NOT NULL,
  created_by TEXT NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE account_role (
  name TEXT NOT NULL,
  site_id TEXT NOT NULL,
  role TEXT NOT NULL,                      -- viewer | operator | admin
  PRIMARY KEY (name, site_id)
) STRICT, WITHOUT ROWID;
CREATE TABLE api_token (
  name TEXT PRIMARY KEY,
  hash TEXT NOT NULL,                      -- SHA-256, hex
  account TEXT,                            -- not more than that account may; NULL: it stands by itself
  created_at_ms INTEGER NOT NULL,
  created_by TEXT NOT NULL,
  expires_at_ms INTEGER,
  used_at_ms INTEGER,
  revoked_at_ms INTEGER
) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX api_token_hash ON api_token (hash);
CREATE TABLE api_token_role (
  name TEXT NOT NULL,
  site_id TEXT NOT NULL,
  role TEXT NOT NULL,
  PRIMARY KEY (name, site_id)
) STRICT, WITHOUT ROWID;
CREATE TABLE login_session (
  hash TEXT PRIMARY KEY,                   -- SHA-256 of the cookie, hex
  kind TEXT NOT NULL,                      -- account | oidc
  user_name TEXT NOT NULL,
  roles TEXT,                              -- oidc: issuer and claims, JSON; roles are made of them each time
  created_at_ms INTEGER NOT NULL,
  used_at_ms INTEGER NOT NULL,
  expires_at_ms INTEGER NOT NULL,
  address TEXT
) STRICT, WITHOUT ROWID;
CREATE INDEX login_session_user ON login_session (kind, user_name);
