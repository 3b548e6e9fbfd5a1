-- Wallets beside calls: refunds, corrections and fees, codes, payments, plans that cost something.
-- Amounts are nano-USD unless a column says otherwise.

-- Two more kinds of transfer. Only the rule is written anew, as SQLite's documentation of ALTER
-- TABLE allows where no stored row is touched: a copy of ten million transfers took four seconds
-- and 700 MB of log, this takes a millisecond. Rows, key and triggers stay as they are.
PRAGMA writable_schema = ON;
UPDATE sqlite_schema SET sql = replace(sql,
    'kind = ''top_up'' OR kind = ''refund''',
    'kind = ''top_up'' OR kind = ''refund'' OR kind = ''adjustment'' OR kind = ''fee''')
WHERE type = 'table' AND name = 'transfer';
PRAGMA writable_schema = RESET;

INSERT INTO account (id) VALUES (0);

CREATE INDEX top_up_by_user ON top_up (user_id, event_id);

-- Why a wallet's balance changed, where neither a call nor money from outside did it: `amount` is
-- what it gained. `reference` makes a repetition a no-op.
CREATE TABLE wallet_change (
    event_id INTEGER PRIMARY KEY,
    user_id INTEGER NOT NULL,
    kind TEXT NOT NULL CHECK (kind IN ('refund', 'adjustment', 'fee')),
    amount INTEGER NOT NULL CHECK (amount <> 0),
    reason TEXT NOT NULL,
    reference TEXT NOT NULL UNIQUE,
    call_id INTEGER,
    actor TEXT NOT NULL,
    at REAL NOT NULL,
    CHECK ((kind = 'refund') = (call_id IS NOT NULL)),
    CHECK (kind = 'adjustment' OR (kind = 'refund') = (amount > 0))
) STRICT;

CREATE INDEX wallet_change_by_user ON wallet_change (user_id, event_id);
CREATE INDEX wallet_change_by_call ON wallet_change (call_id) WHERE call_id IS NOT NULL;

CREATE TRIGGER wallet_change_never_changes BEFORE UPDATE ON wallet_change
BEGIN SELECT RAISE(ABORT, 'changes of wallets are append-only'); END;
CREATE TRIGGER wallet_change_never_leaves BEFORE DELETE ON wallet_change
BEGIN SELECT RAISE(ABORT, 'changes of wallets are append-only'); END;

-- Codes that are worth money to whoever redeems one first. `digest` is HMAC-SHA256 of the code
-- under the pepper, `shown` its last group, which is a checksum.
CREATE TABLE redeem_code (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    digest BLOB NOT NULL UNIQUE,
    shown TEXT NOT NULL,
    amount INTEGER NOT NULL CHECK (amount > 0),
    batch TEXT NOT NULL,
    note TEXT NOT NULL,
    created_by TEXT NOT NULL,
    created_at REAL NOT NULL,
    expires_at REAL,
    withdrawn_at REAL,
    redeemed_by INTEGER REFERENCES user (id),
    redeemed_at REAL,
    event_id INTEGER UNIQUE,
    CHECK ((redeemed_by IS NULL) = (event_id IS NULL)),
    CHECK ((redeemed_by IS NULL) = (redeemed_at IS NULL)),
    CHECK (redeemed_by IS NULL OR withdrawn_at IS NULL)
) STRICT;

CREATE INDEX redeem_code_by_batch ON redeem_code (batch);

CREATE TRIGGER redeem_code_once BEFORE UPDATE ON redeem_code
WHEN old.redeemed_by IS NOT NULL OR new.digest <> old.digest OR new.amount <> old.amount
BEGIN SELECT RAISE(ABORT, 'a code is redeemed once, for what it says'); END;
CREATE TRIGGER redeem_code_never_leaves BEFORE DELETE ON redeem_code
BEGIN SELECT RAISE(ABORT, 'codes stay'); END;

-- Payments by a provider, each from the moment somebody is sent there. `minor` is in the smallest
-- unit of the currency; `rate` is USD for one of its units as decimal text; `amount` the credit.
CREATE TABLE payment (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    user_id INTEGER NOT NULL REFERENCES user (id),
    person_id INTEGER,
    provider TEXT NOT NULL,
    currency TEXT NOT NULL,
    minor INTEGER NOT NULL CHECK (minor > 0),
    rate TEXT NOT NULL,
    amount INTEGER NOT NULL CHECK (amount > 0),
    session TEXT UNIQUE,
    status TEXT NOT NULL DEFAULT 'begun' CHECK (status IN ('begun', 'open', 'paid', 'expired')),
    created_at REAL NOT NULL,
    ended_at REAL,
    event_id INTEGER UNIQUE,
    CHECK ((status = 'paid') = (event_id IS NOT NULL))
) STRICT;

CREATE INDEX payment_by_user ON payment (user_id, id);

CREATE TRIGGER payment_once BEFORE UPDATE ON payment
WHEN old.status = 'paid' OR new.user_id <> old.user_id OR new.amount <> old.amount
    OR new.minor <> old.minor OR new.currency <> old.currency
BEGIN SELECT RAISE(ABORT, 'a payment is credited once, for what was agreed'); END;
CREATE TRIGGER payment_never_leaves BEFORE DELETE ON payment
BEGIN SELECT RAISE(ABORT, 'payments stay'); END;

-- What a provider said of payments, each message once.
CREATE TABLE payment_message (
    id TEXT PRIMARY KEY,
    payment_id INTEGER REFERENCES payment (id),
    kind TEXT NOT NULL,
    at REAL NOT NULL,
    outcome TEXT NOT NULL
) STRICT, WITHOUT ROWID;

ALTER TABLE plan ADD COLUMN monthly_fee INTEGER NOT NULL DEFAULT 0 CHECK (monthly_fee >= 0);
ALTER TABLE plan ADD COLUMN monthly_credit INTEGER NOT NULL DEFAULT 0 CHECK (monthly_credit >= 0);
ALTER TABLE plan ADD COLUMN offered INTEGER NOT NULL DEFAULT 0 CHECK (offered IN (0, 1));

-- What a wallet has paid for: a plan, from `period_start` until `next_at`. It stays when the plan
-- is left, so that coming back within the period costs nothing and gives nothing a second time.
-- `anchor` is when it first began: months are counted from there.
CREATE TABLE subscription (
    user_id INTEGER NOT NULL REFERENCES user (id),
    plan TEXT NOT NULL,
    anchor INTEGER NOT NULL,
    period_start INTEGER NOT NULL,
    next_at INTEGER NOT NULL CHECK (next_at > period_start),
    PRIMARY KEY (user_id, plan)
) STRICT, WITHOUT ROWID;

-- What people are told about a wallet. `ended_at`: the reason is gone. `mailed_at`: a mail was
-- sent, or given up.
CREATE TABLE notice (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    user_id INTEGER NOT NULL REFERENCES user (id),
    kind TEXT NOT NULL CHECK (kind IN ('low_balance', 'plan_ended')),
    detail TEXT NOT NULL,
    at REAL NOT NULL,
    ended_at REAL,
    mailed_at REAL
) STRICT;

CREATE INDEX notice_by_user ON notice (user_id, id);
CREATE UNIQUE INDEX notice_once ON notice (user_id, kind) WHERE ended_at IS NULL;

-- Below which balance a wallet's people want to be told.
CREATE TABLE wallet_threshold (
    user_id INTEGER PRIMARY KEY REFERENCES user (id),
    amount INTEGER NOT NULL CHECK (amount > 0)
) STRICT;
