from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from proxy.core.attempts import MAILS as MAILS_RULE
from proxy.edge.console import pages_register
from tests.edge.console.consoles import Browser, Page
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


async def register(browser: Browser, email: str = ANN, **fields: Any) -> Page:
    await browser.get("/register")
    page = await browser.post(
        "/register", follow=False, **{"email": email, "password": PASSWORD, **fields}
    )
    note_session(browser)
    return page


async def people(place: Place) -> list[str]:
    return [row["email"] for row in await place.world.do("person list")]


def with_mails(place: Place) -> None:
    # By plain HTTP, or these browsers would not send the cookies back.
    place.world.surroundings.options = replace(MAILS, console_url=place.world.url)


def test_who_registers_is_signed_in_with_the_starting_credit(tmp_path: Path) -> None:
    async def test(place: Place) -> None:
        browser = place.world.stranger()
        page = await register(browser, " Ann@Example.com")
        assert (page.status, page.headers["location"]) == (303, "/")
        page = await browser.get("/")
        assert ANN in page.text
        assert "$1.50" in page.text
        assert (await browser.get("/register", follow=False)).status == 303
        assert (await sign_in(place.world.stranger(), ANN, PASSWORD)).status == 303
        (row,) = await place.world.do("user list")
        assert row["name"] == ANN

    in_place(tmp_path, test)


def test_without_mails_a_taken_address_is_said_to_be(tmp_path: Path) -> None:
    async def test(place: Place) -> None:
        await place.registered(password="the first password")
        browser = place.world.stranger()
        page = await register(browser)
        assert (page.status, browser.session) == (422, None)
        assert pages_register.TAKEN in page.text
        assert (await sign_in(browser, ANN, PASSWORD)).status == 422
        assert (await sign_in(browser, ANN, "the first password")).status == 303

    in_place(tmp_path, test)


def test_with_mails_nobody_learns_that_an_address_is_taken_but_its_owner(tmp_path: Path) -> None:
    async def test(place: Place) -> None:
        with_mails(place)
        await place.registered()
        told = []
        for email in (ANN, BOB):
            browser = place.world.stranger()
            page = await register(browser, email)
            assert browser.session is None
            csrf = page.field("csrf")
            told.append((page.status, page.text.replace(email, "").replace(csrf, "")))
        assert told[0] == told[1]
        first, second = place.post.letters
        assert (first.to, second.to) == (ANN, BOB)
        assert "nothing was changed" in first.text
        assert "/verify?token=" in second.text

    in_place(tmp_path, test)


def test_the_link_of_the_mail_confirms_once_by_a_button_and_signs_nobody_in(
    tmp_path: Path,
) -> None:
    async def test(place: Place) -> None:
        with_mails(place)
        browser = place.world.stranger()
        await register(browser)
        token = place.post.token()
        assert place.post.letters[0].text.count(place.world.url) == 2
        for _ in range(2):  # whoever reads mails for viruses opens links
            page = await browser.get(f"/verify?token={token}")
            assert (page.status, ANN in page.text) == (200, True)
        assert (await sign_in(browser, ANN, PASSWORD)).status == 422
        page = await browser.post("/verify", token=token)
        assert (page.path, "confirmed" in page.text) == ("/login", True)
        assert browser.session is None
        for gone in (
            await browser.post("/verify", token=token),
            await browser.get(f"/verify?token={token}"),
            await browser.get("/verify"),
        ):
            assert (gone.status, "not good any more" in gone.text) == (404, True)
        assert (await sign_in(browser, ANN, PASSWORD)).status == 303
        assert "$1.50" in (await browser.get("/")).text

    in_place(tmp_path, test)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"email": "ann"}, "not an e-mail address"),
        ({"email": "ann@example.com\r\nbcc: x@example.com"}, "not an e-mail address"),
        ({"password": "short"}, "at least 10 characters"),
        ({"password": "x" * 2_000}, "at most 1,024 bytes"),
        ({"password": "Password123"}, "too easy to guess"),
        ({"password": "ann@example.com"}, "too easy to guess"),
    ],
)
def test_a_form_is_given_back_with_what_is_wrong(
    tmp_path: Path, fields: dict[str, str], said: str
) -> None:
    async def test(place: Place) -> None:
        page = await register(place.world.stranger(), **fields)
        assert (page.status, said in page.text) == (422, True)
        assert fields.get("password", PASSWORD) not in page.text.replace(ANN, "")
        assert await people(place) == []

    in_place(tmp_path, test)


def test_what_is_wrong_is_said_in_chinese_too(tmp_path: Path) -> None:
    async def test(place: Place) -> None:
        browser = place.world.stranger()
        await browser.get("/register")
        await browser.post("/preferences", language="zh")
        page = await register(browser, password="short")
        assert "密码至少 10 个字符" in page.text

    in_place(tmp_path, test)


def test_an_invitation_is_needed_where_operators_invite(tmp_path: Path) -> None:
    async def test(place: Place) -> None:
        browser = place.world.stranger()
        page = await browser.get("/register")
        assert ("by invitation" in page.text, 'name="password"' in page.text) == (True, False)
        assert (await register(browser)).status == 422
        made = await place.world.do("invitation add", email=ANN)
        page = await browser.get(made["link"])
        assert ("You are invited to this relay" in page.text, ANN in page.text) == (True, True)
        token = made["link"].rpartition("=")[2]
        page = await browser.get(f"/register?invitation={token}")
        assert page.field("email") == ANN
        assert (await register(browser, BOB, invitation=token)).status == 422
        assert (await register(browser, invitation=token)).status == 303
        assert "$1.50" in (await browser.get("/")).text
        other = place.world.stranger()
        assert (await register(other, BOB, invitation=token)).status == 422
        assert (await other.get(made["link"])).status == 404
        assert "is over" in (await other.get(f"/register?invitation={token}")).text
        assert await people(place) == [ANN]

    in_place(tmp_path, test, replace(OPEN, registration="invitation"))


def test_nobody_registers_where_it_is_closed(tmp_path: Path) -> None:
    async def test(place: Place) -> None:
        made = await place.world.do("invitation add")
        token = made["link"].rpartition("=")[2]
        browser = place.world.stranger()
        page = await browser.get(f"/register?invitation={token}")
        assert ("no new accounts" in page.text, 'name="password"' in page.text) == (True, False)
        assert (await register(browser, invitation=token)).headers["location"] == "/register"
        assert await people(place) == []

    in_place(tmp_path, test, replace(OPEN, registration="closed"))


def test_a_team_is_joined_by_who_is_signed_in_and_named(tmp_path: Path) -> None:
    async def test(place: Place) -> None:
        await place.registered()
        await place.registered(BOB)
        made = await place.world.do("team invite", user=ANN, email=BOB)
        token = made["link"].rpartition("=")[2]
        stranger = place.world.stranger()
        page = await stranger.get(made["link"])
        assert "/login?next=/invitation%3Ftoken%3D" in page.text
        ann = await place.signed_in()
        page = await ann.post("/invitation", token=token)
        assert (page.status, "another address" in page.text) == (422, True)
        bob = await place.signed_in(BOB)
        assert "Join the team" in (await bob.get(made["link"])).text
        page = await bob.post("/invitation", follow=False, token=token)
        assert page.headers["location"] == "/team"
        rows = await place.world.do("team list", user=ANN)
        assert [row["email"] for row in rows] == [ANN, BOB]

    in_place(tmp_path, test)


def test_one_network_makes_a_few_accounts_and_then_waits(tmp_path: Path) -> None:
    async def test(place: Place) -> None:
        for number in range(MAILS_RULE.free + 1):
            await register(place.world.stranger(), f"{number}@example.com")
        page = await register(place.world.stranger())
        assert (page.status, int(page.headers["retry-after"]) > 1) == (429, True)
        assert len(await people(place)) == MAILS_RULE.free + 1

    in_place(tmp_path, test)
