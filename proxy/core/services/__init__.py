"""The calls that are no conversation: what each asks for, may cost, and used in the end."""
