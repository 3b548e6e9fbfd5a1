-- Every action that changes something: noted before it is done, and again when it is. One that
-- has no outcome was cut off by the death of the process that did it.
CREATE TABLE audit (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    at REAL NOT NULL,
    via TEXT NOT NULL,
    actor TEXT NOT NULL,
    person_id INTEGER,
    address TEXT,
    action TEXT NOT NULL,
    arguments TEXT NOT NULL, -- JSON, secrets as ***
    outcome TEXT CHECK (outcome IN ('done', 'refused')),
    reason TEXT
) STRICT;

CREATE TRIGGER audit_never_changes BEFORE UPDATE ON audit WHEN old.outcome IS NOT NULL
BEGIN SELECT RAISE(ABORT, 'the audit log does not change'); END;
CREATE TRIGGER audit_never_leaves BEFORE DELETE ON audit
BEGIN SELECT RAISE(ABORT, 'the audit log does not change'); END;
