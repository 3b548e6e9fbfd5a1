"""What belongs to somebody else, asked for by its number or its name: it does not exist.

Ann owns the wallet `ann`, mia is a member of it, bob has a wallet of his own. Everything of ann's is
asked for by the two others, at every address and in every form that takes a name of something; what
is refused changes no row. Sessions: one begins with the password alone, whatever came before.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from proxy.core.ids import format_id
from proxy.edge.console import sessions, visit
from proxy.edge.console.surroundings import Options
from tests.edge.console.calls import Calls
from tests.edge.console.consoles import SECRET, Browser, World, in_console
from tests.integration.test_console_actions import rows_of

PASSWORD = "four words no one has"
SECRET_MARK = "canary-of-ann"


@dataclass(frozen=True, slots=True)
class Place:
    """Three readers, and what is ann's: by the kind of thing, its number or name."""

    world: World
    ann: Browser
    mia: Browser
    bob: Browser
    of_ann: dict[str, str]

    async def rows(self) -> dict[str, list[str]]:
        """Every row but the log of what was asked."""
        await self.world.do("ledger flush")
        return await asyncio.to_thread(rows_of, self.world.surroundings.database)


async def furnish(world: World) -> Place:
    ann = await world.signed_in("ann@example.com", wallet="ann")
    mia = await world.signed_in("mia@example.com", wallet="ann", rank="member")
    bob = await world.signed_in("bob@example.com", wallet="bob")
    calls = Calls(world)
    key = await calls.key("ann", SECRET_MARK, person=1)
    call = await calls.made(1, key, client_reference=SECRET_MARK)
    invited = await world.do("team invite", user="ann", email=f"{SECRET_MARK}@example.com")
    paid = await world.do(
        "payment begin", user="ann", provider="stripe", currency="usd", minor=500, rate="1"
    )
    await ann.post("/account/tokens", name=SECRET_MARK, scopes="*:read", expires="30d")
    of_ann = {
        "key": str(key),
        "call": format_id(call),
        "invitation": str(invited["invitation"] if "invitation" in invited else invited["id"]),
        "payment": str(paid["payment"]),
        "token": "1",
        "session": str(ann.session),
    }
    return Place(world, ann, mia, bob, of_ann)


def in_place(tmp_path: Path, test: Callable[[Place], Awaitable[None]]) -> None:
    async def run(world: World) -> None:
        await test(await furnish(world))

    in_console(tmp_path, run)


PAGES = {
    "key by its id": "/keys/{key}",
    "receipt by its id": "/usage/{call}",
    "receipt's file by its id": "/usage/{call}/receipt.json",
    "running call by its id": "/playground/progress?id={call}",
    "payment by its id": "/wallet/card/{payment}",
    "refund by the call's id": "/operator/refund/{call}",
    "wallet by its name": "/operator/users/show?name=ann",
    "correction by the wallet's name": "/operator/adjust?user=ann",
    "tokens of everybody": "/operator/tokens",
    "calls of everybody": "/operator/calls",
}
OWNERS_PAGES = ("payment by its id",)
"""What a member of the wallet may see, since they pay into it too."""


@pytest.mark.parametrize("name", PAGES)
def test_a_page_of_somebody_else_does_not_exist(tmp_path: Path, name: str) -> None:
    async def test(place: Place) -> None:
        path = PAGES[name].format(**place.of_ann)
        readers = [place.bob] if name in OWNERS_PAGES else [place.bob, place.mia]
        for reader in readers:
            page = await reader.get(path)
            # A call that nobody knows may be one that has not begun.
            assert page.status == 404 or page.text == '{"state": "unknown"}', (path, page.status)
            assert SECRET_MARK not in page.text

    in_place(tmp_path, test)


LISTS = (
    "/", "/keys", "/usage", "/usage/export.csv", "/usage/export.json", "/playground", "/selftest",
    "/account", "/account/tokens", "/models",
)  # fmt: skip


@pytest.mark.parametrize("path", LISTS)
def test_no_list_holds_what_is_somebody_elses(tmp_path: Path, path: str) -> None:
    async def test(place: Place) -> None:
        for reader in (place.bob, place.mia):
            for query in ("", "?key={key}", "?wallet=1", "?user=ann", "?person=1"):
                page = await reader.get(path + query.format(**place.of_ann))
                assert SECRET_MARK not in page.text, path + query

    in_place(tmp_path, test)


@pytest.mark.parametrize("path", ["/wallet", "/wallet/history.csv", "/team", "/usage"])
def test_a_wallet_is_not_chosen_by_its_number_in_a_cookie(tmp_path: Path, path: str) -> None:
    async def test(place: Place) -> None:
        for number in ("1", "01", " 1", "1 OR 1=1", "-1", "99999999999999999999"):
            cookies = {**place.bob.cookies, visit.WALLET: number}
            async with Browser(place.world.url, place.bob.session, cookies) as liar:
                page = await liar.get(path)
                assert page.status == 200
                assert SECRET_MARK not in page.text
                assert "ann@example.com" not in page.text

    in_place(tmp_path, test)


FORMS: dict[str, tuple[str, dict[str, str]]] = {
    "disable a key": ("/keys/{key}/disable", {}),
    "enable a key": ("/keys/{key}/enable", {}),
    "rotate a key": ("/keys/{key}/rotate", {"grace": "0"}),
    "delete a key": ("/keys/{key}/remove", {}),
    "change a key": ("/keys/{key}", {"name": "mine", "group": "default", "expires": "never"}),
    "borrow a key": ("/playground/lend", {"key": "{key}"}),
    "test with a key": ("/selftest", {"key": "{key}", "model": "m", "concurrency": "2"}),
    "end a session": ("/account/sessions/end", {"session": "{session}"}),
    "revoke a token": ("/account/tokens/{token}/revoke", {}),
    "take an invitation back": (
        "/team/invitations/revoke",
        {"wallet": "ann", "invitation": "{invitation}"},
    ),
    "the same from one's own wallet": (
        "/team/invitations/revoke",
        {"wallet": "bob", "invitation": "{invitation}"},
    ),
    "invite into a team": ("/team/invite", {"wallet": "ann", "email": "", "role": "owner"}),
    "make oneself an owner": (
        "/team/members/role",
        {"wallet": "ann", "email": "mia@example.com", "role": "owner"},
    ),
    "take a member out": ("/team/members/remove", {"wallet": "ann", "email": "ann@example.com"}),
    "refund a call": ("/operator/refund/{call}", {"reason": "x"}),
    "correct a balance": ("/operator/adjust", {"user": "ann", "amount": "5", "reason": "x"}),
    "become an administrator": (
        "/operator/people/role",
        {"email": "bob@example.com", "role": "admin"},
    ),
    "delete anybody's account": ("/operator/people/delete", {"email": "ann@example.com"}),
    "revoke anybody's token": ("/operator/tokens/{token}/revoke", {}),
}


@pytest.mark.parametrize("name", FORMS)
def test_a_form_about_something_of_somebody_else_changes_nothing(tmp_path: Path, name: str) -> None:
    async def test(place: Place) -> None:
        path, fields = FORMS[name]
        sent = {field: text.format(**place.of_ann) for field, text in fields.items()}
        before = await place.rows()
        for reader in (place.bob, place.mia):
            page = await reader.ask(
                "POST",
                path.format(**place.of_ann),
                {**sent, "csrf": reader.token},
                {"origin": place.world.url},
            )
            assert SECRET_MARK not in page.text, (page.status, page.text)
        assert await place.rows() == before

    in_place(tmp_path, test)


OWN = (
    "disable a key",
    "rotate a key",
    "delete a key",
    "change a key",
    "borrow a key",
    "end a session",
    "revoke a token",
    "take an invitation back",
    "make oneself an owner",
)


@pytest.mark.parametrize("name", OWN)
def test_the_same_form_of_the_owner_changes_something(tmp_path: Path, name: str) -> None:
    """Else nothing above would mean anything."""

    async def test(place: Place) -> None:
        path, fields = FORMS[name]
        sent = {field: text.format(**place.of_ann) for field, text in fields.items()}
        before = await place.rows()
        await place.ann.post(path.format(**place.of_ann), follow=False, **sent)
        assert await place.rows() != before

    in_place(tmp_path, test)


def registered(world: World) -> Awaitable[object]:
    """Ann, with a password, and signed out again."""

    async def register() -> None:
        browser = world.stranger()
        await browser.get("/register")
        page = await browser.post("/register", email="ann@example.com", password=PASSWORD)
        assert page.status == 200, page.text

    return register()


OPEN = Options(registration="open")


def test_a_session_given_before_the_password_is_not_the_one_after_it(tmp_path: Path) -> None:
    """Session fixation: whoever put a cookie into the browser knows nothing of what follows."""

    async def test(world: World) -> None:
        await registered(world)
        planted = sessions.issue(SECRET, "planted-session", 1, world.office.clock())
        jar = {visit.SESSION: planted, visit.VISITOR: "planted-visitor"}
        async with Browser(world.url, None, jar) as victim:
            assert "ann@example.com" not in (await victim.get("/")).text
            page = await victim.post("/login", email="ann@example.com", password=PASSWORD)
            assert page.status == 200, page.text
            fresh = victim.cookies[visit.SESSION]
        claim = sessions.read(SECRET, fresh, world.office.clock())
        assert claim is not None
        assert claim.session not in {"planted-session", "planted-visitor"}
        async with Browser(world.url, None, {visit.SESSION: planted}) as thief:
            assert "ann@example.com" not in (await thief.get("/")).text

    in_console(tmp_path, test, OPEN)


def test_each_sign_in_is_a_session_of_its_own_and_signing_out_ends_it(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        await registered(world)
        found = set()
        for _ in range(2):
            browser = world.stranger()
            await browser.get("/login")
            await browser.post("/login", email="ann@example.com", password=PASSWORD)
            found.add(browser.cookies[visit.SESSION])
            kept = {visit.SESSION: browser.cookies[visit.SESSION]}
            claim = sessions.read(SECRET, kept[visit.SESSION], world.office.clock())
            assert claim is not None
            browser.session = claim.session
            await browser.post("/logout")
            async with Browser(world.url, claim.session, kept) as thief:
                assert "ann@example.com" not in (await thief.get("/")).text
        assert len(found) == 2

    in_console(tmp_path, test, OPEN)


@pytest.mark.parametrize(
    "target", ["https://evil.example/", "//evil.example", "/\\evil.example", "javascript:alert(1)"]
)
def test_signing_in_leads_to_no_other_site(tmp_path: Path, target: str) -> None:
    async def test(world: World) -> None:
        await registered(world)
        browser = world.stranger()
        page = await browser.ask("GET", "/login?next=" + target, None, {}, follow=False)
        assert f'value="{target}"' not in page.text
        page = await browser.post(
            "/login", follow=False, email="ann@example.com", password=PASSWORD, next=target
        )
        where = page.headers["location"]
        assert where.startswith("/")
        assert not where.startswith(("//", "/\\"))

    in_console(tmp_path, test, OPEN)


def test_whether_an_account_exists_is_not_told_to_who_cannot_sign_in(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        await registered(world)
        told = []
        for email in ("ann@example.com", "nobody@example.com"):
            browser = world.stranger()
            await browser.get("/login")
            page = await browser.post("/login", email=email, password="wrong words altogether")
            told.append((page.status, page.text.replace(email, "").replace(browser.token, "")))
        assert told[0] == told[1]

    in_console(tmp_path, test, OPEN)
