-- One row, written again and again: only the commit of that write tells the service manager that
-- the relay lives, so a ledger that cannot be written is as good as a dead one.
CREATE TABLE heartbeat (
    only_row INTEGER PRIMARY KEY CHECK (only_row = 1),
    at REAL NOT NULL
) STRICT;
INSERT INTO heartbeat VALUES (1, 0);

-- HMAC-SHA256 of a constant under the pepper that made the digests in `key`: another pepper is
-- refused at start, where it would otherwise answer every key with 401.
CREATE TABLE pepper_fingerprint (
    only_row INTEGER PRIMARY KEY CHECK (only_row = 1),
    fingerprint BLOB NOT NULL
) STRICT;
