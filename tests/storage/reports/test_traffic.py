from dataclasses import replace
from pathlib import Path

import pytest

from proxy.storage.reader import Reader
from proxy.storage.reports import traffic as module
from proxy.storage.reports.traffic import Minute, OpenPart, Part, Traffic, traffic
from tests.storage.reports.ledgers import call, ledger
from tests.storage.reports.test_usage_log import reading
from tests.storage.world import NOW

LATE = NOW - NOW % 60 + 30
START = LATE - 30 - 59 * 60


def report(path: Path) -> Traffic:
    found: list[Traffic] = []

    async def scene(reader: Reader) -> None:
        found.append(await traffic(reader, LATE))

    reading(path, scene)
    return found[0]


def test_an_hour_is_counted_by_minute_and_told_apart_by_channel_and_model(tmp_path: Path) -> None:
    connection = ledger(tmp_path)
    for ttft in range(1, 21):
        call(connection, LATE - 60, ttft_ms=float(ttft), charge=10, output=5)
    call(connection, LATE, charge=0, error_code="rate_limited", channel_id=None, output=0)
    call(connection, LATE, charge=7, model="thinker", output=3, audio_output=4, ttft_ms=50.0)
    call(connection, START - 1, charge=99)
    connection.execute(
        "INSERT INTO open_call (id, key_id, user_id, endpoint, dialect, model, group_name, stream, "
        "price_version, multiplier, started_at, input_estimate, hold, channel_id) "
        "VALUES (5, 1, 1, 'chat', 'openai', 'm', 'default', 1, 1, 1000000, ?, 1, 100, 1)",
        (LATE - 2,),
    )
    connection.close()
    found = report(tmp_path)
    assert (found.since, found.until) == (START, LATE)
    assert found.whole == Part("", "", 22, 1, 207, 107, 11.0, 20.0)
    assert found.minutes == (
        Minute(LATE - 90, 20, 0, 200),
        Minute(LATE - 30, 2, 1, 7),
    )
    assert found.parts == (
        Part("main", "m", 20, 0, 200, 100, 10.0, 19.0),
        Part("", "m", 1, 1, 0, 0, None, None),
        Part("main", "thinker", 1, 0, 7, 7, 50.0, 50.0),
    )
    assert found.open == (OpenPart("main", "m", 1, 100, LATE - 2),)
    assert (found.open_calls, found.held) == (1, 100)
    assert found.by_channel == {"main": (21, 0), "": (1, 1)}
    assert found.a_minute == 4, "20 in five whole minutes; the one under way is not over"


def test_nothing_at_all_is_a_report_too(tmp_path: Path) -> None:
    ledger(tmp_path).close()
    found = report(tmp_path)
    assert found.whole == Part("", "", 0, 0, 0, 0, None, None)
    assert (found.minutes, found.parts, found.open) == ((), (), ())
    assert (found.a_minute, found.by_channel, found.open_calls, found.held) == (0, {}, 0, 0)
    young = replace(found, since=LATE - 30, minutes=(Minute(LATE - 30, 3, 0, 0),))
    assert young.a_minute == 3, "of less than a minute all that is known"


def test_a_busy_hour_is_told_by_its_latest_whole_minutes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    connection = ledger(tmp_path)
    for minute in range(5):
        for _ in range(3):
            call(connection, LATE - 60 * minute)
    connection.close()
    monkeypatch.setattr(module, "CALLS_MAX", 7)
    found = report(tmp_path)
    assert found.since == LATE - 90
    assert [row.calls for row in found.minutes] == [3, 3]
    assert found.whole.calls == 6
