import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import aiohttp
import pytest

from proxy.edge.exposition import Exposition
from proxy.edge.metrics import Metrics
from proxy.edge.operations import SCRAPES_MAX, OneProcess, Operations

Get = Callable[[str], Awaitable[tuple[int, str]]]


def against(
    test: Callable[[Get, Operations], Awaitable[Any]], unready: Callable[[], str | None]
) -> Any:
    async def run() -> Any:
        served = Operations(OneProcess(Metrics(), unready))
        host, port = await served.start("127.0.0.1", 0)
        try:
            async with aiohttp.ClientSession() as session:

                async def get(path: str) -> tuple[int, str]:
                    async with session.get(f"http://{host}:{port}{path}") as response:
                        return response.status, await response.text()

                return await test(get, served)
        finally:
            await served.stop()
            await served.stop()

    return asyncio.run(asyncio.wait_for(run(), 20))


def test_readiness_gives_its_reason_and_health_never_asks() -> None:
    reason: list[str | None] = ["draining"]

    async def test(get: Get, _served: Operations) -> None:
        assert await get("/readyz") == (503, '{"status":"not ready","reason":"draining"}\n')
        assert await get("/healthz") == (200, '{"status":"ok"}\n')
        reason[0] = None
        assert await get("/readyz") == (200, '{"status":"ready"}\n')
        assert (await get("/v1/models"))[0] == 404

    against(test, lambda: reason[0])


def test_the_metrics_page_is_prometheus_text() -> None:
    async def test(get: Get, _served: Operations) -> None:
        status, text = await get("/metrics")
        assert status == 200
        assert "sluice_build_info{" in text
        assert text.endswith("\n")

    against(test, lambda: None)


def test_scrapes_at_once_are_bounded_and_slots_come_back() -> None:
    async def test(get: Get, served: Operations) -> None:
        served._scrapes = SCRAPES_MAX
        assert (await get("/metrics"))[0] == 503
        served._scrapes = SCRAPES_MAX - 1
        assert (await get("/metrics"))[0] == 200
        assert served._scrapes == SCRAPES_MAX - 1

    against(test, lambda: None)


def test_rendering_lets_the_loop_do_other_work(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(get: Get, _served: Operations) -> int:
        steps = 0

        def step() -> None:
            nonlocal steps
            steps += 1
            loop.call_soon(step)

        loop = asyncio.get_running_loop()
        page = asyncio.ensure_future(get("/metrics"))
        loop.call_soon(step)
        await page
        return steps

    monkeypatch.setattr(Exposition, "slices", lambda *_: iter([b"x\n"] * 50))
    assert against(test, lambda: None) >= 50


def test_a_busy_port_is_an_oserror() -> None:
    async def run() -> None:
        first, second = (Operations(OneProcess(Metrics(), lambda: None)) for _ in range(2))
        host, port = await first.start("127.0.0.1", 0)
        try:
            with pytest.raises(OSError):
                await second.start(host, port)
        finally:
            await first.stop()
            await second.stop()

    asyncio.run(run())
