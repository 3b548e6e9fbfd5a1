"""Commands on teams.

Rules: whether a person belongs to the wallet is decided before (runner.py); whether they own it is
looked at here, where only owners may.
"""

import sqlite3
from collections.abc import Mapping

from proxy.app.commands.people import days_seconds, invitation_path, new_token, oneself
from proxy.app.commands.shapes import Handler, iso
from proxy.app.control import CommandError
from proxy.app.office import Office
from proxy.core.actions.action import Actor
from proxy.core.actions.teams import (
    TeamCreate,
    TeamInvitationOf,
    TeamInvite,
    TeamJoin,
    TeamMember,
    TeamOf,
    TeamRole,
)
from proxy.core.emails import read_email
from proxy.storage import accounts, people, teams
from proxy.storage import one_time_links as links


async def team_create(office: Office, actor: Actor, a: TeamCreate) -> object:
    """Make a team with a wallet of its own."""
    person, now = oneself(actor), office.clock()
    wallet = await office.change(lambda c: teams.add_team(c, a.name.strip(), person, now))
    return {"id": wallet.id, "user": wallet.name}


async def team_list(office: Office, _actor: Actor, a: TeamOf) -> object:
    """Who belongs to a wallet."""

    def members(connection: sqlite3.Connection) -> list[teams.Member]:
        return teams.members_of(connection, accounts.user_id_of(connection, a.user))

    return [
        {
            "email": row.email,
            "role": row.role,
            "enabled": row.enabled,
            "since": iso(row.created_at),
        }
        for row in await office.read(members)
    ]


async def team_invite(office: Office, actor: Actor, a: TeamInvite) -> object:
    """Invite somebody to a wallet of one's own; the answer alone holds the link."""
    _owners_only(actor)
    email = None if a.email is None else read_email(a.email)
    now, token = office.clock(), new_token()
    until = now + days_seconds(a.days)

    def invite(connection: sqlite3.Connection) -> int:
        wallet_id = accounts.user_id_of(connection, a.user)
        return links.add_invitation(
            connection, token, email=email, wallet_id=wallet_id, role=a.role,
            invited_by=actor.person, now=now, expires_at=until,
        )  # fmt: skip

    number = await office.keeper.note(invite)
    return {"id": number, "email": email, "link": invitation_path(token), "until": iso(until)}


async def team_revoke(office: Office, actor: Actor, a: TeamInvitationOf) -> object:
    """Take an invitation to a wallet back."""
    _owners_only(actor)
    now = office.clock()

    def revoke(connection: sqlite3.Connection) -> None:
        wallet_id = accounts.user_id_of(connection, a.user)
        links.revoke_invitation(connection, a.invitation, wallet_id, now)

    await office.keeper.note(revoke)
    return {"id": a.invitation, "open": False}


async def team_join(office: Office, actor: Actor, a: TeamJoin) -> object:
    """Join the team that a link invites to."""
    person_id, now = oneself(actor), office.clock()

    def join(connection: sqlite3.Connection) -> tuple[str, bool]:
        person = people.person_of(connection, person_id)
        found = links.use_invitation(connection, a.token, person.email, person_id, now)
        if found.wallet_id is None or found.wallet is None:
            raise ValueError(links.GONE)
        return found.wallet, teams.join(connection, person_id, found.wallet_id, found.role, now)

    name, fresh = await office.keeper.note(join)
    return {"user": name, "fresh": fresh}


async def team_leave(office: Office, actor: Actor, a: TeamOf) -> object:
    """Leave a team; one's keys of its wallet stop working."""
    person_id, now = oneself(actor), office.clock()

    def leave(connection: sqlite3.Connection) -> None:
        person = people.person_of(connection, person_id)
        wallet_id = accounts.user_id_of(connection, a.user)
        teams.remove_member(connection, wallet_id, person.email)
        links.revoke_invitations_of(connection, person_id, now, wallet_id=wallet_id)

    await office.change(leave)
    return {"user": a.user, "member": False}


async def team_remove(office: Office, actor: Actor, a: TeamMember) -> object:
    """Take a member out of a team; their keys of its wallet stop working."""
    _owners_only(actor)
    email, now = read_email(a.email), office.clock()

    def remove(connection: sqlite3.Connection) -> None:
        wallet_id = accounts.user_id_of(connection, a.user)
        member = teams.remove_member(connection, wallet_id, email)
        links.revoke_invitations_of(connection, member.person_id, now, wallet_id=wallet_id)

    await office.change(remove)
    return {"user": a.user, "email": email, "member": False}


async def team_role(office: Office, actor: Actor, a: TeamRole) -> object:
    """Make a member an owner, or an owner a member."""
    _owners_only(actor)
    email, now = read_email(a.email), office.clock()

    def change(connection: sqlite3.Connection) -> None:
        wallet_id = accounts.user_id_of(connection, a.user)
        member = teams.set_member_role(connection, wallet_id, email, a.role)
        if a.role != people.OWNER:
            links.revoke_invitations_of(connection, member.person_id, now, wallet_id=wallet_id)

    await office.keeper.note(change)
    return {"user": a.user, "email": email, "role": a.role}


def _owners_only(actor: Actor) -> None:
    if not actor.owner:
        raise CommandError("this is for the owners of the team")


HANDLERS: Mapping[str, Handler] = {
    "team create": team_create,
    "team list": team_list,
    "team invite": team_invite,
    "team revoke": team_revoke,
    "team join": team_join,
    "team leave": team_leave,
    "team remove": team_remove,
    "team role": team_role,
}
