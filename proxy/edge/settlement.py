"""A call's end in figures: what was delivered, what it costs, what the ledger and metrics hear.

Rules: reads the call, changes nothing but its memo of a plain answer; total, because it runs in
a `finally`. This module must not know the keeper, nor await anything.
"""

from typing import TYPE_CHECKING, Final

from msgspec import Struct

from proxy.core import pricing
from proxy.core.answers import PlainReading, plain_usage
from proxy.core.bill import NOTHING, Delivered, Statement, state
from proxy.core.completions import without_echo
from proxy.core.entities import (
    MULTIPLIER_ONE,
    Attempt,
    ChannelKey,
    Tokenizer,
    Usage,
    UsageSource,
    Verdict,
)
from proxy.core.errors import RelayError
from proxy.core.exchange import Exchange, Phase
from proxy.core.redact import redact
from proxy.core.requests import read_prompt
from proxy.core.tokenizers import count_texts, unpack_characters
from proxy.core.usage import UsageTally
from proxy.edge.metrics import CallFigures
from proxy.storage.ports import Closing

if TYPE_CHECKING:
    from proxy.edge.attempt import Engine
    from proxy.edge.call import Call
    from proxy.edge.open_call import AnyCall

CLIENT_GONE_STATUS = 499
"""nginx's status for a client that left before any answer."""


class Ended(Struct, frozen=True, gc=False):
    """How a call ended; `error` is what the caller is told, None when all is well or nobody is."""

    verdict: Verdict
    error: RelayError | None


COMPLETE: Final = Ended(Verdict.COMPLETE, None)
CLIENT_GONE: Final = Ended(Verdict.CLIENT_GONE, None)
INTERNAL_ERROR: Final = Ended(Verdict.INTERNAL_ERROR, None)
# Read at every call: a member of an enum costs ten globals on Python 3.11.
_COMPLETE: Final = Verdict.COMPLETE
_ESTIMATE: Final = Tokenizer.ESTIMATE
_REPORTED: Final = UsageSource.REPORTED
_TERMINAL: Final = Phase.TERMINAL
_LEFT_WHOLE: Final = (
    Delivered(content=True, output_tokens=0, exact=False),
    Delivered(content=True, output_tokens=0, exact=True),
)
"""A plain answer whose provider counted it, by whether we could have."""


def reading(call: "Call", exchange: Exchange) -> PlainReading:
    """Return what a whole plain answer says; read once."""
    if call.reading is None:
        call.reading = plain_usage(exchange.body, call.wire)
    return call.reading


def tally(call: "Call", exchange: Exchange) -> UsageTally:
    """Return what the provider reported in an attempt."""
    if call.reading is not None:
        return call.reading.tally
    if call.offer.request.stream or exchange.phase is not _TERMINAL:
        return exchange.tally
    return reading(call, exchange).tally


def measure(call: "Call", exchange: Exchange, unsent_bytes: int | None) -> Delivered:
    """Count what left this machine; None asks the socket how much has not."""
    model = call.offer.model
    exact = model.tokenizer is not _ESTIMATE
    if not call.offer.request.stream:
        if exchange.phase is not _TERMINAL or not call.client.owes_last_byte:
            return Delivered(content=False, output_tokens=0, exact=exact)
        # All but the last byte was written; a client that took it and left has had its answer.
        if (unsent_bytes or 0) >= len(call.last()) - 1:
            return Delivered(content=False, output_tokens=0, exact=exact)
        return _whole(call, exchange, exact=exact)
    if not call.shown:
        return Delivered(content=False, output_tokens=0, exact=exact)
    unsent = call.unsent_bytes() if unsent_bytes is None else call.upstream_bytes(unsent_bytes)
    meter = exchange.meter
    tokens = meter.advance(unsent)
    return Delivered(content=meter.written > unsent, output_tokens=tokens, exact=meter.exact)


def _all(call: "Call", exchange: Exchange) -> Delivered:
    """Count an answer that left whole, unless its provider's figure makes a count idle."""
    if not call.offer.request.stream or not call.shown or not exchange.tally.decisive:
        return measure(call, exchange, 0)
    meter = exchange.meter
    if not meter.exact:
        return measure(call, exchange, 0)  # its characters are learnt from
    return Delivered(content=meter.written > 0, output_tokens=0, exact=True)


def _whole(call: "Call", exchange: Exchange, *, exact: bool) -> Delivered:
    """Count a plain answer that left, or will."""
    answer = call.reading or reading(call, exchange)
    if answer.tally.final:
        return _LEFT_WHOLE[exact]
    texts, echoed = answer.texts, call.offer.request.echoed
    if echoed:
        texts = without_echo(texts, echoed)
    counted = count_texts(texts, call.offer.model, call.world.calibration)
    return Delivered(content=True, output_tokens=counted.tokens, exact=counted.exact)


def foresee(call: "Call", exchange: Exchange) -> Statement:
    """Return what a plain answer will be charged once it has left; kept for `closing`."""
    if call.made is None:
        offer, tally = call.offer, (call.reading or reading(call, exchange)).tally
        exact = offer.model.tokenizer is not _ESTIMATE
        if tally.final:  # as nearly always: nothing has to be counted
            left = _LEFT_WHOLE[exact]
            call.made = state(offer.terms, tally, left, _uncounted, True)  # noqa: FBT003 - hot
        else:
            delivered = _whole(call, exchange, exact=exact)
            call.made = statement(call, delivered, exchange, complete=True)
    return call.made


def _uncounted() -> int:
    raise AssertionError("the prompt of a final report is never counted")


def statement(
    call: "Call", delivered: Delivered, exchange: Exchange, *, complete: bool
) -> Statement:
    """Apply the disconnect contract (core/bill.py)."""

    def prompt_tokens() -> int:
        if call.prompt_tokens is None:
            request = call.offer.request
            prompt = request.prompt
            if prompt is None:
                prompt = read_prompt(call.body, request.dialect, request.wire)
            counted = count_texts(prompt.pieces, call.offer.model, call.world.calibration)
            call.prompt_tokens = prompt.fixed_tokens + counted.tokens
            if call.offer.previous is not None:
                call.prompt_tokens += call.offer.previous.tokens
        return call.prompt_tokens

    return state(
        call.offer.terms,
        tally(call, exchange),
        delivered,
        prompt_tokens,
        complete,
        call.notice is not None and not complete,
    )


def record(
    call: "AnyCall",
    engine: "Engine",
    usage: Usage,
    key: ChannelKey,
    outcome: str,
    began: float,
) -> Attempt:
    """Return what is kept of an attempt that has just ended; `began` is loop time.

    `usage`: what the provider reported.
    """
    channel = call.channel
    if channel is None:
        raise AssertionError("an attempt without a channel")
    head, seconds = engine.head, call.world.loop.time() - began
    basis = channel.costs.get(call.offer.model.name)
    upstream_id = None
    if head is not None:
        if channel.api_version is not None:  # what Azure's own logs and support know a call by
            upstream_id = head.header("apim-request-id")
        upstream_id = upstream_id or head.header("x-request-id") or head.header("request-id")
        if upstream_id is not None and key.secret in upstream_id:
            upstream_id = redact(upstream_id, (key.secret,))  # it goes into the database
    return Attempt(  # by position: see relay.open_call
        channel.id,
        key.id,
        call.world.now() - seconds,
        None if head is None else head.status,
        outcome,
        upstream_id,
        channel.models[call.offer.model.name],
        usage,
        0 if basis is None else pricing.charge(usage, basis, MULTIPLIER_ONE),
        seconds * 1000,
    )


def end(
    call: "AnyCall",
    ended: Ended,
    made: Statement,
    delivered_bytes: int = 0,
    delivered_events: int = 0,
    finish_reason: str | None = None,
    answer_id: str | None = None,
) -> Closing:
    """Return what the ledger records of any call that has just ended and costs what was `made`."""
    channel, first = call.channel, call.first_byte_at
    return Closing(  # by position: see relay.open_call
        call.opening.call_id,
        ended.verdict,
        made.usage,
        made.source,
        made.charge,
        made.forgiven,
        delivered_bytes if made.charge else 0,
        delivered_events,
        200 if ended.verdict is _COMPLETE else status(call, ended),
        None if ended.error is None else ended.error.code.code,
        finish_reason,
        None if channel is None else channel.id,
        None if channel is None else channel.models[call.offer.model.name],
        tuple(call.records),
        call.world.now(),
        None if first is None else (first - call.started) * 1000,
        made.anomalies,
        answer_id,
    )


def closing(call: "Call", ended: Ended) -> Closing:
    """Return everything the ledger records of a call that has just ended."""
    exchange = None if call.attempt is None else call.attempt.exchange
    made, delivered_bytes, finish_reason = NOTHING, 0, None
    if exchange is not None:
        complete = ended.verdict is _COMPLETE
        if complete and call.made is not None:
            made = call.made  # its price is in the head that went out
        else:
            delivered = call.delivered or (
                _all(call, exchange) if complete else measure(call, exchange, None)
            )
            made = statement(call, delivered, exchange, complete=complete)
            if complete and not delivered.exact and made.source is _REPORTED:
                _learn(call, exchange, made.usage)
        stream = call.offer.request.stream
        delivered_bytes = exchange.wire_bytes if stream else exchange.plain_bytes
        plain = call.reading
        finish_reason = exchange.finish_reason if plain is None else plain.finish_reason
    return end(
        call,
        ended,
        made,
        delivered_bytes,
        0 if exchange is None else exchange.events,
        finish_reason,
        None if call.offer.request.kept is None else _kept(call, ended),
    )


def _kept(call: "Call", ended: Ended) -> str | None:
    """Return under which name the upstream keeps a complete answer of its own form."""
    attempt, kept = call.attempt, call.offer.request.kept
    if kept is None or not kept.stored or attempt is None or attempt.translation is not None:
        return None
    if ended.verdict is not _COMPLETE:
        return None
    plain = call.reading
    return (attempt.exchange.answer_id if plain is None else plain.answer_id) or None


def _learn(call: "Call", exchange: Exchange, usage: Usage) -> None:
    """Let a complete call teach what a character of its model weighs, for those that are not.

    Not where output is billed unseen, nor plain answers: streams are what breaks off.
    """
    if call.offer.request.stream and not call.offer.strict:
        size = unpack_characters(exchange.meter.measured())
        call.world.calibration.observe(call.offer.model.name, size, usage.output)


def status(call: "AnyCall", ended: Ended) -> int:
    """Return the HTTP status the client saw."""
    if call.client.begun or ended.verdict is _COMPLETE:
        return 200
    if call.gone:
        return CLIENT_GONE_STATUS
    return 500 if ended.error is None else ended.error.status


def figures(call: "AnyCall", closed: Closing) -> CallFigures:
    """Return the same end as metrics count it. Seconds."""
    now, began = call.world.loop.time(), call.first_byte_at
    first = added = gap = None
    if began is not None:
        first = began - call.started
        added = first - call.upstream_seconds if first > call.upstream_seconds else 0.0
        if closed.delivered_events > 1:
            # One mean per stream: a clock read per event would cost more than its metering.
            gap = (now - began) / (closed.delivered_events - 1)
    return CallFigures(  # by position: see relay.open_call
        call.opening.endpoint,
        call.offer.model.name,
        closed.channel_id,
        closed.status,
        closed.error_code,
        now - call.started,
        first,
        added,
        gap,
        closed.usage,
        closed.attempts,
        call.retry_refused,
        closed.anomalies,
    )
