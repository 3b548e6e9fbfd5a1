"""What a start does before anything is admitted: restore the ledger, settle what was open.

Rules: balances and spending come from the file; a call that was open when the last keeper died is
settled at its last mark, in one commit for all; nothing delivered, nothing charged. This module
must not know the event loop.
"""

import sqlite3
from typing import NamedTuple

import orjson

from proxy.core.catalog import Catalog
from proxy.core.entities import BudgetPeriod, Usage, UsageSource, Verdict
from proxy.core.errors import ErrorCode
from proxy.core.ids import EPOCH_MS
from proxy.core.ledger import ACCOUNT_KIND_BITS, DAY_SECONDS, AccountKind, Denial, Ledger
from proxy.storage.batch import Batch
from proxy.storage.ports import Closing
from proxy.storage.rows import add_money, ended_row

_OPEN_ROWS = (
    "SELECT id, key_id, user_id, endpoint, dialect, model, group_name, stream, price_version, "
    "multiplier, started_at, client_reference, hold, charge, source, usage, delivered_bytes, "
    "channel_id FROM open_call ORDER BY id"
)
_HEAD_COLUMNS = 12


class Recovery(NamedTuple):
    """What a start found open and settled. Nano-USD."""

    calls: int
    charged: int


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


def recover(connection: sqlite3.Connection, ledger: Ledger, now: float) -> Recovery:
    """Settle what was open when the last keeper died, each at its last mark, in one commit.

    Nothing delivered, nothing charged. Holds are restored first, so that one call's overrun
    cannot take what another had set aside.
    """
    rows = connection.execute(_OPEN_ROWS).fetchall()
    batch = Batch()
    charged = 0
    for row in rows:
        call_id, key_id, user_id, hold = row[0], row[1], row[2], row[12]
        if isinstance(ledger.reserve(call_id, user_id, key_id, hold, now), Denial):
            # The budget was lowered since: hold what is left of it.
            ledger.reserve(call_id, user_id, key_id, 0, now)
            ledger.extend(call_id, hold, now)
    for row in rows:
        closing = _closing_of(row, now)
        settlement = ledger.settle(row[0], closing.charge, closing.forgiven, (), now)
        charged += settlement.charged
        batch.closes.append((row[0],))
        batch.calls.append(ended_row(row[:_HEAD_COLUMNS], closing, settlement, row[10]))
        add_money(batch, settlement)
    if rows:
        batch.apply(connection)
    return Recovery(len(rows), charged)


def _closing_of(row: tuple[object, ...], now: float) -> Closing:
    call_id, charge, source, usage, delivered, channel_id = row[0], *row[13:]
    if not isinstance(call_id, int) or not isinstance(charge, int):
        raise AssertionError("an open call is stored with integers")
    used = Usage(**orjson.loads(usage)) if isinstance(usage, str) else Usage(calls=0)
    seen = isinstance(delivered, int) and delivered > 0
    return Closing(
        call_id=call_id,
        verdict=Verdict.INTERNAL_ERROR,
        usage=used,
        source=UsageSource(str(source)),
        charge=charge if seen else 0,
        forgiven=0 if seen else charge,
        delivered_bytes=delivered if isinstance(delivered, int) else 0,
        delivered_events=0,
        status=200 if seen else ErrorCode.INTERNAL_ERROR.status,
        error_code=ErrorCode.INTERNAL_ERROR.code,
        finish_reason=None,
        channel_id=channel_id if isinstance(channel_id, int) else None,
        upstream_model=None,
        attempts=(),
        ended_at=now,
        ttft_ms=None,
    )


def last_id(connection: sqlite3.Connection) -> int:
    """The greatest id in use, of a call or of a ledger event; 0 in a new file."""
    row = connection.execute(
        "SELECT max(coalesce((SELECT max(id) FROM call), 0), "
        "coalesce((SELECT max(event_id) FROM transfer), 0))"
    ).fetchone()
    return int(row[0])
