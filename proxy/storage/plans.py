"""Plans that cost or give something each month, and who has paid for which.

Rules: what a month of a plan takes and gives is posted in one transaction with the row that says
until when it is paid, so it happens once whatever dies; coming back to a plan that is still paid
for costs nothing and gives nothing again; months that passed while nobody looked are not charged;
what a plan without a fee gives is for people's own wallets, not for each team they make.
Amounts are nano-USD, times Unix seconds. This module must not know when anybody looks.
"""

import sqlite3
from typing import Final, NamedTuple

from proxy.core.actions.wallets import NoticeKind
from proxy.core.entities import Plan
from proxy.core.ledger import Transfer
from proxy.core.months import month_around
from proxy.core.sentences import Sentence
from proxy.storage.accounts import touch_catalog
from proxy.storage.notices import raise_notice
from proxy.storage.till import Event, Moved
from proxy.storage.wallet_changes import OWN_REFERENCE, add_top_up, take_fee

DUE_MAX: Final = 1_000
"""Wallets renewed at one look; the next ones follow at once."""


IS_TEAM: Final = (
    "(SELECT count(*) > 0 AND count(*) FILTER (WHERE wallet_id = user_id) = 0 FROM membership "
    "JOIN person ON person.id = person_id WHERE user_id = ?1)"
)
"""Of the wallet ?1: people share it, and it is nobody's own."""


class Term(NamedTuple):
    """What a wallet has of its plan. `until`: when the month ends; None: the plan has none.

    `fee` and `credit` are what was posted for it just now.
    """

    plan: str
    until: int | None
    fee: int
    credit: int


class Due(NamedTuple):
    """A wallet whose month of its plan is over, or never began."""

    user_id: int
    plan: str


def find_due(connection: sqlite3.Connection, now: float, rows_max: int = DUE_MAX) -> list[Due]:
    """Read whose month has to begin; nobody's who is disabled."""
    rows = connection.execute(
        "SELECT user.id, user.plan FROM user JOIN plan ON plan.name = user.plan "
        "LEFT JOIN subscription AS term ON term.user_id = user.id AND term.plan = user.plan "
        "WHERE enabled = 1 AND (monthly_fee > 0 OR monthly_credit > 0) "
        "AND coalesce(next_at, 0) <= ? ORDER BY user.id LIMIT ?",
        (now, rows_max),
    )
    return [Due(*row) for row in rows]


def paid_until(connection: sqlite3.Connection, user_id: int, plan: str) -> int | None:
    """When the wallet's month of that plan ends or ended; None if it never had one."""
    row = connection.execute(
        "SELECT next_at FROM subscription WHERE user_id = ? AND plan = ?", (user_id, plan)
    ).fetchone()
    return None if row is None else int(row[0])


def choose_plan(
    connection: sqlite3.Connection, event: Event, user_id: int, plan: Plan, now: float
) -> Moved[Term]:
    """Put a wallet on a plan and begin its month; the caller has set the fee aside.

    Raises ValueError for an unknown wallet.
    """
    cursor = connection.execute("UPDATE user SET plan = ? WHERE id = ?", (plan.name, user_id))
    if cursor.rowcount == 0:
        raise ValueError(
            Sentence("there is no user {user_id}: see `sluice user list`", user_id=user_id)
        )
    touch_catalog(connection, users=(user_id,))
    return _begin(connection, event, user_id, plan, now, anew=True)


def renew(
    connection: sqlite3.Connection, event: Event, user_id: int, plan: Plan, now: float
) -> Moved[Term]:
    """Begin the month that is due, if it still is; the caller has set the fee aside."""
    row = connection.execute("SELECT plan, enabled FROM user WHERE id = ?", (user_id,)).fetchone()
    if row != (plan.name, 1):
        return Moved(Term(plan.name, None, 0, 0))
    return _begin(connection, event, user_id, plan, now, anew=False)


def fall_back(
    connection: sqlite3.Connection, user_id: int, plan: str, instead: str, now: float
) -> bool:
    """Put a wallet that cannot pay for its plan on another, with a notice.

    False if it is on that plan no more.
    """
    cursor = connection.execute(
        "UPDATE user SET plan = ? WHERE id = ? AND plan = ?", (instead, user_id, plan)
    )
    if cursor.rowcount == 0:
        return False
    touch_catalog(connection, users=(user_id,))
    raise_notice(connection, user_id, NoticeKind.PLAN_ENDED, plan, now)
    return True


def _begin(
    connection: sqlite3.Connection,
    event: Event,
    user_id: int,
    plan: Plan,
    now: float,
    *,
    anew: bool,
) -> Moved[Term]:
    """`anew`: somebody chose it, so a month that is over does not say when the next begins."""
    if not plan.monthly:
        return Moved(Term(plan.name, None, 0, 0))
    row = connection.execute(
        "SELECT anchor, next_at FROM subscription WHERE user_id = ? AND plan = ?",
        (user_id, plan.name),
    ).fetchone()
    if row is not None and row[1] > now:
        return Moved(Term(plan.name, row[1], 0, 0))
    anchor = int(now) if row is None or anew else row[0]
    month = month_around(anchor, now)
    reason, reference = f"plan {plan.name}", f"{OWN_REFERENCE}plan:{user_id}:{month.start}"
    reference = f"{reference}:{plan.name}"
    transfers: list[Transfer] = []
    if plan.monthly_fee:
        fee = take_fee(connection, event, user_id, plan.monthly_fee, reason, reference)
        transfers += fee.transfers
    given = 0 if _is_free_for_a_team(connection, user_id, plan) else plan.monthly_credit
    if given:
        credit = add_top_up(connection, event, user_id, given, reason, reference)
        transfers += credit.transfers
    connection.execute(
        "INSERT INTO subscription VALUES (?1, ?2, ?3, ?4, ?5) ON CONFLICT (user_id, plan) "
        "DO UPDATE SET anchor = ?3, period_start = ?4, next_at = ?5",
        (user_id, plan.name, anchor, month.start, month.end),
    )
    return Moved(Term(plan.name, month.end, plan.monthly_fee, given), transfers)


def _is_free_for_a_team(connection: sqlite3.Connection, user_id: int, plan: Plan) -> bool:
    """Whether a plan would give something for nothing to a wallet that people made as a team.

    Whoever makes ten teams would have it eleven times. Wallets without people are the operator's.
    """
    if plan.monthly_fee:
        return False
    query = f"SELECT {IS_TEAM}"
    (of_team,) = connection.execute(query, (user_id,)).fetchone()
    return bool(of_team)
