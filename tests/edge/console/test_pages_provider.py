"""Signing in by a provider. The provider is a stand-in of our own (stand_in_provider.py): what
others get wrong or do on purpose is played by it, by name."""

from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import jwt
import pytest
from structlog.testing import capture_logs

from proxy.edge.console import pages_provider, provider, sessions
from proxy.edge.console.surroundings import Options
from tests.edge.console.consoles import Browser, Page
from tests.edge.console.people import ANN, BOB, OPEN, Place, in_place, note_session
from tests.edge.console.stand_in_provider import (
    CLIENT,
    EC_KEY,
    OTHER_KEY,
    PUBLIC_PEM,
    SECRET,
    Claims,
    Spoil,
    StandIn,
    signed,
    stand_in,
)

Test = Callable[[Place, StandIn], Awaitable[Any]]


def with_provider(path: Path, test: Test, options: Options = OPEN) -> None:
    async def run(place: Place) -> None:
        word = path / "word"
        word.write_text(SECRET)
        word.chmod(0o600)
        async with stand_in() as there:
            place.world.surroundings.options = replace(
                options,
                console_url=place.world.url,
                oidc_issuer=there.url,
                oidc_client_id=CLIENT,
                oidc_client_secret_file=str(word),
                oidc_name="Work",
            )
            await test(place, there)

    in_place(path, run)


async def sent(browser: Browser, path: str = "/login/provider") -> str:
    """The answer's path on our site, which the provider sends the browser back with."""
    page = await browser.get(path, follow=False)
    assert page.status == 303, page.text
    elsewhere = Browser("", None, {})
    async with elsewhere:
        back = await elsewhere.get(page.headers["location"], follow=False)
    parts = urlsplit(back.headers["location"])
    return f"{parts.path}?{parts.query}"


async def come(browser: Browser, path: str = "/login/provider") -> Page:
    """There and back."""
    page = await browser.get(await sent(browser, path), follow=False)
    note_session(browser)
    return page


async def people(place: Place) -> list[str]:
    return [row["email"] for row in await place.world.do("person list")]


def test_who_the_provider_vouches_for_is_registered_and_signed_in(tmp_path: Path) -> None:
    async def test(place: Place, there: StandIn) -> None:
        browser = place.world.stranger()
        assert "Sign in with Work" in (await browser.get("/login?next=/usage")).text
        page = await come(browser, "/login/provider?next=/usage")
        assert (page.status, page.headers["location"]) == (303, "/usage")
        page = await browser.get("/")
        assert (ANN in page.text, "$1.50" in page.text) == (True, True)
        (asked,) = there.asked
        assert (asked["redirect_uri"], "prompt" in asked) == (
            place.world.url + "/login/callback", False,
        )  # fmt: skip
        # From now on the subject counts, whatever the address there is.
        there.person |= {"email": "new@example.com"}
        again = place.world.stranger()
        await come(again)
        assert ANN in (await again.get("/")).text
        assert await people(place) == [ANN]

    with_provider(tmp_path, test)


@pytest.mark.parametrize("registration", ["invitation", "closed"])
def test_nobody_is_registered_where_not_anybody_may(tmp_path: Path, registration: str) -> None:
    async def test(place: Place, _there: StandIn) -> None:
        browser = place.world.stranger()
        page = await come(browser)
        assert (page.status, browser.session) == (403, None)
        assert await people(place) == []
        await place.registered()
        assert (await come(browser)).status == 303

    with_provider(tmp_path, test, replace(OPEN, registration=registration))


def test_an_account_is_linked_by_an_address_that_both_have_confirmed(tmp_path: Path) -> None:
    async def test(place: Place, _there: StandIn) -> None:
        await place.registered()
        earlier = await place.signed_in()
        assert (await come(place.world.stranger())).status == 303
        assert ANN in (await earlier.get("/")).text
        assert (await place.signed_in()).session

    with_provider(tmp_path, test)


def test_who_registered_with_an_address_of_others_is_out_when_its_owner_comes(
    tmp_path: Path,
) -> None:
    async def test(place: Place, _there: StandIn) -> None:
        await place.registered(confirmed=False)
        thief = await place.signed_in()
        owner = place.world.stranger()
        assert (await come(owner)).status == 303
        assert ANN in (await owner.get("/")).text
        assert ANN not in (await thief.get("/")).text
        page = await thief.post("/login", email=ANN, password="correct horse battery")
        assert page.status != 303

    with_provider(tmp_path, test)


def claims(**changes: Any) -> Spoil:
    return Spoil(claims=lambda said: {
        name: value for name, value in (said | changes).items() if value is not None
    })  # fmt: skip


def token(make: Callable[[Claims], str]) -> Spoil:
    return Spoil(token=make)


def hs256_with_the_public_key(said: Claims) -> str:
    # The library refuses to make one; any attacker's does not.
    import base64
    import hmac
    import json

    from proxy.edge.console.sessions import ALGORITHM

    def part(value: object) -> str:
        return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()

    body = f"{part({'alg': ALGORITHM, 'kid': 'rsa', 'typ': 'JWT'})}.{part(said)}"
    seal = hmac.digest(PUBLIC_PEM, body.encode(), "sha256")
    return f"{body}.{base64.urlsafe_b64encode(seal).rstrip(b'=').decode()}"


HOSTILE: dict[str, tuple[Spoil, str]] = {
    "wrong nonce": (claims(nonce="another"), "nonce"),
    "no nonce": (claims(nonce=None), "nonce"),
    "nonce that is no text": (claims(nonce=7), "nonce"),
    "other audience": (claims(aud="another client"), "not good"),
    "several audiences without a party": (claims(aud=[CLIENT, "another"]), "azp"),
    "another party": (claims(aud=[CLIENT, "another"], azp="another"), "azp"),
    "other issuer": (claims(iss="https://other.example"), "not good"),
    "expired": (claims(exp=1_000_000_000), "expired"),
    "of the future": (claims(iat=4_000_000_000), "future"),
    "no expiry": (claims(exp=None), "not good"),
    "expiry that is no number": (claims(exp="never"), "no numbers"),
    "no subject": (claims(sub=None), "not good"),
    "empty subject": (claims(sub=""), "no subject"),
    "alg none": (token(lambda said: jwt.encode(said, "", algorithm="none")), "signed with none"),
    "HS256 with the public key": (token(hs256_with_the_public_key), "signed with HS256"),
    "another RSA key": (token(lambda said: signed(said, OTHER_KEY)), "not good"),
    "a key that is not named": (token(lambda said: signed(said, kid="mine")), "does not name"),
    "a key of another kind": (token(lambda said: signed(said, kid="ec")), "does not name"),
    "a key of another curve": (token(lambda said: signed(said, kid="long")), "does not name"),
    "RS512": (token(lambda said: signed(said, algorithm="RS512")), "signed with RS512"),
    "crit": (token(lambda said: signed(said, crit=["x"], x=1)), "crit"),
    "no token": (token(lambda _said: "nonsense"), "cannot be read"),
    "a token too long": (token(lambda said: signed(said) + "x" * 20_000), "no ID token"),
    "issuer of another name": (Spoil(metadata={"issuer": "https://other.example"}), "issuer"),
    "endpoint in the clear": (
        Spoil(metadata={"token_endpoint": "http://192.0.2.1/token"}), "with https",
    ),
    "answer of another provider": (Spoil(answer={"iss": "https://other.example"}), "iss"),
    "answer without a name": (
        Spoil(metadata={"authorization_response_iss_parameter_supported": True}), "iss",
    ),
    "no": (Spoil(answer={"error": "access_denied"}), "access_denied"),
    "no code": (Spoil(answer={"code": ""}), "no code"),
    "another code": (Spoil(answer={"code": "guessed"}), "status 400"),
    "another state": (Spoil(answer={"state": "another"}), "state"),
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_nobody_is_signed_in_by(tmp_path: Path, name: str) -> None:
    spoil, reason = HOSTILE[name]

    async def test(place: Place, there: StandIn) -> None:
        there.spoil = spoil
        await place.registered()
        browser = place.world.stranger()
        with capture_logs() as lines:
            if "issuer" in name or "endpoint" in name:
                if name == "other issuer":
                    page = await come(browser)
                else:
                    page = await browser.get("/login/provider", follow=False)
            else:
                page = await come(browser)
        assert (page.status, browser.session) == (403, None)
        assert "did not work" in page.text
        assert reason not in page.text.partition("<main")[2].replace("Sign in", "")
        (line,) = [line for line in lines if "nobody was signed in" in line["event"]]
        assert reason in line["reason"]

    with_provider(tmp_path, test)


@pytest.mark.parametrize("said", [False, None, "false", "true", 1])
def test_an_address_that_is_not_confirmed_there_is_nobodys(tmp_path: Path, said: object) -> None:
    async def test(place: Place, there: StandIn) -> None:
        await place.registered()
        there.person["email_verified"] = said
        browser = place.world.stranger()
        page = await come(browser)
        assert (page.status, browser.session) == (403, None)
        assert "does not vouch" in page.text
        assert await people(place) == [ANN]

    with_provider(tmp_path, test)


def test_an_elliptic_key_is_as_good_and_a_leeway_is_given(tmp_path: Path) -> None:
    async def test(place: Place, there: StandIn) -> None:
        there.spoil = token(lambda said: signed(said, EC_KEY, "ES256", kid="ec"))
        assert (await come(place.world.stranger())).status == 303
        there.spoil = Spoil(
            claims=lambda said: (
                said | {"aud": [CLIENT, "b"], "azp": CLIENT, "exp": said["iat"] - 5}
            ),
            metadata={"token_endpoint_auth_methods_supported": ["client_secret_post"]},
        )
        place.later(provider.KEPT_SECONDS + 1)
        clock = place.world.surroundings.clock
        place.world.surroundings.clock = lambda: clock() - provider.KEPT_SECONDS
        assert (await come(place.world.stranger())).status == 303

    with_provider(tmp_path, test)


def test_an_answer_counts_once_and_in_the_browser_that_asked(tmp_path: Path) -> None:
    async def test(place: Place, there: StandIn) -> None:
        browser = place.world.stranger()
        answer = await sent(browser)
        cookie = browser.cookies
        # Another browser has nothing to do with it: nobody signs a victim in as themselves.
        victim = place.world.stranger()
        assert (await victim.get(answer, follow=False)).status == 403
        # Nor has one that asked something else.
        await sent(victim)
        assert (await victim.get(answer, follow=False)).status == 403
        assert (await browser.get(answer, follow=False)).status == 303
        assert pages_provider.ASKED not in browser.cookies
        # State replayed: the same cookie and answer, as somebody may have copied both.
        copy = Browser(place.world.url, None, cookie)
        async with copy:
            with capture_logs() as lines:
                assert (await copy.get(answer, follow=False)).status == 403
        assert "answered already" in lines[-1]["reason"]
        assert len(there.codes) == 1

    with_provider(tmp_path, test)


def test_a_question_is_over_after_ten_minutes_and_is_no_session(tmp_path: Path) -> None:
    async def test(place: Place, _there: StandIn) -> None:
        browser = place.world.stranger()
        answer = await sent(browser)
        asked = browser.cookies[pages_provider.ASKED]
        assert sessions.read(place.world.surroundings.secret, asked, 0) is None
        place.later(pages_provider.ASKED_SECONDS + 1)
        assert (await browser.get(answer, follow=False)).status == 403
        for nonsense in ("", "x", "a.b.c"):
            forged = Browser(place.world.url, None, {pages_provider.ASKED: nonsense})
            async with forged:
                assert (await forged.get(answer, follow=False)).status == 403

    with_provider(tmp_path, test)


def test_nobody_is_sent_elsewhere_by_way_of_the_provider(tmp_path: Path) -> None:
    async def test(place: Place, _there: StandIn) -> None:
        page = await come(
            place.world.stranger(), "/login/provider?next=https%3A%2F%2Fevil.example%2F"
        )
        assert page.headers["location"] == "/"

    with_provider(tmp_path, test)


def test_keys_are_asked_for_once_and_again_when_a_new_one_is_named(tmp_path: Path) -> None:
    async def test(place: Place, there: StandIn) -> None:
        for _ in range(3):
            await come(place.world.stranger())
        assert there.key_questions == 1
        there.spoil = token(lambda said: signed(said, kid="new"))
        for _ in range(3):
            assert (await come(place.world.stranger())).status == 403
        assert there.key_questions == 1, "not more often than once a minute"
        place.later(provider.AGAIN_SECONDS + 1)
        there.spoil = Spoil()
        there.spoil = token(lambda said: signed(said | {"exp": said["exp"] + 600}, kid="new"))
        await come(place.world.stranger())
        assert there.key_questions == 2

    with_provider(tmp_path, test)


def test_who_has_no_password_proves_at_the_provider_that_it_is_still_them(tmp_path: Path) -> None:
    async def test(place: Place, there: StandIn) -> None:
        there.spoil = claims(auth_time=1_000_000_000)
        browser = place.world.stranger()
        await come(browser)
        # An old sign-in at the provider opens pages, not what is dangerous.
        page = await browser.get("/confirm?next=/password")
        assert "Sign in with Work" in page.text
        assert ("has no password" in page.text, 'name="password"' in page.text) == (True, False)
        again = "/login/provider?confirm=1&next=/password"
        assert (await come(browser, again)).status == 403
        there.spoil = Spoil()
        page = await come(browser, again)
        assert (page.status, page.headers["location"]) == (303, "/password")
        assert there.asked[-1]["prompt"] == "login"
        assert "New password" in (await browser.get("/password", follow=False)).text
        there.person = {"sub": "bob-8", "email": BOB, "email_verified": True}
        page = await come(browser, again)
        assert (page.status, "somebody else" in page.text) == (403, True)
        assert ANN in (await browser.get("/")).text
        stranger = place.world.stranger()
        page = await stranger.get(again, follow=False)
        assert page.headers["location"] == "/login"

    with_provider(tmp_path, test)


def test_a_provider_that_is_away_is_a_page_and_a_line(tmp_path: Path) -> None:
    async def test(place: Place, _there: StandIn) -> None:
        options = place.world.surroundings.options
        place.world.surroundings.options = replace(options, oidc_issuer="http://127.0.0.1:1")
        with capture_logs() as lines:
            page = await place.world.stranger().get("/login/provider", follow=False)
        assert (page.status, "did not work" in page.text) == (403, True)
        assert "openid-configuration" in lines[-1]["reason"]
        place.world.surroundings.options = replace(options, oidc_client_secret_file="/nowhere")
        page = await place.world.stranger().get("/login/provider", follow=False)
        assert page.status == 403

    with_provider(tmp_path, test)


def test_without_a_provider_there_is_no_such_page(tmp_path: Path) -> None:
    async def test(place: Place) -> None:
        browser = place.world.stranger()
        assert "/login/provider" not in (await browser.get("/login")).text
        for path in ("/login/provider", "/login/callback?state=x&code=y"):
            assert (await browser.get(path, follow=False)).status == 404

    in_place(tmp_path, test)
