import asyncio

import pytest

from proxy.edge import lag
from proxy.edge.lag import LagWatch


def test_loop_lag_is_sampled_until_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lag, "LAG_PERIOD_SECONDS", 0.0)
    seen: list[float] = []

    async def main() -> None:
        watch = LagWatch(seen.append)
        watch.stop()
        watch.start(asyncio.get_running_loop())
        while len(seen) < 3:
            await asyncio.sleep(0)
        watch.stop()
        watch.stop()
        count = len(seen)
        for _ in range(10):
            await asyncio.sleep(0)
        assert len(seen) == count

    asyncio.run(asyncio.wait_for(main(), 20))
    assert min(seen) >= 0


def test_a_blocked_loop_shows() -> None:
    seen: list[float] = []

    class Loop(asyncio.SelectorEventLoop):
        skip = 0.0

        def time(self) -> float:
            return super().time() + self.skip

    async def main(loop: Loop) -> None:
        LagWatch(seen.append).start(loop)
        loop.skip = 5.0
        while not seen:
            await asyncio.sleep(0)

    with asyncio.Runner(loop_factory=Loop) as runner:
        loop = runner.get_loop()
        assert isinstance(loop, Loop)
        runner.run(asyncio.wait_for(main(loop), 20))
    assert seen[0] >= 5.0 - 0.25
