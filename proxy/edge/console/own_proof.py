"""Whether a form about somebody's own account comes from its owner, and not from whoever sat down.

Rules: by the password, or where the account has none, by a sign-in within the last minutes. A wrong
one counts as at the door. This module must not know what the form is about.
"""

from typing import NamedTuple

from proxy.edge.console import sign_in
from proxy.edge.console.hashing import BusyError
from proxy.edge.console.languages import later as _
from proxy.edge.console.pages_sign_in import WRONG_PASSWORD
from proxy.edge.console.sign_in import BUSY, BUSY_SECONDS, WAIT
from proxy.edge.console.visit import Visit
from proxy.storage.reports import accounts
from proxy.storage.reports.accounts import Credentials

SIGN_IN_ANEW = _("Your sign-in is too long ago for this. Sign in again, then repeat it.")


class Unproven(NamedTuple):
    """What to answer: `error` about the form, or `wrong` at the password. `wait`: seconds."""

    status: int
    error: str = ""
    wrong: str = ""
    wait: int = 0


async def own_account(visit: Visit) -> Credentials:
    """The account of whoever is signed in."""
    if visit.person is None:
        raise AssertionError("the route is for who is signed in")
    account = await accounts.credentials_of(await visit.reader(), visit.person.id)
    if account is None:
        raise AssertionError("a person is never removed")
    return account


async def unproven(visit: Visit, account: Credentials, password: str) -> Unproven | None:
    """Why this is not taken for the owner's form; None if it is. Raises sqlite3.Error."""
    if account.password_hash is None:
        return None if visit.confirmed else Unproven(422, error=visit.texts(SIGN_IN_ANEW))
    try:
        found = await sign_in.look(visit, account.email, password)
    except BusyError:
        return Unproven(503, error=visit.texts(BUSY), wait=BUSY_SECONDS)
    if found.wait:
        return Unproven(429, error=visit.texts(WAIT, seconds=found.wait), wait=found.wait)
    if found.account is None:
        return Unproven(422, wrong=visit.texts(WRONG_PASSWORD))
    return None
