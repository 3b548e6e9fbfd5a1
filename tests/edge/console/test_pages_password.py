from dataclasses import replace
from pathlib import Path

import pytest

from proxy.core.attempts import ACCOUNT
from proxy.core.attempts import MAILS as MAILS_RULE
from proxy.edge.console import pages_password, sessions
from tests.edge.console.consoles import Page
from tests.edge.console.people import (
    ANN,
    BOB,
    MAILS,
    PASSWORD,
    Place,
    in_place,
    note_session,
    sign_in,
)

NEW = "another fine password"


def with_mails(place: Place) -> None:
    place.world.surroundings.options = replace(MAILS, console_url=place.world.url)


async def asked(place: Place, email: str = ANN) -> Page:
    browser = place.world.stranger()
    await browser.get("/password/reset")
    return await browser.post("/password/reset", email=email)


def test_a_changed_password_ends_every_other_session(tmp_path: Path) -> None:
    async def test(place: Place) -> None:
        with_mails(place)
        await place.registered()
        here, there = await place.signed_in(), await place.signed_in()
        page = await here.post("/password", follow=False, earlier=PASSWORD, password=NEW)
        assert (page.status, page.headers["location"]) == (303, "/account")
        assert pages_password.CHANGED in (await here.get("/")).text
        assert ANN not in (await there.get("/")).text
        assert (await sign_in(place.world.stranger(), ANN, PASSWORD)).status == 422
        assert (await sign_in(place.world.stranger(), ANN, NEW)).status == 303
        (letter,) = place.post.letters
        assert (letter.to, "was changed" in letter.text) == (ANN, True)
        assert NEW not in letter.text

    in_place(tmp_path, test)


@pytest.mark.parametrize(
    ("earlier", "password", "said"),
    [
        ("wrong", NEW, "not your password"),
        (PASSWORD, "short", "at least 10 characters"),
        (PASSWORD, "qwertyuiop", "too easy"),
    ],
)
def test_a_password_is_not_changed_by_who_does_not_know_it_or_to_a_weak_one(
    tmp_path: Path, earlier: str, password: str, said: str
) -> None:
    async def test(place: Place) -> None:
        await place.registered()
        here, there = await place.signed_in(), await place.signed_in()
        page = await here.post("/password", follow=False, earlier=earlier, password=password)
        assert (page.status, said in page.text) == (422, True)
        assert ANN in (await there.get("/")).text
        assert (await sign_in(place.world.stranger(), ANN, PASSWORD)).status == 303

    in_place(tmp_path, test)


def test_who_guesses_the_present_password_waits(tmp_path: Path) -> None:
    async def test(place: Place) -> None:
        await place.registered()
        here = await place.signed_in()
        for _ in range(ACCOUNT.free + 1):
            assert (await here.post("/password", earlier="x", password=NEW)).status == 422
        page = await here.post("/password", follow=False, earlier=PASSWORD, password=NEW)
        assert (page.status, "retry-after" in page.headers) == (429, True)

    in_place(tmp_path, test)


def test_who_forgot_it_sets_a_new_one_by_a_link_that_is_good_once(tmp_path: Path) -> None:
    async def test(place: Place) -> None:
        with_mails(place)
        await place.registered()
        elsewhere = await place.signed_in()
        page = await asked(place)
        assert "sent a mail" in page.text
        token = place.post.token()
        browser = place.world.stranger()
        for _ in range(2):
            page = await browser.get(f"/password/set?token={token}")
            assert (page.status, ANN in page.text) == (200, True)
        page = await browser.post("/password/set", follow=False, token=token, password="short")
        assert (page.status, "at least 10" in page.text) == (422, True)
        assert ANN in (await elsewhere.get("/")).text
        page = await browser.post("/password/set", follow=False, token=token, password=NEW)
        assert (page.status, page.headers["location"]) == (303, "/")
        note_session(browser)
        assert ANN in (await browser.get("/")).text
        assert ANN not in (await elsewhere.get("/")).text
        other = place.world.stranger()
        await other.get("/")
        page = await other.post("/password/set", token=token, password="a third password")
        assert (page.status, "not good any more" in page.text) == (404, True)
        assert (await other.get(f"/password/set?token={token}")).status == 404
        assert (await sign_in(other, ANN, NEW)).status == 303

    in_place(tmp_path, test)


def test_a_link_is_over_after_an_hour_and_void_after_another_change(tmp_path: Path) -> None:
    async def test(place: Place) -> None:
        with_mails(place)
        await place.registered()
        await asked(place)
        first = place.post.token()
        await asked(place)
        second = place.post.token()
        browser = place.world.stranger()
        await browser.get("/")
        await browser.post("/password/set", follow=False, token=second, password=NEW)
        note_session(browser)
        assert (await browser.get(f"/password/set?token={first}")).status == 404
        await asked(place)
        third = place.post.token()
        assert (await browser.get(f"/password/set?token={third}")).status == 200
        place.later(3_601)
        assert (await browser.get(f"/password/set?token={third}")).status == 404

    in_place(tmp_path, test)


def test_who_asks_for_a_link_learns_nothing(tmp_path: Path) -> None:
    async def test(place: Place) -> None:
        with_mails(place)
        await place.registered()
        await place.registered("off@example.com")
        await place.world.do("person disable", email="off@example.com")
        told = []
        for email in (ANN, BOB, "off@example.com"):
            page = await asked(place, email)
            csrf = page.field("csrf")
            told.append((page.status, page.text.replace(email, "").replace(csrf, "")))
        assert len(set(told)) == 1
        assert [letter.to for letter in place.post.letters] == [ANN]
        page = await asked(place, "no address")
        assert (page.status, "not an e-mail" in page.text) == (422, True)

    in_place(tmp_path, test)


def test_the_link_leads_to_our_own_url_whatever_a_request_says(tmp_path: Path) -> None:
    async def test(place: Place) -> None:
        with_mails(place)
        await place.registered()
        browser = place.world.stranger()
        await browser.get("/password/reset")
        form = {"email": ANN, "csrf": browser.token}
        headers = {"origin": "http://evil.example", "host": "evil.example"}
        await browser.ask("POST", "/password/reset", form, headers)
        for letter in place.post.letters:
            assert "evil" not in letter.text

    in_place(tmp_path, test)


def test_mails_are_asked_for_a_few_times_and_then_one_waits(tmp_path: Path) -> None:
    async def test(place: Place) -> None:
        with_mails(place)
        await place.registered()
        for _ in range(MAILS_RULE.free + 1):
            assert (await asked(place)).status == 200
        page = await asked(place)
        assert (page.status, "retry-after" in page.headers) == (429, True)
        # One address gets fewer still.
        assert len(place.post.letters) == 5

    in_place(tmp_path, test)


def test_without_mails_the_operator_gives_the_link(tmp_path: Path) -> None:
    async def test(place: Place) -> None:
        await place.registered()
        browser = place.world.stranger()
        assert "sends no mails" in (await browser.get("/password/reset")).text
        assert "sends no mails" in (await asked(place)).text
        made = await place.world.do("person link", email=ANN)
        page = await browser.get(made["link"])
        assert page.status == 200
        token = page.field("token")
        page = await browser.post("/password/set", follow=False, token=token, password=NEW)
        assert page.status == 303

    in_place(tmp_path, test)


def test_a_link_brings_nobody_in_who_is_disabled(tmp_path: Path) -> None:
    async def test(place: Place) -> None:
        await place.registered()
        made = await place.world.do("person link", email=ANN)
        await place.world.do("person disable", email=ANN)
        browser = place.world.stranger()
        page = await browser.get(made["link"])
        token = page.field("token")
        page = await browser.post("/password/set", follow=False, token=token, password=NEW)
        assert (page.status, "disabled" in page.text) == (403, True)

    in_place(tmp_path, test)


def test_who_never_had_a_password_sets_one_when_they_proved_who_they_are(tmp_path: Path) -> None:
    async def test(place: Place) -> None:
        browser = await place.world.signed_in("kim@example.com", wallet="kim")
        page = await browser.get("/password")
        assert "Present password" not in page.text
        place.later(sessions.CONFIRMED_SECONDS + 1)
        page = await browser.get("/password", follow=False)
        assert page.headers["location"].startswith("/confirm")
        page = await browser.post("/password", follow=False, password=NEW)
        assert page.headers["location"].startswith("/confirm")
        place.later(-sessions.CONFIRMED_SECONDS)
        assert (await browser.post("/password", follow=False, password=NEW)).status == 303
        assert (await sign_in(place.world.stranger(), "kim@example.com", NEW)).status == 303

    in_place(tmp_path, test)
