"""What the actions do: one handler each, by domain (core/actions has their table)."""
