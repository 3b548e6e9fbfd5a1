"""What a start reads before anything is admitted: the ledger, and the calls that were open.

Rules: balances and spending come from the file; a call that was open when the last keeper died,
and that nobody serves any more, is settled at its last mark; nothing delivered, nothing charged.
This module must not know the event loop.
"""

import sqlite3
from collections.abc import Sequence
from typing import Final, NamedTuple

import orjson

from proxy.core import pricing
from proxy.core.catalog import Catalog
from proxy.core.entities import (
    INTERRUPTED,
    MULTIPLIER_ONE,
    Attempt,
    BudgetPeriod,
    Channel,
    Dialect,
    Usage,
    UsageSource,
    Verdict,
)
from proxy.core.errors import ErrorCode
from proxy.core.ids import EPOCH_MS
from proxy.core.ledger import ACCOUNT_KIND_BITS, DAY_SECONDS, AccountKind, Ledger
from proxy.core.routing import ANONYMOUS_KEY
from proxy.storage.batch import Batch
from proxy.storage.messages import Posted
from proxy.storage.ports import Closing, Opening, Progress
from proxy.storage.rows import attempt_row, ended_row, open_row, spend_row

_OPEN_ROWS = (
    "SELECT id, key_id, user_id, endpoint, dialect, model, group_name, stream, price_version, "
    "multiplier, started_at, client_reference, input_estimate, hold, charge, source, usage, "
    "delivered_bytes, channel_id, charge_max FROM open_call ORDER BY id"
)


class Recovery(NamedTuple):
    """What a start found open and settled. Nano-USD."""

    calls: int
    charged: int

    def more(self, charged: int) -> "Recovery":
        """Return what it is with one call more."""
        return Recovery(self.calls + 1, self.charged + charged)


NONE_OPEN: Final = Recovery(0, 0)


class Found(NamedTuple):
    """An open call as the file has it. `held` is nano-USD, `progress` its last mark."""

    opening: Opening
    held: int
    progress: Progress | None


def load_ledger(connection: sqlite3.Connection, catalog: Catalog, now: float) -> Ledger:
    """Read wallets, what keys have spent, and the operator's expense of today."""
    ledger = Ledger()
    wallets = connection.execute(
        "SELECT id, balance FROM account WHERE id & ? = ?",
        ((1 << ACCOUNT_KIND_BITS) - 1, int(AccountKind.WALLET)),
    )
    for account, balance in wallets:
        ledger.wallet(account >> ACCOUNT_KIND_BITS).balance = balance
    spends = connection.execute("SELECT key_id, period, period_start, spent FROM key_spend")
    for key_id, period, period_start, spent in spends:
        ledger.load_spend(key_id, BudgetPeriod(period), period_start, spent)
    today = int(now // DAY_SECONDS) * DAY_SECONDS
    expenses = connection.execute(
        "SELECT key_id, sum(overrun + forgiven) FROM call "
        "WHERE overrun + forgiven > 0 AND id >= ? GROUP BY key_id",
        ((today * 1000 - EPOCH_MS) << 22,),
    )
    for key_id, amount in expenses:
        ledger.load_expense(key_id, amount, now)
    for key in catalog.keys_by_id.values():
        ledger.set_budget(key.id, key.budget, key.budget_period, now)
    return ledger


def find_open(connection: sqlite3.Connection) -> dict[int, Found]:
    """Read the calls the file says are open, oldest first."""
    found: dict[int, Found] = {}
    for row in connection.execute(_OPEN_ROWS):
        call_id, held = row[0], row[13]
        opening = Opening(
            call_id=call_id,
            key_id=row[1],
            user_id=row[2],
            endpoint=row[3],
            dialect=Dialect(row[4]),
            model=row[5],
            group=row[6],
            stream=bool(row[7]),
            price_version=row[8],
            multiplier=row[9],
            hold=held,
            ceiling=held,
            tokens=0,
            input_estimate=row[12],
            started_at=row[10],
            client_reference=row[11],
            charge_max=row[19],
        )
        charge, source, usage, delivered, channel_id = row[14:19]
        progress = None
        if usage is not None:
            used = Usage(**orjson.loads(usage))
            progress = Progress(call_id, used, UsageSource(source), charge, delivered, channel_id)
        found[call_id] = Found(opening, held, progress)
    return found


def recover(
    connection: sqlite3.Connection, ledger: Ledger, catalog: Catalog, now: float
) -> Recovery:
    """Settle what was open when the last keeper died, each at its last mark, in one commit.

    Nothing delivered, nothing charged. Holds are restored first, so that one call's overrun
    cannot take what another had set aside.
    """
    found = find_open(connection)
    batch = Batch()
    charged = 0
    for call_id, (opening, held, _) in found.items():
        ledger.restore(call_id, opening.user_id, opening.key_id, held, now)
    for call_id, (opening, _, progress) in found.items():
        closing = closing_at_mark(opening, progress, catalog, now)
        tries = [attempt_row(call_id, 0, each, closing.usage) for each in closing.attempts]
        costs = [(each.channel_id, each.cost) for each in closing.attempts if each.cost]
        settlement = ledger.settle(
            call_id, closing.charge, closing.forgiven, costs, now, opening.charge_max
        )
        charged += settlement.charged
        batch.closes.append((call_id,))
        row = ended_row(open_row(opening, 0), closing, settlement, opening.started_at)
        batch.end(row, tries, settlement.transfers, spend_row(settlement), settlement.charge)
    if found:
        batch.apply(connection)
    return Recovery(len(found), charged)


def closing_at_mark(
    opening: Opening, progress: Progress | None, catalog: Catalog, now: float
) -> Closing:
    """The end of a call whose process has died: what its last mark says, if it made one."""
    attempt = None
    if progress is not None and progress.channel_id is not None:
        attempt = _attempt_at_mark(opening, progress, catalog.channels.get(progress.channel_id))
    charge = 0 if progress is None else progress.charge
    delivered = 0 if progress is None else progress.delivered_bytes
    return Closing(
        call_id=opening.call_id,
        verdict=Verdict.INTERNAL_ERROR,
        usage=Usage(calls=0) if progress is None else progress.usage,
        source=UsageSource.NONE if progress is None else progress.source,
        charge=charge if delivered else 0,
        forgiven=0 if delivered else charge,
        delivered_bytes=delivered,
        delivered_events=0,
        status=200 if delivered else ErrorCode.INTERNAL_ERROR.status,
        error_code=ErrorCode.INTERNAL_ERROR.code,
        finish_reason=None,
        channel_id=None if progress is None else progress.channel_id,
        upstream_model=None if attempt is None else attempt.upstream_model,
        attempts=() if attempt is None else (attempt,),
        ended_at=now,
        ttft_ms=None,
    )


def _attempt_at_mark(
    opening: Opening, progress: Progress, channel: Channel | None
) -> Attempt | None:
    """The attempt that a mark is about: its provider will ask for it. None: the channel is gone.

    Those that failed before it are not known any more, nor when it ended.
    """
    if channel is None:
        return None
    basis = channel.costs.get(opening.model)
    only_key = channel.keys[0] if len(channel.keys) == 1 else ANONYMOUS_KEY
    return Attempt(
        channel_id=channel.id,
        channel_key_id=only_key.id,
        started_at=opening.started_at,
        status=200,
        outcome=INTERRUPTED,
        upstream_request_id=None,
        upstream_model=channel.models.get(opening.model, opening.model),
        usage=progress.usage,
        cost=0 if basis is None else pricing.charge(progress.usage, basis, MULTIPLIER_ONE),
        duration_ms=0.0,
    )


def find_ended(connection: sqlite3.Connection, call_ids: Sequence[int]) -> dict[int, Posted]:
    """Read what was posted for those of the calls that have ended."""
    ended: dict[int, Posted] = {}
    for call_id in call_ids:
        row = connection.execute(
            "SELECT charge, overrun, balance_after FROM call WHERE id = ?", (call_id,)
        ).fetchone()
        if row is not None:
            ended[call_id] = Posted(call_id, *row)
    return ended


def last_id(connection: sqlite3.Connection) -> int:
    """The greatest id in use, of a call or of a ledger event; 0 in a new file."""
    row = connection.execute(
        "SELECT max(coalesce((SELECT max(id) FROM call), 0), "
        "coalesce((SELECT max(id) FROM open_call), 0), "
        "coalesce((SELECT max(event_id) FROM transfer), 0))"
    ).fetchone()
    return int(row[0])
