"""Months of plans: what is paid for stays so."""

import sqlite3
from pathlib import Path

import pytest

from proxy.storage.billing import Keeper
from proxy.storage.people import add_person
from proxy.storage.plans import Due, Term, choose_plan, fall_back, find_due, paid_until, renew
from proxy.storage.teams import add_team
from proxy.storage.till import Event, Moved
from tests.storage.test_renewals import DAY, Clock, put, with_plans
from tests.storage.world import NOW, USD


def test_coming_back_costs_nothing_while_it_is_paid_and_begins_anew_later(tmp_path: Path) -> None:
    async def test(books: Keeper, clock: Clock) -> None:
        first = await put(books, "pro")
        await put(books, "free")
        clock.now += 5 * DAY
        assert await put(books, "pro") == Term("pro", first.until, 0, 0)
        await put(books, "free")
        clock.now += 40 * DAY
        later = await put(books, "pro")
        assert later.fee
        assert later.until is not None
        assert later.until - clock.now > 27 * DAY, "a whole month from now"

    with_plans(tmp_path, test)


def test_what_has_changed_meanwhile_is_left_alone(tmp_path: Path) -> None:
    async def test(books: Keeper, _clock: Clock) -> None:
        pro = books.catalog.plans["pro"]

        def late(connection: sqlite3.Connection) -> None:
            event = Event(1 << 40, NOW)
            assert renew(connection, event, 1, pro, NOW) == Moved(Term("pro", None, 0, 0))
            assert not fall_back(connection, 1, "pro", "free", NOW)
            assert paid_until(connection, 1, "pro") is None
            assert find_due(connection, NOW) == []
            with pytest.raises(ValueError, match="no user 9"):
                choose_plan(connection, event, 9, pro, NOW)

        await books.note(late)
        assert await books.renewals._renew(Due(1, "gone"), NOW) is False

    with_plans(tmp_path, test)


def test_what_a_plan_gives_for_nothing_is_not_given_to_every_team(tmp_path: Path) -> None:
    async def test(books: Keeper, clock: Clock) -> None:
        def people_and_teams(connection: sqlite3.Connection) -> list[int]:
            person, own = add_person(connection, "ann@example.com", None, "gift", NOW)
            made = [add_team(connection, name, person.id, NOW) for name in ("one", "two")]
            return [own.id, *[wallet.id for wallet in made]]

        own, *of_teams = await books.change(people_and_teams)
        for _ in range(2):
            await books.renewals.look()
            clock.now += 40 * DAY
        await books.renewals.look()
        assert books.balance(own) == 3 * 50_000_000
        assert [books.balance(team) for team in of_teams] == [0, 0]
        # What a plan gives for its fee is bought, whoever buys it.
        await books.credit(of_teams[0], USD, "top-up", "a")
        pro = books.catalog.plans["pro"]
        term = await books.till.move(
            lambda c, event: choose_plan(c, event, of_teams[0], pro, clock.now), catalog=True
        )
        assert (term.fee, term.credit) == (400_000_000, 100_000_000)

    with_plans(tmp_path, test)
