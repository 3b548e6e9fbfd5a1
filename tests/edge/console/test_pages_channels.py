"""Channels are made, tried, edited and removed by operators; keys go in and never come out."""

from pathlib import Path
from typing import Any

import pytest

from proxy.app.demo import start_demo
from proxy.edge.console.pages_channels import LIST, ROUTES
from proxy.edge.console.surroundings import Options
from tests.edge.console.consoles import Browser, World, in_console
from tests.edge.console.test_pages_operator import picture

SAVE: dict[str, Any] = {
    "name": "spare", "create": "1", "dialect": "openai", "base_url": "https://example.com/v1",
    "groups": "default", "models": "m = theirs", "costs": "m: input 1.25, output 10",
    "priority": "2", "weight": "3", "connect_seconds_max": "5", "first_byte_seconds_max": "60",
    "idle_seconds_max": "60", "usage_option": "send", "terminal": "done", "enabled": "1",
}  # fmt: skip


async def operator(world: World) -> Browser:
    return await world.signed_in("op@example.com", "operator")


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: f"{route.method} {route.path}")
def test_pages_are_for_operators_alone(tmp_path: Path, route: Any) -> None:
    async def test(world: World) -> None:
        user = await world.signed_in("user@example.com", "user", "ann")
        if route.method == "GET":
            answer = await user.get(f"{route.path}?name=main")
        else:
            answer = await user.post(route.path, name="main")
        assert answer.status == 404
        assert len(world.office.keeper.catalog.channels) == 1

    in_console(tmp_path, test)


def test_a_channel_is_made_keyed_switched_and_removed(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        browser = await operator(world)
        page = await browser.get(f"{LIST}/new")
        assert page.field("create") == "1"
        page = await browser.post(f"{LIST}/save", **SAVE)
        assert page.path == f"{LIST}/show?name=spare"
        assert "The channel was made. Give it a key." in page.text
        assert "input 1.25, output 10" in page.text
        assert "It needs a key and a model first." in page.text
        page = await browser.post(
            f"{LIST}/keys/add", name="spare", secret="sk-canary-upstream-9876"
        )
        assert "The key is in the pool." in page.text
        assert "…9876" in page.text
        assert "sk-canary" not in page.text
        page = await browser.post(f"{LIST}/switch", name="spare", enabled="")
        assert "serves no more calls" in page.text
        channel = max(world.office.keeper.catalog.channels.values(), key=lambda one: one.id)
        assert (channel.priority, channel.weight, channel.enabled) == (2, 3, False)
        assert dict(channel.models) == {"m": "theirs"}
        assert channel.costs["m"].output == 10**10
        page = await browser.post(f"{LIST}/keys/remove", name="spare", key=channel.keys[0].id)
        assert "No keys" in page.text
        page = await browser.post(f"{LIST}/remove", name="spare")
        assert page.path == LIST
        assert "The channel spare was removed." in page.text

    in_console(tmp_path, test)


def test_what_is_wrong_stands_next_to_its_field_and_nothing_is_lost(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        browser = await operator(world)
        wrong = {
            "base_url": ("ftp://x", "Must be an http"),
            "weight": ("many", "Must be a number"),
            "models": ("= x", "has a line that is not understood: = x"),
            "costs": ("m input", "has a line that is not understood: m input"),
            "idle_seconds_max": ("0", "Must be above 0"),
        }
        for name, (value, message) in wrong.items():
            page = await browser.post(f"{LIST}/save", **(SAVE | {name: value}))
            assert page.status == 422
            assert f'id="{name}-error"' in page.text
            assert message in page.text
            assert "https://example.com/v1" in page.text or name == "base_url"
            assert 'value="spare"' in page.text
        page = await browser.post(f"{LIST}/save", **(SAVE | {"name": "main"}))
        assert "there is a channel &#39;main&#39; already" in page.text
        page = await browser.post(f"{LIST}/save", **(SAVE | {"base_url": '"><script>alert(1)'}))
        assert "<script>alert" not in page.text
        page = await browser.post(f"{LIST}/keys/add", name="main", secret="sealed:1")
        assert (page.status, "this is not an upstream key" in page.text) == (422, True)
        assert len(world.office.keeper.catalog.channels) == 1

    in_console(tmp_path, test)


def test_an_edit_of_what_somebody_else_changed_is_told_and_kept(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        browser = await operator(world)
        await world.do("channel set", name="main", set={"base_url": SAVE["base_url"]})
        page = await browser.get(f"{LIST}/edit?name=main")
        form = SAVE | {"name": "main", "create": "", "basis": page.field("basis"), "weight": "7"}
        await world.do("channel set", name="main", set={"priority": 9})
        page = await browser.post(f"{LIST}/save", **form)
        assert page.status == 422
        assert "Somebody changed this while you edited it" in page.text
        assert 'name="weight" type="text" value="7"' in page.text
        again = form | {"basis": page.field("basis")}
        assert (await browser.post(f"{LIST}/save", **again)).status == 200
        (channel,) = world.office.keeper.catalog.channels.values()
        assert (channel.weight, channel.priority) == (7, 2)
        assert [key.secret for key in channel.keys] == ["upstream-secret-canary"]

    in_console(tmp_path, test)


def test_an_address_the_keys_are_not_for_is_told_at_its_field(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        browser = await operator(world)
        basis = (await browser.get(f"{LIST}/edit?name=main")).field("basis")
        form = SAVE | {"name": "main", "create": "", "basis": basis}
        page = await browser.post(f"{LIST}/save", **form)
        assert page.status == 422
        assert "Would send its keys to another place" in page.text
        assert "remove the keys first" in page.text
        (channel,) = world.office.keeper.catalog.channels.values()
        assert channel.base_url == "http://127.0.0.1:9/v1"

    in_console(tmp_path, test)


def test_a_proxy_is_kept_unless_it_is_removed_and_never_shown(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        browser = await operator(world)
        values = {"base_url": SAVE["base_url"]}
        await world.do("channel set", name="main", set=values, proxy="http://me:canary@127.0.0.1:9")
        for path in ("show", "edit"):
            assert "canary@" not in (await browser.get(f"{LIST}/{path}?name=main")).text

        async def save(**changes: Any) -> str | None:
            basis = (await browser.get(f"{LIST}/edit?name=main")).field("basis")
            form = SAVE | {"name": "main", "create": "", "basis": basis} | changes
            assert (await browser.post(f"{LIST}/save", **form)).status == 200
            (channel,) = world.office.keeper.catalog.channels.values()
            return channel.proxy

        assert await save() == "http://me:canary@127.0.0.1:9"
        assert await save(proxy="http://127.0.0.1:7") == "http://127.0.0.1:7"
        assert await save(no_proxy="1") is None

    in_console(tmp_path, test)


def test_a_channel_is_tried_for_real(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        browser = await operator(world)
        page = await browser.post(f"{LIST}/test", name="main", model="m")
        assert "The test of m failed" in page.text
        demo = await start_demo(rate=0)
        try:
            await world.do("channel set", name="main", set={"base_url": demo.base_url})
            page = await browser.post(f"{LIST}/test", name="main")
            assert "m answered after" in page.text
        finally:
            await demo.stop()
        page = await browser.post(f"{LIST}/test", name="main", model="x")
        assert "does not serve" in page.text

    in_console(tmp_path, test)


def test_the_list_says_how_channels_do(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        browser = await operator(world)
        page = await browser.get(LIST)
        assert "not asked yet" in page.text
        world.surroundings.picture = picture()
        for path in (LIST, f"{LIST}/show?name=main"):
            assert "failing" in (await browser.get(path)).text
        assert "1 resting" in (await browser.get(LIST)).text
        text = (await browser.get(f"{LIST}/show?name=main")).text
        assert "1 of its keys rest" in text
        for path in ("show", "edit", "keys/new"):
            assert (await browser.get(f"{LIST}/{path}?name=nobody")).status == 422
        await world.do("channel remove", name="main")
        assert "No channels yet" in (await browser.get(LIST)).text

    in_console(tmp_path, test)


def test_a_catalog_from_a_file_is_only_shown(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        browser = await operator(world)
        object.__setattr__(world.office, "catalog_file", "/etc/catalog.toml")
        for path in (LIST, "/operator/groups", "/operator/models"):
            text = (await browser.get(path)).text
            assert "The catalog comes from the file /etc/catalog.toml" in text
            assert f"{path}/new" not in text
            assert f"{path}/edit" not in text
        page = await browser.get(f"{LIST}/show?name=main")
        assert "The catalog comes from the file /etc/catalog.toml" in page.text
        assert "/edit?" not in page.text
        assert "/remove" not in page.text
        page = await browser.post(f"{LIST}/switch", name="main", enabled="")
        assert (page.status, "edit that file, then reload" in page.text) == (422, True)

    in_console(tmp_path, test, Options(catalog_file="/etc/catalog.toml"))
