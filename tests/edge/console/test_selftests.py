"""Self-tests of the console are bounded, belong to who began them, and end with the process."""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from proxy.edge.console import selftests
from proxy.edge.console.selftests import Job, Selftests


@dataclass(frozen=True, slots=True)
class Line:
    check: str = "connection"
    outcome: str = "ok"
    seen: str = "seen"
    remedy: str = ""
    seconds: float = 0.1


@dataclass
class Toy:
    """A self-test that tells its lines and then waits until it is let go."""

    lines: Sequence[Line] = (Line(),)
    go: asyncio.Event = field(default_factory=asyncio.Event)
    secrets: list[str] = field(default_factory=list)

    def asked(self, concurrency: int) -> Sequence[tuple[int, int]]:
        return [(1000, 500)] * concurrency

    def run(
        self,
        base_url: str,
        key: str,
        *,
        model: str | None,
        concurrency: int,
        told: Callable[[Any], object] | None,
    ) -> Coroutine[Any, Any, Sequence[Line]]:
        self.secrets.append(key)
        return self._run(told)

    async def _run(self, told: Callable[[Any], object] | None) -> Sequence[Line]:
        for line in self.lines:
            if told is not None:
                told(line)
        await self.go.wait()
        return self.lines


def begin(jobs: Selftests, toy: Toy, person: int = 1) -> Job:
    return jobs.start(
        toy, "http://relay", "sk-lent", person=person, wallet=1, key="k", model="m",
        concurrency=2, now=0.0, steps=10,
    )  # fmt: skip


async def ended(job: Job) -> None:
    async with asyncio.timeout(10):
        while not job.ended:
            await asyncio.sleep(0)


def test_lines_are_told_as_they_come_and_to_their_owner_alone() -> None:
    async def main() -> None:
        jobs, toy = Selftests(), Toy((Line(), Line(outcome="warning")))
        job = begin(jobs, toy)
        while not job.lines:
            await asyncio.sleep(0)
        assert (job.ended, job.worst, len(job.lines)) == (False, "warning", 2)
        assert jobs.of(1, job.id) is job
        assert jobs.of(2, job.id) is None
        assert (jobs.running(1), jobs.running(2)) == (job, None)
        toy.go.set()
        await ended(job)
        assert (jobs.running(1), jobs.recent(1), jobs.recent(2)) == (None, [job], [])
        assert job.failed is None
        assert "sk-lent" not in repr(job)

    asyncio.run(main())


def test_few_run_at_once_and_the_last_ones_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(selftests, "RUNNING_MAX", 2)
    monkeypatch.setattr(selftests, "JOBS_MAX", 3)

    async def main() -> None:
        jobs, toy = Selftests(), Toy()
        begin(jobs, toy, 1)
        assert not jobs.full
        begin(jobs, toy, 2)
        assert jobs.full
        with pytest.raises(AssertionError, match="no room"):
            begin(jobs, toy, 3)
        toy.go.set()
        for job in (jobs.recent(1)[0], jobs.recent(2)[0]):
            await ended(job)
        for _ in range(4):
            await ended(begin(jobs, toy, 9))
        assert len(jobs.recent(9)) == 3
        assert jobs.recent(1) == []

    asyncio.run(main())


def test_a_job_that_takes_too_long_or_is_stopped_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        jobs, toy = Selftests(), Toy((Line(outcome="failure"),))
        job = begin(jobs, toy)
        await asyncio.sleep(0)
        await jobs.close()
        assert (job.ended, job.failed) == (True, "stopped")
        monkeypatch.setattr(selftests, "JOB_SECONDS_MAX", 0.0)
        job = begin(jobs, toy)
        await ended(job)
        assert (job.failed, job.worst) == ("time", "failure" if job.lines else "ok")
        await jobs.close()

    asyncio.run(main())
