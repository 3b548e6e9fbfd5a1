"""Another e-mail address for one's own account.

Rules: nothing changes before the link that is mailed to the new address is used, by a button. Who
asks gets the same answer whether somebody has that address or not; its owner gets a mail. The old
address is told when a change is asked for and when it is made. This module must not know how an
account is kept.
"""

from aiohttp import web

from proxy.core.actions.action import Role
from proxy.core.emails import read_email
from proxy.edge.console import letters, sign_in
from proxy.edge.console.keeper_line import Refused
from proxy.edge.console.languages import later as _
from proxy.edge.console.own_proof import Unproven, own_account, unproven
from proxy.edge.console.pages_sign_in import waiting
from proxy.edge.console.routes import Route
from proxy.edge.console.sign_in import WAIT
from proxy.edge.console.visit import Visit
from proxy.storage.reports import accounts
from proxy.storage.reports.accounts import Credentials

SAME = _("This is your address already.")
CHANGED = _("Your address is changed. Sign in with the new one from now on.")
NO_MAILS = _("This relay sends no mails, so nobody can prove a new address. Ask its operator.")


async def change(visit: Visit) -> web.StreamResponse:
    """The form to ask for another address."""
    account = await own_account(visit)
    if account.password_hash is None and not visit.confirmed:
        return visit.redirect("/confirm?next=/account/email")
    return _change(visit, account)


async def do_change(visit: Visit) -> web.StreamResponse:
    """Mail a link to the new address; the answer is the same if it is taken."""
    form, account = await visit.form(), await own_account(visit)
    surroundings, typed = visit.surroundings, str(form.get("email", ""))
    if not surroundings.options.mails:
        return _change(visit, account, typed, Unproven(422, error=visit.texts(NO_MAILS)))
    try:
        to = read_email(typed)
    except ValueError as error:
        return _change(visit, account, typed, Unproven(422), visit.texts(str(error)))
    if to == account.email:
        return _change(visit, account, typed, Unproven(422), visit.texts(SAME))
    no = await unproven(visit, account, str(form.get("password", "")))
    if no is not None:
        return _change(visit, account, typed, no)
    wait = sign_in.may_ask_for_mail(visit)
    if wait:
        said = visit.texts(WAIT, seconds=wait)
        return _change(visit, account, typed, Unproven(429, error=said, wait=wait))
    made = await visit.do_as_console("email change", person=account.id, email=to)
    texts = surroundings.renderer.translator(account.language or visit.language)
    console, token = surroundings.options.console_url, made["token"]
    post = surroundings.accounts.outbox
    post.put(
        letters.address_taken(visit.texts, to, console)
        if token is None
        else letters.new_address(texts, to, console, token),
        surroundings.options,
    )
    post.put(letters.address_asked(texts, account.email, console), surroundings.options)
    return visit.render("account/look_for_mail.html", email=to)


async def take(visit: Visit) -> web.StreamResponse:
    """Ask whether the address of a link is to be the account's."""
    token = visit.request.query.get("token", "")
    found = await accounts.change_by_link(await visit.reader(), token, visit.now)
    if found is None:
        return visit.render("account/gone.html", 404, again="/account/email")
    return visit.render("account/take_email.html", token=token, email=found[1])


async def do_take(visit: Visit) -> web.StreamResponse:
    """Change the address; one signs in with it, unless one is signed in here."""
    token = str((await visit.form()).get("token", ""))
    keep = None if visit.person is None else visit.person.session
    try:
        done = await visit.do_as_console("email confirm", token=token, keep=keep)
    except Refused:
        return visit.render("account/gone.html", 404, again="/account/email")
    surroundings = visit.surroundings
    if surroundings.options.mails:
        texts = surroundings.renderer.translator(done["language"] or visit.language)
        letter = letters.address_changed(texts, done["earlier"], surroundings.options.console_url)
        surroundings.accounts.outbox.put(letter, surroundings.options)
    here = visit.person is not None and visit.person.id == done["person"]
    return visit.redirect("/account" if here else "/login", visit.texts(CHANGED))


def _change(
    visit: Visit,
    account: Credentials,
    email: str = "",
    no: Unproven | None = None,
    email_error: str = "",
) -> web.Response:
    no = Unproven(200) if no is None else no
    response = visit.render(
        "account/email.html", no.status, account=account, email=email, no=no,
        email_error=email_error,
    )  # fmt: skip
    return waiting(response, no.wait) if no.wait else response


ROUTES = (
    Route("GET", "/account/email", Role.USER, change),
    Route("POST", "/account/email", Role.USER, do_change),
    Route("GET", "/account/email/take", None, take),
    Route("POST", "/account/email/take", None, do_take),
)
