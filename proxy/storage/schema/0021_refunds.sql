-- What a provider calls a payment for which it gives money back, known from when it is paid.
ALTER TABLE payment ADD COLUMN intent TEXT;
CREATE INDEX payment_by_intent ON payment (provider, intent) WHERE intent IS NOT NULL;

ALTER TABLE payment_message ADD COLUMN intent TEXT;
CREATE INDEX payment_message_by_intent ON payment_message (intent) WHERE intent IS NOT NULL;

-- How much a provider has given back of a payment in all, in the currency's smallest unit; it may be
-- told before the payment itself is.
CREATE TABLE payment_refund (
    provider TEXT NOT NULL,
    intent TEXT NOT NULL,
    currency TEXT NOT NULL,
    minor INTEGER NOT NULL CHECK (minor > 0),
    PRIMARY KEY (provider, intent)
) STRICT, WITHOUT ROWID;

-- What was taken from the wallet for that, posting by posting. Nano-USD.
CREATE TABLE payment_debit (
    event_id INTEGER PRIMARY KEY,
    payment_id INTEGER NOT NULL REFERENCES payment (id),
    amount INTEGER NOT NULL CHECK (amount > 0)
) STRICT;

CREATE INDEX payment_debit_by_payment ON payment_debit (payment_id);

CREATE TRIGGER payment_debit_never_changes BEFORE UPDATE ON payment_debit
BEGIN SELECT RAISE(ABORT, 'what was taken back is append-only'); END;
CREATE TRIGGER payment_debit_never_leaves BEFORE DELETE ON payment_debit
BEGIN SELECT RAISE(ABORT, 'what was taken back is append-only'); END;
