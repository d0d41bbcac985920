-- The log.
CREATE TABLE log (
  id INTEGER PRIMARY KEY AUTOINCREMENT,    -- never given twice (really)
  kept_at_ms INTEGER NOT NULL CHECK (kept_at_ms > 0),
  body BLOB NOT NULL
);
CREATE TABLE progress (device_id TEXT PRIMARY KEY) STRICT, WITHOUT ROWID;
-- lint: allow sql-strict - a view of a foreign file
