import html
import re
from pathlib import Path
from typing import Any

import pytest

from proxy.edge.console import pages_keys
from proxy.storage.secrets import key_digest
from tests.edge.console.consoles import Browser, Page, World, in_console

KEY = re.compile(r'<code id="secret"[^>]*>(sk-\w+)</code>')
FORM: dict[str, Any] = {
    "name": "laptop", "group": "default", "budget_period": "monthly", "expires": "never",
}  # fmt: skip


def secret_of(page: Page) -> str:
    found = KEY.search(page.text)
    assert found, page.text
    return found[1]


def error_at(page: Page, field: str) -> str:
    found = re.search(rf'id="{field}-error">.*?<span>(.*?)</span>', page.text, re.DOTALL)
    return html.unescape(found[1]) if found else ""


async def opens(world: World, secret: str) -> bool:
    key = world.office.keeper.catalog.key(key_digest(world.office.secrets.pepper, secret))
    return key is not None and key.enabled


async def team(world: World) -> tuple[Browser, Browser, Browser]:
    """Ann owns the wallet `ann`, Eve is a member of it, Bob owns another."""
    ann = await world.signed_in("ann@example.com", wallet="ann")
    eve = await world.signed_in("eve@example.com", wallet="ann", rank="member")
    return ann, eve, await world.signed_in("bob@example.com", wallet="bob")


def test_a_key_is_made_and_shown_once_with_programs_that_use_it(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        ann = await world.signed_in("ann@example.com", wallet="ann")
        assert "No keys yet" in (await ann.get("/keys")).text
        empty = await ann.get("/keys/new")
        assert empty.field("name") == "key-1"
        assert "default: prices × 1.0, models: 1" in empty.text
        made = await ann.post("/keys", **FORM, budget="5", models="m", networks="10.0.0.0/8")
        secret = secret_of(made)
        assert made.headers["cache-control"] == "no-store"
        assert await opens(world, secret)
        assert made.text.count("http://127.0.0.1:8080") >= 10
        assert all(word in made.text for word in ("Python SDK", "Ruby", "curl", "&#34;m&#34;"))
        for path in ("/keys", "/keys/1", "/keys/new", "/"):
            page = await ann.get(path)
            assert page.status == 200
            assert secret not in page.text
        listed = (await ann.get("/keys")).text
        assert f"{secret[:8]}…{secret[-4:]}" in listed
        assert "$5.00" in listed
        again = await ann.post("/keys", **FORM)
        assert again.status == 422
        assert "already" in error_at(again, "name")

    in_console(tmp_path, test)


@pytest.mark.parametrize(
    ("sent", "field", "word"),
    [
        ({"name": ""}, "name", "Give the key a name"),
        ({"group": "gold"}, "group", "no group"),
        ({"budget": "much"}, "budget", "12.50"),
        ({"expires": "day", "expires_on": "2001-01-01"}, "expires_on", "over"),
        ({"concurrency": "-1"}, "concurrency", "above 0"),
        ({"models": "M-latest"}, "models", "Did you mean m?"),
        ({"networks": "10.0.0.0/33"}, "networks", "no network"),
        ({"name": "<script>alert(1)</script>\n"}, "name", ""),
    ],
)
def test_what_is_wrong_is_said_at_its_field_and_nothing_is_lost(
    tmp_path: Path, sent: dict[str, str], field: str, word: str
) -> None:
    async def test(world: World) -> None:
        ann = await world.signed_in("ann@example.com", wallet="ann")
        page = await ann.post("/keys", **{**FORM, "tokens_per_minute": "77", **sent})
        assert "<script>alert" not in page.text
        if not word:
            return
        assert page.status == 422
        assert word in error_at(page, field)
        assert page.field("tokens_per_minute") == "77"
        assert await world.do("key list") == []
        await ann.post("/keys", **FORM)
        page = await ann.post("/keys/1", **{**FORM, **sent})
        assert page.status == 422
        assert word in error_at(page, field)

    in_console(tmp_path, test)


def test_a_key_is_changed_where_the_form_says_otherwise(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        ann = await world.signed_in("ann@example.com", wallet="ann")
        await ann.post("/keys", **FORM, budget="5", concurrency="3")
        await world.do("key set", key="1", cache_seconds=60)
        page = await ann.post("/keys/1", **{**FORM, "name": "den"}, concurrency="4")
        assert page.path == "/keys/1"
        assert "It holds from now on" in page.text
        shown = await world.do("key show", key="1")
        assert (shown["name"], shown["budget_usd"], shown["concurrency"]) == ("den", None, 4)
        assert shown["cache_seconds"] is None, "the form said so"
        assert "den" in (await ann.get("/keys?q=DEN+default")).text
        assert "No key matches" in (await ann.get("/keys?q=laptop")).text

    in_console(tmp_path, test)


def test_a_key_is_switched_off_and_on_rotated_and_deleted(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        ann = await world.signed_in("ann@example.com", wallet="ann")
        first = secret_of(await ann.post("/keys", **FORM))
        page = await ann.post("/keys/1/disable")
        assert "running calls were cut" in page.text
        assert not await opens(world, first)
        assert "laptop" in (await ann.get("/keys?status=disabled")).text
        assert "laptop" not in (await ann.get("/keys?status=active")).text
        await ann.post("/keys/1/enable")
        assert await opens(world, first)
        rotated = await ann.post("/keys/1/rotate", grace="1h")
        second = secret_of(rotated)
        assert "stays good until" in rotated.text
        assert await opens(world, first)
        assert "old secret good until" in (await ann.get("/keys")).text
        third = secret_of(await ann.post("/keys/1/rotate", grace="0"))
        assert [await opens(world, one) for one in (first, second, third)] == [False, False, True]
        assert (await ann.post("/keys/1/rotate", grace="99d")).status == 422
        page = await ann.post("/keys/1/remove")
        assert page.path == "/keys"
        assert not await opens(world, third)
        assert (await ann.get("/keys/1")).status == 404

    in_console(tmp_path, test)


WAYS = ("", "/disable", "/enable", "/rotate", "/remove")


def test_keys_of_others_do_not_exist(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        ann, eve, bob = await team(world)
        await ann.post("/keys", **{**FORM, "name": "of-ann"})
        await eve.post("/keys", **{**FORM, "name": "of-eve"})
        await bob.post("/keys", **{**FORM, "name": "of-bob"})
        before = await world.do("key list")
        assert [row["name"] for row in before] == ["of-ann", "of-eve", "of-bob"]
        for browser, foreign in ((eve, (1, 3)), (ann, (3,)), (bob, (1, 2))):
            for number in (*foreign, 99, "0x1", "1%20", "-1"):
                unknown = await browser.get(f"/keys/{number}")
                assert unknown.status == 404
                for way in WAYS:
                    page = await browser.post(f"/keys/{number}{way}", **FORM)
                    assert page.status == 404, (number, way)
        assert await world.do("key list") == before
        assert "of-ann" not in (await eve.get("/keys")).text
        assert "of-eve" in (await ann.get("/keys")).text
        assert (await ann.post("/keys/2/disable")).status == 200

    in_console(tmp_path, test)


def test_a_form_names_no_wallet(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        ann, _, _ = await team(world)
        await ann.post("/keys", **FORM, user="bob", wallet="2")
        (row,) = await world.do("key list")
        assert row["user"] == "ann"

    in_console(tmp_path, test)


def test_without_a_wallet_there_are_no_keys(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        nobody = await world.signed_in("nil@example.com")
        for path in ("/keys", "/keys/new", "/keys/1"):
            assert (await nobody.get(path)).status == 404
        assert (await nobody.post("/keys", **FORM)).status == 404

    in_console(tmp_path, test)


def test_many_keys_come_in_pages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pages_keys, "PAGE_KEYS", 2)

    async def test(world: World) -> None:
        ann = await world.signed_in("ann@example.com", wallet="ann")
        for number in range(5):
            await world.do("key add", user="ann", name=f"k{number}")
        page = await ann.get("/keys?q=k")
        assert [f"k{number}" in page.text for number in range(5)] == [False] * 3 + [True] * 2
        assert "/keys?q=k&amp;from=2" in page.text
        last = await ann.get("/keys?q=k&from=4")
        assert [f">k{number}<" in last.text for number in range(5)] == [True] + [False] * 4
        assert "from=2" in last.text
        assert "from=6" not in last.text

    in_console(tmp_path, test)


def test_what_only_the_keeper_finds_is_told_in_the_language_of_the_reader(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        ann = await world.signed_in("ann@example.com", wallet="ann")
        await ann.post("/preferences", language="zh", theme="auto")
        page = await ann.post("/keys", **{**FORM, "group": "none"})
        assert error_at(page, "group") == "没有名为 'none' 的分组：参见 `sluice catalog export`"
        await ann.post("/keys", **FORM)
        page = await ann.post("/keys", **FORM)
        assert "已有名为 'laptop' 的密钥" in error_at(page, "name")

    in_console(tmp_path, test)
