-- Who signs in, and whose wallets they may use. A `user` is a wallet; a person is who acts for it,
-- and a team is a wallet that several people belong to.
CREATE TABLE person (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    email TEXT NOT NULL UNIQUE CHECK (email = lower(email)),
    password_hash TEXT, -- argon2id; NULL where somebody else signs the person in
    role TEXT NOT NULL DEFAULT 'user' CHECK (role IN ('user', 'operator', 'admin')),
    enabled INTEGER NOT NULL DEFAULT 1,
    language TEXT, -- NULL: what the browser asks for
    wallet_id INTEGER REFERENCES user (id), -- their own, where the starting credit goes
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

-- Who somebody is at another provider that signs people in (OpenID Connect).
CREATE TABLE person_identity (
    issuer TEXT NOT NULL,
    subject TEXT NOT NULL,
    person_id INTEGER NOT NULL REFERENCES person (id),
    created_at REAL NOT NULL,
    PRIMARY KEY (issuer, subject)
) STRICT, WITHOUT ROWID;

CREATE INDEX identity_by_person ON person_identity (person_id);

-- A link that was sent by mail or handed over by an administrator: good once. Of its secret only
-- SHA-256 is kept, which is enough for 178 random bits.
CREATE TABLE mail_token (
    digest BLOB PRIMARY KEY,
    purpose TEXT NOT NULL CHECK (purpose IN ('verify', 'password')),
    person_id INTEGER NOT NULL REFERENCES person (id),
    created_at REAL NOT NULL,
    expires_at REAL NOT NULL,
    used_at REAL
) STRICT, WITHOUT ROWID;

CREATE INDEX mail_token_by_person ON mail_token (person_id);

-- Leave to register, or to join a team. `email`: for this address alone; NULL: for whoever has it.
CREATE TABLE invitation (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    digest BLOB NOT NULL UNIQUE,
    email TEXT CHECK (email = lower(email)),
    user_id INTEGER REFERENCES user (id), -- NULL: to the relay alone
    role TEXT NOT NULL DEFAULT 'member' CHECK (role IN ('owner', 'member')),
    invited_by INTEGER REFERENCES person (id),
    created_at REAL NOT NULL,
    expires_at REAL NOT NULL,
    used_at REAL,
    used_by INTEGER REFERENCES person (id),
    revoked_at REAL
) STRICT;

CREATE INDEX invitation_by_user ON invitation (user_id);
