from dataclasses import replace
from pathlib import Path

from proxy.edge.console import own_proof, pages_leave, visit
from proxy.edge.console.pages_sign_in import WRONG_PASSWORD
from tests.edge.console.people import (
    ANN,
    BOB,
    MAILS,
    PASSWORD,
    Place,
    in_place,
    sign_in,
)

PAGE = "/account/delete"


def test_an_account_is_deleted_by_its_owner_alone(tmp_path: Path) -> None:
    async def test(place: Place) -> None:
        place.world.surroundings.options = replace(MAILS, console_url=place.world.url)
        await place.registered(credit="1.50")
        here, there = await place.signed_in(), await place.signed_in()
        assert PAGE in (await here.get("/account")).text
        page = await here.get(PAGE)
        assert ("still has $1.50" in page.text, "stays with the operator" in page.text) == (
            True,
        ) * 2
        for sure, password, said in (
            ("", PASSWORD, pages_leave.NOT_SURE),
            ("1", "wrong", WRONG_PASSWORD),
            ("1", "", WRONG_PASSWORD),
        ):
            page = await here.post(PAGE, sure=sure, password=password)
            assert (page.status, said in page.text) == (422, True)
        assert ANN in (await there.get("/account")).text
        page = await here.post(PAGE, sure="1", password=PASSWORD)
        assert (page.path, pages_leave.DELETED in page.text) == ("/", True)
        assert visit.SESSION not in here.cookies
        assert ANN not in (await there.get("/")).text
        assert (await sign_in(place.world.stranger(), ANN, PASSWORD)).status == 422
        (letter,) = place.post.letters
        assert (letter.to, "deleted" in letter.text) == (ANN, True)
        (wallet,) = await place.world.do("user list")
        assert (wallet["name"], wallet["enabled"]) == ("deleted-1", False)

    in_place(tmp_path, test)


def test_who_has_to_hand_over_first_is_told(tmp_path: Path) -> None:
    async def test(place: Place) -> None:
        await place.registered()
        await place.world.do("person role", email=ANN, role="admin")
        ann = await place.signed_in()
        page = await ann.post(PAGE, sure="1", password=PASSWORD)
        assert (page.status, "last administrator" in page.text) == (422, True)
        assert ANN in (await ann.get("/account")).text

    in_place(tmp_path, test)


def test_an_account_without_a_password_needs_a_sign_in_of_just_now(tmp_path: Path) -> None:
    async def test(place: Place) -> None:
        ann = await place.world.signed_in(ANN)
        bob = await place.world.signed_in(BOB)
        page = await bob.post(PAGE, sure="1")
        assert pages_leave.DELETED in page.text
        place.later(3_600)
        page = await ann.get(PAGE, follow=False)
        assert page.headers["location"] == "/confirm?next=/account/delete"
        page = await ann.post(PAGE, sure="1")
        assert (page.status, own_proof.SIGN_IN_ANEW in page.text) == (422, True)
        assert ANN in (await ann.get("/account")).text

    in_place(tmp_path, test)
