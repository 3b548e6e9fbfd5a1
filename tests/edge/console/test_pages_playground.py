"""The playground lends secrets of own keys alone, and tells the books' figures of own calls."""

import json
from pathlib import Path
from typing import Any

from proxy.core.entities import Usage, UsageSource
from proxy.core.ids import format_id
from proxy.edge.console.pages_playground import root_of
from proxy.edge.console.surroundings import Options
from proxy.storage.ports import Progress
from proxy.storage.secrets import key_digest
from tests.edge.console.calls import Calls
from tests.edge.console.consoles import Browser, World, in_console

EVIL = "<script>alert(1)</script>"


async def lend(browser: Browser, key: object) -> tuple[int, dict[str, Any]]:
    """As the page's script asks: the token in a header."""
    headers = {"origin": browser.url, "x-csrf-token": browser.token}
    page = await browser.ask("POST", "/playground/lend", {"key": str(key)}, headers)
    return page.status, json.loads(page.text)


def test_the_page_offers_own_keys_and_what_they_can_chat_with(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        ann = await world.signed_in("ann@example.com", wallet="ann")
        assert "You need a key first" in (await ann.get("/playground")).text
        calls = Calls(world)
        await calls.key("ann", "first-key")
        await calls.key("ann", f"key {EVIL}")
        await world.signed_in("bob@example.com", wallet="bob")
        other = await calls.key("bob", "bobs-key")
        page = await ann.get("/playground")
        for said in ("first-key", 'data-model="m"', 'data-relay="https://relay.example/x"',
                     "playground.js", "needs-script"):  # fmt: skip
            assert said in page.text, said
        assert (EVIL in page.text, "bobs-key" in page.text) == (False, False)
        assert "There is no such key" in (await ann.get(f"/playground?key={other}")).text
        page = await ann.get(f"/playground?model={EVIL}&key={EVIL}")
        assert EVIL not in page.text
        assert "cannot chat with nothing" in (await ann.get("/playground?model=nothing")).text

    in_console(tmp_path, test, Options(public_url="https://relay.example/x/v1"))


def test_a_secret_is_lent_of_own_keys_alone_and_is_nowhere_in_a_page(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        ann = await world.signed_in("ann@example.com", wallet="ann")
        bob = await world.signed_in("bob@example.com", wallet="bob")
        calls = Calls(world)
        key = await calls.key("ann")
        status, lent = await lend(ann, key)
        assert (status, lent["seconds"]) == (200, 900)
        catalog = world.office.keeper.catalog
        opened = catalog.key(key_digest(world.office.secrets.pepper, lent["secret"]))
        assert opened is not None
        assert opened.id == key
        status, refused = await lend(bob, key)
        assert (status, "secret" in refused) == (422, False)
        assert (await lend(bob, ""))[0] == 422
        for path in ("/playground", "/usage", "/keys"):
            assert lent["secret"] not in (await ann.get(path)).text
        await world.do("key disable", key=str(key))
        assert (await lend(ann, key))[0] == 422
        form = {"key": str(key), "csrf": "x"}
        page = await ann.ask("POST", "/playground/lend", form, {"origin": ann.url})
        assert page.status == 403
        lone = await world.signed_in("lone@example.com")
        assert (await lend(lone, 1))[0] == 422
        assert "no wallet" in (await lone.get("/playground")).text

    in_console(tmp_path, test)


def test_a_member_is_lent_only_what_they_made(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        await world.signed_in("ann@example.com", wallet="team")
        eve = await world.signed_in("eve@example.com", wallet="team", rank="member")
        calls = Calls(world)
        hers = await calls.key("team", "hers", person=2)
        other = await calls.key("team", "other", person=1)
        assert (await lend(eve, hers))[0] == 200
        assert (await lend(eve, other))[0] == 422

    in_console(tmp_path, test)


def test_progress_is_what_the_books_say_and_only_of_own_calls(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        ann = await world.signed_in("ann@example.com", wallet="ann")
        bob = await world.signed_in("bob@example.com", wallet="bob")
        calls = Calls(world)
        call = await calls.begin(1, await calls.key("ann"))
        path = f"/playground/progress?id={format_id(call)}"

        async def told(browser: Browser) -> dict[str, Any]:
            found: dict[str, Any] = json.loads((await browser.get(path)).text)
            return found

        assert await told(ann) == {
            "state": "running",
            "cost": "$0.00",
            "read": None,
            "written": None,
        }
        used = Usage(input_uncached=10, output=3)
        world.office.keeper.mark(Progress(call, used, UsageSource.COUNTED, 16_000, 30, 1))
        await world.office.keeper.catch_up()
        assert await told(ann) == {
            "state": "running",
            "cost": "$0.000016",
            "read": 10,
            "written": 3,
        }
        assert await told(bob) == {"state": "unknown"}
        await calls.end(call)
        ended = await told(ann)
        assert (ended["state"], ended["cost"], ended["written"]) == ("ended", "$0.000207", 50)
        assert ended["receipt"] == f"/usage/{format_id(call)}"
        assert await told(bob) == {"state": "unknown"}
        assert (await ann.get("/playground/progress?id=x")).status == 404

    in_console(tmp_path, test)


def test_the_relays_address_is_without_v1() -> None:
    for url in ("https://a.example", "https://a.example/", "https://a.example/v1/"):
        assert root_of(url) == "https://a.example"
