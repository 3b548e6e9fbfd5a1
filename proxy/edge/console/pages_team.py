"""The team of the wallet in use: who belongs to it, invitations, and new teams.

Rules: a form names the wallet it was shown for, so that another tab's choice does not change what
is meant; whether the reader may is decided by the keeper alone. The link of an invitation is shown
once, and mailed where there is an address and a mail server. This module must not know how
membership is kept.
"""

from aiohttp import web

from proxy.core.actions.action import Role
from proxy.edge.console import letters, sign_in, visit
from proxy.edge.console.keeper_line import Refused
from proxy.edge.console.languages import later as _
from proxy.edge.console.pages_sign_in import waiting
from proxy.edge.console.routes import Route
from proxy.edge.console.visit import Visit
from proxy.storage.people import OWNER
from proxy.storage.reports import accounts, memberships

MADE = _("The team {team} is made. You look at its wallet now.")
LEFT = _("You have left {team}.")
REMOVED = _("{email} is out of the team; their keys of its wallet have stopped working.")
CHANGED = _("{email} has another role now.")
TAKEN_BACK = _("The invitation is taken back.")
MAILED = _("The invitation is on its way to {email}.")


async def team(seen: Visit) -> web.StreamResponse:
    """The members of the wallet in use."""
    return await _team(seen)


async def create(seen: Visit) -> web.StreamResponse:
    """Make a team and look at its wallet."""
    name = str((await seen.form()).get("name", ""))
    try:
        made = await seen.do("team create", name=name)
    except Refused as refused:
        return await _team(seen, status=422, name=name, name_error=refused.message)
    seen.remember(visit.WALLET, str(made["id"]), visit.PREFERENCE_SECONDS)
    return seen.redirect("/team", seen.texts(MADE, team=made["user"]))


async def invite(seen: Visit) -> web.StreamResponse:
    """Invite somebody: the link is shown this once."""
    form = await seen.form()
    wallet, email = str(form.get("wallet", "")), str(form.get("email", "")).strip()
    if email and seen.surroundings.options.mails:
        wait = sign_in.may_ask_for_mail(seen)
        if wait:
            said = seen.texts(sign_in.WAIT, seconds=wait)
            return waiting(await _team(seen, status=429, email=email, email_error=said), wait)
    try:
        made = await seen.do(
            "team invite",
            user=wallet,
            email=email or None,
            role=OWNER if form.get("role") == OWNER else "member",
        )
    except Refused as refused:
        return await _team(seen, status=422, email=email, email_error=refused.message)
    surroundings = seen.surroundings
    console = surroundings.options.console_url
    mailed = made["email"] is not None and surroundings.options.mails
    if mailed:
        letter = letters.invitation(seen.texts, made["email"], console, made["link"], wallet)
        surroundings.accounts.outbox.put(letter, surroundings.options)
    return await _team(seen, link=console + made["link"], mailed=made["email"] if mailed else "")


async def take_back(seen: Visit) -> web.StreamResponse:
    """Take an invitation back."""
    form = await seen.form()
    number = str(form.get("invitation", ""))
    await seen.do("team revoke", user=str(form.get("wallet", "")), invitation=row_number(number))
    return seen.redirect("/team", seen.texts(TAKEN_BACK))


async def set_role(seen: Visit) -> web.StreamResponse:
    """Make a member an owner, or the other way round."""
    form = await seen.form()
    email, role = str(form.get("email", "")), str(form.get("role", ""))
    wallet = str(form.get("wallet", ""))
    await seen.do("team role", user=wallet, email=email, role=OWNER if role == OWNER else "member")
    return seen.redirect("/team", seen.texts(CHANGED, email=email))


async def remove(seen: Visit) -> web.StreamResponse:
    """Take a member out."""
    form = await seen.form()
    email = str(form.get("email", ""))
    await seen.do("team remove", user=str(form.get("wallet", "")), email=email)
    return seen.redirect("/team", seen.texts(REMOVED, email=email))


async def leave(seen: Visit) -> web.StreamResponse:
    """Leave a team."""
    wallet = str((await seen.form()).get("wallet", ""))
    await seen.do("team leave", user=wallet)
    return seen.redirect("/team", seen.texts(LEFT, team=wallet))


def row_number(text: str) -> int:
    """A row's number out of a form; 0, which no row has, for what is none."""
    return int(text) if text.isascii() and text.isdigit() and len(text) < 16 else 0


async def _team(
    seen: Visit,
    *,
    status: int = 200,
    name: str = "",
    name_error: str = "",
    email: str = "",
    email_error: str = "",
    link: str = "",
    mailed: str = "",
) -> web.Response:
    reader, wallet = await seen.reader(), seen.wallet
    members, open_ = [], []
    if wallet is not None:
        members = await accounts.members(reader, wallet.id)
        if is_owner(wallet):
            open_ = await accounts.invitations(reader, wallet.id, seen.now)
    return seen.render(
        "account/team.html",
        status,
        members=members,
        invitations=open_,
        owner=wallet is not None and is_owner(wallet),
        name=name,
        name_error=name_error,
        email=email,
        email_error=email_error,
        link=link,
        mailed=seen.texts(MAILED, email=mailed) if mailed else "",
    )


def is_owner(wallet: memberships.Wallet) -> bool:
    """Whether the reader owns this wallet of theirs."""
    return wallet.role == OWNER


ROUTES = (
    Route("GET", "/team", Role.USER, team),
    Route("POST", "/team/create", Role.USER, create),
    Route("POST", "/team/invite", Role.USER, invite),
    Route("POST", "/team/invitations/revoke", Role.USER, take_back),
    Route("POST", "/team/members/role", Role.USER, set_role),
    Route("POST", "/team/members/remove", Role.USER, remove),
    Route("POST", "/team/leave", Role.USER, leave),
)
