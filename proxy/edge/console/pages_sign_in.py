"""Signing in and out, and giving one's password again for what is dangerous.

Rules: what a page says of a failure tells nobody who has an account; that one is disabled or not
confirmed is said to who knows its password. Nobody is sent off this site. This module must not know
how passwords are compared.
"""

from aiohttp import web

from proxy.core.actions.action import Role
from proxy.edge.console import letters, sign_in
from proxy.edge.console.hashing import BusyError
from proxy.edge.console.keeper_line import KeeperGoneError, Refused
from proxy.edge.console.languages import later as _
from proxy.edge.console.routes import Route
from proxy.edge.console.sign_in import BUSY, BUSY_SECONDS, WAIT, WRONG
from proxy.edge.console.visit import SESSION, Visit, local_path
from proxy.storage.reports import accounts

DISABLED = _("This account is disabled. Ask the operator of this relay.")
NOT_CONFIRMED = _(
    "This address is not confirmed yet. We have sent another mail with a link to confirm it."
)
SIGNED_OUT = _("You are signed out.")
WRONG_PASSWORD = _("This is not your password.")


async def login(visit: Visit) -> web.StreamResponse:
    """The form to sign in."""
    after = local_path(visit.request.query.get("next"))
    if visit.person is not None:
        return visit.redirect(after)
    return _login(visit, after=after)


async def log_in(visit: Visit) -> web.StreamResponse:
    """Sign somebody in who knows the password."""
    form = await visit.form()
    email, password = str(form.get("email", "")), str(form.get("password", ""))
    after = local_path(str(form.get("next", "/")))
    try:
        found = await sign_in.look(visit, email, password)
    except BusyError:
        return _busy(visit, _login(visit, email, after, BUSY, status=503))
    if found.wait:
        said = visit.texts(WAIT, seconds=found.wait)
        return waiting(_login(visit, email, after, said, status=429), found.wait)
    account = found.account
    if account is None:
        return _login(visit, email, after, WRONG, status=422)
    if not account.enabled:
        return _login(visit, email, after, DISABLED, status=422)
    if account.verified_at is None and visit.surroundings.options.confirms:
        await send_confirmation(visit, account.email)
        return _login(visit, email, after, NOT_CONFIRMED, status=422)
    try:
        await sign_in.begin(visit, account.id, account.password_hash, fresh=True)
    except Refused:
        return _login(visit, email, after, WRONG, status=422)
    if found.stale:
        await sign_in.make_hash_anew(visit, account, password)
    return visit.redirect(after)


async def log_out(visit: Visit) -> web.StreamResponse:
    """End this session, here and in the file."""
    if visit.person is not None:
        await visit.do("session revoke", session=visit.person.session)
    visit.remember(SESSION, "", 0)
    return visit.redirect("/", visit.texts(SIGNED_OUT))


async def confirm(visit: Visit) -> web.StreamResponse:
    """The form that asks for the password again."""
    after = local_path(visit.request.query.get("next"))
    if visit.confirmed:
        return visit.redirect(after)
    return await _confirm(visit, after)


async def do_confirm(visit: Visit) -> web.StreamResponse:
    """Believe for a few minutes that it is still the same person."""
    form, person = await visit.form(), visit.person
    if person is None:
        raise AssertionError("the route is for who is signed in")
    after = local_path(str(form.get("next", "/")))
    try:
        found = await sign_in.look(visit, person.email, str(form.get("password", "")))
    except BusyError:
        return _busy(visit, await _confirm(visit, after, BUSY, status=503))
    if found.wait:
        said = visit.texts(WAIT, seconds=found.wait)
        return waiting(await _confirm(visit, after, said, status=429), found.wait)
    if found.account is None or found.account.id != person.id:
        return await _confirm(visit, after, WRONG_PASSWORD, status=422)
    await visit.do_as_console("session confirm", person=person.id, session=person.session)
    return visit.redirect(after)


async def send_confirmation(visit: Visit, email: str) -> None:
    """Mail another link that confirms an address, if there is anything to confirm."""
    try:
        made = await visit.do_as_console("person verify again", email=email)
    except KeeperGoneError:
        return
    if made["token"] is not None:
        surroundings = visit.surroundings
        texts = surroundings.renderer.translator(made["language"] or visit.language)
        letter = letters.confirm_address(
            texts, email, surroundings.options.console_url, made["token"]
        )
        surroundings.accounts.outbox.put(letter, surroundings.options)


def waiting(response: web.Response, seconds: int) -> web.Response:
    """Say in the head too when to come again."""
    response.headers["retry-after"] = str(seconds)
    return response


def _busy(_visit: Visit, response: web.Response) -> web.Response:
    return waiting(response, BUSY_SECONDS)


def _login(
    visit: Visit, email: str = "", after: str = "/", error: str = "", status: int = 200
) -> web.Response:
    return visit.render(
        "account/login.html", status, email=email, after=after, error=visit.texts(error)
    )


async def _confirm(visit: Visit, after: str, error: str = "", status: int = 200) -> web.Response:
    person = visit.person
    if person is None:
        raise AssertionError("the route is for who is signed in")
    known = await accounts.credentials_of(await visit.reader(), person.id)
    return visit.render(
        "account/confirm.html",
        status,
        after=after,
        error=visit.texts(error),
        has_password=known is not None and known.password_hash is not None,
    )


ROUTES = (
    Route("GET", "/login", None, login),
    Route("POST", "/login", None, log_in),
    Route("POST", "/logout", None, log_out),
    Route("GET", "/confirm", Role.USER, confirm),
    Route("POST", "/confirm", Role.USER, do_confirm),
)
