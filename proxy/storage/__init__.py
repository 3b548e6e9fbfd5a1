"""Durable and shared state behind the protocols of ports.py. Knows SQL, knows no HTTP."""
