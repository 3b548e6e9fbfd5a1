-- Answers that are kept and given again: for which callers, at which share of the price, and for
-- how long where a key does not have to ask.
ALTER TABLE service_group ADD COLUMN cache_scope TEXT NOT NULL DEFAULT 'key'
    CHECK (cache_scope IN ('key', 'user', 'group'));
ALTER TABLE service_group ADD COLUMN cache_multiplier INTEGER NOT NULL DEFAULT 0
    CHECK (cache_multiplier >= 0);
ALTER TABLE key ADD COLUMN cache_seconds INTEGER CHECK (cache_seconds > 0);
