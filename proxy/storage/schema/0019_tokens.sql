-- Tokens of the admin API: SHA-256 of each, because they are random enough to need no pepper, and
-- so that the console, which has none, can look one up. `scopes`: a JSON array of domain:level.
CREATE TABLE api_token (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    digest BLOB NOT NULL UNIQUE,
    name TEXT NOT NULL,
    last4 TEXT NOT NULL,
    person_id INTEGER REFERENCES person (id), -- NULL: made on the command line
    role TEXT NOT NULL CHECK (role IN ('user', 'operator', 'admin')),
    scopes TEXT NOT NULL,
    created_at REAL NOT NULL,
    expires_at REAL,
    revoked_at REAL
) STRICT;

CREATE INDEX api_token_by_person ON api_token (person_id);
