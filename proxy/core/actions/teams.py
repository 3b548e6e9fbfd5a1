"""Actions on teams: wallets that several people belong to."""

from typing import Literal

from proxy.core.actions.action import Action, Arguments, OfSelf, Role

MemberRole = Literal["owner", "member"]


class TeamCreate(OfSelf, frozen=True):
    name: str


class TeamOf(Arguments, frozen=True):
    user: str


class TeamInvite(Arguments, frozen=True):
    """`email`: for this address alone; without it, for whoever has the link."""

    user: str
    email: str | None = None
    role: MemberRole = "member"
    days: int = 7


class TeamInvitationOf(Arguments, frozen=True):
    user: str
    invitation: int


class TeamJoin(OfSelf, frozen=True):
    token: str


class TeamMember(Arguments, frozen=True):
    user: str
    email: str


class TeamRole(Arguments, frozen=True):
    user: str
    email: str
    role: MemberRole


ACTIONS = (
    Action("team create", TeamCreate, "Make a team with a wallet of its own.", Role.USER),
    Action("team list", TeamOf, "Who belongs to a wallet.", Role.USER, audited=False),
    Action(
        "team invite", TeamInvite,
        "Invite somebody to a wallet of one's own; the answer alone holds the link.", Role.USER,
    ),
    Action("team revoke", TeamInvitationOf, "Take an invitation to a wallet back.", Role.USER),
    Action(
        "team join", TeamJoin, "Join the team that a link invites to.", Role.USER,
        secrets=frozenset({"token"}),
    ),
    Action(
        "team leave", TeamOf, "Leave a team; one's keys of its wallet stop working.", Role.USER
    ),
    Action(
        "team remove", TeamMember,
        "Take a member out of a team; their keys of its wallet stop working.", Role.USER,
    ),
    Action("team role", TeamRole, "Make a member an owner, or an owner a member.", Role.USER),
)  # fmt: skip
