from pathlib import Path

from proxy.core.attempts import ACCOUNT
from proxy.edge.console.own_proof import SIGN_IN_ANEW
from proxy.edge.console.pages_sign_in import WRONG_PASSWORD
from tests.edge.console.people import PASSWORD, Place, in_place


def test_guesses_at_a_form_of_ones_own_are_counted_as_at_the_door(tmp_path: Path) -> None:
    async def test(place: Place) -> None:
        await place.registered()
        ann = await place.signed_in()
        for _ in range(ACCOUNT.free):
            page = await ann.post("/account/delete", sure="1", password="guess")
            assert (page.status, WRONG_PASSWORD in page.text) == (422, True)
        await ann.post("/account/delete", sure="1", password="guess")
        page = await ann.post("/account/delete", sure="1", password=PASSWORD)
        assert page.status == 429
        assert int(page.headers["retry-after"]) > 0
        assert SIGN_IN_ANEW not in page.text

    in_place(tmp_path, test)
