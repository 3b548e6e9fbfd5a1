import re
from dataclasses import replace
from pathlib import Path

from proxy.edge.console import pages_people, sessions
from tests.edge.console.consoles import Browser
from tests.edge.console.people import ANN, BOB, MAILS, PASSWORD, Place, in_place, sign_in

BOSS, HAND = "boss@example.com", "hand@example.com"
PEOPLE = "/operator/people"


async def staff(place: Place) -> tuple[Browser, Browser]:
    """An administrator and an operator."""
    for email, role in ((BOSS, "admin"), (HAND, "operator")):
        await place.registered(email)
        await place.world.do("person role", email=email, role=role)
    return await place.signed_in(BOSS), await place.signed_in(HAND)


async def row(place: Place, email: str) -> dict[str, object]:
    (found,) = await place.world.do("person list", text=email)
    return dict(found)


def test_people_are_added_and_set_their_password_by_a_link(tmp_path: Path) -> None:
    async def test(place: Place) -> None:
        boss, _ = await staff(place)
        page = await boss.post(f"{PEOPLE}/add", email=ANN, role="operator")
        found = re.search(r"/password/set\?token=\w+", page.text)
        assert found
        assert (await row(place, ANN))["role"] == "operator"
        assert found[0] not in (await boss.get(PEOPLE)).text
        ann = place.world.stranger()
        token = (await ann.get(found[0])).field("token")
        page = await ann.post("/password/set", follow=False, token=token, password=PASSWORD)
        assert page.status == 303
        page = await boss.post(f"{PEOPLE}/add", email=ANN)
        assert (page.status, "an account already" in page.text) == (422, True)
        page = await boss.post(f"{PEOPLE}/link", email=ANN)
        assert re.search(r"/password/set\?token=\w+", page.text)

    in_place(tmp_path, test)


def test_an_operator_sees_and_invites_people_and_changes_none(tmp_path: Path) -> None:
    async def test(place: Place) -> None:
        _, hand = await staff(place)
        await place.registered()
        page = await hand.get(PEOPLE)
        assert (ANN in page.text, f"{PEOPLE}/role" in page.text) == (True, False)
        for path, email in (
            ("add", BOB), ("link", BOSS), ("role", HAND), ("disable", BOSS), ("enable", ANN),
        ):  # fmt: skip
            page = await hand.post(f"{PEOPLE}/{path}", email=email, role="admin")
            assert (page.status, "password/set" in page.text) == (422, False), path
        assert (await row(place, HAND))["role"] == "operator"
        assert (await row(place, BOSS))["enabled"] is True
        page = await hand.post(f"{PEOPLE}/invite", email=BOB)
        assert "/invitation?token=" in page.text
        number = page.field("invitation")
        assert (await hand.post(f"{PEOPLE}/invitations/revoke", invitation=number)).status == 200
        page = await hand.post(f"{PEOPLE}/invite", email="nonsense")
        assert page.status == 422

    in_place(tmp_path, test)


def test_who_is_disabled_is_out_at_once_and_may_come_back(tmp_path: Path) -> None:
    async def test(place: Place) -> None:
        boss, _ = await staff(place)
        await place.registered()
        ann = await place.signed_in()
        page = await boss.post(f"{PEOPLE}/disable", email=ANN)
        assert pages_people.DISABLED.format(email=ANN) in page.text
        assert ANN not in (await ann.get("/")).text
        await boss.post(f"{PEOPLE}/enable", email=ANN)
        assert (await sign_in(place.world.stranger(), ANN, PASSWORD)).status == 303
        page = await boss.post(f"{PEOPLE}/disable", email=BOSS)
        assert (page.status, "last administrator" in page.text) == (422, True)

    in_place(tmp_path, test)


def test_an_account_is_deleted_by_an_administrator(tmp_path: Path) -> None:
    async def test(place: Place) -> None:
        boss, hand = await staff(place)
        await place.registered(credit="1.50")
        ann = await place.signed_in()
        assert (await hand.post(f"{PEOPLE}/delete", email=ANN)).status == 404
        assert f"/delete?email={ANN.replace('@', '%40')}" in (await boss.get(PEOPLE)).text
        assert ANN in (await boss.get(f"{PEOPLE}/delete?email={ANN}")).text
        page = await boss.post(f"{PEOPLE}/delete", email=ANN)
        assert "deleted-3 ($1.50)" in page.text
        assert "deleted-3@deleted.invalid" in page.text
        assert "/delete?email=deleted-3" not in page.text
        assert ANN not in (await ann.get("/")).text
        page = await boss.post(f"{PEOPLE}/delete", email=BOSS)
        assert (page.status, "last administrator" in page.text) == (422, True)

    in_place(tmp_path, test)


def test_a_role_takes_effect_with_the_next_page(tmp_path: Path) -> None:
    async def test(place: Place) -> None:
        boss, hand = await staff(place)
        await boss.post(f"{PEOPLE}/role", email=HAND, role="user")
        assert (await hand.get(PEOPLE)).status == 404
        await boss.post(f"{PEOPLE}/role", email=HAND, role="emperor")
        assert (await row(place, HAND))["role"] == "user"

    in_place(tmp_path, test)


def test_what_is_dangerous_asks_for_the_password_again(tmp_path: Path) -> None:
    async def test(place: Place) -> None:
        boss, _ = await staff(place)
        place.later(sessions.CONFIRMED_SECONDS + 1)
        for path in ("add", "link", "role", "disable", "enable"):
            page = await boss.post(f"{PEOPLE}/{path}", follow=False, email=HAND, role="admin")
            assert page.headers["location"].startswith("/confirm"), path
        assert (await row(place, HAND))["role"] == "operator"

    in_place(tmp_path, test)


def test_people_are_found_and_paged(tmp_path: Path) -> None:
    async def test(place: Place) -> None:
        _, hand = await staff(place)
        for number in range(pages_people.ROWS):
            await place.world.do("person add", email=f"p{number}@example.com")
        page = await hand.get(PEOPLE)
        assert BOSS not in page.text.partition("<main")[2]
        older = re.search(rf"{PEOPLE}\?find=&amp;before=(\d+)", page.text)
        assert older
        assert BOSS in (await hand.get(f"{PEOPLE}?before={older[1]}")).text
        page = await hand.get(f"{PEOPLE}?find=P49%40&before=x")
        assert ("p49@example.com" in page.text, "p48@example.com" in page.text) == (True, False)
        assert "Nobody is here" in (await hand.get(f"{PEOPLE}?find=%25")).text

    in_place(tmp_path, test)


def test_an_invitation_is_mailed_where_that_can_be(tmp_path: Path) -> None:
    async def test(place: Place) -> None:
        _, hand = await staff(place)
        place.world.surroundings.options = replace(MAILS, console_url=place.world.url)
        await hand.post(f"{PEOPLE}/invite", email=ANN)
        await hand.post(f"{PEOPLE}/invite", email="")
        assert [letter.to for letter in place.post.letters] == [ANN]
        assert f"{place.world.url}/invitation?token=" in place.post.letters[0].text

    in_place(tmp_path, test)
