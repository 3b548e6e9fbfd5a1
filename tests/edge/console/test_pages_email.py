from dataclasses import replace
from pathlib import Path

from proxy.core.attempts import MAILS as MAILS_RULE
from proxy.edge.console import own_proof, pages_email
from proxy.edge.console.pages_sign_in import WRONG_PASSWORD
from tests.edge.console.consoles import Page
from tests.edge.console.people import (
    ANN,
    BOB,
    MAILS,
    PASSWORD,
    Place,
    in_place,
    sign_in,
)

NEW = "new@example.com"
FORM = "/account/email"


def with_mails(place: Place) -> None:
    place.world.surroundings.options = replace(MAILS, console_url=place.world.url)


def without_address(page: Page, email: str) -> str:
    return page.text.replace(email, "…")


def test_the_new_address_is_proved_before_anything_changes(tmp_path: Path) -> None:
    async def test(place: Place) -> None:
        with_mails(place)
        await place.registered()
        here, there = await place.signed_in(), await place.signed_in()
        assert FORM in (await here.get("/account")).text
        page = await here.post(FORM, email=" New@example.com", password=PASSWORD)
        assert (page.status, NEW in page.text) == (200, True)
        to_new, to_old = place.post.letters
        assert (to_new.to, to_old.to) == (NEW, ANN)
        assert "set a new password" in to_old.text
        assert NEW not in to_old.text
        assert "token=" not in to_old.text
        place.post.letters.pop()
        token = place.post.token()
        # Opening the link changes nothing: a mail program may do that by itself.
        page = await place.world.stranger().get(f"/account/email/take?token={token}")
        assert (page.status, NEW in page.text) == (200, True)
        assert ANN in (await there.get("/account")).text
        page = await here.post("/account/email/take", token=token)
        assert (page.path, pages_email.CHANGED in page.text) == ("/account", True)
        assert NEW in page.text
        assert ANN not in (await there.get("/")).text
        assert (place.post.letters[-1].to, "address" in place.post.letters[-1].text) == (ANN, True)
        assert (await sign_in(place.world.stranger(), ANN, PASSWORD)).status == 422
        assert (await sign_in(place.world.stranger(), NEW, PASSWORD)).status == 303
        assert NEW in (await here.get("/wallet")).text
        for page in (
            await here.get(f"/account/email/take?token={token}"),
            await here.post("/account/email/take", token=token),
        ):
            assert page.status == 404

    in_place(tmp_path, test)


def test_who_opens_the_link_elsewhere_signs_in_with_it(tmp_path: Path) -> None:
    async def test(place: Place) -> None:
        with_mails(place)
        await place.registered()
        await place.registered(BOB)
        ann, bob = await place.signed_in(), await place.signed_in(BOB)
        await ann.post(FORM, email=NEW, password=PASSWORD)
        place.post.letters.pop()
        page = await bob.post("/account/email/take", follow=False, token=place.post.token())
        assert page.headers["location"] == "/login"
        assert BOB in (await bob.get("/account")).text
        assert ANN not in (await ann.get("/")).text

    in_place(tmp_path, test)


def test_nobody_learns_whether_an_address_is_taken(tmp_path: Path) -> None:
    async def test(place: Place) -> None:
        with_mails(place)
        await place.registered()
        await place.registered(BOB)
        ann = await place.signed_in()
        taken = await ann.post(FORM, email=BOB, password=PASSWORD)
        assert [letter.to for letter in place.post.letters] == [BOB, ANN]
        assert "token=" not in place.post.letters[0].text
        free = await ann.post(FORM, email=NEW, password=PASSWORD)
        assert (taken.status, free.status) == (200, 200)
        assert without_address(taken, BOB) == without_address(free, NEW)

    in_place(tmp_path, test)


def test_a_form_that_is_not_the_owners_or_no_address_changes_nothing(tmp_path: Path) -> None:
    async def test(place: Place) -> None:
        await place.registered()
        ann = await place.signed_in()
        page = await ann.post(FORM, email=NEW, password=PASSWORD)
        assert (page.status, pages_email.NO_MAILS in page.text) == (422, True)
        with_mails(place)
        ann = await place.signed_in()
        for email, password, said in (
            ("nonsense", PASSWORD, "not an e-mail address"),
            (ANN, PASSWORD, pages_email.SAME),
            (NEW, "wrong", WRONG_PASSWORD),
            (NEW, "", WRONG_PASSWORD),
        ):
            page = await ann.post(FORM, email=email, password=password)
            assert (page.status, said in page.text) == (422, True)
        assert not place.post.letters

    in_place(tmp_path, test)


def test_mails_to_strangers_are_counted(tmp_path: Path) -> None:
    async def test(place: Place) -> None:
        with_mails(place)
        await place.registered()
        ann = await place.signed_in()
        for number in range(MAILS_RULE.free):
            page = await ann.post(FORM, email=f"{number}@example.com", password=PASSWORD)
            assert page.status == 200
        await ann.post(FORM, email=NEW, password=PASSWORD)
        page = await ann.post(FORM, email=NEW, password=PASSWORD)
        assert page.status == 429
        assert int(page.headers["retry-after"]) > 0

    in_place(tmp_path, test)


def test_an_account_without_a_password_needs_a_sign_in_of_just_now(tmp_path: Path) -> None:
    async def test(place: Place) -> None:
        with_mails(place)
        ann = await place.world.signed_in(ANN)
        assert (await ann.get(FORM)).status == 200
        place.later(3_600)
        page = await ann.get(FORM, follow=False)
        assert page.headers["location"] == "/confirm?next=/account/email"
        page = await ann.post(FORM, email=NEW)
        assert (page.status, own_proof.SIGN_IN_ANEW in page.text) == (422, True)
        assert not place.post.letters

    in_place(tmp_path, test)
