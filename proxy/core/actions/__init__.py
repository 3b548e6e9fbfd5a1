"""What may be asked of a relay, by whom: the one table behind command line, console and API."""
