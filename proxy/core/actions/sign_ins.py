"""Actions on the sessions of people who are signed in."""

from proxy.core.actions.action import Action, Arguments, OfSelf, Role


class SessionOpen(Arguments, frozen=True):
    """`password_hash`: the one the password was checked against; None: another proof was given.
    `fresh`: they proved just now who they are, which dangerous actions ask for.
    """

    person: int
    password_hash: str | None = None
    address: str | None = None
    agent: str | None = None
    fresh: bool = True


class SessionRenew(Arguments, frozen=True):
    session: str


class SessionConfirm(Arguments, frozen=True):
    person: int
    session: str


class SessionRevoke(OfSelf, frozen=True):
    session: str


class SessionRevokeAll(OfSelf, frozen=True):
    """`keep`: the session that asks."""

    keep: str | None = None


ACTIONS = (
    Action(
        "session open", SessionOpen, "Sign a person in.", Role.ADMIN, exposed=False,
        secrets=frozenset({"password_hash"}),
    ),
    Action(
        "session renew", SessionRenew, "Let a session that is used live on.", Role.ADMIN,
        audited=False, exposed=False,
    ),
    Action(
        "session confirm", SessionConfirm, "Note that a password was given again.", Role.ADMIN,
        exposed=False,
    ),
    Action("session revoke", SessionRevoke, "End one of one's own sessions at once.", Role.USER),
    Action(
        "session revoke all", SessionRevokeAll, "End all of one's own sessions at once.", Role.USER
    ),
)  # fmt: skip
