-- The log.
CREATE TABLE log (
  id INTEGER PRIMARY KEY AUTOINCREMENT,    -- never given twice (really)
  kept_at INTEGER NOT NULL,
  body BLOB NOT NULL
) STRICT;
CREATE TABLE progress (device_id TEXT PRIMARY KEY) STRICT, WITHOUT ROWID;
