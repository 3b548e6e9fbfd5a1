"""The self-test's page says what it may cost, runs once at a time, and shows what was found."""

import asyncio
from pathlib import Path

from proxy.core.sentences import Sentence
from proxy.edge.console import pages_selftest
from tests.edge.console.calls import Calls
from tests.edge.console.consoles import World, in_console
from tests.edge.console.test_selftests import Line, Toy

EVIL = "<script>alert(1)</script>"


def test_the_cost_is_shown_before_and_the_report_after(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        toy = Toy((Line("3 at once"), Line("long text"), Line(EVIL, "failure", EVIL, f"do {EVIL}")))
        world.surroundings.selftest = toy
        ann = await world.signed_in("ann@example.com", wallet="ann")
        key = await Calls(world).key("ann")
        page = await ann.get("/selftest?concurrency=10")
        # 10 calls of 1,000 tokens at $1 and 500 at $2 per million.
        assert "$0.02" in page.text
        assert (await ann.get("/selftest?concurrency=7")).status == 200
        page = await ann.post("/selftest", key=key, model="m", concurrency=10)
        assert page.path.startswith("/selftest/")
        assert page.headers["refresh"] == str(pages_selftest.REFRESH_SECONDS)
        again = await ann.post("/selftest", key=key, model="m", concurrency=10)
        assert (again.path, "running already" in again.text) == (page.path, True)
        assert len(toy.secrets) == 1
        toy.go.set()
        async with asyncio.timeout(10):
            while "refresh" in (await ann.get(page.path)).headers:
                await asyncio.sleep(0)
        report = (await ann.get(page.path)).text
        assert ("3 at once" in report, "long text" in report, EVIL in report) == (True, True, False)
        assert "what to do stands beside each line" in report
        assert page.path in (await ann.get("/selftest")).text
        bob = await world.signed_in("bob@example.com", wallet="bob")
        assert (await bob.get(page.path)).status == 404
        assert page.path not in (await bob.get("/selftest")).text
        assert toy.secrets[0] not in report

    in_console(tmp_path, test)


def test_the_report_is_in_the_language_of_its_reader(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        seen = Sentence("{n} of {all} failed, first: {error}", n=1, all=2, error="<b>")
        toy = Toy((Line("3 at once", "failure", seen, "check the key"),))
        toy.go.set()
        world.surroundings.selftest = toy
        ann = await world.signed_in("ann@example.com", wallet="ann")
        key = await Calls(world).key("ann")
        await ann.post("/preferences", language="zh", next="/selftest")
        page = await ann.post("/selftest", key=key, model="m", concurrency=10)
        async with asyncio.timeout(10):
            while "refresh" in page.headers:
                page = await ann.get(page.path)
        assert "2 个中有 1 个失败，第一个：&lt;b&gt;" in page.text
        assert "请检查密钥" in page.text

    in_console(tmp_path, test)


def test_it_is_said_why_nothing_can_begin(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        ann = await world.signed_in("ann@example.com", wallet="ann")
        assert "not available here" in (await ann.get("/selftest")).text
        toy = Toy()
        world.surroundings.selftest = toy
        assert "You need a key first" in (await ann.get("/selftest")).text
        key = await Calls(world).key("ann")
        for fields in ({"key": 99, "model": "m"}, {"key": key, "model": "none"}, {"key": key}):
            page = await ann.post("/selftest", **fields)
            assert (page.status, "Choose a key and a model" in page.text) == (422, True)
        bobs = await world.signed_in("bob@example.com", wallet="bob")
        page = await bobs.post("/selftest", key=key, model="m")
        assert page.status == 422
        assert toy.secrets == []
        lone = await world.signed_in("lone@example.com")
        assert "no wallet" in (await lone.get("/selftest")).text
        assert "no wallet" in (await lone.post("/selftest", key=1, model="m")).text

    in_console(tmp_path, test)


def test_others_are_asked_to_wait(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        world.surroundings.selftest = Toy()
        calls = Calls(world)
        for number in range(4):
            name = f"p{number}"
            browser = await world.signed_in(f"{name}@example.com", wallet=name)
            page = await browser.post("/selftest", key=await calls.key(name), model="m")
            assert page.status == (200 if number < 3 else 429)
            assert ("try again in a minute" in page.text) == (number == 3)

    in_console(tmp_path, test)
