import asyncio
import json
import socket
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from proxy.app import console
from proxy.app.console import Connect, Console, run_console
from proxy.edge.families import METRICS
from proxy.edge.merging import fold
from proxy.storage.ports import KeeperStatistics, KeeperUnavailableError
from tests import tree
from tests.edge.test_exposition import STATISTICS
from tests.edge.test_merging import Worker
from tests.storage.world import NOW, keeper, opening


@dataclass
class Answer:
    """`workers` are asked at each scrape, as a keeper does; `ended` is its fold of others."""

    workers: Sequence[Worker]
    ended: bytes = b""
    statistics: KeeperStatistics = STATISTICS
    unready: str | None = None

    @property
    def states(self) -> Sequence[bytes]:
        return [*(worker.state() for worker in self.workers), self.ended]


@dataclass
class Keeper:
    """A keeper of the test's making: `answers` are given in turn, the last one for ever."""

    answers: list[Answer | Exception]
    scrapes: int = 0
    connects: int = 0
    closed: int = 0
    gate: asyncio.Event | None = field(default=None)

    async def connect(self) -> "Keeper":
        self.connects += 1
        if isinstance(self.answers[0], ConnectionRefusedError):
            raise self.answers[0]
        return self

    async def scrape(self) -> Answer:
        self.scrapes += 1
        if self.gate is not None:
            await self.gate.wait()
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def close(self) -> None:
        self.closed += 1


Get = Callable[[str], Awaitable[tuple[int, str]]]


def against(
    test: Callable[[Get], Awaitable[Any]], connect: Connect, database: Path, workers: int = 2
) -> Any:
    """Run a console on a free port, and `test` with what asks it."""

    async def run() -> Any:
        stopping, ready = asyncio.Event(), asyncio.Event()
        with socket.create_server(("127.0.0.1", 0)) as listener:
            listener.setblocking(False)
            served = asyncio.ensure_future(
                run_console(Console(connect, database, workers), listener, stopping, ready.set)
            )
            await ready.wait()
            port = listener.getsockname()[1]
            async with aiohttp.ClientSession() as session:

                async def get(path: str) -> tuple[int, str]:
                    async with session.get(f"http://127.0.0.1:{port}{path}") as response:
                        return response.status, await response.text()

                try:
                    return await test(get)
                finally:
                    stopping.set()
                    await served

    return asyncio.run(asyncio.wait_for(run(), 30))


@pytest.fixture(autouse=True)
def _ask_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(console, "ANSWER_SECONDS_KEPT", 0.0)


def test_one_page_shows_every_worker_and_the_keeper(tmp_path: Path) -> None:
    gone = fold([Worker(1).state()])
    one, two = Worker(2), Worker(3)
    there = Keeper([Answer([one, two], gone)])

    async def test(get: Get) -> None:
        status, page = await get("/metrics")
        assert status == 200
        lines = page.splitlines()
        labels = '{endpoint="chat",model="m",channel="none",code="200"}'
        assert f"sluice_requests_total{labels} 6" in lines
        assert "sluice_workers 2" in lines
        assert "sluice_workers_wanted 2" in lines
        assert "sluice_worker_exits_total 1" in lines
        assert "sluice_streams_active 4" in lines
        assert "sluice_keeper_up 1" in lines
        assert "sluice_ready 1" in lines
        assert 'sluice_charged_usd_total{model="m1"} 1.500000000' in lines
        assert 'sluice_process_open_fds{process="worker"} 10' in lines
        assert 'sluice_process_cpu_seconds_total{process="console"}' in page
        families = {line.split()[2] for line in lines if line.startswith("# TYPE sluice_")}
        files = {"sluice_database_bytes", "sluice_data_free_bytes"}
        assert families == {row.name for row in METRICS} - files, "there is no file yet"
        assert await get("/readyz") == (200, '{"status":"ready"}\n')
        assert (await get("/healthz"))[0] == 200
        assert (await get("/v1/models"))[0] == 404

    against(test, there.connect, tmp_path / "sluice.db")
    assert there.connects == there.closed == 1


def test_without_a_keeper_the_page_says_what_is_known(tmp_path: Path) -> None:
    path = tmp_path / "sluice.db"
    worker = Worker(2)
    gone = ConnectionResetError("gone")
    there = Keeper([Answer([worker]), gone, gone, Answer([worker])])

    async def test(get: Get) -> None:
        books = await keeper(path)
        admission = await books.admit(opening(1, stream=True, started_at=NOW))
        await admission.committed  # type: ignore[union-attr]  # refused would fail here
        assert "sluice_keeper_up 1" in (await get("/metrics"))[1]
        page = (await get("/metrics"))[1].splitlines()
        assert "sluice_keeper_up 0" in page
        assert "sluice_ready 0" in page
        assert "sluice_workers 0" in page
        assert (
            'sluice_requests_total{endpoint="chat",model="m",channel="none",code="200"} 2' in page
        )
        assert "sluice_holds_open 1" in page
        assert "sluice_held_usd 0.000100000" in page
        assert not [line for line in page if "imbalance" in line], "nobody knows it now"
        assert [line for line in page if line.startswith('sluice_database_bytes{file="wal"} ')]
        status, text = await get("/readyz")
        assert (status, json.loads(text)["reason"]) == (503, "the keeper does not answer")
        assert (await get("/readyz"))[0] == 200
        await books.close()

    against(test, there.connect, path)
    assert (there.connects, there.closed) == (4 - 1, 3), "a failed link is not used again"


def test_neither_keeper_nor_database_is_still_a_page(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    there = Keeper([ConnectionRefusedError("nobody listens")])

    async def test(get: Get) -> None:
        for _ in range(2):
            status, page = await get("/metrics")
            assert status == 200
            assert "sluice_keeper_up 0" in page
            assert "sluice_holds_open" not in page
        assert (await get("/healthz"))[0] == 200

    against(test, there.connect, tmp_path / "none.db")
    said = [record.getMessage() for record in caplog.records]
    assert said.count("the keeper does not answer: nobody listens") == 1, "said once, not each time"


@pytest.mark.parametrize("error", [KeeperUnavailableError("down"), TimeoutError()])
def test_a_keeper_that_cannot_answer_is_not_up(tmp_path: Path, error: Exception) -> None:
    async def test(get: Get) -> None:
        assert "sluice_keeper_up 0" in (await get("/metrics"))[1]

    against(test, Keeper([error]).connect, tmp_path / "none.db")


def test_a_slow_keeper_is_waited_for_only_so_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(console, "SCRAPE_SECONDS_MAX", 0.01)

    async def test(get: Get) -> None:
        assert "sluice_keeper_up 0" in (await get("/metrics"))[1]

    there = Keeper([Answer([])], gate=asyncio.Event())
    against(test, there.connect, tmp_path / "none.db")
    assert there.closed == there.connects == 1


def test_readiness_gives_the_reason(tmp_path: Path) -> None:
    worker = Worker()
    there = Keeper([Answer([worker], unready="recovering"), Answer([]), Answer([worker])])

    async def test(get: Get) -> None:
        reasons = [json.loads((await get("/readyz"))[1]).get("reason") for _ in range(3)]
        assert reasons == ["recovering", "no worker answers", None]

    against(test, there.connect, tmp_path / "none.db")


def test_questions_at_once_share_one_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(console, "ANSWER_SECONDS_KEPT", 3600.0)

    async def main() -> None:
        there = Keeper([Answer([Worker()])])
        source = Console(there.connect, tmp_path / "none.db", 2)
        assert await asyncio.gather(*(source.unready() for _ in range(20))) == [None] * 20
        assert (await source.picture()).keeper_up
        assert there.scrapes == 1
        await source.close()

    asyncio.run(main())


def test_the_console_knows_no_secret() -> None:
    names = {name for _, name in tree.imports(Path("proxy/app/console.py"))}
    secret = {
        "proxy.app.office",
        "proxy.storage.secrets",
        "proxy.storage.snapshots",
        "proxy.edge.auth",
    }
    assert not [name for name in names if name.startswith(tuple(secret))]
