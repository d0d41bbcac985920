-- SPDX-License-Identifier: Apache-2.0
-- The cloud mirror's store in PostgreSQL, from nothing to version 3. Versions are those of the SQLite store (bundles/wal, cloud-*.sql):
-- the same number means the same tables and columns, so that the same routes serve both.

-- The dialect words (sql-postgresql.properties) that need a function. None of them fails on JSON that a gateway may send.

-- Text to JSON. jsonb knows neither U+0000 nor half a surrogate pair, and no number beyond 131072 digits: these are replaced.
CREATE FUNCTION caravan_json(source text) RETURNS jsonb LANGUAGE plpgsql IMMUTABLE STRICT AS $$
DECLARE
  t text;
BEGIN
  RETURN source::jsonb;
EXCEPTION WHEN untranslatable_character OR invalid_text_representation OR numeric_value_out_of_range THEN
  t := replace(source, '\\', chr(1)); -- what is left of backslashes begins an escape
  t := regexp_replace(t, '\\u0000', '\\ufffd', 'g');
  t := regexp_replace(t, '\\u[dD][89abAB][0-9a-fA-F]{2}(?!\\u[dD][c-fC-F][0-9a-fA-F]{2})', '\\ufffd', 'g');
  t := regexp_replace(t, '(?<!\\u[dD][89abAB][0-9a-fA-F]{2})\\u[dD][c-fC-F][0-9a-fA-F]{2}', '\\ufffd', 'g');
  t := regexp_replace(t, '(\d)[eE]\+?0*[1-9]\d{4,}', '\1e9999', 'g');
  RETURN replace(t, chr(1), '\\')::jsonb;
END $$;

-- '$.a.b' to {a,b}; '$' to {}.
CREATE FUNCTION caravan_json_path(path text) RETURNS text[] LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE AS
  $$ SELECT string_to_array(substr(path, 3), '.') $$;

-- As SQLite's json_type: text, integer, real, true, false, null, object, array; NULL: there is none. An integer fits into BIGINT,
-- a real into DOUBLE PRECISION; a number that does not is 'huge'. Neither STRICT nor with a FROM: so the planner puts it in place.
CREATE FUNCTION caravan_json_type(source jsonb, path text) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
  SELECT CASE jsonb_typeof(source #> string_to_array(substr(path, 3), '.'))
    WHEN 'string' THEN 'text'
    WHEN 'boolean' THEN source #>> string_to_array(substr(path, 3), '.')
    WHEN 'number' THEN CASE WHEN source #>> string_to_array(substr(path, 3), '.') ~ '^-?\d{1,18}$' THEN 'integer'
      WHEN abs(CAST(source #> string_to_array(substr(path, 3), '.') AS numeric)) BETWEEN 1e-300 AND 1.7e308
        OR CAST(source #> string_to_array(substr(path, 3), '.') AS numeric) = 0 THEN 'real'
      ELSE 'huge' END
    ELSE jsonb_typeof(source #> string_to_array(substr(path, 3), '.')) END
$$;
CREATE FUNCTION caravan_json_text(source jsonb, path text) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE AS
  $$ SELECT source #>> string_to_array(substr(path, 3), '.') $$;
-- NULL: it is not an integer, or one that does not fit.
CREATE FUNCTION caravan_json_long(source jsonb, path text) RETURNS bigint LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
  SELECT CASE WHEN jsonb_typeof(source #> string_to_array(substr(path, 3), '.')) = 'number' AND source #>> string_to_array(substr(path, 3), '.') ~ '^-?\d{1,18}$'
    THEN CAST(source #>> string_to_array(substr(path, 3), '.') AS bigint) END
$$;
-- NULL: it is not a number, or one that does not fit.
CREATE FUNCTION caravan_json_double(source jsonb, path text) RETURNS double precision LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
  SELECT CASE WHEN jsonb_typeof(source #> string_to_array(substr(path, 3), '.')) = 'number'
    AND (abs(CAST(source #> string_to_array(substr(path, 3), '.') AS numeric)) BETWEEN 1e-300 AND 1.7e308 OR CAST(source #> string_to_array(substr(path, 3), '.') AS numeric) = 0)
    THEN CAST(source #>> string_to_array(substr(path, 3), '.') AS double precision) END
$$;

-- The elements of an array, in order, with their positions from 0.
CREATE FUNCTION caravan_json_each(source jsonb) RETURNS TABLE (key bigint, value jsonb, type text) LANGUAGE sql IMMUTABLE STRICT ROWS 1000 AS
  $$ SELECT e.n - 1, e.v, CASE jsonb_typeof(e.v) WHEN 'string' THEN 'text' ELSE jsonb_typeof(e.v) END FROM jsonb_array_elements(source) WITH ORDINALITY AS e (v, n) $$;
CREATE FUNCTION caravan_json_each(source text) RETURNS TABLE (key bigint, value jsonb, type text) LANGUAGE sql IMMUTABLE STRICT ROWS 1000 AS
  $$ SELECT e.n - 1, e.v, CASE jsonb_typeof(e.v) WHEN 'string' THEN 'text' ELSE jsonb_typeof(e.v) END FROM jsonb_array_elements(caravan_json(source)) WITH ORDINALITY AS e (v, n) $$;
CREATE FUNCTION caravan_json_each(source text, path text) RETURNS TABLE (key bigint, value jsonb, type text) LANGUAGE sql IMMUTABLE STRICT ROWS 1000 AS
  $$ SELECT e.n - 1, e.v, CASE jsonb_typeof(e.v) WHEN 'string' THEN 'text' ELSE jsonb_typeof(e.v) END FROM jsonb_array_elements(caravan_json(source) #> caravan_json_path(path)) WITH ORDINALITY AS e (v, n) $$;
CREATE FUNCTION caravan_json_each_text(source text) RETURNS TABLE (key bigint, value text) LANGUAGE sql IMMUTABLE STRICT ROWS 100 AS
  $$ SELECT e.n - 1, e.v FROM jsonb_array_elements_text(caravan_json(source)) WITH ORDINALITY AS e (v, n) $$;

-- Held to the end of the transaction. The lock is this schema's: several stores may share a database.
CREATE FUNCTION caravan_lock(number integer) RETURNS void LANGUAGE sql VOLATILE AS
  $$ SELECT pg_advisory_xact_lock(hashtext('caravan.' || current_schema()), number) $$;
-- Before rows go into inbox: sequences then become visible in their order, and stay dense (docs/adr, 5 and 10). What a rollback has
-- spent is taken back here, where nobody else can be at it. Rows leave the inbox only when every cursor is past them, so the last
-- sequence is there or is a cursor.
CREATE FUNCTION caravan_inbox_lock() RETURNS void LANGUAGE plpgsql VOLATILE AS $$
DECLARE
  last bigint;
BEGIN
  PERFORM caravan_lock(1);
  SELECT greatest((SELECT max(seq) FROM inbox), (SELECT max(acked_seq) FROM sink_range), 0) INTO last;
  IF last > 0 AND last <> (SELECT q.last_value FROM inbox_seq_seq q) THEN
    PERFORM setval('inbox_seq_seq', last);
  ELSIF last = 0 AND (SELECT q.is_called FROM inbox_seq_seq q) THEN
    PERFORM setval('inbox_seq_seq', 1, false);
  END IF;
END $$;

CREATE TABLE meta (
  one INTEGER PRIMARY KEY CHECK (one = 1),
  log_id TEXT NOT NULL,
  created_at_ms BIGINT NOT NULL
);
INSERT INTO meta (one, log_id, created_at_ms)
VALUES (1, CAST(gen_random_uuid() AS TEXT), CAST(extract(epoch FROM statement_timestamp()) * 1000 AS BIGINT));

-- A replica of the cloud lives as long as it prolongs its lease.
CREATE TABLE replica (
  replica_id TEXT PRIMARY KEY,
  address TEXT,
  version TEXT,
  started_at_ms BIGINT NOT NULL,
  seen_at_ms BIGINT NOT NULL,
  until_ms BIGINT NOT NULL
);

CREATE TABLE gateway (
  gateway_id TEXT PRIMARY KEY,
  log_id TEXT NOT NULL,                    -- the log of its last session
  version TEXT,
  first_seen_ms BIGINT NOT NULL,
  last_seen_ms BIGINT NOT NULL,
  replica_id TEXT,                         -- both NULL: not connected
  session_id TEXT
) WITH (fillfactor = 70);

-- How far the cloud has each range of a gateway's outbox.
CREATE TABLE gateway_range (
  gateway_id TEXT NOT NULL,
  log_id TEXT NOT NULL,
  first_seq BIGINT NOT NULL,
  acked_seq BIGINT NOT NULL,
  PRIMARY KEY (gateway_id, log_id, first_seq)
) WITH (fillfactor = 70);

-- What gateways sent, once each. The bus' log: every consumer behind it is a cursor. Whoever inserts calls caravan_inbox_lock() last
-- thing before it.
CREATE TABLE inbox (
  seq BIGINT GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY,
  gateway_id TEXT NOT NULL,
  log_id TEXT NOT NULL,
  gateway_seq BIGINT NOT NULL,
  kind TEXT NOT NULL,
  device_id TEXT NOT NULL,
  message_key TEXT NOT NULL,
  observed_at_ms BIGINT NOT NULL,
  received_at_ms BIGINT NOT NULL,
  trace_context TEXT,
  body JSONB NOT NULL
) WITH (autovacuum_vacuum_scale_factor = 0.02, autovacuum_analyze_scale_factor = 0.05);
CREATE UNIQUE INDEX inbox_gateway_seq ON inbox (gateway_id, log_id, gateway_seq);

CREATE TABLE sink (
  name TEXT PRIMARY KEY,
  log TEXT NOT NULL DEFAULT 'inbox',
  state TEXT NOT NULL DEFAULT 'running',
  attempts BIGINT NOT NULL DEFAULT 0,
  next_attempt_at_ms BIGINT,
  last_error TEXT,
  last_success_at_ms BIGINT,
  delivered BIGINT NOT NULL DEFAULT 0,
  dead BIGINT NOT NULL DEFAULT 0,
  discarded BIGINT NOT NULL DEFAULT 0
) WITH (fillfactor = 50);
CREATE TABLE sink_range (
  sink TEXT NOT NULL,
  first_seq BIGINT NOT NULL,
  last_seq BIGINT,
  lane TEXT NOT NULL DEFAULT 'live',
  acked_seq BIGINT NOT NULL,
  inflight_seq BIGINT NOT NULL,
  PRIMARY KEY (sink, first_seq)
) WITH (fillfactor = 50);
INSERT INTO sink (name, log) VALUES ('store', 'inbox'), ('command', 'inbox');
INSERT INTO sink_range (sink, first_seq, acked_seq, inflight_seq) VALUES ('store', 1, 0, 0), ('command', 1, 0, 0);

CREATE TABLE device (
  gateway_id TEXT NOT NULL,
  device_id TEXT NOT NULL,
  first_seen_ms BIGINT NOT NULL,
  last_seen_ms BIGINT NOT NULL,
  last_observed_ms BIGINT NOT NULL,
  changed_at_ms BIGINT NOT NULL DEFAULT 0, -- when the store applied it, by the store's clock
  PRIMARY KEY (gateway_id, device_id)
) WITH (fillfactor = 80);
CREATE INDEX device_changed ON device (changed_at_ms);

CREATE TABLE last_value (
  gateway_id TEXT NOT NULL,
  device_id TEXT NOT NULL,
  metric TEXT NOT NULL,
  value DOUBLE PRECISION NOT NULL,
  observed_at_ms BIGINT NOT NULL,
  changed_at_ms BIGINT NOT NULL DEFAULT 0,
  PRIMARY KEY (gateway_id, device_id, metric)
) WITH (fillfactor = 80);

-- "window" is a keyword of SQL. Partitions are made ahead, of store.partition.days each; what belongs into none of them is in
-- rollup_window_rest.
CREATE TABLE rollup_window (
  gateway_id TEXT NOT NULL,
  device_id TEXT NOT NULL,
  metric TEXT NOT NULL,
  start_ms BIGINT NOT NULL,
  width_ms BIGINT NOT NULL,
  part BIGINT NOT NULL,
  revision BIGINT NOT NULL,
  count BIGINT NOT NULL,
  min DOUBLE PRECISION NOT NULL,
  max DOUBLE PRECISION NOT NULL,
  sum DOUBLE PRECISION NOT NULL,
  mean DOUBLE PRECISION NOT NULL,
  last DOUBLE PRECISION NOT NULL,
  last_observed_ms BIGINT NOT NULL,
  received_at_ms BIGINT NOT NULL DEFAULT 0, -- the inbox had this revision; 0: it is not known
  PRIMARY KEY (gateway_id, device_id, metric, start_ms, width_ms, part)
) PARTITION BY RANGE (start_ms);
CREATE TABLE rollup_window_rest PARTITION OF rollup_window DEFAULT;

-- Messages that the data policy of a gateway lets through as they are.
CREATE SEQUENCE message_id AS BIGINT;
CREATE TABLE message (
  id BIGINT NOT NULL DEFAULT nextval('message_id'),
  gateway_id TEXT NOT NULL,
  device_id TEXT NOT NULL,
  message_key TEXT NOT NULL,
  kind TEXT NOT NULL,
  observed_at_ms BIGINT NOT NULL,
  received_at_ms BIGINT NOT NULL,
  body JSONB NOT NULL,
  PRIMARY KEY (gateway_id, message_key, observed_at_ms) -- the same key is the same message, which has one time
) PARTITION BY RANGE (observed_at_ms);
ALTER SEQUENCE message_id OWNED BY message.id;
CREATE INDEX message_device ON message (gateway_id, device_id, id);
CREATE INDEX message_event ON message (id) WHERE kind = 'event';
CREATE INDEX message_event_device ON message (gateway_id, device_id, id) WHERE kind = 'event';
CREATE TABLE message_rest PARTITION OF message DEFAULT;

-- What a device said last that it can.
CREATE TABLE capability (
  gateway_id TEXT NOT NULL,
  device_id TEXT NOT NULL,
  body JSONB NOT NULL,
  observed_at_ms BIGINT NOT NULL,
  received_at_ms BIGINT NOT NULL,
  PRIMARY KEY (gateway_id, device_id)
);

-- Windows of an hour and of a day, made of those of rollup_window by route downsample.
CREATE TABLE rollup_coarse (
  gateway_id TEXT NOT NULL,
  device_id TEXT NOT NULL,
  metric TEXT NOT NULL,
  width_ms BIGINT NOT NULL,                -- 3600000 or 86400000
  start_ms BIGINT NOT NULL,
  count BIGINT NOT NULL,
  min DOUBLE PRECISION NOT NULL,
  max DOUBLE PRECISION NOT NULL,
  sum DOUBLE PRECISION NOT NULL,
  last DOUBLE PRECISION NOT NULL,
  last_observed_ms BIGINT NOT NULL,
  late BIGINT NOT NULL,
  revision BIGINT NOT NULL,
  PRIMARY KEY (gateway_id, device_id, metric, width_ms, start_ms)
);
-- Hours in which windows changed since.
CREATE TABLE rollup_dirty (
  gateway_id TEXT NOT NULL,
  device_id TEXT NOT NULL,
  metric TEXT NOT NULL,
  start_ms BIGINT NOT NULL,
  marked_at_ms BIGINT NOT NULL,
  PRIMARY KEY (gateway_id, device_id, metric, start_ms)
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.05);
CREATE INDEX rollup_dirty_marked ON rollup_dirty (marked_at_ms);

CREATE TABLE command (
  seq BIGINT GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY,
  gateway_id TEXT NOT NULL,
  command_id TEXT NOT NULL,
  device_id TEXT NOT NULL,                 -- 'gateway': the gateway itself
  name TEXT NOT NULL,
  arguments TEXT NOT NULL,                 -- exactly as they were given, like all JSON of a command
  units TEXT,
  precondition TEXT,
  content_hash BYTEA,                      -- NULL: it began at the gateway
  origin TEXT NOT NULL,                    -- cloud | shell | mqtt
  issued_by TEXT NOT NULL,
  trace_context TEXT,
  status TEXT NOT NULL,
  reason TEXT,
  detail TEXT,
  result TEXT,
  created_at_ms BIGINT NOT NULL,
  expires_at_ms BIGINT NOT NULL,
  transmissions BIGINT NOT NULL DEFAULT 0, -- > 0: the gateway may have it; committed before it is sent
  transmitted_at_ms BIGINT,                -- last time
  cancel_requested_at_ms BIGINT,
  cancel_requested_by TEXT,
  gateway_revision BIGINT NOT NULL DEFAULT 0, -- newest event of the gateway that is in; those before it are too
  updated_at_ms BIGINT NOT NULL,
  final_at_ms BIGINT
) WITH (fillfactor = 80);
CREATE UNIQUE INDEX command_id ON command (gateway_id, command_id);
CREATE INDEX command_device ON command (gateway_id, device_id, seq);
CREATE INDEX command_open ON command (gateway_id, seq) WHERE final_at_ms IS NULL;
CREATE INDEX command_unsent ON command (gateway_id, seq) WHERE final_at_ms IS NULL AND transmissions = 0;
-- The gateway may have them and has not said so.
CREATE INDEX command_silent ON command (gateway_id, seq) WHERE final_at_ms IS NULL AND transmissions > 0 AND gateway_revision = 0;
CREATE INDEX command_cancel ON command (gateway_id, seq) WHERE final_at_ms IS NULL AND cancel_requested_at_ms IS NOT NULL;

-- What happened, in the order in which it is told (id); revision NULL: this cloud's own. Whoever inserts takes lock 2 before.
CREATE TABLE command_event (
  id BIGINT GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY,
  gateway_id TEXT NOT NULL,
  command_id TEXT NOT NULL,
  device_id TEXT NOT NULL,
  revision BIGINT,
  status TEXT NOT NULL,
  reason TEXT,
  detail TEXT,
  result TEXT,
  at_ms BIGINT NOT NULL                    -- by the clock of who says it
);
CREATE INDEX command_event_command ON command_event (gateway_id, command_id, id);

-- Events of a gateway that came before their predecessor (live rows go before a backlog): they wait.
CREATE TABLE command_early (
  gateway_id TEXT NOT NULL,
  command_id TEXT NOT NULL,
  revision BIGINT NOT NULL,
  device_id TEXT NOT NULL,
  body JSONB NOT NULL,
  received_at_ms BIGINT NOT NULL,
  PRIMARY KEY (gateway_id, command_id, revision)
);

CREATE TABLE twin (
  gateway_id TEXT NOT NULL,
  device_id TEXT NOT NULL,
  log_id TEXT NOT NULL,                    -- versions count within one store of the gateway
  desired JSONB NOT NULL,
  desired_version BIGINT NOT NULL,
  reported JSONB NOT NULL,
  reported_version BIGINT NOT NULL,
  delta JSONB NOT NULL,
  updated_at_ms BIGINT NOT NULL,
  PRIMARY KEY (gateway_id, device_id)
);

-- Sinks that come and go, as at a gateway: template sink reads the inbox too.
-- internal: 1: a part of the cloud (store, command), cannot be removed, reset or replayed to; 2: bus, which is one too, and
-- made of template sink.
ALTER TABLE sink ADD COLUMN internal BIGINT NOT NULL DEFAULT 0;
ALTER TABLE sink ADD COLUMN start_seq BIGINT NOT NULL DEFAULT 1;
ALTER TABLE sink ADD COLUMN reason TEXT;
ALTER TABLE sink ADD COLUMN failing_since_ms BIGINT;
UPDATE sink SET internal = 1;
-- End of the batch that was claimed last: the same rows are claimed again, under the same key.
ALTER TABLE sink_range ADD COLUMN planned_seq BIGINT NOT NULL DEFAULT 0;
ALTER TABLE sink_range ADD COLUMN origin TEXT NOT NULL DEFAULT 'normal';
-- The row of a dead letter stays in the inbox as long as it is one.
CREATE TABLE dead_letter (
  sink TEXT NOT NULL,
  seq BIGINT NOT NULL,
  reason TEXT NOT NULL,
  error TEXT NOT NULL,
  attempts BIGINT NOT NULL,
  first_failed_at_ms BIGINT NOT NULL,
  dead_at_ms BIGINT NOT NULL,
  state TEXT NOT NULL DEFAULT 'dead',      -- dead | requeued | discarded
  note TEXT,
  PRIMARY KEY (sink, seq)
);
CREATE INDEX dead_letter_seq ON dead_letter (seq) WHERE state = 'dead';
CREATE TABLE discarded (
  sink TEXT NOT NULL,
  reason TEXT NOT NULL,
  row_count BIGINT NOT NULL,
  PRIMARY KEY (sink, reason)
);

-- The topic that is the bus (bus.type=kafka): which one, how far the store has each partition, and what has to be there
-- before the store's cursor may pass a batch. Another topic, or the same name made anew, is another topic_id.
CREATE TABLE bus (
  one SMALLINT PRIMARY KEY CHECK (one = 1),
  topic TEXT NOT NULL,
  topic_id TEXT NOT NULL
);
CREATE TABLE bus_offset (
  topic_id TEXT NOT NULL,
  partition_id BIGINT NOT NULL,
  next_offset BIGINT NOT NULL,            -- everything before it is in the tables
  PRIMARY KEY (topic_id, partition_id)
);
CREATE TABLE bus_mark (
  topic_id TEXT NOT NULL,
  partition_id BIGINT NOT NULL,
  next_offset BIGINT NOT NULL,
  first_seq BIGINT NOT NULL,              -- of the batch that ends there
  PRIMARY KEY (topic_id, partition_id, next_offset)
);
-- Records of the topic that are no rows, or rows the store refuses.
CREATE TABLE bus_dead (
  id BIGINT GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY,
  topic_id TEXT NOT NULL,
  partition_id BIGINT NOT NULL,
  record_offset BIGINT NOT NULL,
  reason TEXT NOT NULL,
  error TEXT NOT NULL,
  record_key TEXT,
  body BYTEA,
  dead_at_ms BIGINT NOT NULL,
  state TEXT NOT NULL DEFAULT 'dead',
  note TEXT
);
CREATE UNIQUE INDEX bus_dead_record ON bus_dead (topic_id, partition_id, record_offset);

-- Which gateways may connect; who changes anything of it counts gateway_revision up first, which is the lock among replicas.
CREATE TABLE gateway_revision (
  one SMALLINT PRIMARY KEY CHECK (one = 1),
  revision BIGINT NOT NULL
);
INSERT INTO gateway_revision (one, revision) VALUES (1, 0);
CREATE TABLE gateway_registration (
  gateway_id TEXT PRIMARY KEY,
  certificate TEXT NOT NULL,               -- no | accepted | required
  revoked_at_ms BIGINT,
  note TEXT,
  created_at_ms BIGINT NOT NULL,
  updated_at_ms BIGINT NOT NULL
);
CREATE TABLE gateway_credential (
  gateway_id TEXT NOT NULL,
  token_hash TEXT NOT NULL,                -- hex of SHA-256
  position BIGINT NOT NULL,               -- 0: the newest
  not_before_ms BIGINT,
  not_after_ms BIGINT,
  PRIMARY KEY (gateway_id, token_hash)
);
-- One-time enrolment tokens. A used one is kept for a while, so that a request whose answer was lost can be repeated.
CREATE TABLE gateway_enrolment (
  token_hash TEXT PRIMARY KEY,
  gateway_id TEXT NOT NULL,
  not_after_ms BIGINT NOT NULL,
  created_at_ms BIGINT NOT NULL,
  used_at_ms BIGINT,
  credential_hash TEXT                     -- what it was used for
);
CREATE INDEX gateway_enrolment_gateway ON gateway_enrolment (gateway_id);

-- How each gateway is, as the replica that has its connection saw it last.
CREATE TABLE gateway_health (
  gateway_id TEXT PRIMARY KEY,
  seen_at_ms BIGINT NOT NULL,
  connected_at_ms BIGINT,                 -- NULL: not connected
  address TEXT,
  version TEXT,
  stats_at_ms BIGINT,
  backlog_rows BIGINT,
  lag_ms BIGINT,
  clock_offset_ms BIGINT,
  round_trip_ms BIGINT,
  store_state TEXT,                        -- DURABLE | DEGRADED | REFUSING | UNKNOWN
  store_bytes BIGINT,
  store_limit_bytes BIGINT,
  ready SMALLINT
);

-- Who may do what over HTTP; the same for all replicas. Roles are per site, '*' is all sites. Secrets are here as hashes only.
CREATE TABLE site (
  site_id TEXT PRIMARY KEY,
  name TEXT NOT NULL,
  created_at_ms BIGINT NOT NULL
);
INSERT INTO site (site_id, name, created_at_ms) VALUES ('default', 'Default', 0);
-- A gateway that is not here is of site 'default'.
CREATE TABLE gateway_site (
  gateway_id TEXT PRIMARY KEY,
  site_id TEXT NOT NULL
);
CREATE INDEX gateway_site_site ON gateway_site (site_id);
CREATE TABLE account (
  name TEXT PRIMARY KEY,
  password_hash TEXT NOT NULL,
  disabled_at_ms BIGINT,
  created_at_ms BIGINT NOT NULL,
  created_by TEXT NOT NULL
);
CREATE TABLE account_role (
  name TEXT NOT NULL,
  site_id TEXT NOT NULL,
  role TEXT NOT NULL,                      -- viewer | operator | admin
  PRIMARY KEY (name, site_id)
);
CREATE TABLE api_token (
  name TEXT PRIMARY KEY,
  hash TEXT NOT NULL,                      -- SHA-256, hex
  account TEXT,                            -- not more than that account may; NULL: it stands by itself
  created_at_ms BIGINT NOT NULL,
  created_by TEXT NOT NULL,
  expires_at_ms BIGINT,
  used_at_ms BIGINT,
  revoked_at_ms BIGINT
);
CREATE UNIQUE INDEX api_token_hash ON api_token (hash);
CREATE TABLE api_token_role (
  name TEXT NOT NULL,
  site_id TEXT NOT NULL,
  role TEXT NOT NULL,
  PRIMARY KEY (name, site_id)
);
CREATE TABLE login_session (
  hash TEXT PRIMARY KEY,                   -- SHA-256 of the cookie, hex
  kind TEXT NOT NULL,                      -- account | oidc
  user_name TEXT NOT NULL,
  roles TEXT,                              -- oidc: issuer and claims, JSON; roles are made of them each time
  created_at_ms BIGINT NOT NULL,
  used_at_ms BIGINT NOT NULL,
  expires_at_ms BIGINT NOT NULL,
  address TEXT
);
CREATE INDEX login_session_user ON login_session (kind, user_name);
