from pathlib import Path

import pytest

from proxy.storage.reader import Reader
from proxy.storage.reports import errors as module
from proxy.storage.reports.errors import Errors, Failures, errors
from tests.storage.reports.ledgers import attempt, call, ledger
from tests.storage.reports.test_usage_log import reading
from tests.storage.world import NOW


def report(path: Path) -> Errors:
    found: list[Errors] = []

    async def scene(reader: Reader) -> None:
        found.append(await errors(reader, NOW))

    reading(path, scene)
    return found[0]


def test_failures_are_gathered_with_their_latest_examples(tmp_path: Path) -> None:
    connection = ledger(tmp_path)
    many = [
        call(connection, NOW - 100 + each, error_code="upstream_error", status=500 + each,
             user_id=1 + each % 2)
        for each in range(5)
    ]  # fmt: skip
    alone = call(connection, NOW, error_code="rate_limited", status=429, channel_id=None)
    good = call(connection, NOW)
    call(connection, NOW - 2 * 86_400, error_code="upstream_error")
    attempt(connection, good, number=1, outcome="upstream_error", status=503)
    attempt(connection, good, number=2, channel_id=99)
    left = call(connection, NOW - 50)
    attempt(connection, left, number=1, outcome="interrupted")
    connection.close()
    found = report(tmp_path)
    assert found.looked_at == 8
    assert found.since == NOW - 86_400
    first, second = found.calls
    assert first == Failures(
        "upstream_error", "main", "m", 504, 5, 2, NOW - 96, tuple(reversed(many[2:]))
    )
    assert second == Failures("rate_limited", "", "m", 429, 1, 1, NOW, (alone,))
    assert found.attempts == (Failures("upstream_error", "main", "m", 503, 1, 1, NOW, (good,)),)


def test_a_call_that_failed_twice_at_a_channel_is_one_example(tmp_path: Path) -> None:
    connection = ledger(tmp_path)
    bad = call(connection, NOW, error_code="upstream_error")
    for number in (1, 2):
        attempt(connection, bad, number=number, outcome="upstream_error", status=502)
    connection.close()
    (row,) = report(tmp_path).attempts
    assert (row.calls, row.examples) == (2, (bad,))


def test_only_the_latest_calls_are_looked_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    connection = ledger(tmp_path)
    for each in range(5):
        call(connection, NOW - 100 + each, error_code="upstream_error")
    connection.close()
    monkeypatch.setattr(module, "CALLS_MAX", 2)
    found = report(tmp_path)
    assert (found.looked_at, found.since) == (2, NOW - 97)
    assert found.calls[0].calls == 2
