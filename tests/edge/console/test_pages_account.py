from pathlib import Path

from proxy.edge.console import pages_account, sessions, visit
from proxy.storage.sign_ins import IDLE_SECONDS
from tests.edge.console.people import ANN, BOB, PASSWORD, Place, in_place, note_session


def test_the_sessions_of_an_account_are_ended_one_by_one_and_at_once(tmp_path: Path) -> None:
    async def test(place: Place) -> None:
        await place.registered()
        here, there = await place.signed_in(), await place.signed_in()
        page = await here.get("/account")
        assert ANN in page.text
        assert (page.text.count('/account/sessions/end"'), "this one" in page.text) == (2, True)
        page = await here.post("/account/sessions/end", session=there.session)
        assert pages_account.ENDED in page.text
        assert ANN not in (await there.get("/")).text
        page = await here.post("/account/sessions/end", follow=False, session=here.session)
        assert page.headers["location"] == "/"
        assert visit.SESSION not in here.cookies

    in_place(tmp_path, test)


def test_the_session_of_somebody_else_is_not_ended(tmp_path: Path) -> None:
    async def test(place: Place) -> None:
        await place.registered()
        await place.registered(BOB)
        ann, bob = await place.signed_in(), await place.signed_in(BOB)
        await bob.post("/account/sessions/end", session=ann.session)
        await bob.post("/account/sessions/end-all", follow=False)
        assert ANN in (await ann.get("/")).text
        assert BOB not in (await bob.get("/")).text

    in_place(tmp_path, test)


def test_one_signs_out_everywhere(tmp_path: Path) -> None:
    async def test(place: Place) -> None:
        await place.registered()
        browsers = [await place.signed_in() for _ in range(3)]
        page = await browsers[0].post("/account/sessions/end-all", follow=False)
        assert page.headers["location"] == "/"
        for browser in browsers:
            assert ANN not in (await browser.get("/")).text

    in_place(tmp_path, test)


def test_the_language_of_an_account_is_kept_for_pages_and_mails(tmp_path: Path) -> None:
    async def test(place: Place) -> None:
        await place.registered()
        browser = await place.signed_in()
        page = await browser.post("/account/language", language="zh")
        assert "语言已保存" in page.text
        elsewhere = await place.signed_in()
        assert "账户" in (await elsewhere.get("/account")).text
        page = await browser.post("/account/language", language="tlh")
        assert page.status == 200
        (row,) = await place.world.do("person list")
        assert row["language"] is None

    in_place(tmp_path, test)


def test_a_session_that_is_used_lives_on(tmp_path: Path) -> None:
    async def test(place: Place) -> None:
        await place.registered()
        browser = await place.signed_in()

        async def until() -> float:
            query = "SELECT expires_at FROM session"
            row = await place.world.office.read(lambda c: c.execute(query).fetchone())
            return float(row[0])

        # The keeper's clock did not move, so that what it sets is seen to be set.
        await place.world.office.keeper.note(
            lambda c: c.execute("UPDATE session SET expires_at = expires_at - 86400 * 2")
        )
        first = await until()
        assert ANN in (await browser.get("/")).text
        assert await until() == first
        place.later(sessions.TOKEN_SECONDS + 1)
        assert ANN in (await browser.get("/")).text
        assert await until() > first + 86_400
        assert IDLE_SECONDS > 7 * 86_400

    in_place(tmp_path, test)


def test_what_a_browser_calls_itself_is_shown_and_does_nothing(tmp_path: Path) -> None:
    async def test(place: Place) -> None:
        await place.registered()
        browser = place.world.stranger()
        await browser.get("/login")
        form = {"email": ANN, "password": PASSWORD, "csrf": browser.token}
        evil = "<script>alert(1)</script>" + "x" * 300
        headers = {"origin": browser.url, "user-agent": evil}
        page = await browser.ask("POST", "/login", form, headers, follow=False)
        assert page.status == 303
        note_session(browser)
        page = await browser.get("/account")
        assert "&lt;script&gt;alert(1)" in page.text
        await place.world.office.keeper.note(
            lambda c: c.execute("UPDATE session SET agent = 'Mozilla (Linux) Firefox/140.0'")
        )
        assert "Firefox, Linux" in (await browser.get("/account")).text
        assert "<script>alert" not in page.text

    in_place(tmp_path, test)
