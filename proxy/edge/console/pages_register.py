"""Registering, and confirming the address.

Rules: where addresses are confirmed by mail the answer is the same whether one is taken or not, and
its owner gets a mail that says so. Without that a new account is signed in at once, which shows it
anyway, so the page says plainly that the address is taken; how often somebody may ask is bounded. A
link is looked at when it is opened and used up only by a button, because mail servers open links.
This module must not know how passwords are kept.
"""

from typing import NamedTuple

from aiohttp import web

from proxy.core.actions.action import Role
from proxy.core.emails import NOT_AN_EMAIL, read_email
from proxy.core.passwords import TOO_LONG, TOO_SHORT, TOO_SIMPLE, weakness
from proxy.edge.console import letters, sign_in
from proxy.edge.console.account_options import CLOSED, INVITATION
from proxy.edge.console.hashing import BusyError
from proxy.edge.console.keeper_line import Refused
from proxy.edge.console.languages import later as _
from proxy.edge.console.pages_sign_in import waiting
from proxy.edge.console.routes import Route
from proxy.edge.console.sign_in import BUSY, BUSY_SECONDS, WAIT
from proxy.edge.console.visit import Visit
from proxy.storage.one_time_links import Purpose
from proxy.storage.reports import accounts

WORDS = {
    NOT_AN_EMAIL: _("This is not an e-mail address."),
    TOO_SHORT: _("A password has at least 10 characters."),
    TOO_LONG: _("A password has at most 1,024 bytes."),
    TOO_SIMPLE: _("This password is too easy to guess."),
}
"""What the core says of addresses and passwords, for the catalog of languages."""
TAKEN = _("There is an account with this address already. Sign in, or set a new password.")
CONFIRMED = _("Your address is confirmed. Sign in.")
NOT_THIS_ADDRESS = _("This invitation is for another address.")
JOINED = _("You are a member of {team} now.")


class Fields(NamedTuple):
    """What the form says, and what is wrong with it."""

    email: str = ""
    invitation: str = ""
    error: str = ""
    email_error: str = ""
    password_error: str = ""


async def register(visit: Visit) -> web.StreamResponse:
    """The form to register, or why there is none."""
    if visit.person is not None:
        return visit.redirect("/")
    token = visit.request.query.get("invitation", "")
    return await _form(visit, Fields(invitation=token))


async def do_register(visit: Visit) -> web.StreamResponse:
    """Make an account; who has to confirm their address is told to look for a mail."""
    form, options = await visit.form(), visit.surroundings.options
    fields = Fields(str(form.get("email", "")), str(form.get("invitation", "")))
    if options.registration == CLOSED or visit.person is not None:
        return visit.redirect("/register")
    wrong, password = _judged(visit, fields, str(form.get("password", "")))
    if wrong is not None:
        return await _form(visit, wrong, status=422)
    email = read_email(fields.email)
    wait = sign_in.may_ask_for_mail(visit)
    if wait:
        said = fields._replace(error=visit.texts(WAIT, seconds=wait))
        return waiting(await _form(visit, said, status=429), wait)
    try:
        password_hash = await visit.surroundings.accounts.hasher.hash(password)
    except BusyError:
        said = fields._replace(error=visit.texts(BUSY))
        return waiting(await _form(visit, said, status=503), BUSY_SECONDS)
    try:
        made = await visit.do_as_console(
            "person register",
            email=email,
            password_hash=password_hash,
            prove=options.confirms,
            plan=options.default_plan or None,
            credit=options.starting_credit,
            language=visit.language,
            invitation=fields.invitation or None,
            must_be_invited=options.registration == INVITATION,
        )
    except Refused as refused:
        return await _form(visit, fields._replace(error=refused.message), status=422)
    if options.confirms and (made["person"] is None or made["token"] is not None):
        _send(visit, email, made.get("token"))
        return visit.render("account/look_for_mail.html", email=email)
    if made["person"] is None:
        return await _form(visit, fields._replace(email_error=visit.texts(TAKEN)), status=422)
    await sign_in.begin(visit, made["person"], password_hash, fresh=True)
    return visit.redirect("/")


async def verify(visit: Visit) -> web.StreamResponse:
    """Ask whether an address is to be confirmed by the link of a mail."""
    token = visit.request.query.get("token", "")
    reader = await visit.reader()
    found = await accounts.credentials_by_link(reader, token, Purpose.VERIFY, visit.now)
    if found is None:
        return visit.render("account/gone.html", 404, again="/login")
    return visit.render("account/verify.html", token=token, email=found.email)


async def do_verify(visit: Visit) -> web.StreamResponse:
    """Confirm the address; a mail is no password, so one signs in after it."""
    form, options = await visit.form(), visit.surroundings.options
    token = str(form.get("token", ""))
    try:
        await visit.do_as_console(
            "person verify",
            token=token,
            credit=options.starting_credit,
            must_be_invited=options.registration == INVITATION,
        )
    except Refused:
        return visit.render("account/gone.html", 404, again="/login")
    return visit.redirect("/login", visit.texts(CONFIRMED))


async def invitation(visit: Visit) -> web.StreamResponse:
    """What a link invites to, and how to take it."""
    token = visit.request.query.get("token", "")
    found = await accounts.invited(await visit.reader(), token, visit.now)
    if found is None:
        return visit.render("account/gone.html", 404, again="/")
    return visit.render("account/invitation.html", token=token, invited=found)


async def take_invitation(visit: Visit) -> web.StreamResponse:
    """Join the team that a link invites to."""
    form = await visit.form()
    token = str(form.get("token", ""))
    try:
        made = await visit.do("team join", token=token)
    except Refused as refused:
        return visit.problem(422, visit.texts(NOT_THIS_ADDRESS), refused.remedy)
    return visit.redirect("/team", visit.texts(JOINED, team=made["user"]))


def _judged(visit: Visit, fields: Fields, password: str) -> tuple[Fields | None, str]:
    """What is wrong with a form, or None; and the password."""
    email_error, password_error = "", ""
    try:
        email = read_email(fields.email)
    except ValueError as error:
        email, email_error = "", str(error)
    password_error = weakness(password, email) or ""
    if not email_error and not password_error:
        return None, password
    texts = visit.texts
    return fields._replace(
        email_error=texts(email_error), password_error=texts(password_error)
    ), password


def _send(visit: Visit, email: str, token: str | None) -> None:
    surroundings, texts = visit.surroundings, visit.texts
    console = surroundings.options.console_url
    letter = (
        letters.already_registered(texts, email, console)
        if token is None
        else letters.confirm_address(texts, email, console, token)
    )
    surroundings.accounts.outbox.put(letter, surroundings.options)


async def _form(visit: Visit, fields: Fields, status: int = 200) -> web.Response:
    options = visit.surroundings.options
    invited = None
    if fields.invitation:
        invited = await accounts.invited(await visit.reader(), fields.invitation, visit.now)
    closed = options.registration == CLOSED
    shown = not closed and (options.registration != INVITATION or invited is not None)
    return visit.render(
        "account/register.html", status, fields=fields, invited=invited, shown=shown, closed=closed
    )


ROUTES = (
    Route("GET", "/register", None, register),
    Route("POST", "/register", None, do_register),
    Route("GET", "/verify", None, verify),
    Route("POST", "/verify", None, do_verify),
    Route("GET", "/invitation", None, invitation),
    Route("POST", "/invitation", Role.USER, take_invitation),
)
