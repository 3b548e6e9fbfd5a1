"""Recomputes the books from the database file alone and says what does not add up.

Rules: reads only, in one transaction, so it may run beside a live keeper; trusts no stored sum;
memory is bounded by accounts and prices, not by calls. The names I1 to I7 and I14 are the ledger's
invariants, each stated where it is checked. This module must not know the keeper.
"""

import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from proxy.core.entities import Usage
from proxy.core.ledger import ACCOUNT_KIND_BITS, AccountKind
from proxy.core.pricing import charge
from proxy.storage.snapshots import load_prices
from proxy.storage.sqlite import open_reader

PROBLEMS_MAX = 100
"""A report stops after so many; the first ones say what went wrong."""

_USAGE_COLUMNS = Usage.__struct_fields__
_USED = " + ".join(name for name in _USAGE_COLUMNS if name not in {"reasoning", "variant"})
_TRIGGERS = frozenset(
    {
        "call_never_changes",
        "payment_never_leaves",
        "payment_once",
        "price_never_changes",
        "price_never_leaves",
        "redeem_code_never_leaves",
        "redeem_code_once",
        "rollup_never_leaves",
        "rollup_never_shrinks",
        "transfer_never_changes",
        "transfer_never_leaves",
        "wallet_change_never_changes",
        "wallet_change_never_leaves",
    }
)


class _Check(NamedTuple):
    """A query whose every row is a problem, and the words for it."""

    text: str
    query: str


_CHECKS = (
    _Check(
        "I1: account {0} stores {1}, its postings sum to {2}",
        "SELECT id, balance, total FROM account LEFT JOIN (SELECT account_id, sum(amount) AS total "
        "FROM posting GROUP BY account_id) ON account_id = id WHERE balance <> coalesce(total, 0)",
    ),
    _Check(
        "I1: postings name account {0}, which does not exist",
        "SELECT DISTINCT account_id FROM posting WHERE account_id NOT IN (SELECT id FROM account)",
    ),
    _Check(
        "I1: top-up {0} of {1} has no transfer of that amount to its wallet",
        "SELECT top_up.event_id, top_up.amount FROM top_up LEFT JOIN transfer "
        "ON transfer.event_id = top_up.event_id AND kind = 'top_up' AND transfer.amount = "
        "top_up.amount AND credit = (user_id << 3 | 1) WHERE transfer.event_id IS NULL",
    ),
    _Check(
        "I1: top-up transfer {0} of {1} has no top-up",
        "SELECT event_id, amount FROM transfer WHERE kind = 'top_up' "
        "AND event_id NOT IN (SELECT event_id FROM top_up)",
    ),
    _Check(
        "I1: {1} {0} of {2} has no transfer that says the same",
        "SELECT event_id, kind, amount FROM wallet_change WHERE NOT EXISTS (SELECT 1 FROM transfer "
        "WHERE transfer.event_id = wallet_change.event_id AND transfer.kind = wallet_change.kind "
        "AND transfer.amount = abs(wallet_change.amount) AND refers_to IS call_id "
        "AND CASE WHEN wallet_change.amount > 0 THEN credit ELSE debit END = (user_id << 3 | 1) "
        "AND CASE WHEN wallet_change.amount > 0 THEN debit ELSE credit END = "
        "CASE transfer.kind WHEN 'adjustment' THEN 0 ELSE 2 END)",
    ),
    _Check(
        "I1: {1} transfer {0} of {2} has no reason",
        "SELECT event_id, kind, amount FROM transfer WHERE kind IN ('refund', 'adjustment', 'fee') "
        "AND event_id NOT IN (SELECT event_id FROM wallet_change)",
    ),
    _Check(
        "I1: code {0} of {1}, redeemed by user {2}, has no top-up that says the same",
        "SELECT id, amount, redeemed_by FROM redeem_code WHERE redeemed_by IS NOT NULL "
        "AND NOT EXISTS (SELECT 1 FROM top_up WHERE top_up.event_id = redeem_code.event_id "
        "AND top_up.amount = redeem_code.amount AND user_id = redeemed_by "
        "AND reference = 'sluice:code:' || id)",
    ),
    _Check(
        "I1: top-up {0} names a code that was not redeemed",
        "SELECT event_id FROM top_up WHERE reference GLOB 'sluice:code:*' AND event_id NOT IN "
        "(SELECT event_id FROM redeem_code WHERE event_id IS NOT NULL)",
    ),
    _Check(
        "I1: payment {0} of {1} by user {2} has no top-up that says the same",
        "SELECT id, amount, user_id FROM payment WHERE status = 'paid' "
        "AND NOT EXISTS (SELECT 1 FROM top_up WHERE top_up.event_id = payment.event_id "
        "AND top_up.amount = payment.amount AND top_up.user_id = payment.user_id "
        "AND reference = 'sluice:' || provider || ':' || id)",
    ),
    _Check(
        "I2: call {0} is open and ended at once",
        "SELECT id FROM open_call WHERE id IN (SELECT id FROM call)",
    ),
    _Check(
        "I2: call {0} records {1} {2}, its transfers say {3}",
        "SELECT * FROM (SELECT id, column1 AS kind, CASE column1 WHEN 'charge' THEN charge "
        "WHEN 'overrun' THEN overrun ELSE forgiven END AS stored, coalesce((SELECT sum(amount) "
        "FROM transfer WHERE event_id = id AND transfer.kind = column1), 0) AS posted "
        "FROM call, (VALUES ('charge'), ('overrun'), ('forgiven'))) WHERE stored <> posted",
    ),
    _Check(
        "I2: call {0} was charged {1} times",
        "SELECT event_id, count(*) FROM transfer WHERE kind = 'charge' GROUP BY event_id "
        "HAVING count(*) > 1",
    ),
    _Check(
        "I2: {1} of {2} is posted for call {0}, which never ended",
        "SELECT event_id, kind, amount FROM transfer_without_call "
        "WHERE day NOT IN (SELECT day FROM rollup)",
    ),
    _Check(
        "I5: charges of user {0} rolled up for day {1} are {2}, their transfers say {3}",
        "SELECT * FROM (SELECT user_id, day, sum(rolled) AS rolled, sum(posted) AS posted FROM ("
        "SELECT user_id, day, charge AS rolled, 0 AS posted FROM rollup UNION ALL "
        "SELECT debit >> 3, day, 0, amount FROM transfer_without_call WHERE kind = 'charge' "
        "AND day IN (SELECT day FROM rollup)) GROUP BY user_id, day) WHERE rolled <> posted",
    ),
    _Check(
        "I5: {0} rolled up for day {1} is {2}, its transfers say {3}",
        "SELECT * FROM (SELECT kind, day, sum(rolled) AS rolled, sum(posted) AS posted FROM ("
        "SELECT 'overrun' AS kind, day, overrun AS rolled, 0 AS posted FROM rollup UNION ALL "
        "SELECT 'forgiven', day, forgiven, 0 FROM rollup UNION ALL "
        "SELECT kind, day, 0, amount FROM transfer_without_call "
        "WHERE kind IN ('overrun', 'forgiven') AND day IN (SELECT day FROM rollup)"
        ") GROUP BY kind, day) WHERE rolled <> posted",
    ),
    _Check(
        "I5: cost at channel {0} rolled up for day {1} is {2}, its transfers say {3}",
        "SELECT * FROM (SELECT channel_id, day, sum(rolled) AS rolled, sum(posted) AS posted FROM ("
        "SELECT channel_id, day, cost AS rolled, 0 AS posted FROM rollup UNION ALL "
        "SELECT debit >> 3, day, 0, amount FROM transfer_without_call "
        "WHERE kind = 'upstream_cost' AND day IN (SELECT day FROM rollup)"
        ") GROUP BY channel_id, day) WHERE rolled <> posted",
    ),
    _Check(
        "I2: call {0} of user {1} was charged to account {2}",
        "SELECT id, user_id, debit FROM call JOIN transfer ON event_id = id AND kind = 'charge' "
        "WHERE debit <> (user_id << 3 | 1)",
    ),
    _Check(
        "I2: attempts of call {0} cost {1}, its transfers say {2}",
        "SELECT * FROM (SELECT id, coalesce((SELECT sum(cost) FROM attempt WHERE call_id = id), 0) "
        "AS stored, coalesce((SELECT sum(amount) FROM transfer WHERE event_id = id "
        "AND kind = 'upstream_cost'), 0) AS posted FROM call) WHERE stored <> posted",
    ),
    _Check(
        "I3: call {0} was charged {1} without usage, or without anything delivered",
        f"SELECT id, charge FROM call WHERE charge > 0 AND (delivered_bytes = 0 OR {_USED} = 0)",  # noqa: S608 - constants
    ),
    _Check(
        "I6: account {0} is at {1}",
        "SELECT id, balance FROM account WHERE id & 7 = 1 AND balance < 0",
    ),
    _Check(
        "I6: call {0} left {1} in the wallet and {2} in the budget",
        "SELECT id, balance_after, budget_after FROM call WHERE balance_after < 0 "
        "OR budget_after < 0",
    ),
    _Check(
        "I6: key {0} has spent {1} in its period, more than the {2} it was ever charged",
        "SELECT key_spend.key_id, spent, total FROM key_spend LEFT JOIN (SELECT key_id, "
        "sum(charge) AS total FROM (SELECT key_id, charge FROM call UNION ALL "
        "SELECT key_id, charge FROM rollup) GROUP BY key_id) AS charged "
        "ON charged.key_id = key_spend.key_id WHERE spent > coalesce(total, 0)",
    ),
    _Check(
        "I7: refunds of call {0} sum to {1}, it was charged {2}",
        "SELECT refers_to, refunded, charged FROM (SELECT refers_to, sum(amount) AS refunded, "
        "coalesce((SELECT amount FROM transfer AS charge WHERE charge.event_id = refund.refers_to "
        "AND charge.kind = 'charge'), 0) AS charged FROM transfer AS refund WHERE kind = 'refund' "
        "GROUP BY refers_to) WHERE refunded > charged",
    ),
    _Check(
        "I7: refund {0} of call {1} went to account {2}, the call was charged to {3}",
        "SELECT refund.event_id, refund.refers_to, refund.credit, charge.debit FROM transfer "
        "AS refund JOIN transfer AS charge ON charge.event_id = refund.refers_to "
        "AND charge.kind = 'charge' WHERE refund.kind = 'refund' AND refund.credit <> charge.debit",
    ),
)

_TAKEN_BACK = "payment_debit"
_TAKEN_BACK_CHECKS = (
    _Check(
        "I1: of payment {0} {1} was taken back, it was worth {2}",
        "SELECT payment_id, taken, payment.amount FROM (SELECT payment_id, sum(amount) AS taken "
        "FROM payment_debit GROUP BY payment_id) JOIN payment ON payment.id = payment_id "
        "WHERE taken > payment.amount",
    ),
    _Check(
        "I1: {1} taken back of payment {0} has no adjustment that says the same",
        "SELECT payment_id, payment_debit.amount FROM payment_debit LEFT JOIN payment "
        "ON payment.id = payment_id WHERE NOT EXISTS (SELECT 1 FROM wallet_change AS change "
        "WHERE change.event_id = payment_debit.event_id AND kind = 'adjustment' "
        "AND change.amount = -payment_debit.amount AND change.user_id = payment.user_id)",
    ),
    _Check(
        "I1: adjustment {0} of {1} names a payment of which that was not taken back",
        "SELECT event_id, amount FROM wallet_change WHERE reference GLOB 'sluice:*-refund:*' "
        "AND event_id NOT IN (SELECT event_id FROM payment_debit)",
    ),
)
"""Of files that have that table: one is copied, and looked at, before it is brought up to date."""
_TAKEN_BACK_TRIGGERS = frozenset({"payment_debit_never_changes", "payment_debit_never_leaves"})


@dataclass(frozen=True, slots=True)
class Report:
    """What was looked at and what was wrong with it; amounts nano-USD."""

    calls: int
    """With their detail."""
    rolled_up: int
    """Calls of which only the sums are left."""
    open_calls: int
    transfers: int
    accounts: int
    wallets: int
    """Sum of all wallets."""
    revenue: int
    problems: tuple[str, ...]

    @property
    def clean(self) -> bool:
        """Whether everything adds up."""
        return not self.problems


def verify(path: Path, *, quiet: bool = False) -> Report:
    """Check the ledger in `path`. With `quiet`, an open call is a problem too (I2).

    Raises sqlite3.Error for a file that cannot be read at all.
    """
    connection = open_reader(path)
    try:
        connection.execute("BEGIN")
        problems: list[str] = []
        for problem in _problems(connection, quiet=quiet):
            problems.append(problem)
            if len(problems) == PROBLEMS_MAX:
                problems.append("and more")
                break
        revenue = "SELECT coalesce(sum(balance), 0) FROM account WHERE id & ? = ?"
        mask = (1 << ACCOUNT_KIND_BITS) - 1
        return Report(
            calls=_number(connection, "SELECT count(*) FROM call"),
            rolled_up=_number(connection, "SELECT coalesce(sum(ended), 0) FROM rollup"),
            open_calls=_number(connection, "SELECT count(*) FROM open_call"),
            transfers=_number(connection, "SELECT count(*) FROM transfer"),
            accounts=_number(connection, "SELECT count(*) FROM account"),
            wallets=_number(connection, revenue, mask, int(AccountKind.WALLET)),
            revenue=_number(connection, revenue, mask, int(AccountKind.REVENUE)),
            problems=tuple(problems),
        )
    finally:
        connection.close()


def _problems(connection: sqlite3.Connection, *, quiet: bool) -> Iterator[str]:
    damage = [line for (line,) in connection.execute(f"PRAGMA quick_check({PROBLEMS_MAX})")]
    if damage != ["ok"]:
        yield from (f"file: {line}" for line in damage)
        return  # sums over damaged pages would be noise
    found = {name for (name,) in connection.execute("SELECT name FROM sqlite_schema")}
    knows = _TAKEN_BACK in found
    checks = (*_CHECKS, *(_TAKEN_BACK_CHECKS if knows else ()))
    triggers = _TRIGGERS | (_TAKEN_BACK_TRIGGERS if knows else frozenset())
    for text, query in checks:
        for row in connection.execute(query):
            yield text.format(*row)
    yield from _charges(connection)
    if quiet:
        for (call_id,) in connection.execute("SELECT id FROM open_call"):
            yield f"I2: call {call_id} is still open"
    for name in sorted(triggers - found):
        yield f"I14: the trigger {name} is gone, rows could have been changed"


def _charges(connection: sqlite3.Connection) -> Iterator[str]:
    """I5: every charge with detail recomputes from its usage, price version and multiplier.

    One whose detail has left recomputed when it did (storage/retention.py); its sums are compared
    with its transfers above.

    A call without any amount is not recomputed: nothing was delivered and nothing used that had
    a price, or it ended before it had a price at all.
    """
    prices = load_prices(connection)
    columns = ", ".join(_USAGE_COLUMNS)
    rows = connection.execute(
        f"SELECT id, model, price_version, multiplier, charge + overrun + forgiven, {columns} "  # noqa: S608 - constants
        "FROM call WHERE charge + overrun + forgiven > 0"
    )
    for call_id, model, version, multiplier, posted, *counts in rows:
        price = prices.get((model, version))
        if price is None:
            yield f"I5: call {call_id} names version {version} of {model!r}, which has no price"
            continue
        expected = charge(Usage(*counts), price, multiplier)
        if expected != posted:
            yield f"I5: call {call_id} was priced {posted}, its usage costs {expected}"


def _number(connection: sqlite3.Connection, query: str, *values: int) -> int:
    return int(connection.execute(query, values).fetchone()[0])
