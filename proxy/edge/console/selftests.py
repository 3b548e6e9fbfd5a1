"""Self-tests that the console runs for people: bounded jobs, whose lines are told as they come.

Rules: a job calls the relay from outside with a lent secret, which is forgotten when the job has
ended; one at a time for each person, few at once, and the last ones are kept in memory for as long
as the process lives. This module must not know what is checked, nor any page.
"""

import asyncio
import secrets
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

JOBS_MAX: Final = 50
"""Kept, the running ones among them."""
RUNNING_MAX: Final = 3
JOB_SECONDS_MAX: Final = 600.0
_ID_BYTES: Final = 9


class CheckLine(Protocol):
    """One line of a report: `outcome` is ok, warning, failure or skipped."""

    @property
    def check(self) -> str: ...
    @property
    def outcome(self) -> str: ...
    @property
    def seen(self) -> str: ...
    @property
    def remedy(self) -> str: ...
    @property
    def seconds(self) -> float: ...


class Selftest(Protocol):
    """What is run (app/selftest.py)."""

    def asked(self, concurrency: int) -> Sequence[tuple[int, int]]:
        """What a run asks at most, call by call: bytes of prompt, and tokens of answer."""
        ...

    def run(
        self,
        base_url: str,
        key: str,
        *,
        model: str | None,
        concurrency: int,
        told: Callable[[Any], object] | None,
    ) -> Coroutine[Any, Any, Sequence[CheckLine]]:
        """Make every check; `told` hears of each as it ends."""
        ...


@dataclass(slots=True)
class Job:
    """One run. `failed`: why it ended without a report: `time` or `stopped`."""

    id: str
    person: int
    wallet: int
    key: str
    model: str
    began: float
    steps: int
    """Checks there will be at most."""
    lines: list[CheckLine] = field(default_factory=list)
    ended: bool = False
    failed: str | None = None
    task: asyncio.Task[None] | None = None

    @property
    def worst(self) -> str:
        """The gravest outcome so far."""
        outcomes = {line.outcome for line in self.lines}
        return next((one for one in ("failure", "warning") if one in outcomes), "ok")


class Selftests:
    """The jobs of one console process."""

    def __init__(self) -> None:
        self._jobs: dict[str, Job] = {}

    def of(self, person: int, job_id: str) -> Job | None:
        """A job of that person."""
        job = self._jobs.get(job_id)
        return job if job is not None and job.person == person else None

    def running(self, person: int) -> Job | None:
        """The job of that person that has not ended."""
        return next((j for j in self._jobs.values() if j.person == person and not j.ended), None)

    def recent(self, person: int) -> list[Job]:
        """That person's jobs, newest first."""
        return [job for job in reversed(self._jobs.values()) if job.person == person]

    @property
    def full(self) -> bool:
        """Whether no job can begin now."""
        return sum(not job.ended for job in self._jobs.values()) >= RUNNING_MAX

    def start(
        self,
        selftest: Selftest,
        base_url: str,
        secret: str,
        *,
        person: int,
        wallet: int,
        key: str,
        model: str,
        concurrency: int,
        now: float,
        steps: int,
    ) -> Job:
        """Begin a job; the caller has asked whether there is room."""
        if self.full or self.running(person) is not None:
            raise AssertionError("there is no room for another job")
        job = Job(secrets.token_urlsafe(_ID_BYTES), person, wallet, key, model, now, steps)
        ended = [job_id for job_id, one in self._jobs.items() if one.ended]
        for job_id in ended[: max(0, len(self._jobs) + 1 - JOBS_MAX)]:
            del self._jobs[job_id]
        self._jobs[job.id] = job
        run = selftest.run(
            base_url, secret, model=model, concurrency=concurrency, told=job.lines.append
        )
        job.task = asyncio.get_running_loop().create_task(_bounded(job, run))
        return job

    async def close(self) -> None:
        """End every job."""
        tasks = [job.task for job in self._jobs.values() if job.task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _bounded(job: Job, run: Coroutine[Any, Any, Sequence[CheckLine]]) -> None:
    try:
        async with asyncio.timeout(JOB_SECONDS_MAX):
            await run
    except TimeoutError:
        job.failed = "time"
    except asyncio.CancelledError:
        job.failed = "stopped"
        raise
    finally:
        job.ended = True
        job.task = None
