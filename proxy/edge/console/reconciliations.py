"""Comparisons of providers' usage exports with our attempts, as jobs that tell how far they are.

Rules: reading and comparing take the interpreter for seconds, so threads do them and pages go on;
a job reads the ledger on a connection of its own; one runs at a time, the last few results are kept
in memory and nowhere else, for what was uploaded is the operator's. This module must not know a
page.
"""

import asyncio
import secrets
import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Final

from proxy.core.entities import Channel, Price
from proxy.core.reconciliation.comparing import compare
from proxy.core.reconciliation.exports import Export, ExportError, read_export
from proxy.core.reconciliation.records import Comparison, Our
from proxy.core.sentences import Sentence, text_of
from proxy.storage.reader import Reader
from proxy.storage.reports.attempts import TooManyError, attempts

JOBS_MAX: Final = 3
ATTEMPTS_MAX: Final = 200_000
EDGE_SECONDS: Final = 3_600.0
"""How far a provider's clock may put a request into another day than ours."""
DAY_SECONDS: Final = 86_400.0
DAYS_MAX: Final = 366
_ID_BYTES: Final = 9


class Stage(StrEnum):
    """How far a job is."""

    READING = "reading"
    LOOKING_UP = "looking_up"
    COMPARING = "comparing"
    DONE = "done"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Task:
    """What to compare. `span`: Unix seconds, where the export has no times, or less is wanted.

    `costs` are the channel's prices by the upstream's own name of a model.
    """

    channel_id: int
    channel: str
    file: str
    body: bytes = field(repr=False)
    told: Mapping[str, str]
    span: tuple[float, float] | None
    costs: Mapping[str, Price]


@dataclass(slots=True)
class Job:
    """One comparison; `problem` says why it failed."""

    id: str
    channel: str
    file: str
    stage: Stage = Stage.READING
    problem: str = ""
    export: Export | None = None
    comparison: Comparison | None = None
    span: tuple[float, float] | None = None

    @property
    def over(self) -> bool:
        """Whether there is nothing to wait for."""
        return self.stage in {Stage.DONE, Stage.FAILED}


class Reconciliations:
    """The jobs of a console, from its start to `close`."""

    def __init__(self) -> None:
        self.jobs: dict[str, Job] = {}
        self._turn = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self, database: Path, task: Task) -> Job:
        """Begin a job; the oldest that is over makes room, and None of them has to wait for it.

        Raises ExportError when all that are kept are still running.
        """
        over = [job for job in self.jobs.values() if job.over]
        if len(self.jobs) >= JOBS_MAX:
            if not over:
                raise ExportError("other comparisons are running; try again in a minute")
            del self.jobs[over[0].id]
        job = Job(secrets.token_urlsafe(_ID_BYTES), task.channel, task.file)
        self.jobs[job.id] = job
        running = asyncio.get_running_loop().create_task(self._run(job, database, task))
        self._tasks.add(running)
        running.add_done_callback(self._tasks.discard)
        return job

    async def close(self) -> None:
        """Give up what runs and forget everything; safe to call twice."""
        tasks = tuple(self._tasks)
        for task in tasks:
            task.cancel()
        for task in tasks:
            with suppress(asyncio.CancelledError):
                await task
        self.jobs.clear()

    async def _run(self, job: Job, database: Path, task: Task) -> None:
        async with self._turn:
            try:
                await carry_out(job, database, task)
            except (ExportError, sqlite3.Error) as error:
                job.problem = _words(error)
                job.stage = Stage.FAILED


def task_of(
    channel: Channel,
    file: str,
    body: bytes,
    told: Mapping[str, str],
    span: tuple[float, float] | None,
) -> Task:
    """What to compare an export with: a channel, whose costs are by public names of models."""
    costs = {channel.models[public]: price for public, price in channel.costs.items()}
    return Task(channel.id, channel.name, file, body, told, span, costs)


async def carry_out(job: Job, database: Path, task: Task) -> None:
    """Do a job on a connection of its own. Raises ExportError, sqlite3.Error."""
    export = job.export = await asyncio.to_thread(read_export, task.body, task.told)
    job.stage = Stage.LOOKING_UP
    since, until = job.span = task.span or span_of(export)
    reader = await Reader.open(database)
    try:
        edge = EDGE_SECONDS if export.by_request else 0.0
        found = await attempts(reader, task.channel_id, since - edge, until + edge, ATTEMPTS_MAX)
    except TooManyError:
        raise ExportError(
            Sentence(
                "there are more than {most:,} attempts in this time; compare fewer days",
                most=ATTEMPTS_MAX,
            )
        ) from None
    finally:
        await reader.close()
    job.stage = Stage.COMPARING
    job.comparison = await asyncio.to_thread(
        lambda: compare(export.rows, within(export, found, since, until), task.costs)
    )
    job.stage = Stage.DONE


def span_of(export: Export) -> tuple[float, float]:
    """The days an export is about, as Unix seconds. Raises ExportError."""
    days = [row.day for row in export.rows if row.day is not None]
    if not days:
        raise ExportError("its lines have no time; say from when to when")
    if max(days) - min(days) >= DAYS_MAX:
        raise ExportError(
            Sentence("it is about more than {most} days; export fewer", most=DAYS_MAX)
        )
    return min(days) * DAY_SECONDS, (max(days) + 1) * DAY_SECONDS


def within(export: Export, ours: Sequence[Our], since: float, until: float) -> list[Our]:
    """The attempts of the span, and those just outside of it that the export has."""
    named = {row.request_id for row in export.rows if row.request_id is not None}
    return [our for our in ours if since <= our.at < until or our.request_id in named]


def _words(error: Exception) -> str:
    if isinstance(error, ExportError):
        return text_of(error)
    return Sentence("the ledger could not be read; try again")
