import asyncio

import pytest

from proxy.storage.commits import Commit
from proxy.storage.ports import KeeperUnavailableError


def test_a_commit_is_shared_but_cancelled_by_nobody() -> None:
    async def main() -> None:
        commit = Commit(asyncio.get_running_loop())
        heard: list[Commit] = []
        commit.add_done_callback(heard.append)

        async def wait() -> str:
            await commit
            return "committed"

        impatient, patient = asyncio.ensure_future(wait()), asyncio.ensure_future(wait())
        await asyncio.sleep(0)
        impatient.cancel()
        await asyncio.sleep(0)
        assert not commit.done()
        commit.finish()
        assert await patient == "committed"
        assert impatient.cancelled()
        assert await wait() == "committed"
        assert heard == [commit]
        commit.add_done_callback(heard.append)
        assert len(heard) == 1, "never from inside the call that adds it"
        await asyncio.sleep(0)
        assert len(heard) == 2
        assert commit.exception() is None

    asyncio.run(main())


def test_a_callback_that_raises_silences_nobody() -> None:
    async def main() -> None:
        commit = Commit(asyncio.get_running_loop())
        heard: list[Commit] = []

        def fail(_: Commit) -> None:
            raise RuntimeError("mine")

        for callback in (heard.append, fail, heard.append):
            commit.add_done_callback(callback)
        with pytest.raises(RuntimeError, match="mine"):
            commit.finish()
        await asyncio.sleep(0)
        assert len(heard) == 2

    asyncio.run(main())


def test_a_failed_commit_raises_for_everyone_who_waits() -> None:
    async def main() -> None:
        commit = Commit(asyncio.get_running_loop())
        waiting = asyncio.ensure_future(_wait(commit))
        await asyncio.sleep(0)
        commit.finish(KeeperUnavailableError("disk"))
        with pytest.raises(KeeperUnavailableError, match="disk"):
            await waiting
        with pytest.raises(KeeperUnavailableError, match="disk"):
            await commit
        assert isinstance(commit.exception(), KeeperUnavailableError)

    async def _wait(commit: Commit) -> None:
        await commit

    asyncio.run(main())
