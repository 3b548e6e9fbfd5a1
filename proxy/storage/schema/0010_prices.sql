-- Prices of more than text: tokens of images and of what was cached, audio by its length, searches,
-- images by variant, and tiers above a length of prompt; what calls used of them; which endpoints
-- models and channels are for.
-- In `call` they stand last: rows that a redo log kept of the release before end earlier.

ALTER TABLE call ADD COLUMN audio_ms INTEGER NOT NULL DEFAULT 0;
ALTER TABLE call ADD COLUMN searches INTEGER NOT NULL DEFAULT 0;
ALTER TABLE call ADD COLUMN variant TEXT NOT NULL DEFAULT '';
ALTER TABLE call ADD COLUMN image_input INTEGER NOT NULL DEFAULT 0;
ALTER TABLE call ADD COLUMN image_output INTEGER NOT NULL DEFAULT 0;
ALTER TABLE call ADD COLUMN cache_read_audio INTEGER NOT NULL DEFAULT 0;
ALTER TABLE call ADD COLUMN cache_read_image INTEGER NOT NULL DEFAULT 0;

-- `image_variants` is a JSON object of name to nano-USD each, `tiers` a JSON array of objects with
-- `over` and prices as in the columns, lowest first.
ALTER TABLE price ADD COLUMN audio_hour INTEGER NOT NULL DEFAULT 0;
ALTER TABLE price ADD COLUMN search INTEGER NOT NULL DEFAULT 0;
ALTER TABLE price ADD COLUMN image_input INTEGER NOT NULL DEFAULT 0;
ALTER TABLE price ADD COLUMN image_output INTEGER NOT NULL DEFAULT 0;
ALTER TABLE price ADD COLUMN cache_read_audio INTEGER NOT NULL DEFAULT 0;
ALTER TABLE price ADD COLUMN cache_read_image INTEGER NOT NULL DEFAULT 0;
ALTER TABLE price ADD COLUMN image_variants TEXT NOT NULL DEFAULT '{}';
ALTER TABLE price ADD COLUMN tiers TEXT NOT NULL DEFAULT '[]';

-- Tokens that were counted as text until now cost what they did: no stored charge has them apart.
DROP TRIGGER price_never_changes;
UPDATE price SET image_input = input, image_output = output, cache_read_audio = cache_read,
    cache_read_image = cache_read;
CREATE TRIGGER price_never_changes BEFORE UPDATE ON price
BEGIN SELECT RAISE(ABORT, 'price versions do not change; add one'); END;

-- JSON arrays; NULL: a model is for whatever its channels serve, a channel for what its dialect has.
ALTER TABLE model ADD COLUMN endpoints TEXT;
ALTER TABLE channel ADD COLUMN endpoints TEXT;
ALTER TABLE channel ADD COLUMN api_version TEXT;

ALTER TABLE rollup ADD COLUMN audio_ms INTEGER NOT NULL DEFAULT 0;
ALTER TABLE rollup ADD COLUMN searches INTEGER NOT NULL DEFAULT 0;
ALTER TABLE rollup ADD COLUMN image_input INTEGER NOT NULL DEFAULT 0;
ALTER TABLE rollup ADD COLUMN image_output INTEGER NOT NULL DEFAULT 0;
ALTER TABLE rollup ADD COLUMN cache_read_audio INTEGER NOT NULL DEFAULT 0;
ALTER TABLE rollup ADD COLUMN cache_read_image INTEGER NOT NULL DEFAULT 0;

DROP TRIGGER rollup_never_shrinks;
CREATE TRIGGER rollup_never_shrinks BEFORE UPDATE ON rollup
WHEN new.user_id <> old.user_id OR new.day <> old.day OR new.key_id <> old.key_id
    OR new.model <> old.model OR new.channel_id <> old.channel_id
    OR new.group_name <> old.group_name OR new.ended < old.ended OR new.errors < old.errors
    OR new.charge < old.charge OR new.overrun < old.overrun OR new.forgiven < old.forgiven
    OR new.input_uncached < old.input_uncached OR new.cache_read < old.cache_read
    OR new.cache_write_5m < old.cache_write_5m OR new.cache_write_1h < old.cache_write_1h
    OR new.output < old.output OR new.reasoning < old.reasoning
    OR new.audio_input < old.audio_input OR new.audio_output < old.audio_output
    OR new.images < old.images OR new.characters < old.characters OR new.calls < old.calls
    OR new.audio_ms < old.audio_ms OR new.searches < old.searches
    OR new.image_input < old.image_input OR new.image_output < old.image_output
    OR new.cache_read_audio < old.cache_read_audio OR new.cache_read_image < old.cache_read_image
    OR new.attempts < old.attempts OR new.cost < old.cost
BEGIN SELECT RAISE(ABORT, 'sums of a roll-up only grow'); END;
