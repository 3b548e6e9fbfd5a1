import asyncio
import http.cookies
from dataclasses import replace
from pathlib import Path

import argon2
import pytest
from structlog.testing import capture_logs

from proxy.core.attempts import ACCOUNT, ADDRESS, FORGET_SECONDS
from proxy.edge.console import pages_sign_in, sessions, visit
from proxy.edge.console.hashing import BusyError
from tests.edge.console.consoles import SECRET, Browser, Page
from tests.edge.console.people import (
    ANN,
    BOB,
    MAILS,
    OPEN,
    PASSWORD,
    Place,
    in_place,
    note_session,
    sign_in,
)


def cookie(page: Page, name: str = visit.SESSION) -> http.cookies.Morsel[str]:
    found: http.cookies.SimpleCookie = http.cookies.SimpleCookie()
    for line in page.headers.getall("set-cookie", []):  # type: ignore[attr-defined]  # CIMultiDict
        found.load(line)
    return found[name]


def test_who_knows_the_password_is_signed_in_and_goes_on(tmp_path: Path) -> None:
    async def test(place: Place) -> None:
        await place.registered()
        browser = place.world.stranger()
        assert (await browser.get("/usage", follow=False)).headers["location"] == (
            "/login?next=%2Fusage"
        )
        page = await sign_in(browser, " Ann@Example.com ", PASSWORD, next="/usage")
        assert (page.status, page.headers["location"]) == (303, "/usage")
        assert ANN in (await browser.get("/")).text
        assert (await browser.get("/login?next=/usage", follow=False)).headers["location"] == (
            "/usage"
        )

    in_place(tmp_path, test)


@pytest.mark.parametrize(
    "after", ["https://evil.example/", "//evil.example/", "/\\evil.example", "javascript:x", ""]
)
def test_nobody_is_sent_elsewhere_after_signing_in(tmp_path: Path, after: str) -> None:
    async def test(place: Place) -> None:
        await place.registered()
        page = await sign_in(place.world.stranger(), ANN, PASSWORD, next=after)
        assert page.headers["location"] in {"/", "/%5Cevil.example"}

    in_place(tmp_path, test)


def test_the_cookie_is_for_this_host_and_no_script(tmp_path: Path) -> None:
    async def test(place: Place) -> None:
        await place.registered()
        page = await sign_in(place.world.stranger(), ANN, PASSWORD)
        plain = cookie(page)
        assert plain["httponly"]
        assert (plain["samesite"], plain["path"], plain["domain"]) == ("Lax", "/", "")
        assert not plain["secure"]
        place.world.surroundings.options = replace(OPEN, console_url="https://console.example.com")
        browser = place.world.stranger()
        fresh = await browser.ask("GET", "/login", None, {})
        name = f"__Host-{visit.VISITOR}"
        visitor = cookie(fresh, name)
        form = {"email": ANN, "password": PASSWORD, "csrf": fresh.field("csrf")}
        headers = {"origin": browser.url, "cookie": f"{name}={visitor.value}"}
        page = await browser.ask("POST", "/login", form, headers, follow=False)
        secure = cookie(page, f"__Host-{visit.SESSION}")
        assert secure["secure"]
        assert secure["httponly"]
        assert (secure["samesite"], secure["path"], secure["domain"]) == ("Lax", "/", "")

    in_place(tmp_path, test)


def test_every_sign_in_is_a_new_session_and_ends_the_one_before(tmp_path: Path) -> None:
    async def test(place: Place) -> None:
        await place.registered()
        await place.registered(BOB)
        # A session that was put into the browser is not the one that is signed in.
        attacker = await place.signed_in(BOB)
        victim = Browser(place.world.url, attacker.session, attacker.cookies)
        async with victim:
            page = await victim.post("/login", follow=False, email=ANN, password=PASSWORD)
            assert page.status == 303
            before = attacker.session
            note_session(victim)
            assert victim.session != before
            assert ANN in (await victim.get("/")).text
        assert ANN not in (await attacker.get("/")).text
        assert (await attacker.get("/account", follow=False)).status in {303, 404}

    in_place(tmp_path, test)


def test_who_signs_out_is_out_everywhere_that_cookie_went(tmp_path: Path) -> None:
    async def test(place: Place) -> None:
        await place.registered()
        browser = await place.signed_in()
        copy = Browser(place.world.url, browser.session, browser.cookies)
        async with copy:
            assert ANN in (await copy.get("/")).text
            page = await browser.post("/logout", follow=False)
            assert (page.status, page.headers["location"]) == (303, "/")
            assert visit.SESSION not in browser.cookies
            assert ANN not in (await copy.get("/")).text
        browser.session = None
        assert (await browser.post("/logout", follow=False)).status == 303

    in_place(tmp_path, test)


def test_nobody_learns_who_has_an_account(tmp_path: Path) -> None:
    async def test(place: Place) -> None:
        await place.registered()
        await place.world.do("person add", email=BOB)
        told = []
        for email in (ANN, BOB, "nobody@example.com", "no address at all"):
            page = await sign_in(place.world.stranger(), email, "wrong password")
            assert page.status == 422
            told.append(page.text.replace(email, "").replace(page.field("csrf"), ""))
        assert len(set(told)) == 1
        assert "E-mail or password is wrong." in told[0]

    in_place(tmp_path, test)


def test_after_wrong_passwords_the_right_one_waits_too(tmp_path: Path) -> None:
    async def test(place: Place) -> None:
        await place.registered()
        await place.registered(BOB)
        browser = place.world.stranger()
        with capture_logs() as lines:
            for _ in range(ACCOUNT.free + 1):
                assert (await sign_in(browser, ANN, "wrong")).status == 422
        (line,) = lines
        assert (line["event"], line["address"]) == ("too many wrong passwords", "127.0.0.1")
        assert ANN not in repr(lines)
        page = await sign_in(browser, ANN.upper(), PASSWORD)
        assert page.status == 429
        assert 1 <= int(page.headers["retry-after"]) <= ACCOUNT.first_seconds + 1
        assert "Too many tries" in page.text
        assert browser.session is None
        # It is the account that waits: another one from the same place does not.
        assert (await sign_in(place.world.stranger(), BOB, PASSWORD)).status == 303
        place.later(ACCOUNT.first_seconds + 1)
        assert (await sign_in(browser, ANN, PASSWORD)).status == 303
        assert (await sign_in(place.world.stranger(), ANN, "wrong")).status == 422

    in_place(tmp_path, test)


def test_one_network_that_tries_many_accounts_waits(tmp_path: Path) -> None:
    async def test(place: Place) -> None:
        await place.registered()
        browser = place.world.stranger()
        for number in range(ADDRESS.free + 1):
            page = await sign_in(browser, f"{number}@example.com", "wrong")
            assert page.status == 422
        assert (await sign_in(browser, ANN, PASSWORD)).status == 429
        await browser.get("/login")
        form = {"email": ANN, "password": PASSWORD, "csrf": browser.token}
        headers = {"origin": browser.url, "x-forwarded-for": "192.0.2.9"}
        elsewhere = await browser.ask("POST", "/login", form, headers, follow=False)
        assert elsewhere.status == 303
        place.later(FORGET_SECONDS + 1)
        assert (await sign_in(place.world.stranger(), ANN, PASSWORD)).status == 303

    in_place(tmp_path, test)


def test_a_hundred_tries_at_once_are_a_few(tmp_path: Path) -> None:
    async def test(place: Place) -> None:
        await place.registered()
        browser = place.world.stranger()
        await browser.get("/login")
        pages = await asyncio.gather(
            *(browser.post("/login", follow=False, email=ANN, password="wrong") for _ in range(40))
        )
        looked_at = [page for page in pages if page.status == 422]
        assert len(looked_at) <= ACCOUNT.free + 1
        assert {page.status for page in pages} <= {422, 429}

    in_place(tmp_path, test)


def test_too_many_at_once_are_told_to_come_again_and_not_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def test(place: Place) -> None:
        await place.registered()
        accounts = place.world.surroundings.accounts

        async def busy(_known: object, _password: str) -> None:
            raise BusyError

        with monkeypatch.context() as patch:
            patch.setattr(accounts.hasher, "compare", busy)
            for _ in range(ACCOUNT.free + 5):
                page = await sign_in(place.world.stranger(), ANN, PASSWORD)
                assert (page.status, page.headers["retry-after"]) == (503, "5")
        assert len(accounts.of_account) == len(accounts.of_network) == 0
        assert (await sign_in(place.world.stranger(), ANN, PASSWORD)).status == 303

    in_place(tmp_path, test)


def test_who_is_disabled_is_told_so_if_they_know_the_password(tmp_path: Path) -> None:
    async def test(place: Place) -> None:
        await place.registered()
        browser = await place.signed_in()
        await place.world.do("person disable", email=ANN)
        assert ANN not in (await browser.get("/")).text
        page = await sign_in(place.world.stranger(), ANN, PASSWORD)
        assert (page.status, pages_sign_in.DISABLED in page.text) == (422, True)
        page = await sign_in(place.world.stranger(), ANN, "wrong")
        assert "disabled" not in page.text

    in_place(tmp_path, test)


def test_an_address_that_is_not_confirmed_gets_another_mail(tmp_path: Path) -> None:
    async def test(place: Place) -> None:
        place.world.surroundings.options = replace(MAILS, console_url=place.world.url)
        await place.registered(confirmed=False)
        browser = place.world.stranger()
        page = await sign_in(browser, ANN, "wrong")
        assert "not confirmed" not in page.text
        page = await sign_in(browser, ANN, PASSWORD)
        assert (page.status, "not confirmed" in page.text) == (422, True)
        assert [letter.to for letter in place.post.letters] == [ANN]
        await place.world.do("person verify", token=place.post.token())
        assert (await sign_in(browser, ANN, PASSWORD)).status == 303

    in_place(tmp_path, test)


def test_an_old_hash_is_made_anew_when_its_password_was_right(tmp_path: Path) -> None:
    async def test(place: Place) -> None:
        old = argon2.PasswordHasher(time_cost=2, memory_cost=8, parallelism=1).hash(PASSWORD)
        await place.world.do("person register", email=ANN, password_hash=old, confirmed=True)
        await place.signed_in()
        query = "SELECT password_hash FROM person"
        (row,) = await place.world.office.read(lambda c: c.execute(query).fetchall())
        assert row[0] != old
        assert (await place.signed_in()).session

    in_place(tmp_path, test)


def test_the_password_is_asked_for_again_where_it_is_dangerous(tmp_path: Path) -> None:
    async def test(place: Place) -> None:
        await place.registered()
        await place.registered(BOB)
        browser = await place.signed_in()
        page = await browser.get("/confirm?next=/usage", follow=False)
        assert page.headers["location"] == "/usage"
        place.later(sessions.CONFIRMED_SECONDS + 1)
        page = await browser.get("/confirm?next=/usage")
        assert "Is it still you?" in page.text
        page = await browser.post("/confirm", follow=False, password="wrong", next="/usage")
        assert (page.status, "not your password" in page.text) == (422, True)
        evil = await browser.post(
            "/confirm", follow=False, password=PASSWORD, next="https://evil.example/"
        )
        assert evil.headers["location"] == "/"

        async def confirmed_at() -> float:
            query = "SELECT confirmed_at FROM session WHERE id = ?"
            row = await place.world.office.read(
                lambda c: c.execute(query, (browser.session,)).fetchone()
            )
            return float(row[0])

        assert await confirmed_at() > place.world.office.clock() - 60
        stranger = place.world.stranger()
        assert (await stranger.get("/confirm", follow=False)).status == 303

    in_place(tmp_path, test)


def test_who_guesses_in_a_foreign_browser_waits_there_too(tmp_path: Path) -> None:
    async def test(place: Place) -> None:
        await place.registered()
        browser = await place.signed_in()
        place.later(sessions.CONFIRMED_SECONDS + 1)
        for _ in range(ACCOUNT.free + 1):
            assert (await browser.post("/confirm", follow=False, password="x")).status == 422
        page = await browser.post("/confirm", follow=False, password=PASSWORD)
        assert page.status == 429

    in_place(tmp_path, test)


def test_a_session_lives_on_while_it_is_used_and_is_over_at_last(tmp_path: Path) -> None:
    async def test(place: Place) -> None:
        await place.registered()
        browser = await place.signed_in()
        first = browser.cookies[visit.SESSION]
        place.later(sessions.TOKEN_SECONDS + 1)
        assert ANN in (await browser.get("/")).text
        second = browser.cookies[visit.SESSION]
        assert second != first
        claim = sessions.read(SECRET, second, place.world.surroundings.clock())
        assert claim is not None
        assert claim.session == browser.session
        place.later(15 * 86_400)
        assert ANN not in (await browser.get("/")).text

    in_place(tmp_path, test)
