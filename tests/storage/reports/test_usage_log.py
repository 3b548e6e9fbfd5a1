"""The usage log shows who asked what is theirs, newest first, and never looks at too much."""

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from proxy.core.entities import Usage, UsageSource, Verdict
from proxy.core.ids import first_id_at, moment_of
from proxy.storage.ports import Progress
from proxy.storage.reader import Reader
from proxy.storage.reports import usage_log
from proxy.storage.reports.usage_log import (
    KeyName,
    Page,
    Sum,
    Wanted,
    calls_named,
    choices,
    open_calls,
    page,
    sums,
    wallet_named,
)
from proxy.storage.sqlite import Durability, open_writer
from tests.storage.world import NOW, closing, keeper, opening, seed

DAY = 86_400
FIRST = first_id_at(NOW)
CALL = {
    "key_id": 1, "user_id": 1, "endpoint": "chat", "dialect": "openai", "model": "m",
    "group_name": "default", "stream": 1, "price_version": 1, "multiplier": 1_000_000,
    "started_at": NOW, "verdict": "complete", "source": "reported", "charge": 7, "overrun": 0,
    "forgiven": 0, "balance_after": 1, "input_uncached": 10, "cache_read": 2,
    "cache_write_5m": 0, "cache_write_1h": 0, "output": 5, "reasoning": 1, "audio_input": 0,
    "audio_output": 0, "images": 0, "characters": 0, "calls": 1, "delivered_bytes": 1,
    "delivered_events": 1, "status": 200, "duration_ms": 10.0,
}  # fmt: skip


def ledger(path: Path) -> sqlite3.Connection:
    """A new file with the small world in it, for rows put in by hand."""
    connection = open_writer(path / "sluice.db", Durability.PROCESS, NOW)
    connection.execute("BEGIN")
    seed(connection)
    connection.execute("COMMIT")
    return connection


def put(connection: sqlite3.Connection, ids: list[int], **changes: Any) -> None:
    row = CALL | changes
    columns = ", ".join(["id", *row])
    marks = ", ".join("?" * (len(row) + 1))
    connection.execute("BEGIN")
    connection.executemany(
        f"INSERT INTO call ({columns}) VALUES ({marks})", [(one, *row.values()) for one in ids]
    )
    connection.execute("COMMIT")


def reading(path: Path, scene: Callable[[Reader], Awaitable[None]]) -> None:
    async def main() -> None:
        reader = await Reader.open(path / "sluice.db")
        try:
            await scene(reader)
        finally:
            await reader.close()

    asyncio.run(main())


def ids(found: Page) -> list[int]:
    return [call.id for call in found.calls]


def test_a_call_is_shown_while_it_runs_and_when_it_has_ended(tmp_path: Path) -> None:
    async def main() -> None:
        books = await keeper(tmp_path / "sluice.db")
        reader = await Reader.open(tmp_path / "sluice.db")
        admission = await books.admit(opening(FIRST, stream=True, client_reference="<mine>"))
        await admission.committed  # type: ignore[union-attr]  # admitted, or the next line fails
        (row,) = await open_calls(reader, Wanted(wallet=1))
        assert (row.wallet, row.key, row.model, row.channel) == ("ann", "key 1", "m", "")
        assert (row.charge, row.hold, row.usage, row.stream) == (0, 100_000, None, True)
        assert row.client_reference == "<mine>"
        used = Usage(input_uncached=10, output=3)
        books.mark(Progress(FIRST, used, UsageSource.COUNTED, 16_000, 30, 1))
        await books.catch_up()
        (row,) = await open_calls(reader, Wanted(wallet=1))
        assert (row.charge, row.usage, row.channel, row.source) == (16_000, used, "main", "counted")
        assert (await page(reader, Wanted(wallet=1))).calls == []
        books.settle(closing(FIRST, anomalies=("text", "x"), error_code="upstream_error"))
        await books.catch_up()
        assert await open_calls(reader, Wanted(wallet=1)) == []
        (call,) = (await page(reader, Wanted(wallet=1))).calls
        assert call.wallet_id == 1
        assert (call.wallet, call.key, call.key_id, call.channel) == ("ann", "key 1", 1, "main")
        assert (call.model, call.upstream_model, call.group) == ("m", "m-2", "default")
        assert (call.verdict, call.source, call.error_code) == (
            "complete",
            "reported",
            "upstream_error",
        )
        assert (call.charge, call.balance_after) == (50_000, 10**9 - 50_000)
        assert (call.usage, call.anomalies) == (Usage(input_uncached=10, output=20), ("text", "x"))
        assert (call.ttft_ms, call.duration_ms, call.status) == (5.0, 1000.0, 200)
        assert (call.finish_reason, call.stream, call.started_at) == ("stop", True, NOW)
        await reader.close()
        await books.close()

    asyncio.run(main())


def test_only_the_wallets_calls_are_shown_and_the_operator_sees_all(tmp_path: Path) -> None:
    connection = ledger(tmp_path)
    put(connection, [FIRST, FIRST + 2])
    put(connection, [FIRST + 1], user_id=2, key_id=2)

    async def scene(reader: Reader) -> None:
        assert ids(await page(reader, Wanted(wallet=1))) == [FIRST + 2, FIRST]
        assert ids(await page(reader, Wanted(wallet=2))) == [FIRST + 1]
        assert ids(await page(reader, Wanted(wallet=3))) == []
        assert ids(await page(reader, Wanted())) == [FIRST + 2, FIRST + 1, FIRST]
        every = [FIRST, FIRST + 1, FIRST + 2, FIRST + 9]
        assert [one.id for one in await calls_named(reader, Wanted(wallet=2), every)] == [FIRST + 1]
        assert len(await calls_named(reader, Wanted(), every)) == 3
        assert (await sums(reader, Wanted(wallet=2))).total.calls == 1
        assert (await choices(reader, 2)).keys == [KeyName(2, "key 2"), KeyName(3, "key 3")]
        assert (await choices(reader, 2)).models == ["m"]
        assert await choices(reader, None) == ([], ["m"], ["default"])
        assert await wallet_named(reader, "bob") == 2
        assert await wallet_named(reader, "nobody") is None

    reading(tmp_path, scene)
    connection.close()


def test_pages_follow_each_other_without_gap_or_repetition(tmp_path: Path) -> None:
    connection = ledger(tmp_path)
    put(connection, list(range(FIRST, FIRST + 25)))

    async def scene(reader: Reader) -> None:
        seen, before = [], None
        for _ in range(3):
            found = await page(reader, Wanted(wallet=1), before=before, rows_max=10)
            seen += ids(found)
            before = found.older
        assert before is None
        assert seen == sorted(range(FIRST, FIRST + 25), reverse=True)
        exact = await page(reader, Wanted(wallet=1), rows_max=25)
        assert (len(exact.calls), exact.older, exact.searched_to) == (25, None, None)

    reading(tmp_path, scene)
    connection.close()


def test_each_filter_picks(tmp_path: Path) -> None:
    connection = ledger(tmp_path)
    put(connection, [FIRST])
    put(connection, [FIRST + 1], model="thinker", verdict="client_gone")
    put(connection, [FIRST + 2], group_name="double", key_id=9)
    put(connection, [first_id_at(NOW + DAY)], error_code="timeout", verdict="timeout")

    async def scene(reader: Reader) -> None:
        async def count(**fields: Any) -> int:
            wanted = Wanted(wallet=1, **fields)
            calls = len((await page(reader, wanted)).calls)
            assert (await sums(reader, wanted)).total.calls == calls
            return calls

        assert await count() == 4
        assert await count(model="thinker") == 1
        assert await count(model="none") == 0
        assert await count(verdict=Verdict.CLIENT_GONE) == 1
        assert await count(failed=True) == 2
        assert await count(group="double") == 1
        assert await count(key=9) == 1
        assert await count(since=NOW + 60) == 1
        assert await count(until=NOW + 60) == 3
        assert await count(since=NOW + 60, until=NOW + 90) == 0
        (gone,) = (await page(reader, Wanted(wallet=1, key=9))).calls
        assert gone.key == "", "a key that is no more"
        assert (await choices(reader, 1)).groups == ["default", "double"]

    reading(tmp_path, scene)
    connection.close()


def test_a_persons_calls_are_those_of_the_keys_they_made(tmp_path: Path) -> None:
    connection = ledger(tmp_path)
    connection.execute("INSERT INTO person (id, email, created_at) VALUES (7, 'a@b.example', 0)")
    connection.execute("UPDATE key SET person_id = 7 WHERE id = 3")
    put(connection, [FIRST], user_id=2, key_id=2)
    put(connection, [FIRST + 1], user_id=2, key_id=3)

    async def scene(reader: Reader) -> None:
        mine = Wanted(wallet=2, person=7)
        assert ids(await page(reader, mine)) == [FIRST + 1]
        assert [one.id for one in await calls_named(reader, mine, [FIRST, FIRST + 1])] == [
            FIRST + 1
        ]
        assert (await sums(reader, mine)).by_key.keys() == {3}
        assert (await choices(reader, 2, 7)).keys == [KeyName(3, "key 3")]
        assert ids(await page(reader, Wanted(wallet=2, person=8))) == []

    reading(tmp_path, scene)
    connection.close()


def test_open_calls_are_filtered_but_have_no_verdict(tmp_path: Path) -> None:
    async def main() -> None:
        books = await keeper(tmp_path / "sluice.db")
        for number, model in enumerate(["m", "thinker", "m"]):
            admission = await books.admit(opening(FIRST + number, stream=True, model=model))
            await admission.committed  # type: ignore[union-attr]
        reader = await Reader.open(tmp_path / "sluice.db")
        wallet = Wanted(wallet=1)
        assert [one.id for one in await open_calls(reader, wallet)] == [FIRST + 2, FIRST + 1, FIRST]
        assert len(await open_calls(reader, wallet, rows_max=2)) == 2
        assert len(await open_calls(reader, Wanted(wallet=1, model="thinker"))) == 1
        assert await open_calls(reader, Wanted(wallet=1, verdict="complete")) == []
        assert await open_calls(reader, Wanted(wallet=1, failed=True)) == []
        assert await open_calls(reader, Wanted(wallet=2)) == []
        assert len(await open_calls(reader, Wanted())) == 3
        await reader.close()
        for number in range(3):
            books.settle(closing(FIRST + number))
        await books.close()

    asyncio.run(main())


def test_a_search_for_few_among_many_stops_and_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(usage_log, "SCANNED_ROWS_MAX", 10)
    connection = ledger(tmp_path)
    put(connection, [FIRST], model="rare")
    put(connection, [FIRST + number for number in range(1, 26)])

    async def scene(reader: Reader) -> None:
        wanted = Wanted(wallet=1, model="rare")
        first = await page(reader, wanted)
        assert (first.calls, first.older) == ([], FIRST + 16)
        assert first.searched_to == moment_of(FIRST + 16)
        second = await page(reader, wanted, before=first.older)
        assert (second.calls, second.older) == ([], FIRST + 6)
        third = await page(reader, wanted, before=second.older)
        assert (ids(third), third.older, third.searched_to) == ([FIRST], None, None)
        # A filter that passes nothing over is not bounded by it: the page itself is.
        assert len((await page(reader, Wanted(wallet=1))).calls) == 26

    reading(tmp_path, scene)
    connection.close()


def test_sums_are_made_in_slices_and_say_how_far_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(usage_log, "SCANNED_ROWS_MAX", 10)
    connection = ledger(tmp_path)
    put(connection, [FIRST + number for number in range(25)])
    put(connection, [first_id_at(NOW + DAY)], model="thinker", error_code="timeout", charge=1)

    async def scene(reader: Reader) -> None:
        whole = await sums(reader, Wanted(wallet=1))
        assert whole.back_to is None
        assert whole.total == Sum(26, 1, 25 * 7 + 1, 26 * 12, 26 * 5)
        today = int(NOW // DAY)
        assert {day: one.calls for day, one in whole.by_day.items()} == {today: 25, today + 1: 1}
        assert whole.by_model["thinker"] == Sum(1, 1, 1, 12, 5)
        assert whole.by_key[1].calls == 26
        assert whole.by_day_and_model[today, "m"].charge == 25 * 7
        part = await sums(reader, Wanted(wallet=1), rows_max=20)
        assert (part.total.calls, part.back_to) == (20, NOW)

    reading(tmp_path, scene)
    connection.close()


def test_sums_hold_what_left_the_detail(tmp_path: Path) -> None:
    connection = ledger(tmp_path)
    put(connection, [FIRST])
    today = int(NOW // DAY)
    for day, user, model, group in (
        (today - 2, 1, "m", "default"),
        (today, 1, "old", "double"),
        (today, 2, "m", "default"),
    ):
        connection.execute(
            "INSERT INTO rollup (user_id, day, key_id, model, channel_id, group_name, ended, "
            "errors, charge, input_uncached, output) VALUES (?, ?, 1, ?, 1, ?, 100, 3, 50, 8, 9)",
            (user, day, model, group),
        )

    async def scene(reader: Reader) -> None:
        whole = await sums(reader, Wanted(wallet=1))
        assert whole.total == Sum(201, 6, 107, 28, 23)
        assert whole.by_day[today - 2] == Sum(100, 3, 50, 8, 9)
        assert whole.by_day[today].calls == 101
        assert (await sums(reader, Wanted())).total.calls == 301
        start = today * DAY
        assert (await sums(reader, Wanted(wallet=1, since=start))).total.calls == 101
        assert (await sums(reader, Wanted(wallet=1, until=start))).total.calls == 100
        assert (await sums(reader, Wanted(wallet=1, model="old"))).total.calls == 100
        assert (await sums(reader, Wanted(wallet=1, group="double"))).total.calls == 100
        assert (await sums(reader, Wanted(wallet=1, key=2))).total.calls == 0
        assert (await sums(reader, Wanted(wallet=1, verdict="complete"))).total.calls == 1

    reading(tmp_path, scene)
    connection.close()


def test_a_wallets_log_is_read_by_its_index_and_never_sorted(tmp_path: Path) -> None:
    connection = ledger(tmp_path)
    statements: list[tuple[str, tuple[Any, ...]]] = []

    class Spy(Reader):
        def __init__(self) -> None:
            pass

        async def rows(self, query: str, values: tuple[Any, ...]) -> list[tuple[Any, ...]]:
            statements.append((query, values))
            return []

    async def ask() -> None:
        for wanted in (
            Wanted(wallet=1),
            Wanted(wallet=1, model="m", since=NOW),
            Wanted(),
            Wanted(model="m"),
        ):
            await page(Spy(), wanted, before=FIRST)

    asyncio.run(ask())
    plans = []
    for query, values in statements:
        plan = connection.execute(f"EXPLAIN QUERY PLAN {query}", values).fetchall()
        plans.append(" / ".join(row[3] for row in plan))
    assert not [plan for plan in plans if "TEMP B-TREE" in plan]
    assert all("call_by_user" in plan for plan in plans[:3]), plans
    assert all("rowid>? AND rowid<?" in plan for plan in plans), plans
    connection.close()


def test_a_page_is_bounded(tmp_path: Path) -> None:
    ledger(tmp_path).close()

    async def scene(reader: Reader) -> None:
        with pytest.raises(AssertionError, match="1 to 1000 rows"):
            await page(reader, Wanted(), rows_max=1001)
        with pytest.raises(AssertionError, match="too many"):
            await calls_named(reader, Wanted(), range(1001))
        assert await calls_named(reader, Wanted(), []) == []

    reading(tmp_path, scene)


def test_a_question_without_a_time_is_about_the_last_days() -> None:
    for asked in (Wanted(since=1.0), Wanted(until=1.0)):
        assert usage_log.over_period(asked, NOW) is asked
    found = usage_log.over_period(Wanted(wallet=1), NOW)
    assert found == Wanted(wallet=1, since=NOW // DAY * DAY - 29 * DAY)


def test_one_call_is_read_with_all_it_is_made_of_by_who_may(tmp_path: Path) -> None:
    connection = ledger(tmp_path)
    put(connection, [FIRST], channel_id=1)
    connection.close()

    async def scene(reader: Reader) -> None:
        found = await usage_log.record(reader, Wanted(), FIRST)
        assert found is not None
        assert (found.call_id, found.charge, found.channel) == (FIRST, 7, "main")
        assert await usage_log.record(reader, Wanted(wallet=1), FIRST) == found
        assert await usage_log.record(reader, Wanted(wallet=2), FIRST) is None
        assert await usage_log.record(reader, Wanted(), FIRST + 1) is None

    reading(tmp_path, scene)


def test_keys_are_found_by_name_in_their_wallet(tmp_path: Path) -> None:
    ledger(tmp_path).close()

    async def scene(reader: Reader) -> None:
        query = "SELECT id, user_id, name FROM key ORDER BY id LIMIT 1"
        ((key, wallet, name),) = await reader.rows(query, ())
        assert await usage_log.keys_named(reader, Wanted(), name) == [key]
        assert await usage_log.keys_named(reader, Wanted(wallet=wallet), name) == [key]
        for wanted in (Wanted(wallet=wallet + 1), Wanted(wallet=wallet, person=7)):
            assert await usage_log.keys_named(reader, wanted, name) == []
        assert await usage_log.keys_named(reader, Wanted(), "nothing") == []

    reading(tmp_path, scene)
