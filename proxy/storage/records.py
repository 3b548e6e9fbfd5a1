"""Ended calls read back out of the ledger file, for those who made them.

Rules: a row that is there is final, so it is read without asking anybody; one that is missing may
be decided and not yet written, so the file catches up with the keeper once before anything is
said to be missing. Only the owner's calls are found. One reading connection, opened when it is
first needed. This module must not know who shows what.
"""

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final

import orjson

from proxy.core.entities import Usage
from proxy.storage.accounts import COMPLETION_TOTAL, PROMPT_TOTAL
from proxy.storage.ports import CallRecord, KeeperUnavailableError, KeptAnswer, Tried
from proxy.storage.reader import Reader
from proxy.storage.snapshots import PRICE_COLUMNS, price_from_row

_USAGE: Final = Usage.__struct_fields__
_PLAIN: Final = (
    "endpoint", "dialect", "model", "stream", "price_version", "multiplier", "started_at",
    "client_reference", "verdict", "source", "charge", "overrun", "forgiven", "balance_after",
    "budget_after", "delivered_bytes", "delivered_events", "status", "error_code",
    "finish_reason", "upstream_model", "ttft_ms", "duration_ms",
)  # fmt: skip
_CALL: Final = (
    f"SELECT key.name, channel.name, call.group_name, anomalies, "  # noqa: S608 - constants
    "(SELECT coalesce(sum(amount), 0) FROM wallet_change WHERE call_id = call.id), "
    f"{', '.join(f'call.{name}' for name in (*_PLAIN, *_USAGE))} FROM call "
    "JOIN key ON key.id = call.key_id LEFT JOIN channel ON channel.id = call.channel_id "
    "WHERE call.id = ? AND call.user_id = ?"
)
_ATTEMPTS: Final = (
    "SELECT coalesce(channel.name, ''), started_at, status, outcome, upstream_request_id, "
    "upstream_model, usage, duration_ms FROM attempt LEFT JOIN channel ON channel.id = channel_id "
    "WHERE call_id = ? ORDER BY number"
)
_PRICE: Final = (
    f"SELECT model, version, formula, {', '.join(PRICE_COLUMNS)} FROM price "  # noqa: S608 - the same
    "WHERE model = ? AND version = ?"
)
_ANSWER: Final = (
    f"SELECT model, call.channel_id, channel_key_id, {PROMPT_TOTAL} + {COMPLETION_TOTAL} "  # noqa: S608 - the same
    "FROM call JOIN attempt ON call_id = id WHERE answer_id = ? AND user_id = ? "
    "ORDER BY id DESC, number DESC LIMIT 1"
)
_OPEN: Final = "SELECT 1 FROM open_call WHERE id = ? AND user_id = ?"


class LedgerRecords:
    """Implements `ports.Records` on the file at `path`; `catch_up` is the keeper's."""

    def __init__(self, path: Path, catch_up: Callable[[], Awaitable[object]]) -> None:
        self._path = path
        self._catch_up = catch_up
        self._reader: Reader | None = None
        self._opening = asyncio.Lock()

    async def find(self, user_id: int, call_id: int) -> CallRecord | bool:
        """Return a call of that user; else whether it is open. See `ports.Records`."""
        try:
            found = await self._call(user_id, call_id)
            if found is None:
                await self._catch_up()
                found = await self._call(user_id, call_id)
            if found is not None:
                return found
            return bool(await self._rows(_OPEN, call_id, user_id))
        except sqlite3.Error as error:
            raise KeeperUnavailableError(f"the ledger cannot be read: {error}") from error

    async def find_answer(self, user_id: int, answer_id: str) -> KeptAnswer | None:
        """Return where a user's answer is kept. See `ports.Records`."""
        try:
            rows = await self._rows(_ANSWER, answer_id, user_id)
            if not rows:
                await self._catch_up()
                rows = await self._rows(_ANSWER, answer_id, user_id)
        except sqlite3.Error as error:
            raise KeeperUnavailableError(f"the ledger cannot be read: {error}") from error
        return KeptAnswer(*rows[0]) if rows else None

    async def close(self) -> None:
        """End the reading connection, if there is one."""
        reader, self._reader = self._reader, None
        if reader is not None:
            await reader.close()

    async def _opened(self) -> Reader:
        async with self._opening:
            if self._reader is None:
                self._reader = await Reader.open(self._path)
            return self._reader

    async def _rows(self, query: str, *values: Any) -> list[tuple[Any, ...]]:
        return await (await self._opened()).rows(query, values)

    async def _call(self, user_id: int, call_id: int) -> CallRecord | None:
        return await read_call(await self._opened(), user_id, call_id)


async def read_call(reader: Reader, user_id: int, call_id: int) -> CallRecord | None:
    """Return an ended call of that user, or None. Raises sqlite3.Error."""
    rows = await reader.rows(_CALL, (call_id, user_id))
    if not rows:
        return None
    key, channel, group, anomalies, refunded, *cells = rows[0]
    plain: dict[str, Any] = dict(zip(_PLAIN, cells, strict=False))
    plain["stream"] = bool(plain["stream"])
    usage = Usage(*cells[len(_PLAIN) :])
    prices = await reader.rows(_PRICE, (plain["model"], plain["price_version"]))
    tries = await reader.rows(_ATTEMPTS, (call_id,))
    return CallRecord(
        **plain,
        call_id=call_id,
        key=key,
        channel=channel,
        group=group,
        refunded=refunded,
        anomalies=tuple(anomalies.split(",")) if anomalies else (),
        usage=usage,
        price=price_from_row(prices[0]) if prices else None,
        attempts=tuple([_tried(row, usage) for row in tries]),
    )


def _tried(row: tuple[Any, ...], of_call: Usage) -> Tried:
    channel, started_at, status, outcome, upstream_id, upstream_model, usage, duration_ms = row
    return Tried(
        channel=channel,
        started_at=started_at,
        status=status,
        outcome=outcome,
        upstream_request_id=upstream_id,
        upstream_model=upstream_model,
        usage=of_call if usage is None else Usage(**orjson.loads(usage)),
        duration_ms=duration_ms,
    )
