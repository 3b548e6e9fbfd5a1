"""What the keeper answers on one connection, and whom it cuts off."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from proxy.core.entities import Usage, UsageSource
from proxy.storage import messages
from proxy.storage.link import Link
from proxy.storage.messages import FromKeeper, Role
from proxy.storage.ports import Progress
from proxy.storage.session import Announcement
from tests.storage.port import Office, ids, office
from tests.storage.world import NOW, USD, closing, opening, read

MINE = ids(1).next(NOW)
NOT_MINE = ids(2).next(NOW)


class Peer:
    """A bare connection to the port that says whatever the test says."""

    def __init__(self) -> None:
        self.heard: list[Any] = []
        self.lost = asyncio.Event()
        self._news = asyncio.Event()
        kinds = (
            messages.Welcome, messages.Ready, messages.Admitted, messages.Refused,
            messages.Unavailable, messages.Extended, messages.Committed, messages.Limits,
            messages.AskState, messages.CatalogChanged, messages.CaughtUp, messages.Weighing,
        )  # fmt: skip
        handlers: dict[type, Any] = dict.fromkeys(kinds, self._hear)
        loop = asyncio.get_running_loop()
        self.link: Link[FromKeeper] = Link(
            loop, messages.from_keeper, handlers, self.lost.set, "it"
        )

    def _hear(self, message: object) -> None:
        self.heard.append(message)
        self._news.set()

    async def hear(self, kind: type) -> Any:
        while not (found := [one for one in self.heard if type(one) is kind]):
            self._news.clear()
            await self._news.wait()
        self.heard.remove(found[0])
        return found[0]

    def say(self, *said: object) -> None:
        for message in said:
            self.link.send(message)


async def peer(here: Office, number: int = 1, incarnation: int = 7, version: int = -1) -> Peer:
    made = Peer()
    loop = asyncio.get_running_loop()
    await loop.create_unix_connection(lambda: made.link, str(here.socket))
    made.say(messages.Hello(Role.WORKER, number, incarnation, version))
    return made


async def ready(here: Office, number: int = 1, version: int = -1) -> Peer:
    made = await peer(here, number, version=version)
    await made.hear(messages.Welcome)
    made.say(messages.Present())
    await made.hear(messages.Ready)
    return made


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        (messages.Admit(opening(NOT_MINE)), "not its to open"),
        (messages.Extend(MINE, 5), "is not open"),
        (messages.Mark(Progress(MINE, Usage(), UsageSource.NONE, 0, 0, None)), "is not open"),
        (messages.Settle(closing(MINE)), "was never open"),
        (messages.Restore(opening(MINE), 1, None), "Restore is not for it to say"),
        (messages.Hello(Role.WORKER, 1, 7), "Hello is not for it to say"),
        (messages.Scrape(1), "Scrape is not for it to say"),
    ],
)
def test_whoever_asks_for_what_is_not_its_own_is_cut_off(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, said: object, reason: str
) -> None:
    async def main() -> None:
        async with office(tmp_path) as here:
            one = await ready(here)
            one.say(said)
            await one.lost.wait()
            assert here.keeper.statistics().holds_open == 0

    asyncio.run(main())
    assert any(reason in line and "refused worker 1" in line for line in caplog.messages)


def test_a_call_is_not_opened_twice(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        async with office(tmp_path, alive=[1]) as here:
            one = await ready(here)
            one.say(messages.Admit(opening(MINE)), messages.Admit(opening(MINE)))
            await one.lost.wait()
            assert here.keeper.open_calls(1) == [MINE]

    asyncio.run(main())
    assert "not its to open" in caplog.text


@pytest.mark.parametrize("number", [-1, 63])
def test_there_are_so_many_workers_and_no_more(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, number: int
) -> None:
    async def main() -> None:
        async with office(tmp_path) as here:
            await (await peer(here, number)).lost.wait()

    asyncio.run(main())
    assert f"there is no worker {number}" in caplog.text


def test_nothing_is_asked_before_the_keeper_is_ready(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        async with office(tmp_path) as here:
            one = await peer(here)
            await one.hear(messages.Welcome)
            one.say(messages.Admit(opening(MINE)))
            await one.lost.wait()

    asyncio.run(main())
    assert "Admit is not for it to say" in caplog.text


def test_one_commit_is_one_announcement(tmp_path: Path) -> None:
    async def main() -> None:
        async with office(tmp_path) as here:
            one, source = await ready(here), ids(1)
            calls = [source.next(NOW) for _ in range(5)]
            one.say(*(messages.Admit(opening(call_id, stream=True)) for call_id in calls))
            committed = await one.hear(messages.Committed)
            assert (committed.opened, committed.posted) == (calls, [])
            one.say(*(messages.Settle(closing(call_id)) for call_id in calls))
            committed = await one.hear(messages.Committed)
            assert [posted.call_id for posted in committed.posted] == calls
            assert {posted.charged for posted in committed.posted} == {50_000}
            # Said once more, it is answered from the file.
            one.say(messages.Settle(closing(calls[0])))
            assert (await one.hear(messages.Committed)).posted == committed.posted[:1]
            # Of a call that has ended nobody's row is waited for.
            one.say(messages.Hurry(calls[0]), messages.Undo(calls[0]), messages.AskLimits(3, 99))
            assert await one.hear(messages.Limits) == messages.Limits(3, None)
            assert {type(message) for message in one.heard} == {messages.Admitted}

    asyncio.run(main())


def test_with_a_log_what_is_admitted_is_durable_and_what_is_settled_posted(tmp_path: Path) -> None:
    async def main() -> None:
        async with office(tmp_path, redo=True) as here:
            one, source = await ready(here), ids(1)
            for stream in (False, True):
                call_id = source.next(NOW)
                one.say(messages.Admit(opening(call_id, stream=stream)))
                assert (await one.hear(messages.Admitted)).durable
                one.say(messages.Settle(closing(call_id)))
                committed = await one.hear(messages.Committed)
                assert (committed.opened, len(committed.posted)) == ([], 1)
            assert not one.heard

    asyncio.run(main())


def test_a_commit_that_failed_is_not_announced(tmp_path: Path) -> None:
    async def main() -> None:
        async with office(tmp_path) as here:
            one = await ready(here)
            here.keeper._writer._connection.execute("DROP TABLE open_call")
            one.say(messages.Admit(opening(MINE, stream=True)))
            await one.hear(messages.Admitted)
            while not here.faults:
                await asyncio.sleep(0)
            one.say(messages.Admit(opening(MINE + 1)))
            assert "cannot be written" in (await one.hear(messages.Unavailable)).reason
            assert not one.heard
            here.faults.clear()

    asyncio.run(main())


def test_what_would_be_held_is_weighed_and_the_file_catches_up(tmp_path: Path) -> None:
    async def main() -> None:
        async with office(tmp_path, redo=True) as here:
            one = await ready(here)
            one.say(messages.Weigh(1, opening(MINE)), messages.Weigh(2, opening(MINE, key_id=77)))
            weighed = (await one.hear(messages.Weighing)).weighed
            assert (weighed.held, weighed.refusal, weighed.balance) == (100_000, None, USD)
            assert await one.hear(messages.Weighing) == messages.Weighing(2, None)
            one.say(messages.Admit(opening(MINE)), messages.Settle(closing(MINE)))
            one.say(messages.CatchUp(3))
            assert await one.hear(messages.CaughtUp) == messages.CaughtUp(3)
            assert read(here.database, "SELECT id FROM call") == [(MINE,)]

    asyncio.run(main())


def test_an_announcement_names_its_calls() -> None:
    class Nobody:
        number = 4

    session: Any = Nobody()
    announcement = Announcement(session)
    announcement.restores.append(messages.Restore(opening(1), 1, None))
    announcement.resends.append(messages.Resend(opening(2), 1, closing(2)))
    assert [one.call_id for one in announcement.openings()] == [1, 2]
