"""A small catalog and the records of a call, for the tests of the keeper and its file."""

import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

from proxy.core.entities import Attempt, Dialect, Usage, UsageSource, Verdict
from proxy.storage.accounts import add_user
from proxy.storage.billing import Keeper
from proxy.storage.imports import apply_catalog
from proxy.storage.keys import NewKey, add_key
from proxy.storage.ports import Closing, Opening

MASTER = bytes(range(32))
NOW = 1_800_000_000.0
USD = 10**9
USAGE = Usage(input_uncached=10, output=20)
CATALOG: dict[str, Any] = {
    "plan": [{"name": "free"}, {"name": "small", "requests_per_minute": 60, "concurrency": 2}],
    "group": [{"name": "default"}, {"name": "double", "multiplier": "2"}],
    "model": [
        {"name": "m", "context_window": 1000, "output_tokens_max": 500,
         "price": {"input": "1", "output": "2"}},
        {"name": "thinker", "context_window": 1000, "output_tokens_max": 500,
         "hidden_output": True, "price": {"input": "1", "output": "2"}},
    ],
    "channel": [
        {"name": "main", "dialect": "openai", "base_url": "https://example.com/v1",
         "keys": ["sk-upstream-canary-0001"], "groups": ["default", "double"],
         "models": {"m": "m-2", "thinker": "thinker"}},
    ],
}  # fmt: skip


def seed(connection: sqlite3.Connection) -> None:
    """Two users, `ann` (key 1) and `bob` (keys 2, of plan small, and 3), on the catalog."""
    apply_catalog(connection, CATALOG, master=MASTER, now=NOW)
    add_user(connection, "ann", "free", NOW)
    add_user(connection, "bob", "small", NOW)
    for number, user in ((1, "ann"), (2, "bob"), (3, "bob")):
        key = NewKey(user, f"key {number}", "default", bytes([number]) * 32, "sk-abc", "wxyz")
        add_key(connection, key, NOW)


async def keeper(path: Path, *, credit: int = USD, **options: Any) -> Keeper:
    """Start a keeper; a new file gets the small world and the users `credit` each."""
    faults: list[BaseException] = []
    on_fatal: Callable[[BaseException], object] = options.pop("on_fatal", faults.append)
    started = await Keeper.start(path, master=MASTER, on_fatal=on_fatal, **options)
    if not started.catalog.users:
        await started.change(seed)
        for user in (1, 2):
            if credit:
                await started.credit(user, credit, "test", f"first {user}")
    return started


def opening(call_id: int, **changes: Any) -> Opening:
    """A call of ann's that holds 1,000 nano-USD."""
    fields: dict[str, Any] = {
        "call_id": call_id, "key_id": 1, "user_id": 1, "endpoint": "chat",
        "dialect": Dialect.OPENAI, "model": "m", "group": "default", "stream": False,
        "price_version": 1, "multiplier": 1_000_000, "hold": 100_000, "ceiling": 100_000,
        "tokens": 100, "input_estimate": 10, "started_at": NOW,
    }  # fmt: skip
    return Opening(**(fields | changes))


def closing(call_id: int, **changes: Any) -> Closing:
    """A completed call of 10 tokens in and 20 out: 50,000 nano-USD."""
    usage = changes.get("usage", USAGE)
    attempt = Attempt(1, 1, NOW, 200, "served", "up-1", "m-2", usage, 0, 12.0)
    fields: dict[str, Any] = {
        "call_id": call_id, "verdict": Verdict.COMPLETE, "usage": usage,
        "source": UsageSource.REPORTED, "charge": 50_000, "forgiven": 0, "delivered_bytes": 100,
        "delivered_events": 2, "status": 200, "error_code": None, "finish_reason": "stop",
        "channel_id": 1, "upstream_model": "m-2", "attempts": (attempt,), "ended_at": NOW + 1,
        "ttft_ms": 5.0,
    }  # fmt: skip
    return Closing(**(fields | changes))


def read(path: Path, query: str, *values: Any) -> list[tuple[Any, ...]]:
    """Rows of the file, as another process would see them."""
    connection = sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)
    try:
        return connection.execute(query, values).fetchall()
    finally:
        connection.close()
