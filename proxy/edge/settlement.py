"""A call's end in figures: what was delivered, what it costs, what the ledger and metrics hear.

Rules: reads the call, changes nothing of it but its memo of a plain answer; total, because it runs
in a `finally`. This module must not know the keeper, nor await anything.
"""

from typing import TYPE_CHECKING, Final

from msgspec import Struct

from proxy.core import pricing
from proxy.core.answers import PlainReading, plain_usage
from proxy.core.bill import NOTHING, Delivered, Statement, state, state_bare, state_opened
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
from proxy.storage.ports import Closing, Progress

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
_COUNTED: Final = UsageSource.COUNTED
_ESTIMATED: Final = UsageSource.ESTIMATED
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


def _as_reported(call: "Call", exchange: Exchange) -> Statement | None:
    """State a stream that left whole, as nearly all do: its provider's figure makes a count idle.

    None: it has to be counted or bounded, or the figure is of more than prompt and completion.
    """
    offer, bare = call.offer, exchange.tally.bare
    if offer.rates is None or bare is None or not bare.output or not call.shown:
        return None
    if call.delivered is not None:  # the client left, and this much it had
        return None
    meter = exchange.meter
    if not meter.exact or not meter.written:  # else its characters are learnt from
        return None
    return state_bare(bare, offer.rates, offer.output_tokens_max, offer.input_tokens_max)


def _whole(call: "Call", exchange: Exchange, *, exact: bool) -> Delivered:
    """Count a plain answer that left, or will."""
    answer = call.reading or reading(call, exchange)
    if isinstance(answer.reported, Usage) or answer.reported.final:
        return _LEFT_WHOLE[exact]
    texts, echoed = answer.texts, call.offer.request.echoed
    if echoed:
        texts = without_echo(texts, echoed)
    left = count_texts(texts, call.offer.model, call.world.calibration)
    return Delivered(content=True, output_tokens=left.tokens, exact=left.exact)


def foresee(call: "Call", exchange: Exchange) -> Statement:
    """Return what a plain answer will be charged once it has left; kept for `closing`."""
    made = call.made
    if made is None:
        offer, reported = call.offer, (call.reading or reading(call, exchange)).reported
        rates = offer.rates
        if rates is not None and isinstance(reported, Usage):  # nearly always
            made = state_bare(reported, rates, offer.output_tokens_max, offer.input_tokens_max)
        if made is None:
            exact = offer.model.tokenizer is not _ESTIMATE
            delivered = _whole(call, exchange, exact=exact)
            made = statement(call, delivered, exchange, complete=True)
        call.made = made
    return made


def statement(
    call: "Call", delivered: Delivered, exchange: Exchange, *, complete: bool
) -> Statement:
    """Apply the disconnect contract (core/bill.py)."""
    return state(
        call.offer.terms,
        tally(call, exchange),
        delivered,
        lambda: prompt_tokens(call),
        complete,
        call.notice is not None and not complete,
    )


def prompt_tokens(call: "Call") -> int:
    """Count the prompt, where no provider says what it was; once a call."""
    if call.prompt_tokens is None:
        request = call.offer.request
        prompt = request.prompt
        if prompt is None:
            prompt = read_prompt(call.body, request.dialect, request.wire)
        pieces = count_texts(prompt.pieces, call.offer.model, call.world.calibration)
        call.prompt_tokens = prompt.fixed_tokens + pieces.tokens
        if call.offer.previous is not None:
            call.prompt_tokens += call.offer.previous.tokens
    return call.prompt_tokens


def progress(call: "Call", exchange: Exchange) -> Progress:
    """Return what a stream that is shown has delivered, and would cost if every process died."""
    meter, channel = exchange.meter, call.channel
    unsent = call.client.connection.unsent_bytes()
    if unsent:
        unsent = call.upstream_bytes(unsent)
    tokens, written = meter.advance(unsent), meter.written
    content, made = written > unsent, None
    if content:
        made = _state_early(call, exchange.tally, tokens, _COUNTED if meter.exact else _ESTIMATED)
    if made is None:
        made = statement(call, Delivered(content, tokens, meter.exact), exchange, complete=False)
    return Progress(  # by position: see relay.open_call
        call.opening.call_id,
        made.usage,
        made.source,
        made.charge,
        written,
        None if channel is None else channel.id,
    )


def _state_early(
    call: "Call", tally: UsageTally, tokens: int, source: UsageSource
) -> Statement | None:
    """Say what `statement` does while no provider has said what its output was; None: ask it."""
    offer = call.offer
    output_max, rates = offer.output_tokens_max, offer.rates
    if tally.silent:
        if rates is None:
            return None
        usage = Usage(call.prompt_tokens or prompt_tokens(call), 0, 0, 0, tokens)
        return state_bare(usage, rates, output_max, offer.input_tokens_max, source)
    opened = tally.opened(tokens)
    if opened is None:
        return None
    multiplier = offer.group.multiplier
    return state_opened(opened, offer.price, multiplier, output_max, offer.input_tokens_max, source)


def record(
    call: "AnyCall",
    engine: "Engine",
    usage: Usage,
    key: ChannelKey,
    outcome: str,
    seconds: float,
) -> Attempt:
    """Return what is kept of an attempt that has just ended, after `seconds`.

    `usage`: what the provider reported.
    """
    channel, model, head = call.channel, call.upstream_model, engine.head
    if channel is None or model is None:
        raise AssertionError("an attempt without a channel")
    basis = channel.costs.get(call.offer.model.name) if channel.costs else None
    upstream_id = None
    if head is not None:
        if channel.api_version is not None:  # what Azure's own logs and support know a call by
            upstream_id = head.header("apim-request-id")
        upstream_id = upstream_id or head.request_id
        if upstream_id is not None and key.secret in upstream_id:
            upstream_id = redact(upstream_id, (key.secret,))  # it goes into the database
    return Attempt(  # by position: see relay.open_call
        channel.id,
        key.id,
        call.world.now() - seconds,
        None if head is None else head.status,
        outcome,
        upstream_id,
        model,
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
    channel, first, verdict, error = call.channel, call.first_byte_at, ended.verdict, ended.error
    return Closing(  # by position: see relay.open_call
        call.opening.call_id,
        verdict,
        made.usage,
        made.source,
        made.charge,
        made.forgiven,
        delivered_bytes if made.charge else 0,
        delivered_events,
        200 if verdict is _COMPLETE else status(call, ended),
        None if error is None else error.code.code,
        finish_reason,
        None if channel is None else channel.id,
        call.upstream_model,
        tuple(call.records),
        call.world.now(),
        None if first is None else (first - call.started) * 1000,
        made.anomalies,
        answer_id,
    )


def closing(call: "Call", ended: Ended) -> Closing:
    """Return everything the ledger records of a call that has just ended."""
    exchange = None if call.attempt is None else call.attempt.exchange
    made: Statement | None = None
    delivered_bytes, events, finish_reason = 0, 0, None
    if exchange is not None:
        complete = ended.verdict is _COMPLETE
        if complete:
            # Of a plain answer the price is in the head that went out.
            made = call.made if call.made is not None else _as_reported(call, exchange)
        if made is None:
            delivered = call.delivered or (
                _all(call, exchange) if complete else measure(call, exchange, None)
            )
            made = statement(call, delivered, exchange, complete=complete)
            if complete and not delivered.exact and made.source is _REPORTED:
                _learn(call, exchange, made.usage)
        plain = call.reading
        finish_reason = exchange.finish_reason if plain is None else plain.finish_reason
        if call.flows:
            delivered_bytes, events = exchange.wire_bytes, exchange.events
        else:
            delivered_bytes = exchange.plain_bytes
    answer_id = None if call.offer.request.kept is None else _kept(call, ended)
    return end(call, ended, made or NOTHING, delivered_bytes, events, finish_reason, answer_id)


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


def observe(call: "AnyCall", closed: Closing) -> None:
    """Tell the metrics of the same end. Seconds."""
    now, began = call.world.loop.time(), call.first_byte_at
    first = added = gap = None
    if began is not None:
        first = began - call.started
        added = first - call.upstream_seconds if first > call.upstream_seconds else 0.0
        if closed.delivered_events > 1:
            # One mean per stream: a clock read per event would cost more than its metering.
            gap = (now - began) / (closed.delivered_events - 1)
    call.world.metrics.observe(  # by position: see relay.open_call
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
