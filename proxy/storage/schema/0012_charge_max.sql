-- What the caller of an open call will pay at most (`x-max-cost`), NULL without a limit: it binds
-- the settlement also when every process died meanwhile.
ALTER TABLE open_call ADD COLUMN charge_max INTEGER CHECK (charge_max > 0);
