"""Channels tried in order until one serves: connect, send, watch, record, and whether again.

Rules (DESIGN.md section 6): until the first event reaches the client the next channel may be
tried, also after heartbeats; afterwards never. A reused connection that dies without one byte is
tried once more on a fresh one, and is nobody's fault. Every attempt is recorded, failed ones
too. This module must not know money, nor how bytes are framed.
"""

from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Final

from proxy.core.breaker import Outcome
from proxy.core.entities import INTERRUPTED, Channel, ChannelKey, UsageOption, Verdict
from proxy.core.errors import ErrorCode, RelayError
from proxy.core.exchange import FailureKind, Phase
from proxy.core.routing import (
    AttemptFailure,
    parse_retry_after,
    plan,
    retryable,
)
from proxy.edge import log, refusals, settlement
from proxy.edge.attempt import Attempt, AttemptEnd, Engine
from proxy.edge.open_call import AnyCall, Notice
from proxy.edge.settlement import Ended
from proxy.edge.upstream import ConnectError

# Read at every call: a member of an enum costs ten globals on Python 3.11.
_UNKNOWN: Final = Outcome.UNKNOWN
_SUCCESS: Final = Outcome.SUCCESS
_TERMINAL: Final = Phase.TERMINAL
_OMIT: Final = UsageOption.OMIT

TRIES_MAX = 8
"""Connections one call may use at one channel: stale ones, refused options, resting keys."""
_TRIES: Final = range(TRIES_MAX)
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
    Notice.MAX_COST: (
        Verdict.CUT_FOR_MAX_COST,
        ErrorCode.MAX_COST_EXCEEDED,
        "The answer reached `x-max-cost`; it is incomplete. Raise the limit.",
    ),
}


@dataclass(frozen=True, slots=True)
class Failed:
    """Why an attempt did not serve, for routing, the record and the caller; or was not `tried`."""

    failure: AttemptFailure
    error: RelayError
    status: int | None = None
    retry_after: str | None = None
    outcome: Outcome = Outcome.FAILURE
    tried: bool = True


def dispatch(call: AnyCall) -> Coroutine[None, None, Failed | None]:
    """Try channels until one serves the call or none may be tried; `conclude` reads the outcome."""
    channels = call.offer.channels
    if len(channels) == 1:  # one coroutine less; it is looked at when it is tried
        return _try_channel(call, channels[0], call.started)  # which is now
    return _try_channels(call, channels)


async def _try_channels(call: AnyCall, channels: tuple[Channel, ...]) -> Failed | None:
    world, offer = call.world, call.offer
    health, now = world.health, world.loop.time()
    channels = plan(channels, lambda channel: health.usable(channel, now), world.rng.random)
    last: Failed | None = None
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
            last = await _try_channel(call, channel, world.loop.time())
        finally:
            if again:
                world.retries.release()
        if last is None or call.abandoned:
            return last
        if not retryable(last.failure, offer.group, status=last.status, content_started=call.shown):
            break
    return _untried(_nobody_usable(call)) if last is None else last


def _nobody_usable(call: AnyCall) -> RelayError:
    """Why no channel was tried: every key rests after what it was told, or a breaker is open."""
    now, health, channels = call.world.loop.time(), call.world.health, call.offer.channels
    waits = [wait for channel in channels if (wait := health.of(channel).keys.blocked(now))]
    if not waits or len(waits) < len(channels):
        return refusals.unavailable()
    status, seconds = min(waits, key=lambda wait: wait[1])
    return refusals.resting(status, seconds, call.client.dialect)


def cut_for(notice: Notice) -> Ended:
    """Return the end of a call that we cut, which its caller is told."""
    verdict, code, message = _NOTICES[notice]
    return Ended(verdict, RelayError(code, message, should_retry=False))


def conclude(call: AnyCall, failed: Failed | None) -> Ended:
    """Return how a call ended that `dispatch` is done with; `failed`: what it said."""
    if call.notice is not None:
        return cut_for(call.notice)
    if failed is None and not call.gone:
        return settlement.COMPLETE
    if call.gone:
        return settlement.CLIENT_GONE
    if failed is None:
        raise AssertionError("a call ended without an end")
    if not failed.tried and len(call.offer.channels) == 1:
        return Ended(Verdict.UPSTREAM_ERROR, _nobody_usable(call))
    if failed.failure is AttemptFailure.TIMEOUT:
        verdict = Verdict.TIMEOUT
    elif failed.error.code is ErrorCode.UPSTREAM_TRUNCATED:
        verdict = Verdict.UPSTREAM_TRUNCATED
    else:
        verdict = Verdict.UPSTREAM_ERROR
    return Ended(verdict, failed.error)


def _untried(error: RelayError) -> Failed:
    return Failed(AttemptFailure.CONNECT, error, outcome=_UNKNOWN, tried=False)


async def _try_channel(call: AnyCall, channel: Channel, now: float) -> Failed | None:
    """Use up to a few connections to one channel; None when it served (or the client left).

    Permit, connection, request, wait and record in one coroutine: each more would cost every call
    more than any of these steps.
    """
    world, clock = call.world, call.world.loop.time
    known, ended = world.health.of(channel), now
    permit = known.breaker.acquire(ended) if known.keys.ready(ended) else None
    if permit is None:
        return _untried(refusals.unavailable())
    outcome, failed = _UNKNOWN, None
    fresh = False
    try:
        for _ in _TRIES:
            began = ended
            key = known.keys.acquire(began, call.pinned)
            if key is None:
                return Failed(AttemptFailure.CONNECT, refusals.unavailable())
            call.omits_usage = known.omits_usage or channel.usage_option is _OMIT
            attempt = call.begin_attempt(channel, began)
            origin, request = call.upstream_request(channel, key)
            transport = None if fresh else world.pool.take(origin, began)
            reused, said = transport is not None, INTERRUPTED
            try:
                if transport is None:
                    connect = world.pool.connect(origin, channel.connect_seconds_max)
                    transport = await call.connecting(connect)
                if transport is not None:
                    send = call.upload if call.uploads else attempt.send
                    send(transport, request)
                    if call.flows:
                        await _watch(call, attempt)
                    else:
                        while (change := attempt.changed()) is not None:
                            await change
                failed = _failure_of(call, attempt, channel)
                said = "served" if failed is None else _word(failed)
            except ConnectError as error:
                failed = _unreachable(call, channel, error)
                said = _word(failed)
            finally:
                ended = clock()
                call.end_attempt(key, said, began, ended)
                attempt.release(world.pool, origin, ended)
            if failed is None:
                outcome = _SUCCESS
                return None
            if call.abandoned:
                return failed
            if reused and attempt.silent and attempt.end is AttemptEnd.LOST:
                fresh = True
            elif not _refused_stream_options(attempt, call, channel):
                outcome = failed.outcome
                if not _cooled(call, channel, key, failed):
                    return failed
        return failed
    finally:
        known.breaker.report(permit, outcome, ended)


def _word(failed: Failed) -> str:
    """What the record of an attempt says of how it failed; nothing where it was we who left."""
    return INTERRUPTED if failed.outcome is _UNKNOWN else failed.error.code.code


def _unreachable(call: AnyCall, channel: Channel, error: ConnectError) -> Failed:
    log.get().warning(
        "cannot connect",
        channel=channel.name,
        request_id=call.client.request_id,
        reason=str(error),
    )
    return Failed(AttemptFailure.CONNECT, refusals.unavailable())


def _cooled(call: AnyCall, channel: Channel, key: ChannelKey, failed: Failed) -> bool:
    """Let a key rest that was refused; says whether another of the channel may be tried."""
    if failed.status is None:
        return False
    world, keys = call.world, call.world.health.of(channel).keys
    asked, now = parse_retry_after(failed.retry_after, world.now()), world.loop.time()
    return (
        keys.cool(key, failed.status, asked, now)
        and len(channel.keys) > 1
        and call.pinned is None
        and keys.ready(now)
    )


def _refused_stream_options(attempt: Attempt[Engine], call: AnyCall, channel: Channel) -> bool:
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


async def _watch(call: AnyCall, attempt: Attempt[Engine]) -> None:
    """Wait for the few moments of a stream that need a handler: content, heartbeat, end."""
    client = call.client
    call.prepare()
    while True:
        change = attempt.changed()
        if change is not None:
            await change
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


def _failure_of(call: AnyCall, attempt: Attempt[Engine], channel: Channel) -> Failed | None:
    """Return why the attempt did not serve, None if it did."""
    exchange = attempt.exchange
    if exchange.phase is _TERMINAL and not call.refuses():
        return None
    if attempt.transport is None:
        left = refusals.ended(AttemptEnd.CLIENT_GONE)
        return Failed(AttemptFailure.CONNECT, left, outcome=_UNKNOWN)
    failure = exchange.failure
    if failure is not None:
        error = refusals.failed(failure, channel, channel.dialect, call.world.now())
        blameless = failure.status is not None and failure.status < 500
        return Failed(
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
        return Failed(AttemptFailure.BROKEN, refusals.ended(end), outcome=Outcome.UNKNOWN)
    timeout = end is not AttemptEnd.LOST
    return Failed(AttemptFailure.TIMEOUT if timeout else AttemptFailure.BROKEN, refusals.ended(end))
