"""Who watches a log is told of each call once, when it has ended, whenever it began."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from proxy.core.ids import first_id_at
from proxy.storage.reader import Reader
from proxy.storage.reports import live
from proxy.storage.reports.live import Tail
from proxy.storage.reports.usage_log import Wanted
from tests.storage.world import NOW, closing, keeper, opening

FIRST = first_id_at(NOW)


def play(path: Path, scene: Callable[[Any, Reader], Awaitable[None]]) -> None:
    async def main() -> None:
        books = await keeper(path / "sluice.db")
        reader = await Reader.open(path / "sluice.db")
        try:
            await scene(books, reader)
        finally:
            await reader.close()
            await books.close()

    asyncio.run(main())


async def open_one(books: Any, call_id: int, **changes: Any) -> None:
    admission = await books.admit(opening(call_id, stream=True, **changes))
    await admission.committed


async def end(books: Any, *ids: int) -> None:
    for call_id in ids:
        books.settle(closing(call_id, charge=10))
    await books.catch_up()


async def told(tail: Tail) -> tuple[list[int], list[int]]:
    news = await tail.look()
    return [call.id for call in news.ended], [call.id for call in news.running]


def test_a_call_is_told_running_then_ended_once(tmp_path: Path) -> None:
    async def scene(books: Any, reader: Reader) -> None:
        tail = Tail(reader, Wanted(wallet=1))
        assert await told(tail) == ([], [])
        await open_one(books, FIRST)
        assert await told(tail) == ([], [FIRST])
        assert await told(tail) == ([], [FIRST])
        await end(books, FIRST)
        assert await told(tail) == ([FIRST], [])
        assert await told(tail) == ([], [])

    play(tmp_path, scene)


def test_the_first_look_tells_the_newest_calls_and_only_the_wallets(tmp_path: Path) -> None:
    async def scene(books: Any, reader: Reader) -> None:
        for number in (1, 2):
            await open_one(books, FIRST + number)
        await open_one(books, FIRST + 3, user_id=2, key_id=2)
        await end(books, FIRST + 1, FIRST + 2, FIRST + 3)
        assert await told(Tail(reader, Wanted(wallet=1))) == ([FIRST + 1, FIRST + 2], [])
        assert await told(Tail(reader, Wanted(wallet=2))) == ([FIRST + 3], [])
        assert await told(Tail(reader, Wanted(wallet=1, model="none"))) == ([], [])

    play(tmp_path, scene)


def test_a_long_call_is_told_though_many_ended_before_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "WINDOW_ROWS", 3)

    async def scene(books: Any, reader: Reader) -> None:
        tail = Tail(reader, Wanted(wallet=1))
        await open_one(books, FIRST)
        assert await told(tail) == ([], [FIRST])
        seen = []
        for number in range(1, 9):
            await open_one(books, FIRST + number)
            await end(books, FIRST + number)
            ended, running = await told(tail)
            seen += ended
            assert running == [FIRST]
        assert seen == list(range(FIRST + 1, FIRST + 9))
        await end(books, FIRST)
        assert await told(tail) == ([FIRST], [])
        assert await told(tail) == ([], [])

    play(tmp_path, scene)


def test_a_call_that_ends_between_the_two_questions_is_not_told_twice(tmp_path: Path) -> None:
    async def scene(books: Any, reader: Reader) -> None:
        class Slow(Reader):
            def __init__(self) -> None:
                pass

            async def rows(self, query: str, values: tuple[Any, ...]) -> list[tuple[Any, ...]]:
                found = await reader.rows(query, values)
                if "FROM open_call" in query and found:
                    await end(books, FIRST)
                return found

        tail = Tail(Slow(), Wanted(wallet=1))
        await open_one(books, FIRST)
        assert await told(tail) == ([FIRST], []), "ended, so it is not running any more"
        assert await told(tail) == ([], [])

    play(tmp_path, scene)
