"""A change of the catalog is done when every worker serves by it; real sockets, a real file."""

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from proxy.core.entities import BudgetPeriod
from proxy.storage import keys, messages, spreading
from tests.storage.port import SECONDS_MAX, Office, kill, office, worker
from tests.storage.test_session import Peer, peer, ready

PATIENT = 10 * SECONDS_MAX
"""A test that needs the limit to end does not end."""


@pytest.fixture(autouse=True)
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spreading, "CATALOG_SECONDS_MAX", PATIENT)


async def changed(here: Office) -> tuple[int, asyncio.Task[None]]:
    """Change the catalog; its version, and the wait until every worker has it."""
    before = here.keeper.catalog.version
    await here.keeper.change(lambda c: keys.set_key_budget(c, 1, 9, BudgetPeriod.DAILY))
    version = here.keeper.catalog.version
    assert version > before
    waiting = asyncio.create_task(here.port.spread(version))
    await asyncio.sleep(0)
    return version, waiting


async def handled(one: Peer) -> None:
    """Return when the keeper has handled all that was said before."""
    one.say(messages.AskLimits(1, 1))
    await one.hear(messages.Limits)


def in_office(folder: Path, work: Callable[[Office], Coroutine[Any, Any, None]]) -> None:
    async def main() -> None:
        async with office(folder, alive=[1, 2]) as here:
            await work(here)

    asyncio.run(main())


async def both(here: Office) -> tuple[Peer, Peer]:
    version = here.keeper.catalog.version
    first, second = await asyncio.gather(peer(here, 1, 7, version), peer(here, 2, 8, version))
    for one in (first, second):
        one.say(messages.Present())
    for one in (first, second):  # no call is admitted before both have said what is open
        await one.hear(messages.Ready)
    return first, second


def test_a_change_is_in_force_everywhere_when_it_is_done(tmp_path: Path) -> None:
    async def work(here: Office) -> None:
        remotes = await asyncio.gather(worker(here, 1), worker(here, 2))
        for _ in range(3):
            version, waiting = await changed(here)
            await waiting
            assert [remote.catalog.version for remote in remotes] == [version] * 2
            await here.port.spread(version)  # there is nothing to wait for
        for remote in remotes:
            await remote.close()

    in_office(tmp_path, work)


def test_the_slowest_worker_is_waited_for(tmp_path: Path) -> None:
    async def work(here: Office) -> None:
        first, second = await both(here)
        version, waiting = await changed(here)
        assert (await first.hear(messages.CatalogChanged)).version == version
        first.say(messages.InForce(version))
        second.say(messages.InForce(version - 1))
        await handled(first)
        await handled(second)
        assert not waiting.done()
        second.say(messages.InForce(version + 1))  # a later one has all that is in this one
        await waiting

    in_office(tmp_path, work)


@pytest.mark.parametrize("alive", [[1, 2], []])
def test_a_worker_that_hangs_is_waited_for_no_longer_than_the_limit(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    alive: list[int],
) -> None:
    monkeypatch.setattr(spreading, "CATALOG_SECONDS_MAX", 0.01)

    async def work(here: Office) -> None:
        here.port.alive(alive)  # whoever is connected may serve
        first, _ = await both(here)
        version, waiting = await changed(here)
        first.say(messages.InForce(version))
        await handled(first)
        await waiting
        late = f"version {version} of the catalog is not yet in force in workers 2"
        assert late in caplog.messages

    in_office(tmp_path, work)


def test_the_dead_are_not_waited_for_but_a_worker_whose_line_is_down_is(tmp_path: Path) -> None:
    async def work(here: Office) -> None:
        first, second = await both(here)
        version, waiting = await changed(here)
        first.say(messages.InForce(version))
        await handled(first)
        second.link.abort()
        while here.port._seats[2].session is not None:
            await asyncio.sleep(0)
        assert not waiting.done(), "it lives, and its keys are those of before"
        here.port.alive([1])
        await waiting

    in_office(tmp_path, work)


def test_a_worker_that_comes_back_says_what_it_serves_by(tmp_path: Path) -> None:
    async def work(here: Office) -> None:
        first, second = await both(here)
        version, waiting = await changed(here)
        first.say(messages.InForce(version))
        second.link.abort()
        again = await peer(here, 2, 8, version - 1)
        again.say(messages.Present())
        await again.hear(messages.Ready)
        await handled(first)
        assert not waiting.done()
        again.say(messages.InForce(version))
        await waiting

    in_office(tmp_path, work)


def test_a_worker_that_has_said_goodbye_is_not_waited_for(tmp_path: Path) -> None:
    async def work(here: Office) -> None:
        first, second = await both(here)
        second.say(messages.Goodbye(b""))
        second.link.close()
        while here.port._seats[2].session is not None:
            await asyncio.sleep(0)
        version, waiting = await changed(here)
        first.say(messages.InForce(version))
        await waiting

        third = await ready(here, 3, version=version)
        version, waiting = await changed(here)
        first.say(messages.InForce(version))
        third.say(messages.Goodbye(b""))  # its process ends later
        await waiting

    in_office(tmp_path, work)


def test_nobody_waits_for_a_release_that_does_not_say_it_or_a_worker_still_starting(
    tmp_path: Path,
) -> None:
    async def work(here: Office) -> None:
        first = await peer(here, 1)
        first.say(messages.Present())
        remote = await worker(here, 2)
        await first.hear(messages.Ready)
        here.port.alive([1, 2, 3])  # the third has not connected: it will read the newest
        version, waiting = await changed(here)
        await waiting
        assert remote.catalog.version == version
        await remote.close()

    in_office(tmp_path, work)


def test_a_new_keeper_waits_for_those_who_have_not_found_it_yet(tmp_path: Path) -> None:
    async def main() -> None:
        async with asyncio.timeout(SECONDS_MAX):
            here = await Office(tmp_path).start([1])
            version, waiting = await changed(here)
            one = await peer(here, 1, 7, version - 1)
            one.say(messages.Present())
            await one.hear(messages.Ready)
            await handled(one)
            assert not waiting.done()
            one.say(messages.InForce(version))
            await waiting
            await here.stop()

    asyncio.run(main())


def test_the_end_of_the_port_ends_every_wait(tmp_path: Path) -> None:
    async def work(here: Office) -> None:
        await both(here)
        _, waiting = await changed(here)
        assert not waiting.done()
        await here.port.stop()
        await waiting

    in_office(tmp_path, work)


def test_a_worker_killed_while_it_reads_the_catalog_holds_nobody_up(tmp_path: Path) -> None:
    async def work(here: Office) -> None:
        first, second = await asyncio.gather(worker(here, 1), worker(here, 2))
        version, waiting = await changed(here)
        kill(second)
        here.port.alive([1])
        await waiting
        assert first.catalog.version == version
        await first.close()

    in_office(tmp_path, work)
