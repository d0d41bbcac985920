-- The registry of devices, version 1: who may send. Its own file, so that size, quota or damage of the log do not touch it.
-- STRICT: a device id "0012" stays text. Times are wall-clock milliseconds. No row here lets anybody in by being there twice,
-- and one that is gone or whose crc does not hold lets nobody in.

CREATE TABLE device (
  device_id TEXT NOT NULL PRIMARY KEY CHECK (length(device_id) BETWEEN 1 AND 64),
  status TEXT NOT NULL CHECK (status IN ('active', 'revoked')),
  allow TEXT NOT NULL,                     -- CIDRs with spaces between; '' is any address
  capabilities TEXT,                       -- JSON object
  signing TEXT NOT NULL CHECK (signing IN ('off', 'accept', 'require')),
  messages_per_s INTEGER,                  -- 0: no limit; NULL: device.messages.per.s
  bytes_per_s INTEGER,
  note TEXT,
  created_at_ms INTEGER NOT NULL,
  revoked_at_ms INTEGER,
  crc INTEGER NOT NULL                     -- CRC-32C of the columns above: SQLite has no checksums of its own
) STRICT, WITHOUT ROWID;

-- What a device can show. The token itself is in no table: it is seen once, when it is made.
CREATE TABLE token (
  device_id TEXT NOT NULL REFERENCES device (device_id) ON DELETE CASCADE,
  number INTEGER NOT NULL,                 -- counts up per device: the highest is the newest
  token_id TEXT NOT NULL,                  -- its name in commands and audit log, no secret
  hash BLOB NOT NULL CHECK (length(hash) = 32),              -- SHA-256 of the token, 256 random bits: nothing to guess, no salt needed
  signing_key BLOB CHECK (length(signing_key) = 32),         -- HMAC-SHA-256(token, "caravan message signature v1"); NULL once revoked
  broker_hash BLOB CHECK (length(broker_hash) = 64),         -- PBKDF2-HMAC-SHA-512, as mosquitto keeps it; NULL once revoked
  broker_salt BLOB CHECK (length(broker_salt) = 12),
  broker_iterations INTEGER NOT NULL,
  created_at_ms INTEGER NOT NULL,
  not_before_ms INTEGER NOT NULL,          -- 0: from the beginning; a box without a clock of its own starts in 1970
  not_after_ms INTEGER,
  revoked_at_ms INTEGER,
  crc INTEGER NOT NULL,
  PRIMARY KEY (device_id, number)
) STRICT, WITHOUT ROWID;

-- Written now and then, not with each message; losing it harms nobody, so it is in no checksum.
CREATE TABLE seen (
  device_id TEXT NOT NULL PRIMARY KEY REFERENCES device (device_id) ON DELETE CASCADE,
  at_ms INTEGER NOT NULL,
  address TEXT,
  transport TEXT
) STRICT, WITHOUT ROWID;
