import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from proxy.core.attempts import MAILS as MAILS_RULE
from proxy.edge.console import pages_team
from tests.edge.console.consoles import Browser
from tests.edge.console.people import ANN, BOB, MAILS, Place, in_place

KIM = "kim@example.com"


def token_in(text: str) -> str:
    found = re.search(r"/invitation\?token=(\w+)", text)
    assert found, text
    return found[1]


async def members(place: Place, team: str = "Research") -> dict[str, str]:
    return {row["email"]: row["role"] for row in await place.world.do("team list", user=team)}


async def a_team(place: Place) -> tuple[Browser, Browser, Browser]:
    """Ann's team, which Bob joined, and Kim, who has nothing to do with it."""
    for email in (ANN, BOB, KIM):
        await place.registered(email)
    ann, bob, kim = [await place.signed_in(email) for email in (ANN, BOB, KIM)]
    page = await ann.post("/team/create", name="Research")
    assert "Research" in page.text
    page = await ann.post("/team/invite", wallet="Research", email=BOB)
    assert (await bob.post("/invitation", token=token_in(page.text))).status == 200
    return ann, bob, kim


def test_a_team_is_made_joined_and_looked_at(tmp_path: Path) -> None:
    async def test(place: Place) -> None:
        ann, bob, kim = await a_team(place)
        assert await members(place) == {ANN: "owner", BOB: "member"}
        page = await ann.get("/team")
        assert (BOB in page.text, "/team/members/remove" in page.text) == (True, True)
        (team,) = [row for row in await place.world.do("user list") if row["name"] == "Research"]
        await bob.post("/wallet/choose", wallet=team["id"], next="/team")
        page = await bob.get("/team")
        assert (ANN in page.text, "/team/members/remove" in page.text) == (True, False)
        assert "/team/invite" not in page.text
        await kim.post("/wallet/choose", wallet=team["id"], next="/team")
        page = await kim.get("/team")
        assert ("Research" in page.text, ANN in page.text) == (False, False)

    in_place(tmp_path, test)


def test_a_link_is_shown_once_and_mailed_where_that_can_be(tmp_path: Path) -> None:
    async def test(place: Place) -> None:
        ann, _, _ = await a_team(place)
        place.world.surroundings.options = replace(MAILS, console_url=place.world.url)
        page = await ann.post("/team/invite", wallet="Research", email="new@example.com")
        assert pages_team.MAILED.format(email="new@example.com") in page.text
        (letter,) = place.post.letters
        assert token_in(letter.text) == token_in(page.text)
        assert token_in(letter.text) not in (await ann.get("/team")).text
        for number in range(MAILS_RULE.free):
            await ann.post("/team/invite", wallet="Research", email=f"{number}@example.com")
        page = await ann.post("/team/invite", wallet="Research", email="more@example.com")
        assert (page.status, "Too many tries" in page.text) == (429, True)
        assert len(place.post.letters) == MAILS_RULE.free + 1
        place.later(MAILS_RULE.seconds_max)
        page = await ann.post("/team/invite", wallet="Research", email="nonsense")
        assert (page.status, "not an e-mail" in page.text) == (422, True)

    in_place(tmp_path, test)


FORMS: list[tuple[str, dict[str, Any]]] = [
    ("/team/invite", {"email": KIM}),
    ("/team/invitations/revoke", {"invitation": 2}),
    ("/team/members/role", {"email": BOB, "role": "owner"}),
    ("/team/members/role", {"email": KIM, "role": "owner"}),
    ("/team/members/remove", {"email": ANN}),
    ("/team/members/remove", {"email": BOB}),
]


@pytest.mark.parametrize(("path", "fields"), FORMS, ids=str)
def test_neither_members_nor_strangers_change_a_team_by_naming_it(
    tmp_path: Path, path: str, fields: dict[str, Any]
) -> None:
    async def test(place: Place) -> None:
        ann, bob, kim = await a_team(place)
        await ann.post("/team/invite", wallet="Research")
        before = await members(place)
        for browser in (bob, kim):
            page = await browser.post(path, wallet="Research", **fields)
            assert page.status == 422
        assert await members(place) == before
        assert "whoever has the link" in (await ann.get("/team")).text
        # A team of others is as good as none.
        told = [(await kim.post(path, wallet=name, **fields)).text for name in ("Research", "None")]
        strip = re.compile("Research|None")
        assert strip.sub("", told[0]) == strip.sub("", told[1])

    in_place(tmp_path, test)


def test_members_leave_and_are_taken_out_and_the_last_owner_stays(tmp_path: Path) -> None:
    async def test(place: Place) -> None:
        ann, _, kim = await a_team(place)
        assert (await kim.post("/team/leave", wallet="Research")).status == 422
        page = await ann.post("/team/leave", wallet="Research")
        assert (page.status, "last owner" in page.text) == (422, True)
        await ann.post("/team/members/role", wallet="Research", email=BOB, role="owner")
        assert await members(place) == {ANN: "owner", BOB: "owner"}
        await ann.post("/team/leave", wallet="Research")
        assert await members(place) == {BOB: "owner"}
        page = await ann.post("/team/members/remove", wallet="Research", email=BOB)
        assert page.status == 422
        assert BOB in await members(place)

    in_place(tmp_path, test)


def test_an_invitation_is_taken_back_and_is_for_one(tmp_path: Path) -> None:
    async def test(place: Place) -> None:
        ann, _, kim = await a_team(place)
        page = await ann.post("/team/invite", wallet="Research", role="owner")
        token, number = token_in(page.text), page.field("invitation")
        for wrong in ("", "x", "9" * 30, "-1"):
            page = await ann.post("/team/invitations/revoke", wallet="Research", invitation=wrong)
            assert page.status == 422
        page = await ann.post("/team/invitations/revoke", wallet="Research", invitation=number)
        assert page.status == 200
        assert (await kim.get(f"/invitation?token={token}")).status == 404
        assert (await kim.post("/invitation", token=token)).status == 422
        assert KIM not in await members(place)

    in_place(tmp_path, test)


def test_a_name_that_cannot_be_is_said_at_its_field(tmp_path: Path) -> None:
    async def test(place: Place) -> None:
        ann, _, _ = await a_team(place)
        for name in ("Research", "", "a@b.c", "x" * 300):
            page = await ann.post("/team/create", name=name)
            assert (page.status, 'id="team-name-error"' in page.text) == (422, True)
        evil = '"><script>alert(1)'
        page = await ann.post("/team/create", name=evil)
        assert page.status == 200
        assert "<script>alert" not in page.text

    in_place(tmp_path, test)
