"""Who signs in here: the operator's list, invitations, roles.

Rules: what administrators alone may, the keeper decides; the page only leaves it out for others. A
link that sets a password or lets somebody in is shown once. This module must not know how people
are kept.
"""

from urllib.parse import urlencode

from aiohttp import web

from proxy.core.actions.action import Role
from proxy.edge.console import letters
from proxy.edge.console.keeper_line import Refused
from proxy.edge.console.languages import later as _
from proxy.edge.console.pages_team import row_number
from proxy.edge.console.routes import Route
from proxy.edge.console.visit import Visit
from proxy.storage.reports import accounts

ROWS = 50
PATH = "/operator/people"
TEXT_CHARS_MAX = 254
DISABLED = _(
    "{email} is signed out everywhere and cannot sign in; keys they made have stopped working."
)
DELETED = _("The account {email} is deleted.")
LEFT = _("Wallets that nobody belongs to any more: {wallets}.")
ENABLED = _("{email} can sign in again.")
NEW_ROLE = _("{email} has another role now.")
TAKEN_BACK = _("The invitation is taken back.")


async def people(seen: Visit) -> web.StreamResponse:
    """Everybody who signs in, the newest first."""
    return await _people(seen)


async def add(seen: Visit) -> web.StreamResponse:
    """Add a person, and show the link by which they set their password."""
    form, options = await seen.form(), seen.surroundings.options
    email = str(form.get("email", ""))
    try:
        made = await seen.do(
            "person add",
            email=email,
            role=_role(form.get("role")),
            plan=options.default_plan or None,
            credit=options.starting_credit,
        )
    except Refused as refused:
        return await _people(seen, status=422, email=email, email_error=refused.message)
    return await _people(seen, link=options.console_url + made["link"], of=made["email"])


async def link(seen: Visit) -> web.StreamResponse:
    """Show a link by which a person sets a new password."""
    email = str((await seen.form()).get("email", ""))
    made = await seen.do("person link", email=email)
    url = seen.surroundings.options.console_url + made["link"]
    return await _people(seen, link=url, of=made["email"])


async def set_role(seen: Visit) -> web.StreamResponse:
    """Make a person a user, an operator or an administrator."""
    form = await seen.form()
    email = str(form.get("email", ""))
    await seen.do("person role", email=email, role=_role(form.get("role")))
    return seen.redirect(PATH, seen.texts(NEW_ROLE, email=email))


async def disable(seen: Visit) -> web.StreamResponse:
    """Let a person sign in no more."""
    email = str((await seen.form()).get("email", ""))
    await seen.do("person disable", email=email)
    return seen.redirect(PATH, seen.texts(DISABLED, email=email))


async def enable(seen: Visit) -> web.StreamResponse:
    """Let a person sign in again."""
    email = str((await seen.form()).get("email", ""))
    await seen.do("person enable", email=email)
    return seen.redirect(PATH, seen.texts(ENABLED, email=email))


async def ask_delete(seen: Visit) -> web.StreamResponse:
    """Ask whether an account is to be deleted."""
    return _delete(seen, seen.request.query.get("email", ""))


async def delete(seen: Visit) -> web.StreamResponse:
    """Delete a person's account."""
    email = str((await seen.form()).get("email", ""))
    try:
        done = await seen.do("person delete", email=email)
    except Refused as refused:
        return _delete(seen, email, refused)
    left = [f"{one['user']} (${one['balance_usd']})" for one in done["wallets"]]
    said = seen.texts(DELETED, email=email)
    if left:
        said = f"{said} {seen.texts(LEFT, wallets=', '.join(left))}"
    return seen.redirect(PATH, said)


async def invite(seen: Visit) -> web.StreamResponse:
    """Invite somebody to the relay: the link is shown this once, and mailed if it can be."""
    form, surroundings = await seen.form(), seen.surroundings
    email = str(form.get("email", "")).strip()
    try:
        made = await seen.do("invitation add", email=email or None)
    except Refused as refused:
        return await _people(seen, status=422, invite=email, invite_error=refused.message)
    console = surroundings.options.console_url
    if made["email"] is not None and surroundings.options.mails:
        letter = letters.invitation(seen.texts, made["email"], console, made["link"], None)
        surroundings.accounts.outbox.put(letter, surroundings.options)
    return await _people(seen, link=console + made["link"], of=made["email"] or "")


async def take_back(seen: Visit) -> web.StreamResponse:
    """Take an invitation to the relay back."""
    number = row_number(str((await seen.form()).get("invitation", "")))
    await seen.do("invitation revoke", invitation=number)
    return seen.redirect(PATH, seen.texts(TAKEN_BACK))


def _delete(seen: Visit, email: str, fault: Refused | None = None) -> web.Response:
    status = 200 if fault is None else 422
    return seen.render("account/delete_person.html", status, email=email, fault=fault)


def _role(given: object) -> str:
    return str(given) if given in set(Role) else Role.USER.value


async def _people(
    seen: Visit,
    *,
    status: int = 200,
    email: str = "",
    email_error: str = "",
    invite: str = "",
    invite_error: str = "",
    link: str = "",
    of: str = "",
) -> web.Response:
    reader, query = await seen.reader(), seen.request.query
    text = query.get("find", "")[:TEXT_CHARS_MAX]
    before = row_number(query.get("before", ""))
    rows = await accounts.people(reader, text, before or None, ROWS + 1)
    older = ""
    if len(rows) > ROWS:
        rows = rows[:ROWS]
        older = f"{PATH}?{urlencode({'find': text, 'before': rows[-1].id})}"
    return seen.render(
        "account/people.html",
        status,
        rows=rows,
        older=older,
        find=text,
        invitations=await accounts.invitations(reader, None, seen.now),
        admin=seen.role is Role.ADMIN,
        roles=list(Role),
        email=email,
        email_error=email_error,
        invite=invite,
        invite_error=invite_error,
        link=link,
        of=of,
    )


ROUTES = (
    Route("GET", PATH, Role.OPERATOR, people),
    Route("POST", f"{PATH}/add", Role.OPERATOR, add, step_up=True),
    Route("POST", f"{PATH}/link", Role.OPERATOR, link, step_up=True),
    Route("POST", f"{PATH}/role", Role.OPERATOR, set_role, step_up=True),
    Route("POST", f"{PATH}/disable", Role.OPERATOR, disable, step_up=True),
    Route("POST", f"{PATH}/enable", Role.OPERATOR, enable, step_up=True),
    Route("GET", f"{PATH}/delete", Role.ADMIN, ask_delete),
    Route("POST", f"{PATH}/delete", Role.ADMIN, delete, step_up=True),
    Route("POST", f"{PATH}/invite", Role.OPERATOR, invite),
    Route("POST", f"{PATH}/invitations/revoke", Role.OPERATOR, take_back),
)
