"""One timer for every deadline."""

import asyncio

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
        assert swept.lag_seconds >= 0

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
