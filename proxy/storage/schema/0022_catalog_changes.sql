-- Which keys and users a version of the catalog changed, where it changed nothing else: who knows an
-- earlier version reads those alone. Versions without a row here changed something else, and the
-- rows before them are gone.
CREATE TABLE catalog_change (
    version INTEGER NOT NULL,
    key_id INTEGER REFERENCES key (id),
    user_id INTEGER REFERENCES user (id),
    CHECK ((key_id IS NULL) <> (user_id IS NULL))
) STRICT;
CREATE INDEX catalog_change_by_version ON catalog_change (version);
