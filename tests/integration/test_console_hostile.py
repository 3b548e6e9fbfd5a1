"""Texts that somebody else chose, on every page of the console: they are shown, and never run.

Each text a user, a caller or a provider can put into the books is replaced by markup, in the file
itself, so that no check at the door stands before the pages. Then every page is asked for as its
owner and as an administrator, and what a browser would make of it is looked at.
"""

import asyncio
import html.parser
import json
import sqlite3
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from proxy.core.actions.action import Role
from proxy.core.ids import format_id
from proxy.edge.console import visit
from tests.edge.console.calls import Calls
from tests.edge.console.consoles import Browser, World, in_console
from tests.integration.browser import chromium, visitor
from tests.integration.console_pages import address, files, pages

TAG = "xss-canary"
ATTRIBUTE = "onxss"
TEXTS = {
    "user name": "UPDATE user SET name = ? WHERE id = 1",
    "key name": "UPDATE key SET name = ?",
    "person email": "UPDATE person SET email = lower(?) || id",
    "session agent": "UPDATE session SET agent = ?",
    "session address": "UPDATE session SET address = ?",
    "call model": "UPDATE call SET model = ?",
    "call upstream model": "UPDATE call SET upstream_model = ?",
    "call client reference": "UPDATE call SET client_reference = ?",
    "call error code": "UPDATE call SET error_code = ?",
    "call finish reason": "UPDATE call SET finish_reason = ?",
    "attempt upstream id": "UPDATE attempt SET upstream_request_id = ?",
    "attempt upstream model": "UPDATE attempt SET upstream_model = ?",
    "top-up reason": "UPDATE top_up SET reason = ?",
    "change reason": "UPDATE wallet_change SET reason = ?",
    "change actor": "UPDATE wallet_change SET actor = ?",
    "invitation email": "UPDATE invitation SET email = lower(?)",
    "token name": "UPDATE api_token SET name = ?",
    "code batch": "UPDATE redeem_code SET batch = ?",
    "code note": "UPDATE redeem_code SET note = ?",
}
"""Each stored text that is not the operator's own, by name, and how it gets there."""
UNSEEN = frozenset({"change actor", "session agent"})
"""Texts that no page has to show; of an agent only the names of what is known are told."""


def hostile(name: str) -> str:
    """Markup that closes what it may stand in, and is known again by its name."""
    mark = name.replace(" ", "-")
    return f"\"'></script></style></textarea></title><{TAG} {ATTRIBUTE}=1 id={mark}>{{{{7*7}}}}"


class Reader(html.parser.HTMLParser):
    """What a browser makes of a page: elements, attributes and text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[str] = []
        self.text: list[str] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == TAG:
            self.found.append(f"<{tag}>")
        for name, value in attrs:
            if name.startswith("on") or name == "style":
                self.found.append(f"{tag} {name}={value}")
            if (value or "").strip().lower().startswith("javascript:"):
                self.found.append(f"{tag} {name}={value}")
            self.text.append(value or "")
        if tag == "script" and not dict(attrs).get("src"):
            self.found.append("a script within the page")

    def handle_data(self, data: str) -> None:
        self.text.append(data)

    def shows(self, name: str) -> bool:
        text = "".join(self.text)
        return hostile(name) in text or hostile(name).lower() in text


@dataclass(slots=True)
class Place:
    """A console whose books are full of markup."""

    world: World
    owner: Browser
    admin: Browser
    known: dict[str, str]
    shown: set[str] = field(default_factory=set)

    async def look(self, browser: Browser, path: str) -> None:
        """Ask for a page and judge it."""
        page = await browser.get(path)
        assert page.status < 500, (path, page.text[-2000:])
        reader = Reader(page.text)
        assert not reader.found, (path, reader.found)
        self.shown |= {name for name in TEXTS if reader.shows(name)}


async def furnish(world: World) -> Place:
    """Make one of everything, then put markup into each of its texts."""
    owner = await world.signed_in("ann@example.com", wallet="ann")
    admin = await world.signed_in("root@example.com", "admin", "ann")
    calls = Calls(world)
    key = await calls.key("ann", person=1)
    served = await calls.made(1, key, client_reference="r")
    await calls.made(1, key, closed={"status": 502, "error_code": "upstream_error"})
    await world.do("team invite", user="ann", email="new@example.com")
    await world.do("code make", amount="1", count=2)
    await world.do("wallet refund", call=format_id(served), reason="r", amount="0.000001")
    await world.do(
        "payment begin", user="ann", provider="stripe", currency="usd", minor=500, rate="1"
    )
    await owner.post("/account/tokens", name="mine", scopes="*:read", expires="30d")
    await world.do("ledger flush")
    known = {
        "request_id": format_id(served),
        "key": str(key),
        "user": "ann",
        "plan": "paygo",
        "group": "default",
        "payment": "1",
        "invitation": "none",
        "password_token": "none",
        "email_token": "none",
        "member": "ann@example.com",
        "verify_token": "none",
        "channel": "main",
        "model": "m",
    }
    await world.office.keeper.note(_soil)
    return Place(world, owner, admin, known)


def _soil(connection: sqlite3.Connection) -> None:
    triggers = connection.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'")
    for (trigger,) in triggers.fetchall():  # books that do not change could not be soiled
        connection.execute(f"DROP TRIGGER {trigger}")
    for name, statement in TEXTS.items():
        done = connection.execute(statement, (hostile(name),))
        assert done.rowcount, f"nothing to soil by {name}"


def in_place(tmp_path: Path, test: Callable[[Place], Awaitable[Any]]) -> Any:
    async def run(world: World) -> Any:
        return await test(await furnish(world))

    return in_console(tmp_path, run)


def test_markup_in_any_stored_text_is_shown_as_text(tmp_path: Path) -> None:
    async def test(place: Place) -> None:
        for route in pages():
            path = address(route, place.known)
            await place.look(place.admin, path)
            if route.role in {None, Role.USER}:
                await place.look(place.owner, path)
        unseen = set(TEXTS) - place.shown - UNSEEN
        assert not unseen, f"no page shows {unseen}, so nothing was tested with it"

    in_place(tmp_path, test)


def test_markup_in_any_stored_text_runs_in_no_browser(tmp_path: Path) -> None:
    def browse(place: Place) -> None:
        with chromium() as browser, visitor(browser, place.world.url, expects={404}) as reader:
            cookie = {
                "name": visit.SESSION,
                "value": place.admin.cookies[visit.SESSION],
                "url": place.world.url,
            }
            reader.page.context.add_cookies([cookie])  # type: ignore[list-item]  # a TypedDict
            for route in pages():
                page = reader.go(address(route, place.known))
                assert not page.locator(TAG).count(), route.path
                assert not page.locator(f"[{ATTRIBUTE}]").count(), route.path

    in_place(tmp_path, lambda place: asyncio.to_thread(browse, place))


@pytest.mark.parametrize("path", ["/usage/live", "/operator/calls/live"])
def test_markup_in_rows_that_arrive_by_themselves_is_text(tmp_path: Path, path: str) -> None:
    """A script puts them into the page as markup, so they must be clean when they leave."""

    async def test(place: Place) -> None:
        address = f"{place.world.url}{path}?since=0"
        async with place.admin._client.get(address) as stream:
            told = b""
            while b"event: row" not in told or not told.endswith(b"\n\n"):
                told += await asyncio.wait_for(stream.content.readany(), 20)
        lines = [line[6:] for line in told.decode().splitlines() if line.startswith("data: ")]
        reader = Reader("\n".join(lines))
        assert not reader.found
        assert reader.shows("call model")
        assert reader.shows("key name")

    in_place(tmp_path, test)


def test_no_file_to_save_has_a_name_or_a_type_that_others_chose(tmp_path: Path) -> None:
    async def test(place: Place) -> None:
        for route in files():
            answer = await place.admin.get(address(route, place.known))
            assert answer.status == 200, route.path
            kind = answer.headers["content-type"].partition(";")[0]
            assert kind in {"text/csv", "application/json", "text/x-python", "text/plain"}, kind
            name = answer.headers.get("content-disposition", "")
            assert TAG not in name
            assert "\n" not in name
            assert answer.headers["x-content-type-options"] == "nosniff"
            if kind == "application/json":
                json.loads(answer.text)

    in_place(tmp_path, test)


@pytest.mark.parametrize("formula", ["=1+1", "+1", "-1+1", "@sum", "\t=1", "\r=1"])
def test_no_name_is_a_formula_in_a_spreadsheet(tmp_path: Path, formula: str) -> None:
    async def test(place: Place) -> None:
        await place.world.office.keeper.note(
            lambda c: c.execute("UPDATE call SET client_reference = ?, model = ?", (formula,) * 2)
        )
        told = (await place.owner.get("/usage/export.csv")).text
        assert formula.strip() in told
        assert f",{formula}" not in told
        assert f'"{formula}' not in told

    in_place(tmp_path, test)
