from pathlib import Path

import orjson
import pytest

from proxy.core.entities import Usage, UsageSource
from proxy.core.reconciliation.records import Our
from proxy.storage.reader import Reader
from proxy.storage.reports.attempts import TooManyError, attempts
from tests.storage.reports.ledgers import attempt, call, ledger
from tests.storage.reports.test_usage_log import reading
from tests.storage.world import NOW

NOTHING = orjson.dumps({"calls": 0}).decode()


def found(path: Path, since: float, until: float, rows_max: int = 100) -> list[Our]:
    rows: list[Our] = []

    async def scene(reader: Reader) -> None:
        rows.extend(await attempts(reader, 1, since, until, rows_max))

    reading(path, scene)
    return rows


def test_attempts_of_the_channel_and_span_are_told_with_whose_figure_it_is(tmp_path: Path) -> None:
    connection = ledger(tmp_path)
    whole = call(connection, NOW - 5)
    attempt(connection, whole, upstream_request_id="up-1", cost=9)
    cut = call(connection, NOW, source="counted", verdict="client_gone")
    attempt(connection, cut, number=1, usage=NOTHING, outcome="upstream_error", status=503)
    attempt(connection, cut, number=2, usage=NOTHING, started_at=NOW + 1)
    half = call(connection, NOW, source="counted")
    attempt(connection, half, usage=orjson.dumps({"input_uncached": 4}).decode())
    other = call(connection, NOW)
    attempt(connection, other, channel_id=2)
    early = call(connection, NOW - 100)
    attempt(connection, early, started_at=NOW - 100)
    attempt(connection, early, number=2, started_at=NOW + 2)
    connection.close()
    rows = found(tmp_path, NOW, NOW + 2)
    assert [(row.call_id, row.number, row.source) for row in rows] == [
        (whole, 1, UsageSource.REPORTED),
        (cut, 1, UsageSource.NONE),
        (cut, 2, UsageSource.COUNTED),
        (half, 1, UsageSource.REPORTED),
    ]
    billed = Usage(input_uncached=10, cache_read=2, output=5, reasoning=1)
    assert [row.usage for row in rows] == [
        billed, Usage(calls=0), billed, Usage(input_uncached=4)
    ]  # fmt: skip
    first = rows[0]
    assert (first.request_id, first.cost, first.charge, first.status) == ("up-1", 9, 7, 200)
    assert (first.model, first.public_model, first.verdict) == ("m-2", "m", "complete")
    # An attempt belongs to when it began, its call may be older.
    assert [row.call_id for row in found(tmp_path, NOW + 2, NOW + 3)] == [early]


def test_more_than_asked_for_are_refused(tmp_path: Path) -> None:
    connection = ledger(tmp_path)
    for _ in range(3):
        attempt(connection, call(connection, NOW))
    connection.close()
    assert len(found(tmp_path, NOW, NOW + 1, 3)) == 3
    with pytest.raises(TooManyError):
        found(tmp_path, NOW, NOW + 1, 2)
