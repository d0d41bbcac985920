-- Version 3: messages that are signed cannot be replayed, however old they are.

-- Highest device_seq of the boot whose signature was verified; 0: none. A row that has one is never deleted.
ALTER TABLE device_progress ADD COLUMN signed_seq INTEGER NOT NULL DEFAULT 0;
-- Up to here keys above contiguous_seq may have been deleted from key_memory: a signed message that is not known any more
-- is refused, for it cannot be told from a replayed one.
ALTER TABLE device_progress ADD COLUMN forgotten_seq INTEGER NOT NULL DEFAULT 0;
