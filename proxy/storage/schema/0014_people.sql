-- Who signs in, and whose wallets they may use. A `user` is a wallet; a person is who acts for it,
-- and a team is a wallet that several people belong to.
CREATE TABLE person (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    email TEXT NOT NULL UNIQUE CHECK (email = lower(email)),
    password_hash TEXT, -- argon2id; NULL where somebody else signs the person in
    role TEXT NOT NULL DEFAULT 'user' CHECK (role IN ('user', 'operator', 'admin')),
    enabled INTEGER NOT NULL DEFAULT 1,
    language TEXT, -- NULL: what the browser asks for
    verified_at REAL,
    created_at REAL NOT NULL
) STRICT;

CREATE TABLE membership (
    person_id INTEGER NOT NULL REFERENCES person (id),
    user_id INTEGER NOT NULL REFERENCES user (id),
    role TEXT NOT NULL CHECK (role IN ('owner', 'member')),
    created_at REAL NOT NULL,
    PRIMARY KEY (person_id, user_id)
) STRICT, WITHOUT ROWID;

CREATE INDEX membership_by_user ON membership (user_id);

-- A cookie is good only as long as its session has a row here that is not revoked. `confirmed_at`:
-- when the password was last given, which dangerous actions ask for.
CREATE TABLE session (
    id TEXT PRIMARY KEY,
    person_id INTEGER NOT NULL REFERENCES person (id),
    created_at REAL NOT NULL,
    confirmed_at REAL NOT NULL,
    expires_at REAL NOT NULL,
    revoked_at REAL,
    address TEXT,
    agent TEXT
) STRICT, WITHOUT ROWID;

CREATE INDEX session_by_person ON session (person_id);
