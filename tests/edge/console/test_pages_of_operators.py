import re
import sqlite3
from pathlib import Path

from proxy.core.actions.action import Role
from proxy.edge.console.pages_of_operators import ROUTES
from tests.edge.console.consoles import World, in_console

MUST = (
    "channels/save",
    "channels/remove",
    "channels/keys/add",
    "channels/keys/remove",
    "models/price",
    "models/withdraw",
    "models/import",
    "groups/save",
    "refund/{request_id}",
    "adjust",
)
"""Prices, secrets and money."""


def test_everything_of_operators_is_for_operators() -> None:
    assert len({(route.method, route.path) for route in ROUTES}) == len(ROUTES)
    for route in ROUTES:
        assert route.path == "/operator" or route.path.startswith("/operator/")
        assert route.role is not None
        assert not Role.USER.covers(route.role)
        assert not route.foreign


def test_prices_and_secrets_are_behind_a_password_given_just_now(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        browser = await world.signed_in("op@example.com", "operator")
        long_ago = world.office.clock() - 86_400

        def forget(connection: sqlite3.Connection) -> None:
            connection.execute("UPDATE session SET confirmed_at = ?", (long_ago,))

        await world.office.keeper.note(forget)
        asked = [route for route in ROUTES if route.step_up]
        for route in asked:
            path = re.sub(r"\{[^}]*\}", "x", route.path)
            if route.method == "GET":
                answer = await browser.get(f"{path}?name=main", follow=False)
            else:
                answer = await browser.post(path, follow=False, name="main", user="ann")
            assert answer.status == 303, path
            assert answer.headers["location"].startswith("/confirm?next="), path
        assert {f"/operator/{name}" for name in MUST} <= {route.path for route in asked}
        assert "main" in {channel.name for channel in world.office.keeper.catalog.channels.values()}

    in_console(tmp_path, test)
