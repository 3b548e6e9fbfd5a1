"""One timer for every deadline."""

import asyncio
import itertools
from collections import Counter
from collections.abc import Callable
from typing import cast

import pytest

from proxy.edge import sweep
from proxy.edge.sweep import Sweep


class Member:
    quiet_until = 0.0

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

    def call_later(self, delay: float, function: Callable[[], None]) -> asyncio.TimerHandle:
        self._next = (self.now + delay, function)
        return cast("asyncio.TimerHandle", self)

    def cancel(self) -> None:
        self._next = None

    def pass_one(self) -> None:
        assert self._next is not None
        self.now, function = self._next
        function()


class Asked:
    quiet_until = 0.0

    def __init__(self, *, works: bool = False) -> None:
        self.seen: list[float] = []
        self._works = works

    def tick(self, now: float) -> bool:
        self.seen.append(now)
        return self._works


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


@pytest.mark.parametrize("number", [1, 8, 9, 200, 5_000])
def test_a_turn_ends_when_some_have_done_more_than_look(number: int) -> None:
    working = [Asked(works=True) for _ in range(number // 4)]
    looking = [Asked() for _ in range(number - len(working))]
    members = working + looking
    loop, swept = begun(members)
    together: list[int] = []
    while any(not member.seen for member in members):
        before = sum(len(member.seen) for member in working)
        loop.pass_one()
        together.append(sum(len(member.seen) for member in working) - before)
    assert {len(member.seen) for member in members} == {1}
    assert max(together) <= sweep.WORKING_MAX
    assert sum(together) == len(working)
    loop.pass_one()
    assert loop.now == pytest.approx(2 * sweep.TICK_SECONDS), "which makes no round longer"
    swept.stop()


def test_an_empty_sweep_goes_on() -> None:
    loop, swept = begun([])
    loop.pass_one()
    late = Asked()
    swept.add(late)
    loop.pass_one()
    assert late.seen == [pytest.approx(2 * sweep.TICK_SECONDS)]


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


@pytest.mark.parametrize("number", [1, 8, 60, 200])
def test_who_wants_to_be_asked_once_a_second_is(number: int) -> None:
    """Wherever in a round its turn comes, and however many are quiet with it."""

    class Marked(Asked):
        def tick(self, now: float) -> bool:
            self.quiet_until = now + 1.0
            return super().tick(now)

    members: list[Asked] = [Marked(works=True) for _ in range(number)]
    for place, member in enumerate(members):
        member.quiet_until = place / number  # they began at all times
    loop, _ = begun(members)
    while loop.now < 20:
        loop.pass_one()
    for member in members:
        waits = [after - before for before, after in itertools.pairwise(member.seen)]
        assert min(waits) >= 1.0 - sweep.TICK_SECONDS
        assert max(waits) <= 1.0 + sweep.TICK_SECONDS
        assert sum(waits) / len(waits) == pytest.approx(1.0, abs=sweep.TICK_SECONDS / 4)


def test_who_is_quiet_is_asked_when_it_is_no_more() -> None:
    quiet, other = Asked(), Asked()
    loop, _ = begun([quiet, other])
    quiet.quiet_until = 3 * sweep.TICK_SECONDS
    while len(other.seen) < 4:
        loop.pass_one()
    assert other.seen[:2] == [sweep.TICK_SECONDS, 2 * sweep.TICK_SECONDS]
    assert quiet.seen == [moment for moment in other.seen if moment >= quiet.quiet_until]
    quiet.quiet_until = 0.0
    loop.pass_one()
    assert quiet.seen[-1] == other.seen[-1]
