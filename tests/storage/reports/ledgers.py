"""Ledger files with calls put in by hand, for the tests of what reports read."""

import itertools
import sqlite3
from typing import Any

from proxy.core.ids import first_id_at
from tests.storage.reports.test_usage_log import ledger, put
from tests.storage.world import NOW

__all__ = ["attempt", "call", "ledger"]
_NUMBERS = itertools.count(1)


def call(connection: sqlite3.Connection, at: float = NOW, **changes: Any) -> int:
    """Put one call in that began at `at` at channel 1; returns its id."""
    number = first_id_at(at) + next(_NUMBERS)
    put(connection, [number], channel_id=changes.pop("channel_id", 1), **changes)
    return number


def attempt(connection: sqlite3.Connection, of: int, **changes: Any) -> None:
    """Put one attempt of a call in."""
    row: dict[str, Any] = {
        "call_id": of, "number": 1, "channel_id": 1, "channel_key_id": 1, "started_at": NOW,
        "status": 200, "outcome": "served", "upstream_request_id": None, "upstream_model": "m-2",
        "usage": None, "cost": 0, "duration_ms": 9.0,
    }  # fmt: skip
    row |= changes
    marks = ", ".join("?" * len(row))
    connection.execute(f"INSERT INTO attempt ({', '.join(row)}) VALUES ({marks})", (*row.values(),))
