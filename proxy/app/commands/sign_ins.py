"""Commands on the sessions of people who are signed in."""

import secrets
import sqlite3
from collections.abc import Mapping
from typing import Final

from proxy.app.commands.people import oneself
from proxy.app.commands.shapes import Handler
from proxy.app.office import Office
from proxy.core.actions.action import Actor
from proxy.core.actions.sign_ins import (
    SessionConfirm,
    SessionOpen,
    SessionRenew,
    SessionRevoke,
    SessionRevokeAll,
)
from proxy.storage import people, sign_ins

SESSION_ID_BYTES: Final = 16


async def session_open(office: Office, _actor: Actor, a: SessionOpen) -> object:
    """Sign a person in: always with a new session, whatever the browser had."""
    now, session = office.clock(), secrets.token_urlsafe(SESSION_ID_BYTES)

    def begin(connection: sqlite3.Connection) -> float:
        person = people.person_of(connection, a.person)
        # Between the look at the password and now it may have been changed, to lock somebody out.
        if a.password_hash is not None and a.password_hash != person.password_hash:
            raise ValueError("the password was changed meanwhile")
        return sign_ins.open_session(
            connection, session, person.id, now, a.address, a.agent, fresh=a.fresh
        )

    return {"session": session, "expires_at": await office.keeper.note(begin)}


async def session_renew(office: Office, _actor: Actor, a: SessionRenew) -> object:
    """Let a session that is used live on."""
    now = office.clock()
    until = await office.keeper.note(lambda c: sign_ins.renew_session(c, a.session, now))
    return {"expires_at": until}


async def session_confirm(office: Office, _actor: Actor, a: SessionConfirm) -> object:
    """Note that a password was given again."""
    now = office.clock()
    await office.keeper.note(lambda c: sign_ins.confirm_session(c, a.session, a.person, now))
    return {"confirmed_at": now}


async def session_revoke(office: Office, actor: Actor, a: SessionRevoke) -> object:
    """End one of one's own sessions at once."""
    person, now = oneself(actor), office.clock()
    done = await office.keeper.note(lambda c: sign_ins.revoke_session(c, a.session, person, now))
    return {"revoked": int(done)}


async def session_revoke_all(office: Office, actor: Actor, a: SessionRevokeAll) -> object:
    """End all of one's own sessions at once."""
    person, now = oneself(actor), office.clock()
    number = await office.keeper.note(lambda c: sign_ins.revoke_sessions(c, person, now, a.keep))
    return {"revoked": number}


HANDLERS: Mapping[str, Handler] = {
    "session open": session_open,
    "session renew": session_renew,
    "session confirm": session_confirm,
    "session revoke": session_revoke,
    "session revoke all": session_revoke_all,
}
