"""One request as the pages see it: who asks, for which wallet, in which language.

Rules: a page gets everything from here and answers by `render`, `redirect` or `problem`; what a
cookie says is believed only as far as it is signed or looked up. A change is an action, asked for
in the reader's name (`do`). This module must not know any page.
"""

import asyncio
import contextlib
import json
import secrets
from base64 import urlsafe_b64decode, urlsafe_b64encode
from dataclasses import dataclass, field, replace
from functools import cache
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import Any, Final
from urllib.parse import urlsplit

from aiohttp import web
from multidict import MultiDictProxy

from proxy.core.actions.action import Actor, Role, Via
from proxy.edge.console import guard, languages, sessions
from proxy.edge.console.keeper_line import KeeperGoneError, Refused
from proxy.edge.console.languages import Translator
from proxy.edge.console.sessions import Person
from proxy.edge.console.surroundings import Surroundings
from proxy.storage.reader import Reader
from proxy.storage.reports import memberships
from proxy.storage.sign_ins import IDLE_SECONDS

SESSION: Final = "sluice-session"
VISITOR: Final = "sluice-visitor"
WALLET: Final = "sluice-wallet"
LANGUAGE: Final = "sluice-language"
THEME: Final = "sluice-theme"
NOTICE: Final = "sluice-notice"
THEMES: Final = ("auto", "light", "dark")
PREFERENCE_SECONDS: Final = 365 * 86_400
NOTICE_SECONDS: Final = 60
NOTICE_CHARS_MAX: Final = 1_000
BODY_SECONDS_MAX: Final = 60.0
"""How long a form may take to arrive, an upload of 32 MiB among them."""
_VISITOR_BYTES: Final = 16
_LIVE_ON_SECONDS: Final = 86_400.0
_NOTICE_USE: Final = b"notice"


@dataclass(slots=True)
class Visit:
    """A request and its reader; made by `see`. `wallet` is the one of `wallets` in use."""

    surroundings: Surroundings
    request: web.Request
    person: Person | None = None
    wallets: list[memberships.Wallet] = field(default_factory=list)
    wallet: memberships.Wallet | None = None
    language: str = languages.ENGLISH
    renewed: str | None = None
    """A session token to give the reader, in place of one whose time is over."""
    visitor: str = ""
    _cookies: dict[str, tuple[str, int]] = field(default_factory=dict)

    @property
    def role(self) -> Role | None:
        """The reader's role; None for who is not signed in."""
        return None if self.person is None else self.person.role

    @property
    def path(self) -> str:
        """The page's path, without its query."""
        return self.request.path

    @property
    def theme(self) -> str:
        """The reader's choice of colours."""
        found = self.said(THEME)
        return found if found in THEMES else THEMES[0]

    @property
    def notice(self) -> dict[str, str] | None:
        """What the page before had to say, once: `kind` and `text`."""
        return _open_notice(self.surroundings.secret, self.said(NOTICE))

    @property
    def csrf(self) -> str:
        """The token that this reader's forms carry."""
        reader = self.visitor if self.person is None else self.person.session
        return guard.token_for(self.surroundings.secret, reader)

    @property
    def texts(self) -> Translator:
        """`_()` in the reader's language."""
        return self.surroundings.renderer.translator(self.language)

    @property
    def now(self) -> float:
        """Unix seconds."""
        return self.surroundings.clock()

    @property
    def confirmed(self) -> bool:
        """Whether the password was given within the last minutes."""
        person = self.person
        return person is not None and self.now - person.confirmed_at < sessions.CONFIRMED_SECONDS

    @property
    def back(self) -> str:
        """Where to go on after a password was asked for: this page, or the one of this form."""
        if self.request.method in {"GET", "HEAD"}:
            return self.request.path_qs
        return local_path(self.request.headers.get("referer"), default=self.path)

    @property
    def address(self) -> str | None:
        """Where the reader is: what a trusted proxy in front says, else who is connected."""
        peer = self.request.remote
        said = self.request.headers.get("x-forwarded-for")
        if said is None or peer is None:
            return peer
        with contextlib.suppress(ValueError):
            here = ip_address(peer)
            trusted = _networks(self.surroundings.options.trusted_proxies)
            if any(here in network for network in trusted):
                return str(ip_address(said.rpartition(",")[2].strip()))
        return peer

    async def reader(self) -> Reader:
        """The connection pages read from. Raises sqlite3.Error."""
        return await self.surroundings.reader()

    async def form(self) -> MultiDictProxy[Any]:
        """The fields that were sent. Raises web.HTTPException: they cannot be read, or in time."""
        try:
            async with asyncio.timeout(BODY_SECONDS_MAX):
                return await self.request.post()
        except TimeoutError:
            raise web.HTTPRequestTimeout from None
        # No boundary, no such charset, not that charset; not the compression it says it has.
        except (ValueError, LookupError, web.RequestPayloadError) as error:
            raise web.HTTPBadRequest from error

    async def token_fault(self) -> str | None:
        """Why this form's token is not the reader's; None if it is."""
        given = self.request.headers.get("x-csrf-token") or (await self.form()).get("csrf")
        return None if guard.token_is(given, self.csrf) else guard.BAD_TOKEN

    async def do(self, action: str, /, **arguments: object) -> Any:
        """Ask for an action in the reader's name.

        Raises Refused, in the reader's language; KeeperGoneError.
        """
        person = self.person
        actor = Actor(
            role=Role.USER if person is None else person.role,
            name="visitor" if person is None else person.email,
            via=Via.CONSOLE,
            person=None if person is None else person.id,
            address=self.address,
        )
        return await self._ask(action, arguments, actor)

    async def do_as_console(self, action: str, /, **arguments: object) -> Any:
        """Ask for an action that only the console may ask for, having checked what proves it.

        Raises Refused, KeeperGoneError.
        """
        person = self.person
        actor = Actor(
            role=Role.ADMIN,
            name="console" if person is None else person.email,
            via=Via.CONSOLE,
            person=None if person is None else person.id,
            address=self.address,
        )
        return await self._ask(action, arguments, actor)

    async def _ask(self, action: str, arguments: dict[str, object], actor: Actor) -> object:
        try:
            return await self.surroundings.keeper.do(action, arguments, actor)
        except Refused as refused:
            raise refused.said_by(self.texts) from None

    def render(self, template: str, /, status: int = 200, **context: object) -> web.Response:
        """Answer with a page."""
        text = self.surroundings.renderer.render(
            template, language=self.language, visit=self, **context
        )
        return web.Response(text=text, status=status, content_type="text/html")

    def redirect(self, path: str, notice: str | None = None, kind: str = "success") -> web.Response:
        """Send the reader on to another page of ours, which shows the notice once."""
        if notice is not None:
            self.remember(NOTICE, _notice(self.surroundings.secret, notice, kind), NOTICE_SECONDS)
        return web.Response(status=303, headers={"location": local_path(path)})

    def problem(self, status: int, reason: str = "", remedy: str = "") -> web.Response:
        """Answer that it is not so: a page that says what is wrong and what to do."""
        return self.render("problem.html", status=status, code=status, reason=reason, remedy=remedy)

    def remember(self, name: str, value: str, seconds: int) -> None:
        """Give the reader a cookie with the answer; 0 seconds takes it away."""
        self._cookies[name] = (value, seconds)

    def take_leave(self, response: web.StreamResponse) -> None:
        """Put what the reader is to remember into an answer that has not begun."""
        if response.prepared:
            return
        shown = response.content_type == "text/html" and self.said(NOTICE) is not None
        if shown and NOTICE not in self._cookies:
            self.remember(NOTICE, "", 0)
        if self.renewed is not None and self.person is not None and SESSION not in self._cookies:
            left = int(self.person.session_expires_at - self.now)
            self.remember(SESSION, self.renewed, max(left, 1))
        if self.person is None and self.visitor != self.said(VISITOR):
            self.remember(VISITOR, self.visitor, PREFERENCE_SECONDS)
        for name, (value, seconds) in self._cookies.items():
            response.set_cookie(
                self.cookie(name),
                value,
                max_age=seconds,
                path="/",
                httponly=True,
                samesite="Lax",
                secure=self.surroundings.options.secure,
            )

    def cookie(self, name: str) -> str:
        """A cookie's full name: over TLS one that no other host and no plain page can set."""
        return f"__Host-{name}" if self.surroundings.options.secure else name

    def said(self, name: str) -> str | None:
        """What a cookie of ours says, if the reader has it."""
        return self.request.cookies.get(self.cookie(name))


async def see(surroundings: Surroundings, request: web.Request) -> Visit:
    """Find out who asks. Raises sqlite3.Error."""
    visit = Visit(surroundings, request)
    token = visit.said(SESSION)
    now = visit.now
    claim = None if token is None else sessions.read(surroundings.secret, token, now)
    if claim is not None:
        reader = await surroundings.reader()
        visit.person = await sessions.find_person(reader, claim, now)
        if visit.person is not None:
            if claim.stale:
                await _live_on(visit, visit.person)
                visit.renewed = sessions.issue(
                    surroundings.secret, claim.session, claim.person, now
                )
            visit.wallets = await memberships.of_person(reader, claim.person)
            chosen = visit.said(WALLET)
            named = [wallet for wallet in visit.wallets if str(wallet.id) == chosen]
            visit.wallet = next(iter(named or visit.wallets), None)
    visit.visitor = visit.said(VISITOR) or secrets.token_urlsafe(_VISITOR_BYTES)
    visit.language = languages.choose(
        cookie=visit.said(LANGUAGE),
        account=None if visit.person is None else visit.person.language,
        accept=request.headers.get("accept-language"),
    )
    return visit


async def _live_on(visit: Visit, person: Person) -> None:
    """Put the end of a session that is used off, once a day; a keeper that is away is no reason."""
    if person.session_expires_at - visit.now > IDLE_SECONDS - _LIVE_ON_SECONDS:
        return
    with contextlib.suppress(Refused, KeeperGoneError):
        made = await visit.do_as_console("session renew", session=person.session)
        visit.person = replace(person, session_expires_at=made["expires_at"])


@cache
def _networks(trusted: tuple[str, ...]) -> tuple[IPv4Network | IPv6Network, ...]:
    return tuple(ip_network(one, strict=False) for one in trusted)


def local_path(target: str | None, default: str = "/") -> str:
    """A path on this site out of what may be anything: no redirect ever leaves the console."""
    if target is None:
        return default
    try:
        parts = urlsplit(target)
    except ValueError:
        return default
    path = parts.path
    if not path.startswith("/") or path.startswith("//") or "\\" in target:
        return default
    # Bytes that were no UTF-8 (surrogates) have no place in an address of ours either.
    if any(ord(one) <= 0x20 or ord(one) == 0x7F or 0xD800 <= ord(one) < 0xE000 for one in target):
        return default
    return f"{path}?{parts.query}" if parts.query else path


def _notice(secret: bytes, text: str, kind: str) -> str:
    said = json.dumps({"kind": kind, "text": text[:NOTICE_CHARS_MAX]}).encode()
    body = urlsafe_b64encode(said).decode()
    return f"{body}.{guard.signature(secret, _NOTICE_USE, body)}"


def _open_notice(secret: bytes, cookie: str | None) -> dict[str, str] | None:
    body, _, token = (cookie or "").partition(".")
    if not body or not guard.token_is(token, guard.signature(secret, _NOTICE_USE, body)):
        return None
    found = json.loads(urlsafe_b64decode(body))
    return {"kind": str(found["kind"]), "text": str(found["text"])}
