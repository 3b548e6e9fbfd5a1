"""Turns the records of a call into rows of a batch, in column order.

Rules: one row is built per call on the hot path, so these are plain tuples of exact built-in types.
This module must not decide anything, nor know the statements.
"""

import msgspec
from msgspec.structs import astuple

from proxy.core.entities import Attempt, Usage
from proxy.core.ledger import Settlement
from proxy.storage.batch import Cell, Row
from proxy.storage.ports import Closing, Opening, Progress

_FIRST_USAGE = 11
"""Fields of a usage vector that were there from the first schema on; later ones stand last."""


def head_row(opening: Opening) -> Row:
    """The columns that an open row and an ended row share; built once per call."""
    # `_value_`, and 0 or 1 for a truth value: sqlite3 looks for an adapter, slowly, for every
    # value that is not exactly a str, int or float.
    return (
        opening.call_id, opening.key_id, opening.user_id, opening.endpoint,
        opening.dialect._value_, opening.model, opening.group, 1 if opening.stream else 0,
        opening.price_version, opening.multiplier, opening.started_at, opening.client_reference,
    )  # fmt: skip


def mark_row(progress: Progress, held: int) -> Row:
    """The values of a mark (batch.py): what a call has delivered; it holds `held` nano-USD."""
    return (
        held,
        progress.charge,
        progress.source._value_,
        msgspec.json.encode(progress.usage).decode(),
        progress.delivered_bytes,
        progress.channel_id,
        progress.call_id,
    )


def ended_row(head: Row, closing: Closing, settlement: Settlement, started_at: float) -> Row:
    """A row of `call`, in the order of `CALL_COLUMNS`."""
    duration = closing.ended_at - started_at
    used = astuple(closing.usage)
    return (
        *head,
        closing.verdict._value_, closing.source._value_,
        settlement.charged, settlement.overrun, closing.forgiven,
        settlement.balance_after, settlement.budget_after,
        *used[:_FIRST_USAGE],
        closing.delivered_bytes, closing.delivered_events, closing.status, closing.error_code,
        closing.finish_reason, closing.channel_id, closing.upstream_model, closing.ttft_ms,
        duration * 1000.0 if duration > 0 else 0.0,
        ",".join(closing.anomalies) if closing.anomalies else None,
        *used[_FIRST_USAGE:], closing.answer_id,
    )  # fmt: skip


def attempt_row(call_id: int, number: int, attempt: Attempt, of_call: Usage) -> Row:
    """A row of `attempt`; its usage is left out where it is the call's own."""
    usage: Cell = None
    if attempt.usage is not of_call and attempt.usage != of_call:
        usage = msgspec.json.encode(attempt.usage).decode()
    return (
        call_id, number, attempt.channel_id, attempt.channel_key_id, attempt.started_at,
        attempt.status, attempt.outcome, attempt.upstream_request_id, attempt.upstream_model,
        usage, attempt.cost, attempt.duration_ms,
    )  # fmt: skip


def spend_row(settlement: Settlement) -> Row | None:
    """What a settlement's key has now spent, in the order of `key_spend`; None if nothing more."""
    if not settlement.charged:
        return None
    purse = settlement.purse
    return (purse.key_id, purse.period._value_, purse.period_start, purse.spent)
