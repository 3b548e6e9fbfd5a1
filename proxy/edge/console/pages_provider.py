"""Signing in with a provider: there and back.

Rules: what was asked is in a short-lived signed cookie of this browser, so that nobody can finish
in somebody's browser what was begun in another, and each answer counts once. What went wrong is in
the operator's log; the page says only that it did. This module must not know how tokens are read.
"""

import secrets
from pathlib import Path
from typing import Any, Final

import jwt
from aiohttp import web

from proxy.edge import log
from proxy.edge.console import sign_in
from proxy.edge.console.account_options import OPEN
from proxy.edge.console.keeper_line import Refused
from proxy.edge.console.languages import later as _
from proxy.edge.console.provider import Client, Identity, ProviderError, Question
from proxy.edge.console.routes import Route
from proxy.edge.console.sessions import ALGORITHM, CONFIRMED_SECONDS
from proxy.edge.console.visit import Visit, local_path
from proxy.storage.secret_files import read_word
from proxy.storage.secrets import SecretError

ASKED: Final = "sluice-provider"
"""The cookie of a question, and whom its token is for: it is no session, and none is a question."""
ASKED_SECONDS: Final = 600
CALLBACK: Final = "/login/callback"
NEXT_CHARS_MAX: Final = 1_000
FAILED = _("Signing in with {provider} did not work. Try again, or ask the operator of this relay.")
OTHER_PERSON = _("You signed in with {provider} as somebody else.")
_RANDOM_BYTES: Final = 32
_CLAIMS: Final = ("exp", "iat", "aud", "sub", "nonce", "verifier", "next", "session")


async def leave(visit: Visit) -> web.StreamResponse:
    """Send the browser to the provider, with a question that only its answer fits."""
    options, query = visit.surroundings.options, visit.request.query
    if not options.oidc_issuer:
        return visit.problem(404)
    session = ""
    if "confirm" in query:
        if visit.person is None:
            return visit.redirect("/login")
        session = visit.person.session
    state, nonce, verifier = (secrets.token_urlsafe(_RANDOM_BYTES) for _ in range(3))
    question = Question(state, nonce, verifier)
    try:
        provider = await visit.surroundings.accounts.provider_of(options.oidc_issuer)
        address = await provider.address(_client(visit), question, visit.now, again=bool(session))
    except (ProviderError, SecretError) as error:
        return _failed(visit, error)
    after = local_path(query.get("next"))[:NEXT_CHARS_MAX]
    visit.remember(ASKED, _sealed(visit, question, after, session), ASKED_SECONDS)
    return web.Response(status=303, headers={"location": address})


async def come_back(visit: Visit) -> web.StreamResponse:
    """Sign in whom the provider vouches for, or believe again that it is the same person."""
    options, accounts = visit.surroundings.options, visit.surroundings.accounts
    if not options.oidc_issuer:
        return visit.problem(404)
    cookie = visit.said(ASKED)
    visit.remember(ASKED, "", 0)
    asked = None if cookie is None else _opened(visit, cookie)
    if asked is None:
        return _failed(visit, ProviderError("nothing was asked in this browser, or long ago"))
    question = Question(asked["sub"], asked["nonce"], asked["verifier"])
    if not accounts.answered_once(question.state, visit.now, ASKED_SECONDS):
        return _failed(visit, ProviderError("this question was answered already (state)"))
    try:
        provider = await accounts.provider_of(options.oidc_issuer)
        found = await provider.identify(_client(visit), question, visit.request.query, visit.now)
        person = await _person(visit, found)
    except (ProviderError, SecretError, Refused) as error:
        return _failed(visit, error)
    proved = found.signed_in_at
    fresh = proved is not None and visit.now - proved < CONFIRMED_SECONDS
    after = local_path(asked["next"])
    if asked["session"]:
        return await _confirmed(visit, person, asked["session"], after, fresh=fresh)
    try:
        await sign_in.begin(visit, person, None, fresh=fresh)
    except Refused as refused:
        return _failed(visit, refused)
    return visit.redirect(after)


async def _person(visit: Visit, found: Identity) -> int:
    """The person of an identity, who is registered if anybody may. Raises Refused."""
    options = visit.surroundings.options
    made = await visit.do_as_console(
        "person identify",
        issuer=found.issuer,
        subject=found.subject,
        email=found.email,
        may_register=options.registration == OPEN,
        plan=options.default_plan or None,
        credit=options.starting_credit,
        language=visit.language,
    )
    return int(made["person"])


async def _confirmed(
    visit: Visit, person: int, session: str, after: str, *, fresh: bool
) -> web.Response:
    now = visit.person
    name = visit.surroundings.options.provider or ""
    if now is None or now.session != session or now.id != person:
        return visit.problem(403, visit.texts(OTHER_PERSON, provider=name))
    if not fresh:
        return _failed(visit, ProviderError("it does not say that they signed in anew (auth_time)"))
    await visit.do_as_console("session confirm", person=person, session=session)
    return visit.redirect(after)


def _client(visit: Visit) -> Client:
    options = visit.surroundings.options
    named = options.oidc_client_secret_file
    return Client(
        issuer=options.oidc_issuer,
        id=options.oidc_client_id,
        secret=read_word(Path(named)) if named else None,
        redirect=options.console_url + CALLBACK,
    )


def _sealed(visit: Visit, question: Question, after: str, session: str) -> str:
    claims = {
        "aud": ASKED,
        "iat": int(visit.now),
        "exp": int(visit.now) + ASKED_SECONDS,
        "sub": question.state,
        "nonce": question.nonce,
        "verifier": question.verifier,
        "next": after,
        "session": session,
    }
    return jwt.encode(claims, visit.surroundings.secret, algorithm=ALGORITHM)


def _opened(visit: Visit, cookie: str) -> dict[str, Any] | None:
    try:
        claims = jwt.decode(
            cookie,
            visit.surroundings.secret,
            algorithms=[ALGORITHM],
            audience=ASKED,
            options={"require": [*_CLAIMS], "verify_exp": False, "verify_iat": False},
        )
    except (jwt.PyJWTError, ValueError):
        return None
    return claims if visit.now < claims["exp"] else None


def _failed(visit: Visit, error: Exception) -> web.Response:
    if isinstance(error, Refused):
        # The keeper's word is about the reader's own account, and says what to do.
        return visit.problem(403, error.message, error.remedy)
    log.get().warning(
        "nobody was signed in by the provider",
        reason=str(error),
        remedy="see the oidc_ settings, and the provider's log",
        address=visit.address,
    )
    name = visit.surroundings.options.provider or ""
    return visit.problem(403, visit.texts(FAILED, provider=name))


ROUTES = (
    Route("GET", "/login/provider", None, leave),
    Route("GET", CALLBACK, None, come_back),
)
