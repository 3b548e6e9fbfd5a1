"""One timer for every deadline."""

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import cast

import pytest

from proxy.edge import sweep
from proxy.edge.sweep import Sweep


class Member:
    def __init__(self, reached: asyncio.Event, leave: Sweep | None = None) -> None:
        self.seen: list[float] = []
        self._reached, self._leave = reached, leave

    def tick(self, now: float) -> None:
        self.seen.append(now)
        if self._leave is not None:
            self._leave.remove(self)
        if len(self.seen) >= 3:
            self._reached.set()


def test_members_are_asked_until_they_leave(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweep, "TICK_SECONDS", 0.001)

    async def run() -> None:
        reached = asyncio.Event()
        swept = Sweep(asyncio.get_running_loop())
        stays, leaves = Member(reached), Member(reached, swept)
        swept.add(stays)
        swept.add(leaves)
        swept.remove(Member(reached))
        swept.start()
        await asyncio.wait_for(reached.wait(), 20)
        swept.stop()
        swept.stop()
        assert len(leaves.seen) == 1
        assert stays.seen == sorted(stays.seen)

    asyncio.run(run())


def test_a_stopped_sweep_asks_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweep, "TICK_SECONDS", 0.0)

    async def run() -> None:
        swept = Sweep(asyncio.get_running_loop())
        member = Member(asyncio.Event())
        swept.add(member)
        swept.start()
        swept.stop()
        for _ in range(5):
            await asyncio.sleep(0)
        assert not member.seen

    asyncio.run(run())


class Turns:
    """As much of a loop as a sweep uses; its time passes when it is asked to."""

    def __init__(self) -> None:
        self.now = 0.0
        self._next: tuple[float, Callable[[], None]] | None = None

    def time(self) -> float:
        return self.now

    def call_later(self, delay: float, function: Callable[[], None]) -> None:
        self._next = (self.now + delay, function)

    def pass_one(self) -> None:
        assert self._next is not None
        self.now, function = self._next
        function()


class Asked:
    def __init__(self) -> None:
        self.seen: list[float] = []

    def tick(self, now: float) -> None:
        self.seen.append(now)


def begun(members: list[Asked]) -> tuple[Turns, Sweep]:
    loop = Turns()
    swept = Sweep(cast("asyncio.AbstractEventLoop", loop))
    for member in members:
        swept.add(member)
    swept.start()
    return loop, swept


@pytest.mark.parametrize("number", [1, 8, 9, 200, 5_000])
def test_a_round_asks_everybody_once_and_never_many_together(number: int) -> None:
    members = [Asked() for _ in range(number)]
    loop, _ = begun(members)
    turns = 0
    while any(not member.seen for member in members):
        loop.pass_one()
        turns += 1
    assert {len(member.seen) for member in members} == {1}
    together = Counter(member.seen[0] for member in members)
    assert len(together) == turns <= sweep.TURNS_MAX
    assert max(together.values()) <= max(sweep.TOGETHER_MIN, -(-number // sweep.TURNS_MAX))
    assert loop.now < 2 * sweep.TICK_SECONDS
    loop.pass_one()
    assert loop.now == pytest.approx(2 * sweep.TICK_SECONDS), "as long as a round of any number"
    assert {len(member.seen) for member in members} <= {1, 2}


def test_who_left_in_mid_round_is_asked_no_more_and_who_came_in_the_next() -> None:
    members = [Asked() for _ in range(100)]
    loop, swept = begun(members)
    loop.pass_one()
    asked = [member for member in members if member.seen]
    assert 0 < len(asked) < len(members)
    for member in members:
        swept.remove(member)
    late = Asked()
    swept.add(late)
    while not late.seen:
        loop.pass_one()
    assert [member for member in members if member.seen] == asked
    assert loop.now == pytest.approx(2 * sweep.TICK_SECONDS)
