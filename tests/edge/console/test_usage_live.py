"""Who watches the log sees calls begin, grow and end, only their own, and not for ever."""

import asyncio
from pathlib import Path
from typing import Self

import aiohttp
import pytest

from proxy.core.entities import Usage, UsageSource
from proxy.core.ids import format_id
from proxy.edge.console import usage_live
from proxy.storage.ports import Progress
from tests.edge.console.calls import Calls
from tests.edge.console.consoles import Browser, World, in_console


@pytest.fixture(autouse=True)
def _often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(usage_live, "LOOK_SECONDS", 0.02)


class Listener:
    """Reads the events of one stream."""

    def __init__(
        self, browser: Browser, query: str = "", path: str = "/usage/live", **headers: str
    ) -> None:
        self._asked = browser._client.get(f"{browser.url}{path}{query}", headers=headers)
        self.answer: aiohttp.ClientResponse

    async def __aenter__(self) -> Self:
        self.answer = await self._asked.__aenter__()
        return self

    async def __aexit__(self, *what: object) -> None:
        self.answer.close()

    async def event(self) -> str:
        """The next event with rows; its data."""
        lines: list[str] = []
        while True:
            line = (await self.answer.content.readline()).decode()
            assert line, "the stream ended"
            if line == "\n" and any(one.startswith("event: row") for one in lines):
                return "\n".join(one[6:] for one in lines if one.startswith("data: "))
            if line == "\n":
                lines = []
            lines.append(line.rstrip("\n"))


def test_a_call_is_seen_running_growing_and_ended(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        ann = await world.signed_in("ann@example.com", wallet="ann")
        bob = await world.signed_in("bob@example.com", wallet="bob")
        calls = Calls(world)
        key, his = await calls.key("ann", "<b>mine</b>"), await calls.key("bob", "his-key")
        async with Listener(ann) as watching, Listener(bob) as other:
            assert watching.answer.headers["content-type"].startswith("text/event-stream")
            call = await calls.begin(1, key)
            rows = await watching.event()
            assert f'id="{format_id(call)}"' in rows
            assert ("running" in rows, "&lt;b&gt;mine" in rows) == (True, True)
            used = Usage(input_uncached=10, output=3)
            mark = Progress(call, used, UsageSource.COUNTED, 16_000, 30, 1)
            world.office.keeper.mark(mark)
            await world.office.keeper.catch_up()
            rows = await watching.event()
            assert ("016" in rows, "10 → 3" in rows) == (True, True)
            await calls.end(call)
            rows = await watching.event()
            assert ("complete" in rows, "running" in rows) == (True, False)
            await calls.made(2, his)
            rows = await other.event()
            assert ("his-key" in rows, "mine" in rows) == (True, False)

    in_console(tmp_path, test)


def test_who_comes_again_is_told_what_was_missed_and_no_more(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        ann = await world.signed_in("ann@example.com", wallet="ann")
        calls = Calls(world)
        key = await calls.key("ann")
        old = await calls.made(1, key, closed={"ended_at": world.office.clock() - 500}, ago=1000)
        missed = await calls.made(1, key, closed={"ended_at": world.office.clock() - 50}, ago=1000)
        since = f"{world.office.clock() - 100:.3f}"
        for query, headers in ((f"?since={since}", {}), ("?since=x", {"last-event-id": since})):
            async with Listener(ann, query, **headers) as watching:
                rows = await watching.event()
                assert format_id(missed) in rows
                assert format_id(old) not in rows

    in_console(tmp_path, test)


def test_an_operator_watches_all_wallets_until_they_are_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(usage_live, "AGAIN_SECONDS", 0.05)

    async def test(world: World) -> None:
        await world.signed_in("ann@example.com", wallet="ann")
        operator = await world.signed_in("op@example.com", role="operator", wallet="ops")
        calls = Calls(world)
        key = await calls.key("ann")
        async with Listener(operator, path="/operator/calls/live") as watching:
            call = await calls.made(1, key)
            rows = await watching.event()
            assert (format_id(call) in rows, 'data-label="Wallet"' in rows) == (True, True)
            demote = "UPDATE person SET role = 'user'"
            await world.office.keeper.note(lambda c: c.execute(demote))
            async with asyncio.timeout(10):
                await watching.answer.content.read()

    in_console(tmp_path, test)


def test_a_filter_holds_for_the_stream(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        ann = await world.signed_in("ann@example.com", wallet="ann")
        calls = Calls(world)
        first, second = await calls.key("ann", "one"), await calls.key("ann", "two")
        async with Listener(ann, f"?key={second}") as watching:
            await calls.made(1, first)
            wanted = await calls.made(1, second)
            rows = await watching.event()
            assert (format_id(wanted) in rows, ">one<" in rows) == (True, False)

    in_console(tmp_path, test)


def test_a_stream_ends_with_its_session(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(usage_live, "AGAIN_SECONDS", 0.05)

    async def test(world: World) -> None:
        ann = await world.signed_in("ann@example.com", wallet="ann")
        async with Listener(ann) as watching:
            await world.office.keeper.note(lambda c: c.execute("UPDATE session SET revoked_at = 1"))
            async with asyncio.timeout(10):
                await watching.answer.content.read()
        async with asyncio.timeout(10):
            while world.surroundings.streams[1]:
                await asyncio.sleep(0)

    in_console(tmp_path, test)


def test_a_page_is_not_told_of_the_wallet_that_was_chosen_after_it(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        ann = await world.signed_in("ann@example.com", wallet="ann")
        async with Listener(ann, "?of=1") as watching:
            assert watching.answer.status == 200
        assert (await ann.get("/usage/live?of=2")).status == 204
        assert "of=1" in (await ann.get("/usage")).text

    in_console(tmp_path, test)


def test_streams_are_bounded_and_those_that_left_do_not_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(usage_live, "STREAMS_OF_PERSON_MAX", 1)

    async def test(world: World) -> None:
        ann = await world.signed_in("ann@example.com", wallet="ann")
        async with Listener(ann):
            assert (await ann.get("/usage/live")).status == 204
        async with asyncio.timeout(10):
            while world.surroundings.streams[1]:
                await asyncio.sleep(0)
        async with Listener(ann) as again:
            assert again.answer.status == 200
        lone = await world.signed_in("lone@example.com")
        assert (await lone.get("/usage/live")).status == 204

    in_console(tmp_path, test)


def test_a_stream_ends_after_its_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(usage_live, "STREAM_SECONDS_MAX", 0.1)

    async def test(world: World) -> None:
        ann = await world.signed_in("ann@example.com", wallet="ann")
        async with asyncio.timeout(10):
            page = await ann.get("/usage/live")
        assert page.text.startswith("retry: ")

    in_console(tmp_path, test)


def test_an_event_is_made_of_whole_lines() -> None:
    made = usage_live.event("row", "<tr>\n</tr>\nid: 9", 1.5).decode()
    assert made == "event: row\nid: 1.500\ndata: <tr>\ndata: </tr>\ndata: id: 9\n\n"
