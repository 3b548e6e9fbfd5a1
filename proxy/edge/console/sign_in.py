"""Signing in: looking at a password within limits, and beginning a session.

Rules: an address nobody has and a wrong password are the same, in words, in time and in what is
counted; while somebody has to wait nothing is looked at. A session begins anew with every sign-in,
and the one the browser had ends. This module must not know any page.
"""

from dataclasses import dataclass

from proxy.core.attempts import network_of
from proxy.core.emails import EMAIL_CHARS_MAX
from proxy.edge import log
from proxy.edge.console import sessions
from proxy.edge.console.hashing import BusyError
from proxy.edge.console.languages import later as _
from proxy.edge.console.visit import SESSION, Visit
from proxy.storage.reports import accounts
from proxy.storage.reports.accounts import Credentials

WRONG = _("E-mail or password is wrong.")
WAIT = _("Too many tries. Wait {seconds} seconds, then try again.")
BUSY = _("Too many people are signing in at this moment. Try again in a few seconds.")
BUSY_SECONDS = 5
AGENT_CHARS_MAX = 200


@dataclass(frozen=True, slots=True)
class Looked:
    """What came of a password. Without an `account` nobody signs in, and `wait` seconds are left
    before the next try (0: at once). `stale`: its hash should be made anew.
    """

    account: Credentials | None
    wait: int = 0
    stale: bool = False


async def look(visit: Visit, email: str, password: str) -> Looked:
    """Look at a password. Raises BusyError, sqlite3.Error."""
    desk, now = visit.surroundings.accounts, visit.now
    # As long as it is typed: that a longer one is no address is found out by looking.
    name, here = email.strip().lower()[: EMAIL_CHARS_MAX + 1], network_of(visit.address)
    wait = max(desk.of_account.wait(name, now), desk.of_network.wait(here, now))
    if wait > 0:
        return Looked(None, wait=int(wait) + 1)
    desk.of_account.failed(name, now)
    desk.of_network.failed(here, now)
    try:
        account = await accounts.credentials(await visit.reader(), name)
        known = None if account is None else account.password_hash
        found = await desk.hasher.compare(known, password)
    except BusyError:
        desk.of_account.taken_back(name)
        desk.of_network.taken_back(here)
        raise
    if not found.right:
        _note(visit, max(desk.of_account.wait(name, now), desk.of_network.wait(here, now)))
        return Looked(None)
    desk.of_account.succeeded(name)
    desk.of_network.taken_back(here)
    return Looked(account, stale=found.stale)


def _note(visit: Visit, wait: float) -> None:
    """Tell the operator of wrong passwords that cost a wait; the first few are typing mistakes."""
    if wait > 0:
        log.get().warning("too many wrong passwords", address=visit.address, seconds=int(wait))


async def begin(visit: Visit, person: int, password_hash: str | None, *, fresh: bool) -> None:
    """Sign a person in with this answer. `fresh`: they proved just now who they are.

    Raises Refused (the password was changed meanwhile, the person is disabled), KeeperGoneError.
    """
    made = await visit.do_as_console(
        "session open",
        person=person,
        password_hash=password_hash,
        address=visit.address,
        agent=visit.request.headers.get("user-agent", "")[:AGENT_CHARS_MAX] or None,
        fresh=fresh,
    )
    if visit.person is not None:
        await visit.do("session revoke", session=visit.person.session)
    token = sessions.issue(visit.surroundings.secret, made["session"], person, visit.now)
    visit.remember(SESSION, token, max(1, int(made["expires_at"] - visit.now)))


async def make_hash_anew(visit: Visit, account: Credentials, password: str) -> None:
    """Keep a password that was right by a hash of today's parameters, if there is room for it."""
    try:
        later = await visit.surroundings.accounts.hasher.hash(password)
    except BusyError:
        return
    await visit.do_as_console(
        "password rehash",
        person=account.id,
        earlier_password_hash=account.password_hash,
        password_hash=later,
    )


def may_ask_for_mail(visit: Visit) -> int:
    """Count something that costs others a mail or an account; seconds to wait, 0: it may be."""
    desk, now, here = visit.surroundings.accounts, visit.now, network_of(visit.address)
    wait = desk.of_mails.wait(here, now)
    if wait > 0:
        return int(wait) + 1
    desk.of_mails.failed(here, now)
    return 0
