"""Commands on people.

Rules: what the console alone may ask trusts that it checked the proof that goes with it. Whether an
address is known is said to the console, which decides who may learn of it.
"""

import secrets
import sqlite3
from collections.abc import Mapping, Sequence
from typing import Final

from proxy.app.commands.shapes import Handler, iso
from proxy.app.control import CommandError
from proxy.app.office import Office
from proxy.core.actions.action import Actor, Arguments, Role
from proxy.core.actions.people import (
    InvitationAdd,
    InvitationOf,
    PasswordRehash,
    PasswordReset,
    PasswordSet,
    PersonAdd,
    PersonIdentify,
    PersonLanguage,
    PersonListing,
    PersonNamed,
    PersonRegister,
    PersonRole,
    PersonVerify,
)
from proxy.core.emails import read_email
from proxy.core.ledger import Transfer
from proxy.core.money import parse_usd
from proxy.core.sentences import Sentence
from proxy.storage import email_changes, people, sign_ins, starting_credits, teams, tokens
from proxy.storage import one_time_links as links
from proxy.storage.billing import Keeper
from proxy.storage.one_time_links import Purpose
from proxy.storage.people import Person
from proxy.storage.secrets import KEY_RANDOM_BYTES
from proxy.storage.till import Event, Moved
from proxy.storage.wallet_changes import add_top_up

VERIFY_SECONDS: Final = 2 * 86_400.0
RESET_SECONDS: Final = 3_600.0
FIRST_PASSWORD_SECONDS: Final = 7 * 86_400.0
"""How long links are good: to confirm an address, to set a new password, to set the first."""
INVITATION_DAYS_MAX: Final = 90
USUAL_PLAN: Final = "default"
NO_INVITATION: Final = Sentence("this invitation is not good any more, or for another address")


async def person_add(office: Office, _actor: Actor, a: PersonAdd) -> object:
    """Add a person with a wallet; the answer alone holds the link that sets their password."""
    email, plan, now = read_email(a.email), plan_of(office.keeper, a.plan), office.clock()
    credit = None if a.credit is None else parse_usd(a.credit)
    token = new_token()
    until = now + FIRST_PASSWORD_SECONDS

    def add(connection: sqlite3.Connection, event: Event) -> Moved[tuple[Person, people.Wallet]]:
        made = people.add_person(connection, email, None, plan, now, role=a.role, verified=True)
        links.add_token(connection, token, Purpose.PASSWORD, made[0].id, now, until)
        # What an operator says is given, whatever the address had before.
        return Moved(made, _credit(connection, event, made[0], credit))

    person, wallet = await office.move(add)
    return {**shown(person), "user": wallet.name, "link": set_path(token), "until": iso(until)}


async def person_list(office: Office, _actor: Actor, a: PersonListing) -> object:
    """People, the newest first."""
    rows = await office.read(lambda c: people.list_people(c, a.text, a.before, a.rows_max))
    return [shown(row) for row in rows]


async def person_link(office: Office, _actor: Actor, a: PersonNamed) -> object:
    """Make a link by which a person sets a new password; it is told once."""
    email, now, token = read_email(a.email), office.clock(), new_token()

    def make(connection: sqlite3.Connection) -> Person:
        person = people.person_named(connection, email)
        if not links.add_token(
            connection, token, Purpose.PASSWORD, person.id, now, now + RESET_SECONDS
        ):
            raise ValueError("there are links for this person already; wait until they are over")
        return person

    person = await office.keeper.note(make)
    return {"email": person.email, "link": set_path(token), "until": iso(now + RESET_SECONDS)}


async def person_role(office: Office, _actor: Actor, a: PersonRole) -> object:
    """Make a person a user, an operator or an administrator."""
    email, now = read_email(a.email), office.clock()

    def change(connection: sqlite3.Connection) -> Person:
        person = people.person_named(connection, email)
        people.set_role(connection, person.id, a.role)
        if a.role is Role.USER:
            links.revoke_invitations_of(connection, person.id, now, relay=True)
        return people.person_of(connection, person.id)

    return shown(await office.keeper.note(change))


async def person_disable(office: Office, _actor: Actor, a: PersonNamed) -> object:
    """Let a person sign in no more; their sessions end and their keys stop working at once."""
    return await _set_enabled(office, a.email, enabled=False)


async def person_enable(office: Office, _actor: Actor, a: PersonNamed) -> object:
    """Let a person sign in again."""
    return await _set_enabled(office, a.email, enabled=True)


async def person_language(office: Office, actor: Actor, a: PersonLanguage) -> object:
    """Set one's language."""
    person = oneself(actor)
    await office.keeper.note(lambda c: people.set_language(c, person, a.language))
    return {"language": a.language}


async def person_register(office: Office, _actor: Actor, a: PersonRegister) -> object:
    """Register a person; if the address is taken, `person` is None and nothing is changed."""
    email, plan, now = read_email(a.email), plan_of(office.keeper, a.plan), office.clock()
    credit = None if a.credit is None else parse_usd(a.credit)
    token = new_token()

    # An invitation to the relay lets in; one to a team does too, and joins it, but brings no
    # credit unless anybody may register: else a member could make money out of nothing.
    def register(connection: sqlite3.Connection, event: Event) -> Moved[Person | None]:
        given = None
        if a.invitation is not None:
            given = links.find_invitation(connection, a.invitation, now)
            if given is None or given.email not in {None, email}:
                raise ValueError(NO_INVITATION)
        if given is None and a.must_be_invited:
            raise ValueError("registration is by invitation")
        if people.find_person(connection, email) is not None:
            return Moved(None)
        # An operator who names an address vouches for it. A team's owner does not: they see the
        # link too, and could be anybody whom they invite.
        named = given is not None and given.wallet_id is None and given.email == email
        sure = a.confirmed or named
        person, wallet = people.add_person(
            connection, email, a.password_hash, plan, now, verified=sure, language=a.language
        )
        _take_months(office, connection, email, wallet, now)
        if given is not None and a.invitation is not None:
            links.use_invitation(connection, a.invitation, email, person.id, now)
            if given.wallet_id is not None:
                teams.join(connection, person.id, given.wallet_id, given.role, now)
        if a.prove and not sure:
            until = now + VERIFY_SECONDS
            links.add_token(connection, token, Purpose.VERIFY, person.id, now, until)
            return Moved(person)  # the credit comes when it is proved
        outsider = given is not None and given.wallet_id is not None and a.must_be_invited
        due = None if outsider else credit
        return Moved(person, starting_credit(office, connection, event, person, due))

    person = await office.move(register)
    if person is None:
        return {"person": None, "email": email}
    proves = a.prove and person.verified_at is None
    return {**shown(person), "person": person.id, "token": token if proves else None}


async def person_verify(office: Office, _actor: Actor, a: PersonVerify) -> object:
    """Confirm a person's address by the link of a mail; the starting credit comes with it."""
    now = office.clock()
    credit = None if a.credit is None else parse_usd(a.credit)

    def verify(connection: sqlite3.Connection, event: Event) -> Moved[int]:
        person_id = links.use_token(connection, a.token, Purpose.VERIFY, now)
        people.set_verified(connection, person_id, now)
        person = people.person_of(connection, person_id)
        outsider = a.must_be_invited and links.invited_to_team(connection, person_id)
        due = None if outsider else credit
        return Moved(person_id, starting_credit(office, connection, event, person, due))

    return {"person": await office.keeper.till.move(verify)}


async def person_verify_again(office: Office, _actor: Actor, a: PersonNamed) -> object:
    """Make another link that confirms an address; None where there is nothing to confirm."""
    return await _mail_link(office, a.email, Purpose.VERIFY, VERIFY_SECONDS)


async def person_identify(office: Office, _actor: Actor, a: PersonIdentify) -> object:
    """Find, link or register whom a provider vouches for."""
    now, plan = office.clock(), a.plan
    email = None if a.email is None else read_email(a.email)
    credit = None if a.credit is None else parse_usd(a.credit)
    if a.may_register:
        plan = plan_of(office.keeper, plan)

    def identify(connection: sqlite3.Connection, event: Event) -> Moved[tuple[Person, bool]]:
        known = people.identity(connection, a.issuer, a.subject)
        if known is not None:
            return Moved((known, False))
        if email is None:
            raise ValueError("the provider does not vouch for your e-mail address")
        person, due, fresh = people.find_person(connection, email), None, False
        if person is None:
            if not a.may_register or plan is None:
                raise ValueError("there is no account for this e-mail address")
            person, wallet = people.add_person(
                connection, email, None, plan, now, verified=True, language=a.language
            )
            _take_months(office, connection, email, wallet, now)
            due, fresh = credit, True
        elif people.set_verified(connection, person.id, now):
            # Whoever registered here with an address they never proved must not stay signed in
            # as the one who did prove it, nor come back by a link or a token they kept.
            people.forget_password(connection, person.id)
            email_changes.forget(connection, person.id)
            sign_ins.revoke_sessions(connection, person.id, now)
            tokens.revoke_tokens_of(connection, person.id, now)
        people.add_identity(connection, a.issuer, a.subject, person.id, now)
        return Moved((person, fresh), starting_credit(office, connection, event, person, due))

    # Who is known changes nothing, so the catalog is not read anew for every sign-in.
    known = await office.read(lambda c: people.identity(c, a.issuer, a.subject))
    person, fresh = await office.move(identify) if known is None else (known, False)
    if not person.enabled:
        raise CommandError("this account is disabled")
    return {"person": person.id, "fresh": fresh}


async def password_forget(office: Office, _actor: Actor, a: PersonNamed) -> object:
    """Make a link by which a person sets a new password; None where there is nobody."""
    return await _mail_link(office, a.email, Purpose.PASSWORD, RESET_SECONDS)


async def password_reset(office: Office, _actor: Actor, a: PasswordReset) -> object:
    """Set a password by a link; every session ends."""
    now = office.clock()

    def reset(connection: sqlite3.Connection) -> Person:
        person_id = links.use_token(connection, a.token, Purpose.PASSWORD, now)
        people.set_password(connection, person_id, a.password_hash)
        if people.set_verified(connection, person_id, now):  # as in `person_identify`
            tokens.revoke_tokens_of(connection, person_id, now)
        sign_ins.revoke_sessions(connection, person_id, now)
        return people.person_of(connection, person_id)

    person = await office.keeper.note(reset)
    return {"person": person.id, "email": person.email}


async def password_set(office: Office, _actor: Actor, a: PasswordSet) -> object:
    """Set a person's password; their other sessions end."""
    now = office.clock()

    def change(connection: sqlite3.Connection) -> int:
        people.set_password(connection, a.person, a.password_hash)
        return sign_ins.revoke_sessions(connection, a.person, now, a.keep)

    return {"revoked": await office.keeper.note(change)}


async def password_rehash(office: Office, _actor: Actor, a: PasswordRehash) -> object:
    """Keep a password by a better hash."""
    earlier, later = a.earlier_password_hash, a.password_hash
    done = await office.keeper.note(lambda c: people.rehash_password(c, a.person, earlier, later))
    return {"rehashed": done}


async def invitation_add(office: Office, actor: Actor, a: InvitationAdd) -> object:
    """Invite somebody to the relay; the answer alone holds the link."""
    email = None if a.email is None else read_email(a.email)
    now, token = office.clock(), new_token()
    until = now + days_seconds(a.days)

    def add(connection: sqlite3.Connection) -> int:
        return links.add_invitation(
            connection, token, email=email, wallet_id=None, role=people.MEMBER,
            invited_by=actor.person, now=now, expires_at=until,
        )  # fmt: skip

    number = await office.keeper.note(add)
    return {"id": number, "email": email, "link": invitation_path(token), "until": iso(until)}


async def invitation_list(office: Office, _actor: Actor, _a: Arguments) -> object:
    """Open invitations to the relay."""
    now = office.clock()
    rows = await office.read(lambda c: links.list_invitations(c, None, now))
    return [
        {
            "id": row.id,
            "email": row.email,
            "created": iso(row.created_at),
            "until": iso(row.expires_at),
        }
        for row in rows
    ]


async def invitation_revoke(office: Office, _actor: Actor, a: InvitationOf) -> object:
    """Take an invitation to the relay back."""
    now = office.clock()
    await office.keeper.note(lambda c: links.revoke_invitation(c, a.invitation, None, now))
    return {"id": a.invitation, "open": False}


def new_token() -> str:
    """The secret of a new link."""
    return links.new_token(secrets.token_bytes(KEY_RANDOM_BYTES))


def set_path(token: str) -> str:
    """Where on the console a password is set by a link."""
    return f"/password/set?token={token}"


def invitation_path(token: str) -> str:
    """Where on the console an invitation is taken."""
    return f"/invitation?token={token}"


def days_seconds(days: int) -> float:
    """How long an invitation is open. Raises ValueError."""
    if not 0 < days <= INVITATION_DAYS_MAX:
        raise ValueError(
            Sentence("an invitation is open for 1 to {most} days", most=INVITATION_DAYS_MAX)
        )
    return days * 86_400.0


def oneself(actor: Actor) -> int:
    """Who asks, where it must be a person. Raises CommandError."""
    if actor.person is None:
        raise CommandError("this is for somebody who is signed in")
    return actor.person


def plan_of(keeper: Keeper, wanted: str | None) -> str:
    """The plan of a new wallet: the one that is wanted, the only one, or `default`."""
    plans = sorted(keeper.catalog.plans)
    if wanted:
        return wanted
    if len(plans) == 1:
        return plans[0]
    if USUAL_PLAN in plans:
        return USUAL_PLAN
    if not plans:
        raise CommandError("there is no plan yet", "sluice catalog apply FILE with a [[plan]]")
    raise CommandError(
        Sentence("which plan? there are {plans}", plans=", ".join(plans)),
        "set default_plan, or --plan",
    )


def starting_credit(
    office: Office,
    connection: sqlite3.Connection,
    event: Event,
    person: Person,
    credit: int | None,
) -> Sequence[Transfer]:
    """Credit a person's own wallet, once in their life, with what makes it due. `credit` nano-USD.

    Nothing is due without an amount, where they have no wallet, or where an earlier account of
    their address had it.
    """
    digest = starting_credits.digest_of(office.secrets.pepper, person.email)
    if starting_credits.is_had(connection, digest):
        return ()
    return _credit(connection, event, person, credit)


def _credit(
    connection: sqlite3.Connection, event: Event, person: Person, credit: int | None
) -> Sequence[Transfer]:
    if not credit or person.wallet_id is None:
        return ()
    reason, reference = "starting credit", starting_credits.reference(person.id)
    return add_top_up(connection, event, person.wallet_id, credit, reason, reference).transfers


def _take_months(
    office: Office, connection: sqlite3.Connection, email: str, wallet: people.Wallet, now: float
) -> None:
    starting_credits.take_months(connection, office.secrets.pepper, email, wallet.id, now)


def shown(person: Person) -> dict[str, object]:
    """A person as commands tell of them; never with a hash."""
    return {
        "id": person.id,
        "email": person.email,
        "role": person.role.value,
        "enabled": person.enabled,
        "language": person.language,
        "verified": iso(person.verified_at),
        "created": iso(person.created_at),
        "deleted": iso(person.deleted_at),
    }


async def _set_enabled(office: Office, text: str, *, enabled: bool) -> object:
    email, now = read_email(text), office.clock()

    def change(connection: sqlite3.Connection) -> Person:
        person = people.person_named(connection, email)
        people.set_enabled(connection, person.id, enabled=enabled)
        if not enabled:
            sign_ins.revoke_sessions(connection, person.id, now)
            people.disable_keys(connection, person.id)
            links.revoke_invitations_of(connection, person.id, now)
        return people.person_of(connection, person.id)

    return shown(await office.change(change))


async def _mail_link(office: Office, text: str, purpose: Purpose, seconds: float) -> object:
    email, now, token = read_email(text), office.clock(), new_token()

    def make(connection: sqlite3.Connection) -> Person | None:
        person = people.find_person(connection, email)
        if person is None or not person.enabled:
            return None
        if purpose is Purpose.VERIFY and person.verified_at is not None:
            return None
        until = now + seconds
        added = links.add_token(connection, token, purpose, person.id, now, until)
        return person if added else None

    person = await office.keeper.note(make)
    if person is None:
        return {"token": None, "language": None}
    return {"token": token, "language": person.language}


HANDLERS: Mapping[str, Handler] = {
    "person add": person_add,
    "person list": person_list,
    "person link": person_link,
    "person role": person_role,
    "person disable": person_disable,
    "person enable": person_enable,
    "person language": person_language,
    "person register": person_register,
    "person verify": person_verify,
    "person verify again": person_verify_again,
    "person identify": person_identify,
    "password forget": password_forget,
    "password reset": password_reset,
    "password set": password_set,
    "password rehash": password_rehash,
    "invitation add": invitation_add,
    "invitation list": invitation_list,
    "invitation revoke": invitation_revoke,
}
