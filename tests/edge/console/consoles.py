"""A whole console in this process: office, control socket, site, and browsers that are signed in.

Everything is real but the browser, which is aiohttp's client with cookies: it sends what a browser
would with a form (origin, token). Pages that need a script are tested with Chromium.
"""

import asyncio
import re
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import aiohttp
from yarl import URL

from proxy.app.commands import runner
from proxy.app.commands.reporter import Reporter
from proxy.app.console_reports import ConsoleReports
from proxy.app.control import ControlServer
from proxy.app.directory import DataDirectory
from proxy.app.office import Office, open_office
from proxy.core.actions.action import Actor
from proxy.core.actions.table import ACTIONS
from proxy.edge.console import guard, sessions, visit
from proxy.edge.console.keeper_line import KeeperLine
from proxy.edge.console.site import Site
from proxy.edge.console.surroundings import Options, Surroundings
from tests.app.commands.office import DOCUMENT

SECRET = b"\x07" * 32
SESSION_SECONDS = 86_400.0


@dataclass(frozen=True, slots=True)
class Page:
    """An answer. `text` is its body."""

    status: int
    text: str
    headers: Mapping[str, str]
    path: str

    def field(self, name: str) -> str:
        """The value of an input field."""
        found = re.search(rf'<input[^>]*name="{re.escape(name)}"[^>]*value="([^"]*)"', self.text)
        assert found, f"no field {name} in {self.text}"
        return found[1]


class Browser:
    """Cookies and a place: `get` and `post` follow redirects unless told not to."""

    def __init__(self, url: str, session: str | None, cookies: Mapping[str, str]) -> None:
        self.url = url
        self.session = session
        jar = aiohttp.CookieJar(unsafe=True)
        jar.update_cookies(cookies, URL(url))
        self._client = aiohttp.ClientSession(cookie_jar=jar)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        await self._client.close()

    @property
    def cookies(self) -> dict[str, str]:
        """What the browser remembers."""
        return {one.key: one.value for one in self._client.cookie_jar}

    @property
    def token(self) -> str:
        """The token of this reader's forms."""
        reader = self.session or self.cookies.get(visit.VISITOR, "")
        return guard.token_for(SECRET, reader)

    async def get(self, path: str, *, follow: bool = True, **headers: str) -> Page:
        """Ask for a page."""
        return await self.ask("GET", path, None, headers, follow=follow)

    async def post(self, path: str, *, follow: bool = True, **fields: object) -> Page:
        """Send a form of a page of ours."""
        form = {name: str(value) for name, value in fields.items()} | {"csrf": self.token}
        return await self.ask("POST", path, form, {"origin": self.url}, follow=follow)

    async def ask(
        self,
        method: str,
        path: str,
        body: Any,
        headers: Mapping[str, str],
        *,
        follow: bool = True,
    ) -> Page:
        """Ask for anything."""
        async with self._client.request(
            method, self.url + path, data=body, headers=headers, allow_redirects=follow
        ) as answer:
            text = await answer.text()
            return Page(answer.status, text, answer.headers, answer.url.path_qs)


@dataclass(slots=True)
class World:
    """What a test gets. `do("user add", name=...)` does an action as the operator."""

    url: str
    office: Office
    surroundings: Surroundings
    browsers: list[Browser] = field(default_factory=list)

    async def do(self, command: str, **arguments: object) -> Any:
        """Do an action as the command line would."""
        if command in ACTIONS and ACTIONS[command].report:
            await runner.run(self.office, "ledger flush", {})
            return await self.reporter.make(command, arguments)
        return await runner.run(self.office, command, arguments)

    @property
    def reporter(self) -> Reporter:
        """Whoever makes reports of this world."""
        return Reporter(self.office.database, self.surroundings.picture)

    def stranger(self) -> Browser:
        """Somebody who is not signed in."""
        browser = Browser(self.url, None, {})
        self.browsers.append(browser)
        return browser

    async def person(
        self, email: str, role: str = "user", wallet: str | None = None, rank: str = "owner"
    ) -> int:
        """Make a person, and a member of the wallet of that name, made if need be; its id."""
        if wallet is not None and wallet not in {one["name"] for one in await self.do("user list")}:
            await self.do("user add", name=wallet, credit="10")
        now = self.office.clock()

        def add(connection: Any) -> int:
            cursor = connection.execute(
                "INSERT INTO person (email, role, created_at) VALUES (?, ?, ?)", (email, role, now)
            )
            if wallet is not None:
                connection.execute(
                    "INSERT INTO membership SELECT ?, id, ?, ? FROM user WHERE name = ?",
                    (cursor.lastrowid, rank, now, wallet),
                )
            return int(cursor.lastrowid)

        return await self.office.keeper.note(add)

    async def signed_in(
        self, email: str, role: str = "user", wallet: str | None = None, rank: str = "owner"
    ) -> Browser:
        """A browser of a new person, whose password was given just now."""
        person = await self.person(email, role, wallet, rank)
        now, session = self.office.clock(), f"session-of-{email}"

        def add(connection: Any) -> None:
            connection.execute(
                "INSERT INTO session (id, person_id, created_at, confirmed_at, expires_at) "
                "VALUES (?, ?, ?, ?, ?)",
                (session, person, now, now, now + SESSION_SECONDS),
            )

        await self.office.keeper.note(add)
        token = sessions.issue(SECRET, session, person, now)
        browser = Browser(self.url, session, {visit.SESSION: token})
        self.browsers.append(browser)
        return browser


@dataclass(frozen=True, slots=True)
class Reports:
    """Reports as the console's process makes them, of whatever the world is by now."""

    world: World

    async def do(self, command: str, arguments: Mapping[str, object], actor: Actor) -> object:
        return await ConsoleReports(self.world.reporter).do(command, arguments, actor)


@asynccontextmanager
async def console(path: Path, options: Options | None = None) -> AsyncIterator[World]:
    """A console on a new data directory with the catalog of the command tests."""
    directory = DataDirectory(path)
    directory.create()
    async with open_office(directory) as office:
        control = ControlServer(directory.control, partial(runner.run, office))
        await control.start()
        line = KeeperLine(directory.control)
        listener = socket.create_server(("127.0.0.1", 0))
        surroundings = Surroundings(directory.database, line, SECRET, options or Options())
        world = World("", office, surroundings)
        surroundings.reports = Reports(world)
        site = Site(surroundings)
        host, port = await site.start_on(listener)
        world.url = f"http://{host}:{port}"
        try:
            await world.do("catalog apply", document=DOCUMENT)
            yield world
        finally:
            for browser in world.browsers:
                await browser.__aexit__(None, None, None)
            await site.stop()
            listener.close()
            await line.close()
            await control.stop()


def in_console(
    path: Path, test: Callable[[World], Awaitable[Any]], options: Options | None = None
) -> Any:
    """Run `test` with a console."""

    async def run() -> Any:
        async with console(path, options) as world:
            return await test(world)

    return asyncio.run(asyncio.wait_for(run(), 45))
