"""The marketplace: true prices and health, for everybody or for who is signed in, without secrets."""

import copy
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from proxy.core.entities import Verdict
from proxy.edge.console import pages_market
from proxy.edge.console.surroundings import Options
from tests.app.commands.office import DOCUMENT
from tests.edge.console.calls import Calls
from tests.edge.console.consoles import World, in_console

EVIL = "<script>alert(1)</script>"


def document() -> dict[str, Any]:
    """Two groups, a tiered model with pictures, one without a price, one with a hostile name."""
    made = copy.deepcopy(DOCUMENT)
    made["group"].append({"name": "pro", "multiplier": "1.5", "disconnect": "drain"})
    made["model"] += [
        {"name": "org/rich-model", "context_window": 200_000, "output_tokens_max": 8_000,
         "hidden_output": True,
         "price": {"input": "3", "output": "15", "cache_read": "0.3", "image": "0.04",
                   "image_variants": {"hd": "0.08"}, "audio_minute": "0.006",
                   "tiers": [{"over": 100_000, "input": "6", "output": "22.5",
                              "cache_read": "0.6"}]}},
        {"name": "unpriced", "context_window": 1000, "output_tokens_max": 100},
        {"name": EVIL, "context_window": 1000, "output_tokens_max": 100,
         "price": {"input": "1", "output": "2"}},
    ]  # fmt: skip
    made["channel"][0]["groups"] = ["default", "pro"]
    made["channel"][0]["models"] |= {"org/rich-model": "r", "unpriced": "u", EVIL: "e"}
    return made


def test_a_stranger_sees_what_there_is_and_what_it_costs(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        await world.do("catalog apply", document=document())
        anybody = world.stranger()
        page = await anybody.get("/models")
        assert page.status == 200
        for said in ("org/rich-model", "pro", "× 1.5", "$3.00", "$4.50", "$15.00", "$22.50",
                     "200,000", "OpenAI, Anthropic, Gemini", "no price: refused", "8 offers"):  # fmt: skip
            assert said in page.text, said
        assert EVIL not in page.text
        for secret in ("upstream-secret-canary", "127.0.0.1:9", "m-upstream"):
            assert secret not in page.text
        page = await anybody.get("/models?q=RICH+org&group=pro")
        assert ("1 offers" in page.text, "$4.50" in page.text) == (True, True)
        page = await anybody.get("/models?endpoint=embeddings")
        assert "No such model here" in page.text
        page = await anybody.get(f"/models?q={EVIL}x&group={EVIL}&endpoint={EVIL}&page={EVIL}")
        assert (page.status, EVIL in page.text) == (200, False)

    in_console(tmp_path, test)


def test_a_models_page_has_every_price_and_way_and_rule(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        await world.do("catalog apply", document=document())
        page = await world.stranger().get("/models/org/rich-model")
        for said in (
            "$0.30", "$0.45", "$0.04", "An image hd", "$0.08", "A minute of audio", "$0.006",
            "Prompt above 100,000 tokens", "$22.50", "$33.75", "reasoning", "rounded up once",
            "https://relay.example/v1/messages", "https://relay.example/v1/chat/completions",
            "https://relay.example/v1beta/models/org/rich-model:generateContent",
            "Group pro: if you leave early, the answer is read on",
            "Group default: if you leave early, the provider is stopped at once",
        ):  # fmt: skip
            assert said in page.text, said
        assert (await world.stranger().get("/models/nothing")).status == 404
        page = await world.stranger().get("/models/%3Cscript%3Ealert(1)%3C/script%3E")
        assert (page.status, EVIL in page.text) == (200, False)

    in_console(tmp_path, test, Options(public_url="https://relay.example"))


def test_a_near_miss_is_asked_about_and_a_closed_group_is_marked(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        await world.do("catalog apply", document=document())
        page = await world.stranger().get("/models/rich_model")
        assert (page.status, "Did you mean org/rich-model?" in page.text) == (404, True)
        page = await world.stranger().get(f"/models/{EVIL}nothing")
        assert (page.status, EVIL in page.text) == (404, False)
        ann = await world.signed_in("ann@example.com", wallet="ann")
        assert "not in your plan" not in (await ann.get("/models")).text
        limit = "UPDATE plan SET groups = '[\"default\"]'"
        await world.office.keeper.note(lambda c: c.execute(limit))
        for path, count in (("/models?q=rich", 1), ("/models/org/rich-model", 1)):
            assert (await ann.get(path)).text.count("not in your plan") == count
            assert "not in your plan" not in (await world.stranger().get(path)).text

    in_console(tmp_path, test)


def test_the_examples_are_complete_in_every_language(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        await world.do("catalog apply", document=document())
        page = await world.stranger().get("/models/m?endpoint=messages&stream=1")
        for title in ("cURL", "Python SDK", "Python requests", "Node.js SDK", "Java", "C#", "Go",
                      "PHP", "Ruby"):  # fmt: skip
            assert f">{title}</label>" in page.text, title
        assert page.text.count("https://relay.example") >= 10
        assert "SLUICE_API_KEY" in page.text
        assert "Show it without streaming" in page.text
        page = await world.stranger().get("/models/m?endpoint=none&stream=2")
        assert "Show it with streaming" in page.text

    in_console(tmp_path, test, Options(public_url="https://relay.example"))


def test_an_example_of_the_page_is_a_program(tmp_path: Path) -> None:
    import html
    import re

    async def test(world: World) -> str:
        await world.do("catalog apply", document=document())
        page = await world.stranger().get("/models/m")
        found = re.search(r'<code id="program-requests">(.*?)</code>', page.text, re.DOTALL)
        assert found
        return html.unescape(found[1])

    program = in_console(tmp_path / "data", test)
    (tmp_path / "example.py").write_text(program)
    run = [sys.executable, "-m", "py_compile", str(tmp_path / "example.py")]
    assert subprocess.run(run, timeout=20, check=False).returncode == 0


def test_health_is_our_own_measurement_by_group(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        ann = await world.signed_in("ann@example.com", wallet="ann")
        calls = Calls(world)
        key = await calls.key("ann")
        assert "no calls yet" in (await ann.get("/models")).text
        for _ in range(3):
            await calls.made(1, key, ago=3)
        await calls.made(1, key, closed={"verdict": Verdict.TIMEOUT, "status": 504})
        await calls.made(1, key, closed={"verdict": Verdict.CLIENT_GONE})
        world.surroundings.market._measured.clear()
        page = await ann.get("/models/m")
        for said in ("75%", "first token 120 ms", "4 calls", "tokens/s"):
            assert said in page.text, said
        assert "/playground?model=m" in page.text

    in_console(tmp_path, test)


def test_a_closed_marketplace_asks_to_sign_in(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        ann = await world.signed_in("ann@example.com", wallet="ann")
        for path in ("/models", "/models/m?endpoint=chat"):
            page = await world.stranger().get(path, follow=False)
            assert page.status == 303
            assert page.headers["location"].startswith("/login?next=%2Fmodels")
            assert (await ann.get(path)).status == 200

    in_console(tmp_path, test, Options(public_marketplace=False))


def test_a_long_list_is_paged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pages_market, "ROWS", 3)

    async def test(world: World) -> None:
        await world.do("catalog apply", document=document())
        first = await world.stranger().get("/models?q=e")
        assert "page=2" in first.text
        assert (await world.stranger().get("/models?page=2")).text.count('scope="row"') == 3
        assert "No such model" in (await world.stranger().get("/models?page=9")).text
        assert (await world.stranger().get("/models?page=99999")).status == 200

    in_console(tmp_path, test)
