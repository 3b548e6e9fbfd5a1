"""Sockets and HTTP. Knows no SQL."""
