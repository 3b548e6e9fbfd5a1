"""Commands that change who an account is: another address, or nobody's any more.

Rules: what the console alone may ask trusts that it checked the password that goes with it. Whether
an address has an account is said to the console, which tells nobody but that address' owner.
"""

import sqlite3
from collections.abc import Mapping
from typing import Final

from proxy.app.commands.people import new_token
from proxy.app.commands.shapes import Handler, iso
from proxy.app.office import Office
from proxy.core.actions.action import Actor
from proxy.core.actions.people import AccountDelete, EmailChange, EmailConfirm, PersonNamed
from proxy.core.emails import read_email
from proxy.core.money import format_usd
from proxy.storage import email_changes, leaving, people, starting_credits
from proxy.storage.email_changes import Changed
from proxy.storage.leaving import LeftBehind
from proxy.storage.people import Person

CHANGE_SECONDS: Final = 86_400.0
"""How long a link that gives another address is good."""


async def email_change(office: Office, _actor: Actor, a: EmailChange) -> object:
    """Make a link that gives a person another address; None where somebody has that address."""
    email, now, token = read_email(a.email), office.clock(), new_token()

    def ask(connection: sqlite3.Connection) -> bool:
        if people.find_person(connection, email) is not None:
            return False
        email_changes.ask(connection, token, a.person, email, now, now + CHANGE_SECONDS)
        return True

    free = await office.keeper.note(ask)
    return {"token": token if free else None, "email": email}


async def email_confirm(office: Office, _actor: Actor, a: EmailConfirm) -> object:
    """Give a person their new address by the link of a mail; their other sessions end."""
    now = office.clock()

    def confirm(connection: sqlite3.Connection) -> Changed:
        done = email_changes.use(connection, a.token, now, a.keep)
        _leave(office, connection, done.earlier, done.person, now)
        return done

    done = await office.change(confirm)
    person = done.person
    return {
        "person": person.id,
        "email": person.email,
        "earlier": done.earlier,
        "language": person.language,
    }


async def account_delete(office: Office, _actor: Actor, a: AccountDelete) -> object:
    """Delete the account of whoever asks for it."""
    now = office.clock()
    left = await office.change(lambda c: _delete(office, c, a.person, now))
    return _deleted(a.person, now, left)


async def person_delete(office: Office, _actor: Actor, a: PersonNamed) -> object:
    """Delete a person's account: who it was is forgotten, what was paid and used stays."""
    email, now = read_email(a.email), office.clock()

    def delete(connection: sqlite3.Connection) -> tuple[int, tuple[LeftBehind, ...]]:
        person = people.person_named(connection, email)
        return person.id, _delete(office, connection, person.id, now)

    person_id, left = await office.change(delete)
    return _deleted(person_id, now, left)


def _delete(
    office: Office, connection: sqlite3.Connection, person_id: int, now: float
) -> tuple[LeftBehind, ...]:
    person = people.person_of(connection, person_id)
    left = leaving.delete_person(connection, person_id, now)
    _leave(office, connection, person.email, person, now)
    return left


def _leave(
    office: Office, connection: sqlite3.Connection, email: str, person: Person, now: float
) -> None:
    """Remember what came with an address that a person gives up."""
    pepper = office.secrets.pepper
    digest = starting_credits.digest_of(pepper, email)
    starting_credits.leave(connection, digest, person.id)
    if person.wallet_id is not None:
        starting_credits.leave_months(connection, pepper, email, person.wallet_id, now)


def _deleted(person_id: int, now: float, left: tuple[LeftBehind, ...]) -> dict[str, object]:
    return {
        "id": person_id,
        "deleted": iso(now),
        "wallets": [
            {
                "user": one.name,
                "balance_usd": format_usd(one.balance),
                "balance_nano": one.balance,
            }
            for one in left
        ],
    }


HANDLERS: Mapping[str, Handler] = {
    "email change": email_change,
    "email confirm": email_confirm,
    "account delete": account_delete,
    "person delete": person_delete,
}
