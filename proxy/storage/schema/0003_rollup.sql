-- What stays of ended calls when their detail leaves (`detail_days`): sums, never less than before.
-- `day` is that of the call's id, in days since 1970-01-01 UTC, so that the transfers of the same
-- calls, which stay for ever, can be summed by it too. Calls count at the channel that served them,
-- 0 where none did; attempts and what they cost at the channel that was tried.
CREATE TABLE rollup (
    user_id INTEGER NOT NULL,
    day INTEGER NOT NULL,
    key_id INTEGER NOT NULL,
    model TEXT NOT NULL,
    channel_id INTEGER NOT NULL,
    group_name TEXT NOT NULL,
    ended INTEGER NOT NULL DEFAULT 0,
    errors INTEGER NOT NULL DEFAULT 0,
    charge INTEGER NOT NULL DEFAULT 0,
    overrun INTEGER NOT NULL DEFAULT 0,
    forgiven INTEGER NOT NULL DEFAULT 0,
    input_uncached INTEGER NOT NULL DEFAULT 0,
    cache_read INTEGER NOT NULL DEFAULT 0,
    cache_write_5m INTEGER NOT NULL DEFAULT 0,
    cache_write_1h INTEGER NOT NULL DEFAULT 0,
    output INTEGER NOT NULL DEFAULT 0,
    reasoning INTEGER NOT NULL DEFAULT 0,
    audio_input INTEGER NOT NULL DEFAULT 0,
    audio_output INTEGER NOT NULL DEFAULT 0,
    images INTEGER NOT NULL DEFAULT 0,
    characters INTEGER NOT NULL DEFAULT 0,
    calls INTEGER NOT NULL DEFAULT 0,
    attempts INTEGER NOT NULL DEFAULT 0,
    cost INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (user_id, day, key_id, model, channel_id, group_name)
) STRICT, WITHOUT ROWID;

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
    OR new.attempts < old.attempts OR new.cost < old.cost
BEGIN SELECT RAISE(ABORT, 'sums of a roll-up only grow'); END;
CREATE TRIGGER rollup_never_leaves BEFORE DELETE ON rollup
BEGIN SELECT RAISE(ABORT, 'sums of a roll-up stay'); END;

-- Transfers of calls that have no row any more; 1577836800000 is the epoch of ids (core/ids.py).
CREATE VIEW transfer_without_call (event_id, day, kind, debit, amount) AS
SELECT event_id, ((event_id >> 22) + 1577836800000) / 86400000, kind, debit, amount
FROM transfer
WHERE kind IN ('charge', 'overrun', 'forgiven', 'upstream_cost')
    AND event_id NOT IN (SELECT id FROM call);
