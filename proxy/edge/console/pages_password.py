"""Changing one's password, and setting a new one by a link.

Rules: who asks for a link gets the same answer whether an account is there or not. A link is used
up by the new password, not by being opened. A new password ends every other session, and its owner
gets a mail about it. This module must not know how passwords are kept.
"""

from aiohttp import web

from proxy.core.actions.action import Role
from proxy.core.emails import read_email
from proxy.core.passwords import weakness
from proxy.edge.console import letters, sign_in
from proxy.edge.console.hashing import BusyError
from proxy.edge.console.keeper_line import Refused
from proxy.edge.console.languages import later as _
from proxy.edge.console.own_proof import own_account, unproven
from proxy.edge.console.pages_sign_in import DISABLED, waiting
from proxy.edge.console.routes import Route
from proxy.edge.console.sign_in import BUSY, BUSY_SECONDS, WAIT
from proxy.edge.console.visit import Visit
from proxy.storage.one_time_links import Purpose
from proxy.storage.reports import accounts
from proxy.storage.reports.accounts import Credentials

CHANGED = _("Your password is changed. Every other session of yours has ended.")


async def change(visit: Visit) -> web.StreamResponse:
    """The form to change one's password."""
    account = await own_account(visit)
    if account.password_hash is None and not visit.confirmed:
        return visit.redirect("/confirm?next=/password")
    return _change(visit, account)


async def do_change(visit: Visit) -> web.StreamResponse:
    """Change one's password, knowing the one before."""
    form, account, person = await visit.form(), await own_account(visit), visit.person
    earlier, password = str(form.get("earlier", "")), str(form.get("password", ""))
    if person is None:
        raise AssertionError("the route is for who is signed in")
    weak = weakness(password, account.email)
    if weak is not None:
        return _change(visit, account, password_error=weak, status=422)
    if account.password_hash is None and not visit.confirmed:
        return visit.redirect("/confirm?next=/password")
    no = await unproven(visit, account, earlier)
    if no is not None:
        said = _change(visit, account, error=no.error, earlier_error=no.wrong, status=no.status)
        return waiting(said, no.wait) if no.wait else said
    try:
        password_hash = await visit.surroundings.accounts.hasher.hash(password)
    except BusyError:
        return waiting(_change(visit, account, error=BUSY, status=503), BUSY_SECONDS)
    await visit.do_as_console(
        "password set", person=account.id, password_hash=password_hash, keep=person.session
    )
    _tell(visit, account)
    return visit.redirect("/account", visit.texts(CHANGED))


async def reset(visit: Visit) -> web.StreamResponse:
    """The form that asks for a link."""
    return _reset(visit)


async def do_reset(visit: Visit) -> web.StreamResponse:
    """Mail a link to set a new password, if there is an account; the answer is the same."""
    form, surroundings = await visit.form(), visit.surroundings
    email = str(form.get("email", ""))
    try:
        to = read_email(email)
    except ValueError as error:
        return _reset(visit, email, str(error), status=422)
    wait = sign_in.may_ask_for_mail(visit)
    if wait:
        said = visit.texts(WAIT, seconds=wait)
        return waiting(_reset(visit, email, said, status=429), wait)
    if surroundings.options.mails:
        made = await visit.do_as_console("password forget", email=to)
        if made["token"] is not None:
            texts = surroundings.renderer.translator(made["language"] or visit.language)
            console = surroundings.options.console_url
            letter = letters.set_password(texts, to, console, made["token"])
            surroundings.accounts.outbox.put(letter, surroundings.options)
    return visit.render("account/look_for_mail.html", email=to)


async def choose(visit: Visit) -> web.StreamResponse:
    """The form to set a password by a link."""
    token = visit.request.query.get("token", "")
    account = await _by_link(visit, token)
    if account is None:
        return visit.render("account/gone.html", 404, again="/password/reset")
    return _choose(visit, account, token)


async def do_choose(visit: Visit) -> web.StreamResponse:
    """Set the password and sign in with it."""
    form = await visit.form()
    token, password = str(form.get("token", "")), str(form.get("password", ""))
    account = await _by_link(visit, token)
    if account is None:
        return visit.render("account/gone.html", 404, again="/password/reset")
    weak = weakness(password, account.email)
    if weak is not None:
        return _choose(visit, account, token, weak, status=422)
    try:
        password_hash = await visit.surroundings.accounts.hasher.hash(password)
    except BusyError:
        return waiting(_choose(visit, account, token, BUSY, status=503), BUSY_SECONDS)
    try:
        await visit.do_as_console("password reset", token=token, password_hash=password_hash)
    except Refused:
        return visit.render("account/gone.html", 404, again="/password/reset")
    # Who proved the address is no guesser any more.
    visit.surroundings.accounts.of_account.succeeded(account.email)
    _tell(visit, account)
    try:
        await sign_in.begin(visit, account.id, password_hash, fresh=True)
    except Refused:
        return visit.problem(403, visit.texts(DISABLED))
    return visit.redirect("/", visit.texts(CHANGED))


async def _by_link(visit: Visit, token: str) -> Credentials | None:
    reader = await visit.reader()
    return await accounts.credentials_by_link(reader, token, Purpose.PASSWORD, visit.now)


def _tell(visit: Visit, account: Credentials) -> None:
    surroundings = visit.surroundings
    if surroundings.options.mails and account.password_hash is not None:
        texts = surroundings.renderer.translator(account.language or visit.language)
        letter = letters.password_changed(texts, account.email, surroundings.options.console_url)
        surroundings.accounts.outbox.put(letter, surroundings.options)


def _change(
    visit: Visit,
    account: Credentials,
    *,
    error: str = "",
    earlier_error: str = "",
    password_error: str = "",
    status: int = 200,
) -> web.Response:
    texts = visit.texts
    return visit.render(
        "account/password.html",
        status,
        account=account,
        error=texts(error),
        earlier_error=texts(earlier_error),
        password_error=texts(password_error),
    )


def _reset(visit: Visit, email: str = "", error: str = "", status: int = 200) -> web.Response:
    return visit.render("account/reset.html", status, email=email, error=visit.texts(error))


def _choose(
    visit: Visit, account: Credentials, token: str, error: str = "", status: int = 200
) -> web.Response:
    return visit.render(
        "account/choose.html", status, account=account, token=token, error=visit.texts(error)
    )


ROUTES = (
    Route("GET", "/password", Role.USER, change),
    Route("POST", "/password", Role.USER, do_change),
    Route("GET", "/password/reset", None, reset),
    Route("POST", "/password/reset", None, do_reset),
    Route("GET", "/password/set", None, choose),
    Route("POST", "/password/set", None, do_choose),
)
