import asyncio
from pathlib import Path

import pytest

from proxy.storage import console_link, messages, port_server
from proxy.storage.console_link import ConsoleLink
from proxy.storage.ports import KeeperUnavailableError
from tests.storage.port import SECONDS_MAX, Script, admitted, ids, kill, office, worker
from tests.storage.world import NOW, closing, opening


def test_a_scrape_tells_every_workers_metrics_and_the_keepers_figures(tmp_path: Path) -> None:
    async def main() -> None:
        async with office(tmp_path) as here:
            console = await ConsoleLink.connect(here.socket)
            empty = await console.scrape()
            assert (empty.states, empty.unready) == ([], None)
            first, second = [await worker(here, n, b"figures %d" % n) for n in (1, 2)]
            call_id = ids(1).next(NOW)
            admitted(await first.admit(opening(call_id)))
            await first.settle(closing(call_id)).committed
            scrape = await console.scrape()
            assert sorted(scrape.states) == [b"figures 1", b"figures 2"]
            assert scrape.statistics.settlements == {("complete", "reported"): 1}
            assert scrape.statistics.charged == {"m": 50_000}
            # Who has ended still counts, whether it said goodbye or not.
            await first.close()
            kill(second)
            while here.port.has_workers():
                await asyncio.sleep(0)
            assert sorted((await console.scrape()).states) == [b"figures 1", b"figures 2"]
            await console.close()

    asyncio.run(main())


def test_ended_workers_are_folded_and_the_keeper_adds_its_own(tmp_path: Path) -> None:
    async def main() -> None:
        async with office(tmp_path) as here:
            here.port._fold = b"+".join
            here.port._own_state = lambda: b"keeper"
            console = await ConsoleLink.connect(here.socket)
            for number in range(3):
                remote = await worker(here, number, b"%d" % number)
                await remote.close()
                while here.port.has_workers():
                    await asyncio.sleep(0)
            assert (await console.scrape()).states == [b"keeper", b"0+1+2"]

    asyncio.run(main())


def test_a_worker_that_does_not_answer_counts_with_what_it_said_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(port_server, "SCRAPE_SECONDS_MAX", 0.05)

    async def main() -> None:
        async with office(tmp_path) as here:
            console = await ConsoleLink.connect(here.socket)
            remote = await worker(here, 1, b"before")
            assert (await console.scrape()).states == [b"before"]
            link = remote._link
            assert link is not None
            link.hold()
            assert (await console.scrape()).states == [b"before"]
            link.release()
            await remote.close()

    asyncio.run(main())


def test_a_console_that_asks_twice_at_once_is_cut_off(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        async with office(tmp_path) as here:
            remote = await worker(here, 1)
            console = await ConsoleLink.connect(here.socket)
            for number in (1, 2):
                console.link.send(messages.Scrape(number))
            with pytest.raises(KeeperUnavailableError, match="gone"):
                await console.scrape()
            assert not console.open
            await remote.close()

    asyncio.run(main())
    assert "asks again" in caplog.text


def test_no_answer_is_said_in_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(console_link, "ANSWER_SECONDS_MAX", 0.05)

    async def main() -> None:
        async with asyncio.timeout(SECONDS_MAX):
            with pytest.raises(KeeperUnavailableError, match="no keeper listens"):
                await ConsoleLink.connect(tmp_path / "nobody.sock")
            script = await Script(tmp_path / "keeper.sock").start()
            console = await ConsoleLink.connect(script.path)
            with pytest.raises(KeeperUnavailableError, match="does not answer"):
                await console.scrape()
            with pytest.raises(KeeperUnavailableError, match="gone"):
                await console.scrape()
            console = await ConsoleLink.connect(script.path)
            asking = asyncio.create_task(console.scrape())
            await script.hear(messages.Scrape, 2)
            script.say(messages.State(99, b"of another question"))
            script.links[-1].close()
            with pytest.raises(KeeperUnavailableError, match="gone"):
                await asking
            script.stop()

    asyncio.run(main())
