"""A wallet's history adds up to its balance, window by window."""

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from proxy.core.ids import first_id_at
from proxy.storage.billing import Keeper
from proxy.storage.reader import Reader
from proxy.storage.reports import wallet
from proxy.storage.reports.day_sums import DaySums
from proxy.storage.reports.spans import Days
from proxy.storage.reports.wallet import Entry, charges, history, now
from proxy.storage.retention import RollUp, Step
from proxy.storage.till import Aside, Event, Moved
from proxy.storage.wallet_changes import Change, adjust, refund_call, take_fee
from tests.storage.world import NOW, closing, keeper, opening

DAY = 86_400
TODAY = int(NOW // DAY)
Test = Callable[[Reader], Awaitable[Any]]


def call(number: int, day: int = 0) -> int:
    return first_id_at(NOW + day * DAY) + number


async def bill(books: Keeper, call_id: int, **terms: Any) -> None:
    await books.admit(opening(call_id, **terms))
    await books.settle(closing(call_id)).committed


def reading(path: Path, test: Test, books: Callable[[Keeper], Awaitable[Any]]) -> None:
    async def main() -> None:
        kept = await keeper(path / "sluice.db", clock=lambda: NOW)
        await books(kept)
        reader = await Reader.open(path / "sluice.db")
        try:
            await test(reader)
        finally:
            await reader.close()
            await kept.close()

    asyncio.run(asyncio.wait_for(main(), 30))


async def busy(books: Keeper) -> None:
    """Calls of today, of two days ago (rolled up) and forty days ago; a refund, a fee, a gift."""
    for number in range(3):
        await bill(books, call(number))
    await bill(books, call(9), user_id=2, key_id=2)
    await bill(books, call(0, -2))
    await bill(books, call(0, -40))

    def roll_up(connection: sqlite3.Connection) -> Step:
        return RollUp(call(0, -1)).step(connection)

    await books.note(roll_up)

    def give(connection: sqlite3.Connection, event: Event) -> Moved[Change]:
        return refund_call(connection, event, call(0, -2), 20_000, "slow", "r1", "boss")

    def gift(connection: sqlite3.Connection, event: Event) -> Moved[Change]:
        return adjust(connection, event, 1, 7, "sorry", "a1", "boss")

    def fee(connection: sqlite3.Connection, event: Event) -> Moved[Change]:
        return take_fee(connection, event, 1, 1_000, "plan pro", "p1")

    await books.till.move(give)
    await books.till.move(gift)
    await books.till.move(fee, aside=Aside(1, 1_000))
    await books.credit(1, 5, "redeem code", "sluice:code:1")
    await books.credit(1, 6, "plan pro", "sluice:plan:1:pro:0")
    await books.credit(1, 8, "card", "sluice:stripe:1")
    await books.admit(opening(call(50), stream=True, hold=400))
    await books.catch_up()


def test_the_windows_of_a_history_sum_to_the_balance(tmp_path: Path) -> None:
    async def test(reader: Reader) -> None:
        latest = await history(reader, DaySums(), 1, TODAY, NOW)
        assert latest.complete
        kinds = [(entry.kind, entry.amount) for entry in latest.entries]
        assert kinds == [
            ("charges", -150_000),
            ("payment", 8), ("credit", 6), ("code", 5), ("fee", -1_000), ("adjustment", 7),
            ("refund", 20_000), ("top_up", 10**9), ("charges", -50_000),
        ]  # fmt: skip
        assert [entry.calls for entry in latest.entries if entry.calls] == [3, 1]
        assert latest.entries[6].call_id == call(0, -2)
        assert latest.older == TODAY - 40
        older = await history(reader, DaySums(), 1, latest.older, NOW)
        assert [entry.amount for entry in older.entries] == [-50_000]
        assert older.older is None
        balance = sum(entry.amount for entry in (*latest.entries, *older.entries))
        found = await now(reader, 1)
        assert (found.balance, found.held, found.open_calls) == (balance, 400, 1)
        assert found.available == balance - 400
        for first, spent in ((TODAY, 150_000), (TODAY - 2, 200_000)):
            sums = await charges(reader, DaySums(), 1, Days(first, TODAY), NOW)
            assert sums.total.charge == spent

    reading(tmp_path, test, busy)


def test_a_wallet_nobody_used_has_no_history(tmp_path: Path) -> None:
    async def nothing(_books: Keeper) -> None:
        pass

    async def test(reader: Reader) -> None:
        found = await history(reader, DaySums(), 3, TODAY, NOW)
        assert (found.entries, found.older, found.complete) == ([], None, True)
        assert (await now(reader, 3)) == wallet.Now(0, 0, 0, None)
        only = await history(reader, DaySums(), 2, TODAY, NOW, window=1)
        assert [entry.kind for entry in only.entries] == ["top_up"]
        assert isinstance(only.entries[0], Entry)

    reading(tmp_path, test, nothing)
