"""Scripts for an exchange: reads in, what the client's connection would carry out.

The driver does what a connection does (whole chunks as they are, the rest framed anew), and reads
the result back with a chunk decoder of its own. This module must not know sockets.
"""

import random
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace

from proxy.core.entities import Dialect, TerminalRule, Usage, Verdict, Wire
from proxy.core.exchange import UNLIMITED, Exchange, Expectation, Failure, FailureKind, Phase
from proxy.core.metering import Meter
from proxy.core.usage import UsageTally
from tests.corpora.sse import SseCase
from tests.integration.stream_record import UpstreamStream

STREAM = Expectation(Wire.CHAT, stream=True)
STRIPPED = replace(STREAM, strip_usage=True)
PLAIN = Expectation(Wire.CHAT, stream=False)
MESSAGES = Expectation(Wire.MESSAGES, stream=True)
GEMINI = Expectation(Wire.GEMINI, stream=True)
RESPONSES = Expectation(Wire.RESPONSES, stream=True)
FINISH = replace(STREAM, terminal=TerminalRule.FINISH_REASON)

FORMS = {Dialect.OPENAI: Wire.CHAT, Dialect.ANTHROPIC: Wire.MESSAGES}
KINDS = {
    Verdict.UPSTREAM_TRUNCATED: FailureKind.TRUNCATED,
    Verdict.UPSTREAM_ERROR: FailureKind.ERROR_EVENT,
}
END = b"0\r\n\r\n"


def head(
    *headers: str, status: int = 200, kind: str = "text/event-stream", framing: str = "chunked"
) -> bytes:
    """A response head: `framing` chunked, close, or a number of bytes."""
    lines = [f"HTTP/1.1 {status} Whatever"]
    if kind:
        lines.append(f"Content-Type: {kind}")
    if framing == "chunked":
        lines.append("Transfer-Encoding: chunked")
    elif framing != "close":
        lines.append(f"Content-Length: {framing}")
    return "\r\n".join([*lines, *headers, "", ""]).encode()


def chunk(data: bytes) -> bytes:
    """Frame `data` as nearly every server does."""
    return b"%x\r\n%b\r\n" % (len(data), data)


def chunked(pieces: Iterable[bytes]) -> bytes:
    """Frame a whole body, one chunk for each piece that is not empty."""
    return b"".join(chunk(piece) for piece in pieces if piece) + END


def unchunked(wire: bytes) -> bytes:
    """Read chunks back, strictly; what is not canonical framing fails the test."""
    body = b""
    while wire:
        size = re.match(rb"[1-9a-f][0-9a-f]*\r\n", wire)
        assert size is not None, wire[:40]
        start = size.end()
        end = start + int(size[0], 16)
        assert wire[end : end + 2] == b"\r\n", wire[end - 20 : end + 20]
        body += wire[start:end]
        wire = wire[end + 2 :]
    return body


def new(
    expect: Expectation,
    measure: Callable[[str], int] = len,
    *,
    allowed: int = UNLIMITED,
    unsent: Callable[[], int] | None = None,
) -> Exchange:
    """An exchange whose meter counts characters, unless told otherwise."""
    meter, tally = Meter(measure), UsageTally()
    if unsent is None:
        return Exchange(expect, meter, tally, tokens_allowed=allowed)
    return Exchange(expect, meter, tally, tokens_allowed=allowed, unsent=unsent)


class Connection:
    """Feeds an exchange as `proxy.edge` does and keeps what the client's socket would carry."""

    def __init__(self, exchange: Exchange, *, patterns: bool = True) -> None:
        self.exchange = exchange
        self.patterns = patterns
        self.wire = b""
        self.verbatim = 0

    def feed(self, data: bytes) -> None:
        if self.patterns and self.exchange.passes(data):
            passed = len(data)
        else:
            passed = self.exchange.ordinary(data)
        assert 0 <= passed <= len(data)
        self.wire += data[:passed]
        self.verbatim += passed
        if data[passed:]:
            self.write(self.exchange.receive(data[passed:]))

    def write(self, out: bytes) -> None:
        if out:
            self.wire += chunk(out)

    def allow(self, tokens: int) -> None:
        self.write(self.exchange.allow(tokens))

    def eof(self) -> None:
        self.write(self.exchange.receive_eof())

    def at(self, phase: Phase) -> bool:
        """Whether the exchange is in `phase` now."""
        return self.exchange.phase is phase

    @property
    def body(self) -> bytes:
        """The events the client has, the terminal one apart."""
        if not self.exchange.shown:
            assert not self.wire
            return b""
        return self.exchange.held + unchunked(self.wire)


def state(connection: Connection) -> tuple[object, ...]:
    """All that anybody could tell of an exchange now."""
    exchange = connection.exchange
    meter = exchange.meter
    return (
        *(connection.wire, exchange.held, exchange.terminal, exchange.phase, exchange.failure),
        *(exchange.over, exchange.shown, exchange.finish_reason, exchange.answer_id),
        *(exchange.events, exchange.garbage, exchange.has_id, exchange.in_event),
        *(exchange.at_edge, exchange.upper, exchange.progress(), exchange.wire_bytes),
        *(exchange.reusable, exchange.tally.usage(), exchange.tally.anomalies),
        *(meter.written, meter.text_bytes, meter.run, meter.projected()),
    )


@dataclass(frozen=True, slots=True)
class Played:
    """Everything a caller could tell of an exchange that has ended."""

    body: bytes
    terminal: bytes
    phase: Phase
    failure: Failure | None
    shown: bool
    finish_reason: str | None
    tokens: int
    exact: bool
    usage: Usage
    usage_seen: bool
    events: int
    garbage: int
    wire_bytes: int
    has_id: bool
    reusable: bool


def play(
    expect: Expectation,
    reads: Iterable[bytes],
    *,
    measure: Callable[[str], int] = len,
    eof: bool = False,
    patterns: bool = True,
) -> Played:
    """Run a script of reads, unlimited by money; return how it ended.

    Without `patterns` every event is looked at, which must make no difference.
    """
    exchange = new(expect, measure)
    connection = Connection(exchange, patterns=patterns)
    for data in reads:
        connection.feed(data)
    if eof:
        connection.eof()
    return Played(
        body=connection.body,
        terminal=exchange.terminal,
        phase=exchange.phase,
        failure=exchange.failure,
        shown=exchange.shown,
        finish_reason=exchange.finish_reason,
        tokens=exchange.meter.advance(),
        exact=exchange.meter.exact,
        usage=exchange.tally.usage(),
        usage_seen=exchange.tally.seen,
        events=exchange.events,
        garbage=exchange.garbage,
        wire_bytes=exchange.wire_bytes,
        has_id=exchange.has_id,
        reusable=exchange.phase is Phase.TERMINAL and exchange.reusable,
    )


def each_byte(data: bytes) -> Iterator[bytes]:
    """One-byte reads."""
    return (data[position : position + 1] for position in range(len(data)))


def anywhere(data: bytes, seed: int, longest: int) -> list[bytes]:
    """Cut `data` at random places into pieces of 1 to `longest` bytes."""
    rng, pieces, start = random.Random(seed), [], 0
    while start < len(data):
        end = start + rng.randint(1, longest)
        pieces.append(data[start:end])
        start = end
    return pieces


def expectation(stream: UpstreamStream, **changes: object) -> Expectation:
    """What a relay expects of a generated stream."""
    wire = stream.wire or FORMS[stream.dialect]
    # To a form without a last event a channel's setting makes no difference.
    rule = TerminalRule.DONE if wire is Wire.GEMINI else TerminalRule(stream.terminal)
    expect = Expectation(wire, stream=True, terminal=rule)
    return replace(expect, **changes)  # type: ignore[arg-type]  # fields of Expectation


def check_stream(stream: UpstreamStream, played: Played, *, usage_asked: bool) -> None:
    """Compare what a client got with what the stream's record promises."""
    most = stream.forwarded(usage_asked=usage_asked)
    if stream.complete:
        assert played.phase is Phase.TERMINAL
        # A terminal event without its blank line gets one.
        assert (played.body + played.terminal).rstrip() == most.rstrip()
        assert played.finish_reason == stream.finish
    else:
        assert played.phase is Phase.FAILED
        assert not played.terminal
        assert most.startswith(played.body)
        errors = (b'"error":{' if stream.wire is Wire.RESPONSES else b'"error"', b"event: error")
        if played.shown and not any(error in most for error in errors):
            assert played.body == most
    if stream.terminal == "done" and stream.complete:
        assert any(played.terminal.startswith(event) for event in stream.events)
        ends = (b"[DONE]", b"message_stop", b"response.completed", b"response.incomplete")
        assert any(end in played.terminal for end in ends)
    if stream.usage is not None:
        assert played.usage == stream.usage
    if b'"name":' not in stream.body:  # names of tools count too, and are in no run
        assert played.tokens == sum(map(len, stream.text_runs.values()))


def expectation_of(case: SseCase) -> Expectation:
    """What a relay expects of a named case."""
    return Expectation(
        FORMS[case.dialect], stream=True, strip_usage=not case.usage_asked, terminal=case.terminal
    )


def check_case(case: SseCase, played: Played) -> None:
    """Compare what a client got with what a named case demands."""
    assert played.body + played.terminal == case.required
    assert played.shown == (case.status == 200)
    if case.verdict is Verdict.COMPLETE:
        assert played.phase is Phase.TERMINAL
    else:
        assert played.failure is not None
        assert played.failure.kind is KINDS[case.verdict]
    if case.text is not None and played.exact:
        assert played.tokens == len(case.text)
    if case.usage is not None:
        assert (played.usage.input_total, played.usage.output) == case.usage
