"""Comparisons run one at a time, tell how far they are, and fail in words."""

import asyncio
from pathlib import Path

import pytest

from proxy.core.reconciliation.exports import Export, ExportError
from proxy.core.reconciliation.records import State, Their
from proxy.edge.console import reconciliations
from proxy.edge.console.reconciliations import Job, Reconciliations, Stage, Task, span_of
from tests.storage.reports.ledgers import attempt, call, ledger
from tests.storage.world import NOW

DAY = int(NOW // 86_400)
HEAD = "request_id,time,input_tokens,output_tokens,cost\n"
BODY = f"{HEAD}up-1,{int(NOW)},12,5,0.000000009\nup-2,{int(NOW)},1,1,1\n"


def task(body: str = BODY, span: tuple[float, float] | None = None) -> Task:
    return Task(1, "main", "export.csv", body.encode(), {}, span, {})


def run(path: Path, *tasks: Task) -> list[Job]:
    """Run jobs to their ends on a ledger with one attempt, `up-1`."""
    connection = ledger(path)
    attempt(connection, call(connection, NOW), upstream_request_id="up-1", cost=9)
    attempt(connection, call(connection, NOW - 86_400), started_at=NOW - 86_400)
    connection.close()

    async def main() -> list[Job]:
        jobs = Reconciliations()
        try:
            made = [jobs.start(path / "sluice.db", each) for each in tasks]
            async with asyncio.timeout(20):
                while not all(job.over for job in made):
                    await asyncio.sleep(0.01)
            return made
        finally:
            await jobs.close()

    return asyncio.run(main())


def test_an_export_is_compared_with_the_attempts_of_its_days(tmp_path: Path) -> None:
    (job,) = run(tmp_path, task())
    assert (job.stage, job.problem, job.span) == (
        Stage.DONE,
        "",
        (DAY * 86_400, (DAY + 1) * 86_400),
    )
    assert job.comparison is not None
    states = sorted(row.state for row in job.comparison.rows)
    assert states == [State.MATCHED, State.ONLY_THEIRS]
    assert (job.comparison.ours, job.comparison.theirs) == (9, 10**9 + 9)


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        (task("nothing"), "no usage was found"),
        (task("request_id,cost\nup-1,1\n"), "its lines have no time"),
        (task(f"{HEAD}a,2020-01-01,1,1,1\nb,2024-01-01,1,1,1\n"), "more than 366 days"),
    ],
)
def test_what_cannot_be_compared_is_said(tmp_path: Path, given: Task, problem: str) -> None:
    (job,) = run(tmp_path, given)
    assert job.stage is Stage.FAILED
    assert problem in job.problem


def test_too_many_attempts_and_a_ledger_that_is_away_are_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reconciliations, "ATTEMPTS_MAX", 0)
    (job,) = run(tmp_path, task())
    assert "more than 0 attempts" in job.problem

    async def main() -> str:
        jobs = Reconciliations()
        job = jobs.start(tmp_path / "nowhere.db", task())
        async with asyncio.timeout(20):
            while not job.over:
                await asyncio.sleep(0.01)
        await jobs.close()
        return job.problem

    assert asyncio.run(main()) == "the ledger could not be read; try again"


def test_a_span_that_was_said_stands_for_times_that_are_not(tmp_path: Path) -> None:
    (job,) = run(tmp_path, task("request_id,cost\nup-1,0.000000009\n", (NOW - 5, NOW + 5)))
    assert job.comparison is not None
    assert [row.state for row in job.comparison.rows] == [State.MATCHED]


def test_the_last_results_are_kept_and_running_ones_are_not_pushed_out(tmp_path: Path) -> None:
    jobs = run(tmp_path, task(), task(), task())
    assert all(job.stage is Stage.DONE for job in jobs)

    async def main() -> None:
        kept = Reconciliations()
        made = [kept.start(tmp_path / "sluice.db", task()) for _ in range(3)]
        with pytest.raises(ExportError, match="other comparisons are running"):
            kept.start(tmp_path / "sluice.db", task())
        made[0].stage = Stage.FAILED
        latest = kept.start(tmp_path / "sluice.db", task())
        assert made[0].id not in kept.jobs
        assert latest.id in kept.jobs
        await kept.close()
        await kept.close()
        assert kept.jobs == {}

    asyncio.run(main())


def test_an_export_without_days_has_no_span() -> None:
    row = Their(1, "r", None, "m")
    with pytest.raises(ExportError):
        span_of(Export([row], (), {}, (), 0))
