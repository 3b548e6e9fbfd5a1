"""Commands on tokens of the admin API."""

import os
from collections.abc import Mapping

from proxy.app.commands.shapes import Handler, iso, parse_time
from proxy.app.office import Office
from proxy.core.actions.action import Actor, Role
from proxy.core.actions.scopes import check_scopes
from proxy.core.actions.tokens import TokenAdd, TokenListing, TokenRevoke
from proxy.core.actions.unfit import Findings, UnfitError
from proxy.core.sentences import text_of
from proxy.storage import secrets as sealing
from proxy.storage import tokens
from proxy.storage.tokens import NewToken, TokenRow

LAST_SHOWN = 4


async def token_add(office: Office, actor: Actor, a: TokenAdd) -> object:
    """Make a token; the answer holds it, and it exists nowhere else."""
    now, findings = office.clock(), Findings()
    scopes = findings.judge("scopes", check_scopes, a.scopes)
    until = None
    if a.expires is not None:
        until = findings.judge("expires", lambda text: parse_time(text, now), a.expires)
    role = a.role or actor.role
    if not actor.role.covers(role):
        findings.fields["role"] = f"your role is {actor.role.value}, which is less"
    findings.tell()
    secret = sealing.new_api_token(os.urandom(sealing.KEY_RANDOM_BYTES))
    new = NewToken(
        a.name, sealing.api_token_digest(secret), secret[-LAST_SHOWN:], role, scopes or (),
        actor.person, until,
    )  # fmt: skip
    try:
        number = await office.keeper.note(lambda c: tokens.add_token(c, new, now))
    except ValueError as error:
        field = "expires" if "expiry" in str(error) else "name"
        raise UnfitError({field: text_of(error)}) from None
    return {
        "id": number,
        "name": a.name,
        "token": secret,
        "role": role.value,
        "scopes": new.scopes,
        "expires": iso(until),
    }


async def token_list(office: Office, actor: Actor, a: TokenListing) -> object:
    """Tokens of the person, or of everybody, without what opens them."""
    everybody = a.everybody and actor.role is Role.ADMIN
    rows = await office.read(lambda c: tokens.list_tokens(c, actor.person, everybody=everybody))
    return [_token(row, office.clock()) for row in rows]


async def token_revoke(office: Office, actor: Actor, a: TokenRevoke) -> object:
    """End a token at once."""
    anybodys, now = actor.role is Role.ADMIN, office.clock()
    await office.keeper.note(
        lambda c: tokens.revoke_token(c, a.number, actor.person, now, anybodys=anybodys)
    )
    return {"id": a.number, "revoked": True}


def _token(row: TokenRow, now: float) -> dict[str, object]:
    return {
        "id": row.id,
        "name": row.name,
        "token": f"…{row.last4}",
        "person": row.person,
        "role": row.role.value,
        "scopes": row.scopes,
        "good": row.good(now),
        "created": iso(row.created_at),
        "expires": iso(row.expires_at),
    }


HANDLERS: Mapping[str, Handler] = {
    "token add": token_add,
    "token list": token_list,
    "token revoke": token_revoke,
}
