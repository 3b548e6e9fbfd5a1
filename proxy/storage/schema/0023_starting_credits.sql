-- HMAC-SHA256, under the pepper, of addresses that no account has any more but one had that was
-- given its starting credit: who registers with such an address has had theirs.
CREATE TABLE starting_credit_given (
    digest BLOB PRIMARY KEY CHECK (length(digest) = 32)
) STRICT, WITHOUT ROWID;
