"""Channels tried in order until one serves: connect, send, watch, record, and whether again.

Rules (DESIGN.md section 6): until the first event reaches the client the next channel may be
tried, also after heartbeats; afterwards never. A reused connection that dies without one byte is
tried once more on a fresh one, and is nobody's fault. Every attempt is recorded, failed ones
too. This module must not know money, nor how bytes are framed.
"""

from dataclasses import dataclass

from proxy.core.breaker import Outcome
from proxy.core.catalog import spoken
from proxy.core.entities import WIRE_ENDPOINTS, Channel, ChannelKey, Verdict, Wire
from proxy.core.errors import ErrorCode, RelayError
from proxy.core.exchange import Exchange, Failure, FailureKind, Phase
from proxy.core.http1 import request_length, request_prefix
from proxy.core.routing import (
    AttemptFailure,
    parse_retry_after,
    plan,
    retryable,
)
from proxy.core.targets import credential, names_model, target
from proxy.core.urls import Endpoint
from proxy.edge import log, refusals, settlement
from proxy.edge.attempt import Attempt, AttemptEnd
from proxy.edge.call import Call, Notice
from proxy.edge.settlement import Ended
from proxy.edge.upstream import ConnectError, Origin

ANTHROPIC_VERSION_DEFAULT = "2023-06-01"
INTERRUPTED = "interrupted"
"""Outcome of an attempt that an exception or a cancellation took out of our hands."""
HEADS_MAX = 1_024
"""Upstream request heads kept ready; each is a few hundred bytes."""
ERROR_WORDS_BYTES_MAX = 65_536
"""What is read of an error inside a plain 200."""
TRIES_MAX = 8
"""Connections one call may use at one channel: stale ones, refused options, resting keys."""
_FAILURES = {
    FailureKind.STATUS: AttemptFailure.STATUS,
    FailureKind.ERROR_EVENT: AttemptFailure.ERROR_EVENT,
    FailureKind.TRUNCATED: AttemptFailure.BROKEN,
    FailureKind.FRAMING: AttemptFailure.BROKEN,
    FailureKind.UNEXPECTED_ANSWER: AttemptFailure.BROKEN,
    FailureKind.TOO_LARGE: AttemptFailure.BROKEN,
}
_NOTICES = {
    Notice.REVOKED: (
        Verdict.CUT_BY_REVOCATION,
        ErrorCode.KEY_DISABLED,
        "This API key was disabled while the answer was streaming.",
    ),
    Notice.SHUTDOWN: (
        Verdict.CUT_BY_SHUTDOWN,
        ErrorCode.SERVER_RESTARTING,
        "The server is restarting; the answer is incomplete. Try again.",
    ),
    Notice.UNBILLED: (
        Verdict.CUT_BY_SHUTDOWN,
        ErrorCode.SETTLEMENT_UNAVAILABLE,
        "The ledger cannot be written; the answer is incomplete.",
    ),
    Notice.BALANCE: (
        Verdict.CUT_FOR_BALANCE,
        ErrorCode.INSUFFICIENT_QUOTA,
        "Your balance or this key's budget is used up; the answer is incomplete. Add credit.",
    ),
}


@dataclass(frozen=True, slots=True)
class _Failed:
    """Why an attempt did not serve, for routing, the record and the caller."""

    failure: AttemptFailure
    error: RelayError
    status: int | None = None
    retry_after: str | None = None
    outcome: Outcome = Outcome.FAILURE


async def dispatch(call: Call) -> Ended:
    """Try channels until one serves the call or none may be tried; return how it ended."""
    world, offer = call.world, call.offer
    if call.gone:
        return _conclude(call, None)
    loop_now = world.loop.time
    health = world.health
    channels = plan(
        offer.channels, lambda channel: health.usable(channel, loop_now()), world.rng.random
    )
    last: _Failed | None = None
    retries = 0
    for channel in channels:
        again = last is not None
        if again:
            if not world.retries.acquire(
                len(world.calls), retries, world.bounds.retry_attempts_max
            ):
                call.retry_refused = True
                break
            retries += 1
        try:
            last = await _try_channel(call, channel)
        finally:
            if again:
                world.retries.release()
        if last is None or call.abandoned:
            return _conclude(call, last)
        if not retryable(last.failure, offer.group, status=last.status, content_started=call.shown):
            break
    if last is None:
        return Ended(Verdict.UPSTREAM_ERROR, _nobody_usable(call))
    return _conclude(call, last)


def _nobody_usable(call: Call) -> RelayError:
    """Why no channel was tried: every key rests after what it was told, or a breaker is open."""
    now, health, channels = call.world.loop.time(), call.world.health, call.offer.channels
    waits = [wait for channel in channels if (wait := health.pool(channel).blocked(now))]
    if not waits or len(waits) < len(channels):
        return refusals.unavailable()
    status, seconds = min(waits, key=lambda wait: wait[1])
    return refusals.resting(status, seconds, call.offer.request.dialect)


def _conclude(call: Call, failed: _Failed | None) -> Ended:
    if call.notice is not None and call.notice in _NOTICES:
        verdict, code, message = _NOTICES[call.notice]
        return Ended(verdict, RelayError(code, message, should_retry=False))
    if failed is None and not call.gone:
        return settlement.COMPLETE
    if call.gone:
        return settlement.CLIENT_GONE
    if failed is None:
        raise AssertionError("a call ended without an end")
    if failed.failure is AttemptFailure.TIMEOUT:
        verdict = Verdict.TIMEOUT
    elif failed.error.code is ErrorCode.UPSTREAM_TRUNCATED:
        verdict = Verdict.UPSTREAM_TRUNCATED
    else:
        verdict = Verdict.UPSTREAM_ERROR
    return Ended(verdict, failed.error)


async def _try_channel(call: Call, channel: Channel) -> _Failed | None:
    """Use up to a few connections to one channel; None when it served (or the client left)."""
    world = call.world
    breaker = world.health.breaker(channel)
    permit = breaker.acquire(world.loop.time())
    if permit is None:
        return _Failed(AttemptFailure.CONNECT, refusals.unavailable(), outcome=Outcome.UNKNOWN)
    outcome = Outcome.UNKNOWN
    failed: _Failed | None = None
    try:
        fresh = False
        for _ in range(TRIES_MAX):
            key = world.health.pool(channel).acquire(world.loop.time())
            if key is None:
                return _Failed(AttemptFailure.CONNECT, refusals.unavailable())
            attempt, failed, reused = await _try_once(call, channel, key, fresh=fresh)
            if failed is None:
                outcome = Outcome.SUCCESS
                return None
            if call.gone or call.notice is not None:
                return failed
            if reused and attempt.silent and attempt.end is AttemptEnd.LOST:
                fresh = True
                continue
            if _refused_stream_options(attempt, call, channel):
                continue
            outcome = failed.outcome
            if failed.status is not None:
                asked = parse_retry_after(failed.retry_after, world.now())
                if (
                    world.health.pool(channel).cool(key, failed.status, asked, world.loop.time())
                    and len(channel.keys) > 1
                    and world.health.pool(channel).ready(world.loop.time())
                ):
                    continue
            return failed
        return failed
    finally:
        breaker.report(permit, outcome, world.loop.time())


def _refused_stream_options(attempt: Attempt, call: Call, channel: Channel) -> bool:
    """Whether the upstream refused `stream_options`: then it is left out from now on."""
    failure, world = attempt.exchange.failure, call.world
    if (
        failure is None
        or failure.status not in {400, 422}
        or b"stream_options" not in failure.body
        or world.health.omits_usage(channel)
    ):
        return False
    world.health.learn_omit(channel)
    log.get().warning(
        "channel refuses stream_options; left out from now on",
        channel=channel.name,
        remedy='set usage_option = "omit" on the channel',
    )
    return True


async def _try_once(
    call: Call, channel: Channel, key: ChannelKey, *, fresh: bool
) -> tuple[Attempt, _Failed | None, bool]:
    """One connection, one request; returns the attempt, its failure and if it was reused."""
    world = call.world
    began = world.loop.time()
    omit = world.health.omits_usage(channel)
    attempt = call.begin_attempt(channel, omit_usage=omit)
    origin, head = _request_head(call, channel, key)
    body = call.upstream_body(channel, omit_usage=omit)
    failed: _Failed | None = None
    outcome = INTERRUPTED
    transport = None if fresh else world.pool.take(origin)
    reused = transport is not None
    try:
        if transport is None:
            transport = await call.connecting(
                world.pool.connect(origin, channel.connect_seconds_max)
            )
        if transport is None:
            failed = _Failed(AttemptFailure.CONNECT, refusals.ended(AttemptEnd.CLIENT_GONE))
        else:
            stream = call.offer.request.stream
            attempt.send(transport, head + request_length(len(body)) + body, stream=stream)
            if stream:
                await _watch(call, attempt)
            else:
                while not attempt.over:
                    await attempt.changed()
            failed = _failure_of(call, attempt, channel)
        outcome = "served" if failed is None else failed.error.code.code
    except ConnectError as error:
        log.get().warning(
            "cannot connect",
            channel=channel.name,
            request_id=call.client.request_id,
            reason=str(error),
        )
        failed = _Failed(AttemptFailure.CONNECT, refusals.unavailable())
        outcome = failed.error.code.code
    finally:
        call.end_attempt(key, outcome, began)
        kept = attempt.release()
        if kept is not None:
            world.pool.put(origin, kept, attempt.exchange.finish)
    return attempt, failed, reused


async def _watch(call: Call, attempt: Attempt) -> None:
    """Wait for the few moments of a stream that need a handler: content, heartbeat, end."""
    client = call.client
    while True:
        await attempt.changed()
        if call.gone:
            if attempt.over:
                return
            continue
        if attempt.shown and not attempt.flowing:
            await call.reserved()
            call.show()
        elif call.heartbeat_due and not client.begun and not attempt.over:
            call.heartbeat_due = False
            await call.reserved()
            client.begin(client.heartbeat())
        if attempt.over:
            return


def _refuse_empty_words(call: Call, exchange: Exchange) -> bool:
    """Whether a plain 200 holds an error, or nothing readable: a failure before content."""
    if call.offer.request.stream:
        return False
    answer = settlement.reading(call, exchange)
    if answer.readable and not answer.error:
        return False
    kind = FailureKind.ERROR_EVENT if answer.readable else FailureKind.UNEXPECTED_ANSWER
    body = exchange.body[:ERROR_WORDS_BYTES_MAX]
    exchange.failure = Failure(kind, "a plain answer without content", body=body)
    exchange.phase = Phase.FAILED
    call.reading = None
    return True


def _failure_of(call: Call, attempt: Attempt, channel: Channel) -> _Failed | None:
    """Return why the attempt did not serve, None if it did."""
    exchange = attempt.exchange
    if exchange.phase is Phase.TERMINAL and not _refuse_empty_words(call, exchange):
        return None
    failure = exchange.failure
    if failure is not None:
        error = refusals.failed(failure, channel, channel.dialect, call.world.now())
        blameless = failure.status is not None and failure.status < 500
        return _Failed(
            _FAILURES[failure.kind],
            error,
            failure.status,
            failure.retry_after,
            Outcome.SUCCESS if blameless else Outcome.FAILURE,
        )
    end = attempt.end
    if end is None:
        raise AssertionError("an attempt ended without an end")
    if end is AttemptEnd.CLIENT_GONE or end is AttemptEnd.CUT:
        return _Failed(AttemptFailure.BROKEN, refusals.ended(end), outcome=Outcome.UNKNOWN)
    timeout = end is not AttemptEnd.LOST
    return _Failed(
        AttemptFailure.TIMEOUT if timeout else AttemptFailure.BROKEN, refusals.ended(end)
    )


def _request_head(call: Call, channel: Channel, key: ChannelKey) -> tuple[Origin, bytes]:
    """Where the request goes and its head but for the length; calls that look alike share it."""
    world, forwarded, stream = call.world, call.client.visit.forwarded, call.offer.request.stream
    wire = spoken(channel, call.offer.request.wire)
    if wire is not call.offer.request.wire:
        forwarded = ()  # versions and betas of the caller's own wire form
    origin, prefix = world.origin(channel)
    model = channel.models[call.offer.model.name] if names_model(channel) else ""
    alike = (channel.id, key.id, stream, forwarded, model, wire)
    known = world.heads.get(alike)
    if known is not None and known[0] is channel:
        return origin, known[1]
    head = request_prefix(
        "POST",
        prefix + target(channel, Endpoint(WIRE_ENDPOINTS[wire]), model, stream=stream),
        origin.host_header,
        _request_headers(channel, key, forwarded, wire, stream=stream),
    )
    if len(world.heads) >= HEADS_MAX:
        world.heads.clear()
    world.heads[alike] = (channel, head)
    return origin, head


def _request_headers(
    channel: Channel,
    key: ChannelKey,
    forwarded: tuple[tuple[str, str], ...],
    wire: Wire,
    *,
    stream: bool,
) -> tuple[tuple[str, str], ...]:
    """Our own headers, the channel's credential, and what the allow-list let through."""
    rows = [
        ("content-type", "application/json"),
        ("accept", "text/event-stream" if stream else "application/json"),
        ("accept-encoding", "identity"),
        ("user-agent", "sluice"),
    ]
    if key.secret:
        rows.append(credential(channel, key.secret))
    rows.extend(forwarded)
    if wire is Wire.MESSAGES and "anthropic-version" not in dict(forwarded):
        rows.append(("anthropic-version", ANTHROPIC_VERSION_DEFAULT))
    return tuple(rows)
