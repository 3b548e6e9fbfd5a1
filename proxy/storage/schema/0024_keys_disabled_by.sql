-- Who disabled a key that is not theirs: nobody below them enables it again.
ALTER TABLE key ADD COLUMN disabled_by TEXT CHECK (disabled_by IN ('owner', 'operator'));
