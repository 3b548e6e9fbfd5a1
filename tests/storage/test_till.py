"""Money that moves without a call: against open holds, refused, and after its caller has left."""

import asyncio
import random
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from proxy.core.ledger import Transfer
from proxy.storage.accounts import set_user_enabled
from proxy.storage.billing import Keeper
from proxy.storage.ports import Admission, KeeperUnavailableError, Refusal
from proxy.storage.till import Aside, Event, Moved, ShortfallError
from proxy.storage.verify import verify
from proxy.storage.wallet_changes import Change, adjust, refund_call
from tests.storage.world import closing, keeper, opening, read


async def take(books: Keeper, amount: int, reference: str = "r") -> Change:
    def debit(connection: sqlite3.Connection, event: Event) -> Moved[Change]:
        return adjust(connection, event, 1, -amount, "why", reference, "boss")

    return await books.till.move(debit, aside=Aside(1, amount))


def test_what_open_calls_hold_is_not_taken(tmp_path: Path) -> None:
    path = tmp_path / "sluice.db"

    async def main() -> None:
        books = await keeper(path, credit=300_000)
        await books.admit(opening(1))
        with pytest.raises(ShortfallError, match=r"has 0\.0002 USD .* not 0\.000200001"):
            await take(books, 200_001)
        assert (await take(books, 200_000)).fresh
        assert books.balance(1) == 100_000
        assert isinstance(await books.admit(opening(2, hold=1)), Refusal)
        receipt = books.settle(closing(1))
        assert (receipt.charged, receipt.balance_after) == (50_000, 50_000)
        await books.close()

    asyncio.run(main())
    assert verify(path, quiet=True).problems == ()


def test_what_is_about_to_be_taken_cannot_be_spent(tmp_path: Path) -> None:
    async def main() -> None:
        books = await keeper(tmp_path / "sluice.db", credit=100_000)
        taking = asyncio.ensure_future(take(books, 60_000))
        await asyncio.sleep(0)
        refused = await books.admit(opening(1, hold=40_001))
        assert isinstance(refused, Refusal)
        assert refused.available == 40_000
        taking.cancel()
        await books.credit(2, 1, "x", "after")
        assert books.balance(1) == 40_000, "it was committed although nobody waits"
        assert isinstance(await books.admit(opening(2, hold=40_000)), Admission)
        await books.close()

    asyncio.run(main())


def test_what_is_refused_is_given_back(tmp_path: Path) -> None:
    path = tmp_path / "sluice.db"

    def refuse(connection: sqlite3.Connection, event: Event) -> Moved[None]:
        adjust(connection, event, 1, -5, "why", "r", "boss")
        raise ValueError("not so")

    def overdraw(_connection: sqlite3.Connection, event: Event) -> Moved[None]:
        return Moved(None, [Transfer(event.id, 0, "adjustment", 9, 0, 10**15, event.at)])

    async def main() -> None:
        books = await keeper(path, credit=100)
        with pytest.raises(ValueError, match="not so"):
            await books.till.move(refuse, aside=Aside(1, 100))
        with pytest.raises(ValueError, match="CHECK"):
            await books.till.move(overdraw)
        late = asyncio.ensure_future(books.till.move(refuse, aside=Aside(1, 100)))
        await asyncio.sleep(0)
        late.cancel()
        await books.credit(2, 1, "x", "after")
        assert (await take(books, 40)).amount == -40
        assert isinstance(await books.admit(opening(1, hold=60)), Admission)
        books._writer.failed = KeeperUnavailableError("gone")
        with pytest.raises(KeeperUnavailableError):
            await take(books, 0)
        books._writer.failed = None
        await books.close()

    asyncio.run(main())
    assert read(path, "SELECT count(*) FROM wallet_change") == [(1,)]
    assert verify(path).problems == ()


def test_a_hundred_refunds_of_one_call_at_once_give_it_back_once(tmp_path: Path) -> None:
    path = tmp_path / "sluice.db"

    async def main() -> None:
        books = await keeper(path)
        await books.admit(opening(1))
        receipt = books.settle(closing(1))
        await receipt.committed

        async def refund(number: int) -> int:
            def give(connection: sqlite3.Connection, event: Event) -> Moved[Change]:
                return refund_call(connection, event, 1, 20_000, "why", f"r{number}", "boss")

            try:
                return (await books.till.move(give)).amount
            except ValueError:
                return 0

        given = await asyncio.gather(*(refund(number) for number in range(100)))
        assert sum(given) == 40_000, "a third would be more than the call was charged"
        assert books.balance(1) == 10**9 - 10_000
        await books.close()

    asyncio.run(main())
    assert verify(path, quiet=True).problems == ()


def test_a_change_of_the_catalog_is_seen_when_its_money_has_moved(tmp_path: Path) -> None:
    async def main() -> None:
        books = await keeper(tmp_path / "sluice.db")

        def both(connection: sqlite3.Connection, event: Event) -> Moved[Change]:
            set_user_enabled(connection, "bob", enabled=False)
            return adjust(connection, event, 2, 5, "why", "r", "boss")

        await books.till.move(both, catalog=True)
        assert not books.catalog.users[2].enabled
        assert books.balance(2) == 10**9 + 5
        await books.close()

    asyncio.run(main())


def test_ids_of_events_are_above_those_of_calls_and_of_no_worker(tmp_path: Path) -> None:
    async def main() -> None:
        books = await keeper(tmp_path / "sluice.db", clock=lambda: 1_800_000_000.0)
        late = 60_000 << 22 | 1_800_000_000_000 << 22
        await books.admit(opening(late))
        made = [await books.credit(1, 1, "x", f"r{number}") for number in range(3)]
        ids = [top_up.event_id for top_up in made]
        assert late < ids[0] < ids[1] < ids[2]
        assert {event_id >> 16 & 63 for event_id in ids} == {63}
        await books.close()

    asyncio.run(main())


KILLS = 8
LINES_MAX = 150


def killed(path: Path, number: int, lines: int) -> list[tuple[str, str, int]]:
    """Run the victim, kill -9 it after so many lines; returns what it was told is committed."""
    with subprocess.Popen(
        [sys.executable, "-m", "tests.storage.money_victim", str(path), str(number)],
        cwd=Path(__file__).resolve().parents[2],
        stdout=subprocess.PIPE,
        text=True,
    ) as victim:
        assert victim.stdout is not None
        try:
            assert victim.stdout.readline().startswith("ready"), "the victim did not start"
            said = [victim.stdout.readline() for _ in range(lines)]
        finally:
            victim.kill()
        said += victim.stdout.read().splitlines(keepends=True)
    whole = [line.split() for line in said if line.endswith("\n")]
    return [(kind, reference, int(amount)) for kind, reference, amount in whole]


@pytest.mark.timeout(120)
def test_kill_9_never_loses_or_doubles_what_moved_without_a_call(tmp_path: Path) -> None:
    path = tmp_path / "sluice.db"
    rng = random.Random(5)
    told: list[tuple[str, str, int]] = []
    for number in range(KILLS):
        told += killed(path, number, rng.randrange(1, LINES_MAX))
        assert verify(path).problems == ()
    stored = read(path, "SELECT 'top_up', reference, amount FROM top_up")
    stored += read(path, "SELECT 'change', reference, amount FROM wallet_change")
    assert len(told) == len(set(told)), "something was told twice"
    assert set(told) <= set(stored)
    assert {kind for kind, _, _ in told} == {"top_up", "change"}
