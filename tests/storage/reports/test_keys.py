import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from proxy.core.ids import first_id_at
from proxy.storage.keys import NewKey, add_key
from proxy.storage.reader import Reader
from proxy.storage.reports import keys as report
from tests.storage.world import NOW, closing, keeper, opening


def read(path: Path, ask: Callable[[Reader], Awaitable[Any]]) -> Any:
    async def run() -> Any:
        reader = await Reader.open(path)
        try:
            return await ask(reader)
        finally:
            await reader.close()

    return asyncio.run(asyncio.wait_for(run(), 20))


def fill(path: Path, calls: int = 3) -> None:
    """Calls of ann's key 1 and of bob's key 2, one of which still runs; key 3 is never used."""

    async def main() -> None:
        books = await keeper(path)
        first = first_id_at(NOW)
        for number in range(calls):
            mine = {"user_id": 2, "key_id": 2} if number % 2 else {}
            await books.admit(opening(first + number, started_at=NOW + number, **mine))
            books.settle(closing(first + number))
        running = opening(first + 99, user_id=2, key_id=2, started_at=NOW + 99, stream=True)
        await books.admit(running)
        await books.catch_up()
        await books.close()

    asyncio.run(main())


def test_when_keys_were_used_is_read_from_the_newest_calls(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.db"
    fill(path)
    ann = read(path, lambda reader: report.uses(reader, 1, NOW + 5))
    assert (ann.last, ann.today, ann.since) == ({1: NOW + 2}, {1: 100_000}, None)
    bob = read(path, lambda reader: report.uses(reader, 2, NOW + 5))
    assert (bob.last, bob.today) == ({2: NOW + 99}, {2: 50_000})
    tomorrow = read(path, lambda reader: report.uses(reader, 1, NOW + 86_400))
    assert tomorrow.today == {}
    monkeypatch.setattr(report, "CALLS_MAX", 1)
    bounded = read(path, lambda reader: report.uses(reader, 1, NOW + 5))
    assert (bounded.last, bounded.since) == ({1: NOW + 2}, NOW + 2)


def test_keys_are_those_of_the_wallet_and_the_person(tmp_path: Path) -> None:
    path = tmp_path / "a.db"

    async def main() -> None:
        books = await keeper(path)

        def more(connection: Any) -> None:
            connection.execute("INSERT INTO person (email, created_at) VALUES ('eve@x.io', 0)")
            add_key(connection, NewKey("ann", "e", "default", b"e" * 32, "", "", person_id=1), NOW)

        await books.change(more)
        await books.close()

    asyncio.run(main())
    assert [one.id for one in read(path, lambda r: report.keys(r, 1))] == [4, 1]
    assert [one.id for one in read(path, lambda r: report.keys(r, 1, 1))] == [4]
    assert read(path, lambda r: report.key(r, 1, 1)).name == "key 1"
    assert read(path, lambda r: report.key(r, 1, 1, 1)) is None
    assert read(path, lambda r: report.key(r, 2, 1)) is None


def test_groups_are_those_of_the_plan_with_what_they_serve(tmp_path: Path) -> None:
    path = tmp_path / "a.db"

    async def main() -> None:
        books = await keeper(path)
        await books.change(
            lambda c: c.execute("UPDATE plan SET groups = '[\"double\"]' WHERE name = 'small'")
        )
        await books.close()

    asyncio.run(main())
    models = ("m", "thinker")
    everything = read(path, lambda r: report.groups(r, 1))
    assert everything == [
        report.Group("default", 1_000_000, models), report.Group("double", 2_000_000, models),
    ]  # fmt: skip
    assert [one.name for one in read(path, lambda r: report.groups(r, 2))] == ["double"]
    assert len(read(path, lambda r: report.groups(r, 2, "default"))) == 2
    assert read(path, report.models) == ["m", "thinker"]
