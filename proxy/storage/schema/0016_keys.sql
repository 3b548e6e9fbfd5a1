-- Keys know who made them, may be deleted while the books keep them, and may have further secrets
-- beside their own. The table is made anew: a deleted key gives its name free, and holds no group.
CREATE TABLE key_made_anew (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    user_id INTEGER NOT NULL REFERENCES user (id),
    digest BLOB NOT NULL UNIQUE,
    name TEXT NOT NULL,
    group_name TEXT NOT NULL,
    prefix TEXT NOT NULL,
    last4 TEXT NOT NULL,
    enabled INTEGER NOT NULL DEFAULT 1,
    expires_at REAL,
    budget INTEGER CHECK (budget >= 0),
    budget_period TEXT NOT NULL DEFAULT 'total',
    requests_per_minute INTEGER CHECK (requests_per_minute > 0),
    tokens_per_minute INTEGER CHECK (tokens_per_minute > 0),
    concurrency INTEGER CHECK (concurrency > 0),
    models TEXT,
    networks TEXT,
    created_at REAL NOT NULL,
    cache_seconds INTEGER CHECK (cache_seconds > 0),
    person_id INTEGER REFERENCES person (id), -- NULL: made on the command line
    removed_at REAL
) STRICT;

INSERT INTO key_made_anew (
    id, user_id, digest, name, group_name, prefix, last4, enabled, expires_at, budget,
    budget_period, requests_per_minute, tokens_per_minute, concurrency, models, networks,
    created_at, cache_seconds)
SELECT id, user_id, digest, name, group_name, prefix, last4, enabled, expires_at, budget,
    budget_period, requests_per_minute, tokens_per_minute, concurrency, models, networks,
    created_at, cache_seconds
FROM key;

DROP TABLE key;
ALTER TABLE key_made_anew RENAME TO key;

CREATE UNIQUE INDEX key_name ON key (user_id, name) WHERE removed_at IS NULL;
CREATE INDEX key_by_person ON key (person_id) WHERE person_id IS NOT NULL;

-- Secrets that open a key for a while: the one before a rotation (`grace`), and those that pages
-- of the console call with (`lent`). Digests as in `key`.
CREATE TABLE key_secret (
    digest BLOB PRIMARY KEY,
    key_id INTEGER NOT NULL REFERENCES key (id),
    purpose TEXT NOT NULL CHECK (purpose IN ('grace', 'lent')),
    last4 TEXT NOT NULL,
    created_at REAL NOT NULL,
    expires_at REAL NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX key_secret_by_key ON key_secret (key_id);

-- A JSON array of the groups that people with the plan may choose for their keys; NULL: any.
ALTER TABLE plan ADD COLUMN groups TEXT;
