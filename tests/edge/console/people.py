"""People who have passwords, and what a browser of theirs does, for the tests of accounts."""

import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import argon2

from proxy.edge.console import sessions, visit
from proxy.edge.console.accounts import Accounts
from proxy.edge.console.hashing import Hasher
from proxy.edge.console.mail import Letter, Outbox
from proxy.edge.console.surroundings import Options
from tests.edge.console.consoles import SECRET, Browser, Page, World, in_console

ANN, BOB = "ann@example.com", "bob@example.com"
PASSWORD = "correct horse battery"
OPEN = Options(registration="open", starting_credit="1.50")
MAILS = Options(
    registration="open",
    email_verification=True,
    starting_credit="1.50",
    smtp_host="mail.example.com",
    mail_from="relay@example.com",
    console_url="https://console.example.com",
)
"""Its cookies are for TLS, which these browsers take on plain ports as real ones do not."""


@dataclass
class Post(Outbox):
    """Keeps the mails instead of sending them (test_mail.py has the real ones)."""

    letters: list[Letter] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()

    def put(self, letter: Letter, options: object) -> None:
        self.letters.append(letter)

    def token(self) -> str:
        """The secret in the link of the latest mail."""
        found = re.search(r"token=(\w+)", self.letters[-1].text)
        assert found, self.letters[-1].text
        return found[1]


@dataclass
class Place:
    """A console, with hashes that cost little and mails that can be read."""

    world: World
    post: Post

    async def registered(self, email: str = ANN, password: str = PASSWORD, **more: Any) -> Any:
        """Somebody who registered and may sign in."""
        hash_ = await self.world.surroundings.accounts.hasher.hash(password)
        given = {"password_hash": hash_, "confirmed": True, **more}
        return await self.world.do("person register", email=email, **given)

    async def signed_in(self, email: str = ANN, password: str = PASSWORD) -> Browser:
        """A browser in which somebody signed in by the form."""
        browser = self.world.stranger()
        page = await sign_in(browser, email, password)
        assert (page.status, browser.session is not None) == (303, True), page.text
        return browser

    def later(self, seconds: float) -> None:
        """Let the console's clock be so much later."""
        clock = self.world.surroundings.clock
        self.world.surroundings.clock = lambda: clock() + seconds


async def sign_in(browser: Browser, email: str, password: str, **fields: object) -> Page:
    """Send the form of /login as a browser would; its session is known from then on."""
    await browser.get("/login")
    page = await browser.post("/login", follow=False, email=email, password=password, **fields)
    note_session(browser)
    return page


def note_session(browser: Browser) -> None:
    """Let the browser's forms carry the token of the session it has now."""
    token = browser.cookies.get(visit.SESSION) or browser.cookies.get(f"__Host-{visit.SESSION}")
    claim = sessions.read(SECRET, token, 0) if token else None
    browser.session = None if claim is None else claim.session


def in_place(path: Path, test: Callable[[Place], Awaitable[Any]], options: Options = OPEN) -> Any:
    """Run `test` with a console of people with passwords."""

    async def run(world: World) -> Any:
        post = Post()
        hasher = Hasher(argon2.profiles.CHEAPEST)
        world.surroundings.accounts = Accounts(hasher=hasher, outbox=post)
        return await test(Place(world, post))

    return in_console(path, run, options)
