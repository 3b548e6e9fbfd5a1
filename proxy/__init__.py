"""Sluice: a streaming relay for LLM APIs with an exact prepaid ledger."""

__version__ = "0.1.0"
