-- Refunds of calls of a span of time: reports ask for them, and almost no transfer is one. Partial,
-- so that a charge pays for one comparison.
CREATE INDEX transfer_refund ON transfer (refers_to) WHERE refers_to IS NOT NULL;
