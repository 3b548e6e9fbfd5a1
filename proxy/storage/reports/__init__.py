"""What pages and reports read out of the ledger file, beside its writer."""
