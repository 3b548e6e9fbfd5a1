-- Under which name a provider keeps the answer of a call, where it does (Responses): it is fetched,
-- deleted and gone on from where it was made, by who made it, as long as the call has its detail.
ALTER TABLE call ADD COLUMN answer_id TEXT;

CREATE INDEX call_answer ON call (answer_id) WHERE answer_id IS NOT NULL;
