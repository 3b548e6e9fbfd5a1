"""What may be changed or listed, by whom: the one table behind command line, console and API."""
