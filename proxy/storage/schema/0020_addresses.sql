-- An address that somebody wants to sign in with from now on: it is theirs when the link that was
-- sent there is used. One for each person, the latest; of the link's secret only SHA-256 is kept.
CREATE TABLE email_change (
    person_id INTEGER PRIMARY KEY REFERENCES person (id),
    digest BLOB NOT NULL UNIQUE,
    email TEXT NOT NULL CHECK (email = lower(email)),
    created_at REAL NOT NULL,
    expires_at REAL NOT NULL
) STRICT;

-- Who deleted their account: the row stays, since books and keys name it, without what says who
-- that was.
ALTER TABLE person ADD COLUMN deleted_at REAL;
