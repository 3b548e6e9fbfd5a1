"""Turns the records of a call into rows of a batch, in column order.

Rules: one row is built per call on the hot path, so these are plain tuples of exact built-in types.
A row that says nothing out of the ordinary is a short one (batch.py): each column costs its place
in the redo log and a variable bound on the writer's thread, a NULL three times as much. This module
must not decide anything, nor know the statements.
"""

from typing import Final

import msgspec
from msgspec.structs import astuple

from proxy.core.entities import Attempt, Usage, Verdict
from proxy.core.ledger import Settlement
from proxy.storage.batch import ORDINARY_OPEN_COLUMNS, SHARED_COLUMNS
from proxy.storage.inserts import Row
from proxy.storage.ports import Closing, Opening, Progress

_encode = msgspec.json.Encoder().encode
_FIRST_USAGE = 11
"""Fields of a usage vector that were there from the first schema on; later ones stand last."""
_ORDINARY_OPEN = len(ORDINARY_OPEN_COLUMNS)
_COMPLETE: Final = Verdict.COMPLETE


def open_row(opening: Opening, hold: int) -> Row:
    """A row of `open_call` that holds `hold` nano-USD."""
    reference, charge_max = opening.client_reference, opening.charge_max
    # `_value_`, and 0 or 1 for a truth value: sqlite3 looks for an adapter, slowly, for every
    # value that is not exactly a str, int or float.
    if reference is None and charge_max is None:
        return (
            opening.call_id, opening.key_id, opening.user_id, opening.endpoint,
            opening.dialect._value_, opening.model, opening.group, 1 if opening.stream else 0,
            opening.price_version, opening.multiplier, opening.started_at,
            opening.input_estimate, hold,
        )  # fmt: skip
    return (
        opening.call_id, opening.key_id, opening.user_id, opening.endpoint,
        opening.dialect._value_, opening.model, opening.group, 1 if opening.stream else 0,
        opening.price_version, opening.multiplier, opening.started_at, reference,
        opening.input_estimate, hold, charge_max,
    )  # fmt: skip


def mark_row(progress: Progress, held: int) -> Row:
    """The values of a mark (batch.py): what a call has delivered; it holds `held` nano-USD."""
    return (
        held,
        progress.charge,
        progress.source._value_,
        _encode(progress.usage).decode(),
        progress.delivered_bytes,
        progress.channel_id,
        progress.call_id,
    )


def ended_row(opened: Row, closing: Closing, settlement: Settlement, started_at: float) -> Row:
    """A row of `call` whose open row was `opened`, in the order of `CALL_COLUMNS`.

    Or of `ORDINARY_CALL_COLUMNS`: text that was answered, complete, and charged to the wallet.
    """
    duration = closing.ended_at - started_at
    used = astuple(closing.usage)
    # Unpacked by name, as is the open row: to take tuples apart and together costs twice as much.
    (
        read, cached, written_5m, written_1h, output, reasoning, heard, spoken, images, characters,
        calls, audio_ms, searches, variant, seen, drawn, heard_again, seen_again,
    ) = used  # fmt: skip
    if (
        closing.verdict is _COMPLETE
        and len(opened) == _ORDINARY_OPEN
        and closing.error_code is closing.answer_id is None
        and settlement.budget_after is None
        and not (
            closing.anomalies or closing.forgiven or settlement.overrun
            or heard or spoken or images or characters or audio_ms or searches or variant
            or seen or drawn or heard_again or seen_again
        )
        and calls == 1
        and closing.status == 200
    ):  # fmt: skip
        call_id, key, user, endpoint, dialect, model, group, stream, price, times, at, _, _ = opened
        return (
            call_id, key, user, endpoint, dialect, model, group, stream, price, times, at,
            closing.source._value_, settlement.charged, settlement.balance_after,
            read, cached, written_5m, written_1h, output, reasoning,
            closing.delivered_bytes, closing.delivered_events, closing.finish_reason,
            closing.channel_id, closing.upstream_model, closing.ttft_ms,
            duration * 1000.0 if duration > 0 else 0.0,
        )  # fmt: skip
    return (
        *opened[:SHARED_COLUMNS],
        None if len(opened) == _ORDINARY_OPEN else opened[SHARED_COLUMNS],
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


def settled_row(opened: Row, closing: Closing, settlement: Settlement) -> Row | None:
    """What follows an ordinary open row in a row of `SETTLED_COLUMNS`; None if one cannot say all.

    Costs of attempts are said by transfers of their own.
    """
    attempts, usage, charge = closing.attempts, closing.usage, settlement.charge
    if (
        len(attempts) != 1
        or len(opened) != _ORDINARY_OPEN
        or charge is None
        or closing.verdict is not _COMPLETE
        or closing.status != 200
        or settlement.budget_after is not None
        or closing.error_code is not None
        or closing.answer_id is not None
        or closing.anomalies
        or closing.forgiven
        or settlement.overrun
    ):
        return None
    attempt, model, channel = attempts[0], closing.upstream_model, closing.channel_id
    (
        read, cached, written_5m, written_1h, output, reasoning, heard, spoken, images, characters,
        calls, audio_ms, searches, variant, seen, drawn, heard_again, seen_again,
    ) = astuple(usage)  # fmt: skip
    if (
        calls != 1
        or heard or spoken or images or characters or audio_ms or searches or variant
        or seen or drawn or heard_again or seen_again
        or (attempt.usage is not usage and attempt.usage != usage)
        or attempt.status != 200
        or attempt.outcome != "served"
        or attempt.channel_id != channel
        or attempt.upstream_model != model
    ):  # fmt: skip
        return None
    purse = settlement.purse
    return (
        closing.source._value_, settlement.charged, settlement.balance_after,
        read, cached, written_5m, written_1h, output, reasoning,
        closing.delivered_bytes, closing.delivered_events, closing.finish_reason,
        channel, model, closing.ttft_ms,
        charge[3], attempt.channel_key_id, attempt.started_at, attempt.upstream_request_id,
        attempt.cost, attempt.duration_ms, purse.period._value_, purse.period_start, purse.spent,
    )  # fmt: skip


def attempt_rows(closing: Closing) -> list[Row]:
    """Rows of `attempt` for all attempts of a call."""
    call_id, usage = closing.call_id, closing.usage
    return [
        attempt_row(call_id, number, attempt, usage)
        for number, attempt in enumerate(closing.attempts)
    ]


def attempt_row(call_id: int, number: int, attempt: Attempt, of_call: Usage) -> Row:
    """A row of `attempt`; its usage is left out where it is the call's own."""
    same = attempt.usage is of_call or attempt.usage == of_call
    if same and not number and attempt.status == 200 and attempt.outcome == "served":
        return (
            call_id, attempt.channel_id, attempt.channel_key_id, attempt.started_at,
            attempt.upstream_request_id, attempt.upstream_model, attempt.cost, attempt.duration_ms,
        )  # fmt: skip
    return (
        call_id, number, attempt.channel_id, attempt.channel_key_id, attempt.started_at,
        attempt.status, attempt.outcome, attempt.upstream_request_id, attempt.upstream_model,
        None if same else _encode(attempt.usage).decode(),
        attempt.cost, attempt.duration_ms,
    )  # fmt: skip


def spend_row(settlement: Settlement) -> Row | None:
    """What a settlement's key has now spent, in the order of `key_spend`; None if nothing more."""
    if not settlement.charged:
        return None
    purse = settlement.purse
    return (purse.key_id, purse.period._value_, purse.period_start, purse.spent)
