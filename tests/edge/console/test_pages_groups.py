from pathlib import Path
from typing import Any

import pytest

from proxy.edge.console.pages_groups import LIST, ROUTES
from tests.edge.console.consoles import World, in_console

SAVE: dict[str, Any] = {
    "name": "fast", "create": "1", "multiplier": "1.5", "disconnect": "drain",
    "drain_seconds_max": "20", "output_tokens_max": "", "cache_scope": "user",
    "cache_multiplier": "0.5", "retry_after_timeout": "1",
}  # fmt: skip


def test_a_group_is_made_edited_and_removed(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        browser = await world.signed_in("op@example.com", "operator")
        page = await browser.post(f"{LIST}/save", **SAVE)
        assert "The group fast was saved." in page.text
        assert "× 1.5" in page.text
        assert "it is read on for 20.0 s" in page.text
        group = world.office.keeper.catalog.groups["fast"]
        assert (group.cache_multiplier, group.retry_after_timeout) == (500_000, True)
        page = await browser.get(f"{LIST}/edit?name=fast")
        basis = page.field("basis")
        edit = SAVE | {"create": "", "basis": basis, "multiplier": "2", "output_tokens_max": "50"}
        await browser.post(f"{LIST}/save", **edit)
        assert world.office.keeper.catalog.groups["fast"].output_tokens_max == 50
        page = await browser.post(f"{LIST}/save", **(edit | {"multiplier": "3"}))
        assert page.status == 422
        assert "Somebody changed this while you edited it" in page.text
        assert 'value="3"' in page.text
        page = await browser.post(f"{LIST}/remove", name="default")
        assert "still that of channel main" in page.text
        page = await browser.post(f"{LIST}/remove", name="fast")
        assert "The group fast was removed." in page.text

    in_console(tmp_path, test)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("multiplier", "-1", "Is not a ratio"),
        ("drain_seconds_max", "soon", "Must be a number"),
        ("drain_seconds_max", "0", "Must be above 0"),
        ("output_tokens_max", "x", "Must be a number"),
        ("name", "", "Must be text"),
    ],
)
def test_what_is_wrong_stands_next_to_its_field(
    tmp_path: Path, name: str, value: str, message: str
) -> None:
    async def test(world: World) -> None:
        browser = await world.signed_in("op@example.com", "operator")
        page = await browser.post(f"{LIST}/save", **(SAVE | {name: value}))
        assert page.status == 422
        assert f'id="{name}-error"' in page.text
        assert message in page.text

    in_console(tmp_path, test)


def test_pages_are_for_operators_and_a_group_must_be_there(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        user = await world.signed_in("user@example.com", "user")
        for route in ROUTES:
            answer = await (user.get if route.method == "GET" else user.post)(route.path)
            assert answer.status == 404
        browser = await world.signed_in("op@example.com", "operator")
        page = await browser.get(f"{LIST}/edit?name=nobody")
        assert (page.status, "there is no group" in page.text) == (422, True)
        assert (await browser.get(f"{LIST}/new")).status == 200

    in_console(tmp_path, test)
