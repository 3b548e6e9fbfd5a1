import re
from pathlib import Path
from typing import Any

from proxy.edge.console import pages_tokens
from tests.edge.console.consoles import Browser, Page, World, in_console

TOKEN = re.compile(r'<code id="secret"[^>]*>(sa-\w+)</code>')


async def make(browser: Browser, **fields: str) -> Page:
    form: dict[str, Any] = {"name": "robot", "expires": "30d", **fields}
    return await browser.post("/account/tokens", **form)


def test_a_token_is_made_shown_once_and_revoked(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        ann = await world.signed_in("ann@example.com", wallet="ann")
        assert "No tokens yet" in (await ann.get("/account/tokens")).text
        empty = (await ann.get("/account/tokens/new")).text
        assert "keys:write" in empty
        assert "channels:write" not in empty, "what ann's role does not do"
        made = await make(ann, scopes="keys:write")
        found = TOKEN.search(made.text)
        assert found
        page = await ann.get("/account/tokens")
        assert "keys:write" in page.text
        assert found[1] not in page.text
        page = await ann.post("/account/tokens/1/revoke")
        assert "opens nothing any more" in page.text
        assert "revoked" in page.text

    in_console(tmp_path, test)
    assert pages_tokens.ROUTES


def test_what_is_wrong_is_said_at_its_field(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        ann = await world.signed_in("ann@example.com", wallet="ann")
        nameless = await make(ann, name=" ", scopes="keys:read")
        assert (nameless.status, "Give the token a name" in nameless.text) == (422, True)
        assert "Choose what the token is for" in (await make(ann)).text
        unknown = await make(ann, scopes="keys:all")
        assert (unknown.status, "there is no scope" in unknown.text) == (422, True)
        past = await make(ann, scopes="keys:read", expires="2001-01-01")
        assert "in the past" in past.text
        assert await world.do("token list", everybody=True) == []

    in_console(tmp_path, test)


def test_the_password_is_asked_for_before_a_token_is_made(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        ann = await world.signed_in("ann@example.com", wallet="ann")
        await world.office.keeper.note(lambda c: c.execute("UPDATE session SET confirmed_at = 0"))
        for page in (
            await ann.get("/account/tokens/new", follow=False),
            await ann.post("/account/tokens", follow=False, name="x", scopes="*:read"),
        ):
            assert page.status == 303
            assert page.headers["location"].startswith("/confirm?next=")
        assert await world.do("token list", everybody=True) == []

    in_console(tmp_path, test)


def test_tokens_of_others_are_an_admins_business(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        ann = await world.signed_in("ann@example.com", wallet="ann")
        eve = await world.signed_in("eve@example.com", wallet="ann")
        boss = await world.signed_in("boss@example.com", role="admin")
        await make(ann, scopes="keys:read")
        assert "keys:read" not in (await eve.get("/account/tokens")).text
        assert (await eve.post("/account/tokens/1/revoke")).status == 422
        assert (await eve.post("/operator/tokens/1/revoke")).status == 404
        assert (await world.do("token list", everybody=True))[0]["good"] is True
        listed = (await boss.get("/operator/tokens")).text
        assert "ann@example.com" in listed
        assert ">User<" in listed, "a role has its name in the reader's language"
        shown = (await boss.get("/operator/users/show?name=ann")).text
        assert ">User<" in shown
        assert "revoked" in (await boss.post("/operator/tokens/1/revoke")).text
        assert (await world.do("token list", everybody=True))[0]["good"] is False

    in_console(tmp_path, test)
