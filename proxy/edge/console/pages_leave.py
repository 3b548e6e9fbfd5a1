"""Deleting one's own account.

Rules: the page says before what is forgotten, what stays, and how much money is left behind; it is
done by the owner's password alone. This module must not know how an account is kept.
"""

from aiohttp import web

from proxy.core.actions.action import Role
from proxy.edge.console import letters, visit
from proxy.edge.console.keeper_line import Refused
from proxy.edge.console.languages import later as _
from proxy.edge.console.own_proof import Unproven, own_account, unproven
from proxy.edge.console.pages_sign_in import waiting
from proxy.edge.console.routes import Route
from proxy.edge.console.visit import Visit
from proxy.storage.reports import accounts
from proxy.storage.reports.accounts import Credentials

DELETED = _("Your account is deleted. Its keys work no more.")
NOT_SURE = _("Tick this to say that you are sure.")


async def leave(seen: Visit) -> web.StreamResponse:
    """What is deleted and what stays, and the form."""
    account = await own_account(seen)
    if account.password_hash is None and not seen.confirmed:
        return seen.redirect("/confirm?next=/account/delete")
    return await _page(seen, account, Unproven(200))


async def do_leave(seen: Visit) -> web.StreamResponse:
    """Delete the account."""
    form, account = await seen.form(), await own_account(seen)
    if form.get("sure") != "1":
        return await _page(seen, account, Unproven(422), seen.texts(NOT_SURE))
    no = await unproven(seen, account, str(form.get("password", "")))
    if no is not None:
        return await _page(seen, account, no)
    try:
        await seen.do_as_console("account delete", person=account.id)
    except Refused as refused:
        said = f"{refused.message}. {refused.remedy}" if refused.remedy else refused.message
        return await _page(seen, account, Unproven(422, error=said))
    surroundings = seen.surroundings
    if surroundings.options.mails:
        texts = surroundings.renderer.translator(account.language or seen.language)
        letter = letters.account_deleted(texts, account.email, surroundings.options.console_url)
        surroundings.accounts.outbox.put(letter, surroundings.options)
    seen.remember(visit.SESSION, "", 0)
    seen.remember(visit.WALLET, "", 0)
    return seen.redirect("/", seen.texts(DELETED))


async def _page(
    seen: Visit, account: Credentials, no: Unproven, sure_error: str = ""
) -> web.Response:
    left = await accounts.alone(await seen.reader(), account.id)
    response = seen.render(
        "account/delete.html", no.status, account=account, left=left, no=no, sure_error=sure_error
    )
    return waiting(response, no.wait) if no.wait else response


ROUTES = (
    Route("GET", "/account/delete", Role.USER, leave),
    Route("POST", "/account/delete", Role.USER, do_leave),
)
