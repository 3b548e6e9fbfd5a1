"""Months of plans begin when they are due: paid once each, and by nobody who cannot."""

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from proxy.core.entities import Plan
from proxy.storage import renewals
from proxy.storage.accounts import set_user_enabled
from proxy.storage.billing import Keeper
from proxy.storage.imports import apply_catalog
from proxy.storage.plans import Term, choose_plan
from proxy.storage.renewals import free_plan
from proxy.storage.till import Event, Moved
from proxy.storage.upkeep import Care
from proxy.storage.verify import verify
from tests.storage.world import CATALOG, MASTER, NOW, USD, keeper, read

DAY = 86_400
PRO = {"name": "pro", "monthly_fee": "0.4", "monthly_credit": "0.1"}
GIFT = {"name": "gift", "monthly_credit": "0.05"}


class Clock:
    """Wall and monotonic clock, moved together by hand."""

    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> float:
        return self.now


def with_plans(
    path: Path, test: Callable[[Keeper, Clock], Awaitable[Any]], plans: Any = (PRO, GIFT)
) -> None:
    async def main() -> None:
        clock = Clock()
        books = await keeper(path / "a.db", clock=clock, clock_monotonic=clock)
        document = {**CATALOG, "plan": [*CATALOG["plan"], *plans]}
        await books.change(lambda c: apply_catalog(c, document, master=MASTER, now=NOW))
        await test(books, clock)
        await books.close()

    asyncio.run(asyncio.wait_for(main(), 30))
    assert verify(path / "a.db", quiet=True).problems == ()


async def put(books: Keeper, plan: str) -> Term:
    wanted = books.catalog.plans[plan]
    now = books._clock()

    def choose(connection: sqlite3.Connection, event: Event) -> Moved[Term]:
        return choose_plan(connection, event, 1, wanted, now)

    return await books.till.move(choose, catalog=True)


def test_a_month_is_paid_when_it_begins_and_not_again(tmp_path: Path) -> None:
    async def test(books: Keeper, clock: Clock) -> None:
        term = await put(books, "pro")
        assert (term.fee, term.credit) == (400_000_000, 100_000_000)
        assert books.balance(1) == USD - 300_000_000
        assert [await books.renewals.look() for _ in range(3)] == [0, 0, 0]
        assert term.until is not None
        clock.now = float(term.until)
        assert [await books.renewals.look() for _ in range(3)] == [1, 0, 0]
        assert books.balance(1) == USD - 600_000_000
        clock.now += 75 * DAY
        assert await books.renewals.look() == 1, "two more months passed and one is charged"
        assert books.balance(1) == USD - 900_000_000

    with_plans(tmp_path, test)
    fees = read(tmp_path / "a.db", "SELECT amount, reference FROM wallet_change ORDER BY at")
    assert [amount for amount, _ in fees] == [-400_000_000] * 3
    assert len({reference for _, reference in fees}) == 3
    assert read(tmp_path / "a.db", "SELECT count(*) FROM top_up WHERE reason = 'plan pro'") == [
        (3,)
    ]


def test_who_cannot_pay_falls_back_and_is_told(tmp_path: Path) -> None:
    async def test(books: Keeper, clock: Clock) -> None:
        await put(books, "pro")
        clock.now += 40 * DAY
        await books.renewals.look()
        clock.now += 40 * DAY
        await books.renewals.look()
        assert books.balance(1) == 100_000_000
        clock.now += 40 * DAY
        assert await books.renewals.look() == 1
        assert books.catalog.users[1].plan == "free"
        assert books.balance(1) == 100_000_000
        assert await books.renewals.look() == 0

    with_plans(tmp_path, test)
    query = "SELECT user_id, kind, detail FROM notice"
    assert read(tmp_path / "a.db", query) == [(1, "plan_ended", "pro")]


def test_without_another_plan_who_cannot_pay_stays_and_is_asked_again(tmp_path: Path) -> None:
    told: list[str] = []

    async def test(books: Keeper, clock: Clock) -> None:
        books.renewals._told = told.append
        await put(books, "pro")
        fees = [
            {**plan, "monthly_fee": "9"}
            for plan in ({"name": "free"}, {"name": "small"}, PRO, GIFT)
        ]
        document = {**CATALOG, "plan": fees}
        await books.change(lambda c: apply_catalog(c, document, master=MASTER, now=NOW))
        await books.change(lambda c: set_user_enabled(c, "bob", enabled=False))
        clock.now += 40 * DAY
        assert await books.renewals.look() == 0
        assert books.catalog.users[1].plan == "pro"
        await books.credit(1, 10 * USD, "x", "r")
        assert await books.renewals.look() == 1

    with_plans(tmp_path, test)
    assert len(told) == 1
    assert "no plan without a fee" in told[0]


def test_whoever_was_put_on_a_plan_in_another_way_pays_at_the_next_look(tmp_path: Path) -> None:
    async def test(books: Keeper, _clock: Clock) -> None:
        def by_hand(connection: sqlite3.Connection) -> None:
            connection.execute("UPDATE user SET plan = 'gift'")

        await books.change(by_hand)
        assert await books.renewals.look() == 2
        assert (books.balance(1), books.balance(2)) == (1_050_000_000, 1_050_000_000)
        await books.change(lambda c: set_user_enabled(c, "bob", enabled=False))

    with_plans(tmp_path, test)


def test_a_clock_that_jumps_ahead_charges_nobody(tmp_path: Path) -> None:
    async def main() -> None:
        wall, steady = Clock(), Clock()
        books = await keeper(tmp_path / "a.db", clock=wall, clock_monotonic=steady)
        document = {**CATALOG, "plan": [*CATALOG["plan"], PRO]}
        await books.change(lambda c: apply_catalog(c, document, master=MASTER, now=NOW))
        await put(books, "pro")
        wall.now += 400 * DAY
        assert await books.renewals.look() == 0
        await books.close()

    asyncio.run(main())


def test_a_hundred_looks_at_once_charge_once(tmp_path: Path) -> None:
    async def test(books: Keeper, clock: Clock) -> None:
        await put(books, "pro")
        clock.now += 40 * DAY
        await asyncio.gather(*(books.renewals.look() for _ in range(100)))
        assert books.balance(1) == USD - 600_000_000

    with_plans(tmp_path, test)


def test_the_task_looks_by_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(renewals, "FIRST_SECONDS", 0.0)

    async def main() -> None:
        told: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        clock = Clock()
        path = tmp_path / "a.db"
        books = await keeper(path, clock=clock, care=Care(fallback_plan="small"))
        assert books.renewals.fallback == "small"
        document = {**CATALOG, "plan": [*CATALOG["plan"], GIFT]}
        await books.change(lambda c: apply_catalog(c, document, master=MASTER, now=NOW))
        await books.change(lambda c: c.execute("UPDATE user SET plan = 'gift'"))
        books.renewals.stop()
        books.renewals.stop()
        books.renewals._told = told.set_result
        books.renewals.start()
        assert await asyncio.wait_for(told, 10) == "2 months of plans began"
        await books.close()

    asyncio.run(main())


def test_a_fault_of_one_wallet_stops_no_other(tmp_path: Path) -> None:
    told: list[str] = []

    async def test(books: Keeper, clock: Clock) -> None:
        books.renewals._told = told.append
        await books.change(lambda c: c.execute("UPDATE user SET plan = 'gift'"))
        await books.credit(1, 1, "x", f"sluice:plan:1:{int(NOW)}:gift")
        assert await books.renewals.look() == 1
        assert books.balance(2) == 1_050_000_000
        assert clock.now == NOW

    with_plans(tmp_path, test)
    assert len(told) == 1


def test_who_cannot_pay_gets_the_plan_that_was_wanted(tmp_path: Path) -> None:
    async def test(books: Keeper, _clock: Clock) -> None:
        names = [free_plan(books.catalog, wanted) for wanted in ("small", "pro", "")]
        assert [plan.name if plan else None for plan in names] == ["small", "free", "free"]
        assert isinstance(names[0], Plan)

    with_plans(tmp_path, test, (PRO,))
