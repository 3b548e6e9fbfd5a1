-- The ledger, the calls it bills, and the catalog that prices them.
-- Amounts are integer nano-USD, prices integer nano-USD per 1,000,000 units, multipliers integer
-- millionths, times Unix seconds. Ids of calls and ledger events are time-ordered integers, so
-- that inserts touch only the right edge of every tree.

-- An account's id is owner << 3 | kind (proxy/core/ledger.py AccountKind). Balances are
-- credit-normal (credits less debits) and change only together with the transfers that move them.
CREATE TABLE account (
    id INTEGER PRIMARY KEY,
    balance INTEGER NOT NULL DEFAULT 0,
    CHECK (id & 7 <> 1 OR balance >= 0)
) STRICT;

INSERT INTO account (id) VALUES (2), (3), (4), (7);

-- One row is one double entry. `event_id` is the call, or an own id for what no call caused.
-- The key makes a second charge of one call impossible. No foreign keys: an update of balances
-- that misses an account fails the batch, which costs nothing per row.
CREATE TABLE transfer (
    event_id INTEGER NOT NULL,
    line INTEGER NOT NULL,
    kind TEXT NOT NULL CHECK (kind IN (
        'top_up', 'charge', 'overrun', 'forgiven', 'upstream_cost', 'refund')),
    debit INTEGER NOT NULL,
    credit INTEGER NOT NULL,
    amount INTEGER NOT NULL CHECK (amount > 0),
    at REAL NOT NULL,
    refers_to INTEGER,
    PRIMARY KEY (event_id, line),
    CHECK (debit <> credit),
    CHECK (kind <> 'charge' OR line = 0),
    CHECK ((kind = 'refund') = (refers_to IS NOT NULL))
) STRICT, WITHOUT ROWID;

CREATE TRIGGER transfer_never_changes BEFORE UPDATE ON transfer
BEGIN SELECT RAISE(ABORT, 'transfers are append-only'); END;
CREATE TRIGGER transfer_never_leaves BEFORE DELETE ON transfer
BEGIN SELECT RAISE(ABORT, 'transfers are append-only'); END;

CREATE VIEW posting (event_id, line, kind, account_id, amount, at) AS
SELECT event_id, line, kind, debit, -amount, at FROM transfer
UNION ALL
SELECT event_id, line, kind, credit, amount, at FROM transfer;

-- Why money came in from outside; `reference` makes a repeated top-up a no-op.
CREATE TABLE top_up (
    event_id INTEGER PRIMARY KEY,
    user_id INTEGER NOT NULL,
    amount INTEGER NOT NULL CHECK (amount > 0),
    reason TEXT NOT NULL,
    reference TEXT NOT NULL UNIQUE,
    at REAL NOT NULL
) STRICT;

-- What a key has spent in its current budget period.
CREATE TABLE key_spend (
    key_id INTEGER PRIMARY KEY,
    period TEXT NOT NULL,
    period_start INTEGER NOT NULL,
    spent INTEGER NOT NULL CHECK (spent >= 0)
) STRICT;

-- Calls under way, with what each has delivered so far: its bill if every process died now.
CREATE TABLE open_call (
    id INTEGER PRIMARY KEY,
    key_id INTEGER NOT NULL,
    user_id INTEGER NOT NULL,
    endpoint TEXT NOT NULL,
    dialect TEXT NOT NULL,
    model TEXT NOT NULL,
    group_name TEXT NOT NULL,
    stream INTEGER NOT NULL,
    price_version INTEGER NOT NULL,
    multiplier INTEGER NOT NULL,
    started_at REAL NOT NULL,
    client_reference TEXT,
    input_estimate INTEGER NOT NULL,
    hold INTEGER NOT NULL CHECK (hold >= 0),
    charge INTEGER NOT NULL DEFAULT 0,
    source TEXT NOT NULL DEFAULT 'none',
    usage TEXT,
    delivered_bytes INTEGER NOT NULL DEFAULT 0,
    channel_id INTEGER
) STRICT;

-- One row per ended call: its only terminal state. `price` is the full price of the usage;
-- price = charge + overrun, or all of it was forgiven.
CREATE TABLE call (
    id INTEGER PRIMARY KEY,
    key_id INTEGER NOT NULL,
    user_id INTEGER NOT NULL,
    endpoint TEXT NOT NULL,
    dialect TEXT NOT NULL,
    model TEXT NOT NULL,
    group_name TEXT NOT NULL,
    stream INTEGER NOT NULL,
    price_version INTEGER NOT NULL,
    multiplier INTEGER NOT NULL,
    started_at REAL NOT NULL,
    client_reference TEXT,
    verdict TEXT NOT NULL,
    source TEXT NOT NULL,
    charge INTEGER NOT NULL CHECK (charge >= 0),
    overrun INTEGER NOT NULL CHECK (overrun >= 0),
    forgiven INTEGER NOT NULL CHECK (forgiven >= 0),
    balance_after INTEGER NOT NULL CHECK (balance_after >= 0),
    budget_after INTEGER CHECK (budget_after >= 0),
    input_uncached INTEGER NOT NULL,
    cache_read INTEGER NOT NULL,
    cache_write_5m INTEGER NOT NULL,
    cache_write_1h INTEGER NOT NULL,
    output INTEGER NOT NULL,
    reasoning INTEGER NOT NULL,
    audio_input INTEGER NOT NULL,
    audio_output INTEGER NOT NULL,
    images INTEGER NOT NULL,
    characters INTEGER NOT NULL,
    calls INTEGER NOT NULL,
    delivered_bytes INTEGER NOT NULL,
    delivered_events INTEGER NOT NULL,
    status INTEGER NOT NULL,
    error_code TEXT,
    finish_reason TEXT,
    channel_id INTEGER,
    upstream_model TEXT,
    ttft_ms REAL,
    duration_ms REAL NOT NULL,
    anomalies TEXT,
    CHECK (forgiven = 0 OR charge + overrun = 0)
) STRICT;

CREATE INDEX call_by_user ON call (user_id);
-- The operator's expense of today, read once at start; ordinary calls are not in it.
CREATE INDEX call_at_own_expense ON call (id, key_id) WHERE overrun + forgiven > 0;

CREATE TRIGGER call_never_changes BEFORE UPDATE ON call
BEGIN SELECT RAISE(ABORT, 'ended calls do not change'); END;

-- Every try at an upstream. `usage` is NULL where it is the call's own.
CREATE TABLE attempt (
    call_id INTEGER NOT NULL,
    number INTEGER NOT NULL,
    channel_id INTEGER NOT NULL,
    channel_key_id INTEGER NOT NULL,
    started_at REAL NOT NULL,
    status INTEGER,
    outcome TEXT NOT NULL,
    upstream_request_id TEXT,
    upstream_model TEXT NOT NULL,
    usage TEXT,
    cost INTEGER NOT NULL CHECK (cost >= 0),
    duration_ms REAL NOT NULL,
    PRIMARY KEY (call_id, number)
) STRICT, WITHOUT ROWID;

-- The catalog. `version` grows with every change, so that an edit made against an old export
-- is noticed.
CREATE TABLE catalog (
    only_row INTEGER PRIMARY KEY CHECK (only_row = 1),
    version INTEGER NOT NULL
) STRICT;
INSERT INTO catalog VALUES (1, 1);

CREATE TABLE plan (
    name TEXT PRIMARY KEY,
    requests_per_minute INTEGER CHECK (requests_per_minute > 0),
    tokens_per_minute INTEGER CHECK (tokens_per_minute > 0),
    concurrency INTEGER CHECK (concurrency > 0)
) STRICT, WITHOUT ROWID;

CREATE TABLE user (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    name TEXT NOT NULL UNIQUE,
    plan TEXT NOT NULL REFERENCES plan (name),
    enabled INTEGER NOT NULL DEFAULT 1,
    created_at REAL NOT NULL
) STRICT;

CREATE TABLE service_group (
    name TEXT PRIMARY KEY,
    multiplier INTEGER NOT NULL CHECK (multiplier >= 0),
    disconnect TEXT NOT NULL CHECK (disconnect IN ('cancel', 'drain')),
    drain_seconds_max REAL NOT NULL,
    retry_after_timeout INTEGER NOT NULL,
    output_tokens_max INTEGER CHECK (output_tokens_max > 0)
) STRICT, WITHOUT ROWID;

-- `key` secrets are never stored: `digest` is HMAC-SHA256 under the pepper.
CREATE TABLE key (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    user_id INTEGER NOT NULL REFERENCES user (id),
    digest BLOB NOT NULL UNIQUE,
    name TEXT NOT NULL,
    group_name TEXT NOT NULL REFERENCES service_group (name),
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
    UNIQUE (user_id, name)
) STRICT;

CREATE TABLE model (
    name TEXT PRIMARY KEY,
    context_window INTEGER NOT NULL,
    output_tokens_max INTEGER NOT NULL,
    tokenizer TEXT NOT NULL,
    hidden_output INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Versions are only added: a charge recomputes from the version its call names. The current one
-- is the highest, unless it is marked withdrawn (the model is then listed and refused).
CREATE TABLE price (
    model TEXT NOT NULL,
    version INTEGER NOT NULL,
    withdrawn INTEGER NOT NULL DEFAULT 0,
    formula TEXT NOT NULL,
    input INTEGER NOT NULL,
    cache_read INTEGER NOT NULL,
    cache_write_5m INTEGER NOT NULL,
    cache_write_1h INTEGER NOT NULL,
    output INTEGER NOT NULL,
    audio_input INTEGER NOT NULL,
    audio_output INTEGER NOT NULL,
    image INTEGER NOT NULL,
    character INTEGER NOT NULL,
    call INTEGER NOT NULL,
    model_ratio INTEGER NOT NULL,
    completion_ratio INTEGER NOT NULL,
    cache_ratio INTEGER NOT NULL,
    created_at REAL NOT NULL,
    PRIMARY KEY (model, version)
) STRICT, WITHOUT ROWID;

CREATE TRIGGER price_never_changes BEFORE UPDATE ON price
BEGIN SELECT RAISE(ABORT, 'price versions do not change; add one'); END;
CREATE TRIGGER price_never_leaves BEFORE DELETE ON price
BEGIN SELECT RAISE(ABORT, 'price versions do not change; add one'); END;

CREATE TABLE channel (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    name TEXT NOT NULL UNIQUE,
    dialect TEXT NOT NULL,
    base_url TEXT NOT NULL,
    models TEXT NOT NULL,
    groups TEXT NOT NULL,
    priority INTEGER NOT NULL,
    weight INTEGER NOT NULL CHECK (weight > 0),
    connect_seconds_max REAL NOT NULL,
    first_byte_seconds_max REAL NOT NULL,
    idle_seconds_max REAL NOT NULL,
    proxy TEXT,
    allow_private INTEGER NOT NULL,
    usage_option TEXT NOT NULL,
    terminal TEXT NOT NULL,
    costs TEXT NOT NULL,
    enabled INTEGER NOT NULL DEFAULT 1,
    removed INTEGER NOT NULL DEFAULT 0
) STRICT;

-- Upstream credentials, AES-256-GCM under the master key with this row's id as associated data.
CREATE TABLE channel_key (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    channel_id INTEGER NOT NULL REFERENCES channel (id),
    sealed BLOB NOT NULL,
    last4 TEXT NOT NULL
) STRICT;
