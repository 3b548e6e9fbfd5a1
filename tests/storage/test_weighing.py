"""Weighing says what an admission would, refusal by refusal, and leaves no trace."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from proxy.storage.ports import Admission, KeeperUnavailableError, Refusal, Weighed
from proxy.storage.weighing import weigh
from tests.storage.world import NOW, USD, keeper, opening


def play(path: Path, scene: Any, **options: Any) -> None:
    async def main() -> None:
        books = await keeper(
            path / "sluice.db", clock=lambda: NOW, clock_monotonic=lambda: 5.0, **options
        )
        try:
            await scene(books)
        finally:
            await books.close()

    asyncio.run(main())


async def both(books: Any, call_id: int, **changes: Any) -> tuple[Weighed, Admission | Refusal]:
    """What weighing says twice, and then admitting."""
    asked = opening(call_id, **changes)
    first = await books.weigh(asked)
    assert await books.weigh(asked) == first
    return first, await books.admit(asked)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"hold": USD + 1, "ceiling": USD + 1}, "wallet"),
        ({"model": "thinker", "ceiling": USD + 1}, "wallet"),
        ({}, None),
    ],
)
def test_a_wallet_is_asked_for_what_would_be_held(
    tmp_path: Path, changes: dict[str, Any], reason: str | None
) -> None:
    async def scene(books: Any) -> None:
        weighed, decision = await both(books, 1, **changes)
        assert weighed.balance == USD
        if reason is None:
            assert isinstance(decision, Admission)
            assert (weighed.held, weighed.ceiling_held) == (decision.held, decision.ceiling_held)
            assert weighed.refusal is None
        else:
            assert isinstance(decision, Refusal)
            assert weighed.refusal == decision
            assert decision.reason == reason

    play(tmp_path, scene)


def test_a_careful_keeper_would_hold_the_ceiling(tmp_path: Path) -> None:
    async def scene(books: Any) -> None:
        weighed, decision = await both(books, 1, model="thinker", ceiling=200_000)
        assert (weighed.held, weighed.ceiling_held) == (200_000, True)
        assert isinstance(decision, Admission)
        assert decision.held == 200_000
        weighed, decision = await both(books, 2, ceiling=300_000)
        assert (weighed.held, weighed.ceiling_held) == (100_000, False)

    play(tmp_path, scene)
    play(tmp_path, careful, expense_max=0)


async def careful(books: Any) -> None:
    weighed, decision = await both(books, 9, ceiling=300_000)
    assert (weighed.held, weighed.ceiling_held) == (300_000, True)
    assert isinstance(decision, Admission)
    assert decision.held == 300_000


def test_a_budget_and_the_limits_refuse_in_the_same_words(tmp_path: Path) -> None:
    async def scene(books: Any) -> None:
        of_bob = {"key_id": 2, "user_id": 2}
        for call_id in (1, 2):
            assert (await both(books, call_id, **of_bob))[0].refusal is None
        weighed, refusal = await both(books, 3, **of_bob)
        assert weighed.refusal == refusal
        assert isinstance(refusal, Refusal)
        assert (refusal.reason, refusal.limit) == ("concurrency", 2)
        await books.change(
            lambda connection: connection.execute("UPDATE key SET budget = 5 WHERE id = 1")
        )
        weighed, refusal = await both(books, 4)
        assert weighed.refusal == refusal
        assert isinstance(refusal, Refusal)
        assert (refusal.reason, refusal.available) == ("key_budget", 5)

    play(tmp_path, scene)


def test_a_request_without_money_takes_a_request_and_nothing_else(tmp_path: Path) -> None:
    async def scene(books: Any) -> None:
        before = await books.limits(2)
        for _ in range(before.requests_remaining):
            assert await books.count(2) is None
        after = await books.limits(2)
        assert (after.requests_remaining, after.tokens_remaining) == (0, before.tokens_remaining)
        refusal = await books.count(2)
        assert isinstance(refusal, Refusal)
        assert (refusal.reason, refusal.limit, refusal.limits) == ("requests", 60, after)
        assert refusal.retry_after > 0
        assert books.balance(2) == USD
        decision = await books.admit(opening(1, key_id=2, user_id=2))
        assert isinstance(decision, Refusal), "calls count in the same bucket"
        with pytest.raises(KeeperUnavailableError, match="no key 77"):
            await books.count(77)
        await books.drain()
        with pytest.raises(KeeperUnavailableError, match="shutting down"):
            await books.count(1)

    play(tmp_path, scene)


def test_one_that_is_full_of_open_calls_waits_for_one_to_end(tmp_path: Path) -> None:
    async def scene(books: Any) -> None:
        for call_id in (1, 2):
            assert isinstance(await books.admit(opening(call_id, key_id=2, user_id=2)), Admission)
        refusal = await books.count(2)
        assert isinstance(refusal, Refusal)
        assert (refusal.reason, refusal.limit) == ("concurrency", 2)

    play(tmp_path, scene)


def test_nothing_is_weighed_for_a_key_nobody_knows_nor_by_a_keeper_that_stops(
    tmp_path: Path,
) -> None:
    async def scene(books: Any) -> None:
        with pytest.raises(KeeperUnavailableError, match="no key 77"):
            await books.weigh(opening(1, key_id=77))
        await books.drain()
        with pytest.raises(KeeperUnavailableError, match="shutting down"):
            await books.weigh(opening(1))

    play(tmp_path, scene)
    assert weigh.__doc__
