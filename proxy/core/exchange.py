"""The engine: one upstream response's bytes in, whole events for the client out, and a verdict.

Rules: the unit of forwarding is a whole SSE event (DESIGN.md section 5). Look, then pass: usage
nobody asked for is left out, the terminal event is held until its charge is committed, nothing
is shown before the first content, and output beyond what the hold affords stays in the backlog.
`ordinary` is the fast path: True means that the very bytes given may be written on, chunk
framing and all. This module must not know sockets, clocks, money or who is asking.

Phases, and what moves between them:

    HEAD -> PREAMBLE   a 200 that streams events        HEAD -> PLAIN      any other answer
    PREAMBLE -> CONTENT  the first event worth showing (the content point)
    PREAMBLE, CONTENT -> TERMINAL   `[DONE]`, `message_stop`, or a clean end where that is enough
    PLAIN -> TERMINAL  a whole plain 2xx                every phase but TERMINAL -> FAILED
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, auto

from proxy.core.deltas import (
    ANTHROPIC_GARBAGE,
    OPENAI_GARBAGE,
    AnthropicEvent,
    OpenAIChunk,
    anthropic_event,
    anthropic_runs,
    is_set,
    openai_delta,
    openai_runs,
)
from proxy.core.entities import Dialect, TerminalRule
from proxy.core.http1 import Framing, FramingError, ResponseHead, ResponseParser
from proxy.core.metering import PENDING_BYTES_MAX, Meter
from proxy.core.sse import EVENT_BYTES_MAX, EventSplitter, fields
from proxy.core.usage import UsageTally

RESPONSE_BYTES_MAX = 64 << 20
ERROR_BODY_BYTES_MAX = 65_536
PREAMBLE_BYTES_MAX = 1 << 20
BACKLOG_BYTES_MAX = 4 << 20
UNLIMITED = 1 << 62

# Chunk-size lines as nearly every upstream writes them, by size: comparing with the canonical
# form is cheaper than parsing, and anything else (upper case, padding, extensions) is re-framed.
_CHUNK_SIZE_LINES = [b"%x" % size for size in range(8_193)]


class Phase(Enum):
    """Where an exchange stands; see the module docstring for the moves."""

    HEAD = auto()
    PLAIN = auto()
    PREAMBLE = auto()
    CONTENT = auto()
    TERMINAL = auto()
    FAILED = auto()


class FailureKind(Enum):
    """What went wrong upstream, as routing and the error map need to know it."""

    STATUS = auto()
    ERROR_EVENT = auto()
    TRUNCATED = auto()
    FRAMING = auto()
    UNEXPECTED_ANSWER = auto()
    TOO_LARGE = auto()


@dataclass(frozen=True, slots=True)
class Failure:
    """Why an exchange failed. `body` is the upstream's error body or event data, bounded."""

    kind: FailureKind
    message: str
    status: int | None = None
    retry_after: str | None = None
    body: bytes = b""


@dataclass(frozen=True, slots=True)
class Expectation:
    """What an exchange needs to know about the call and its channel."""

    dialect: Dialect
    stream: bool
    strip_usage: bool = False
    """We injected `include_usage`: the usage event is ours, the caller never sees it."""
    terminal: TerminalRule = TerminalRule.DONE
    choices: int = 1
    verbatim: bool = True
    """The client takes chunked framing, so whole chunks may pass as they are."""
    event_bytes_max: int = EVENT_BYTES_MAX


def _nothing_unsent() -> int:
    return 0


class Exchange:
    """One attempt at one upstream; see the module docstring.

    `receive` returns body bytes to write (whole events, without chunk framing) and moves
    `phase`. `meter` and `tally` hold what was delivered and what was reported.
    """

    __slots__ = (
        "_backlog",
        "_backlog_bytes",
        "_body",
        "_checkpoint",
        "_ended",
        "_expect",
        "_finished",
        "_openai",
        "_parser",
        "_splitter",
        "_unsent",
        "_verbatim",
        "at_edge",
        "events",
        "failure",
        "finish_reason",
        "garbage",
        "has_id",
        "held",
        "meter",
        "phase",
        "plain_bytes",
        "tally",
        "terminal",
        "tokens_allowed",
        "upper",
        "wire_bytes",
    )

    def __init__(
        self,
        expect: Expectation,
        meter: Meter,
        tally: UsageTally,
        *,
        tokens_allowed: int = UNLIMITED,
        unsent: Callable[[], int] = _nothing_unsent,
    ) -> None:
        self.phase = Phase.HEAD
        self.meter = meter
        self.tally = tally
        self.failure: Failure | None = None
        self.held = b""
        self.terminal = b""
        self.finish_reason: str | None = None
        self.at_edge = False
        self.events = 0
        self.garbage = 0
        self.has_id = False
        self.wire_bytes = 0
        self.tokens_allowed = tokens_allowed
        self._expect = expect
        self._openai = expect.dialect is Dialect.OPENAI
        self._parser = ResponseParser()
        self._splitter = EventSplitter(expect.event_bytes_max)
        self._verbatim = False
        self._ended = False
        self.upper = 0
        self._finished: set[int] = set()
        self._body: list[bytes] = []
        self.plain_bytes = 0
        self._backlog: list[tuple[bytes, bool]] = []
        self._backlog_bytes = 0
        self._checkpoint = min(tokens_allowed, PENDING_BYTES_MAX)
        self._unsent = unsent

    @property
    def head(self) -> ResponseHead | None:
        """The response head, once it is whole."""
        return self._parser.head

    @property
    def body(self) -> bytes:
        """The plain body received so far (phase PLAIN, or TERMINAL of a plain call)."""
        return b"".join(self._body)

    @property
    def over(self) -> bool:
        """Whether nothing more will come of this exchange."""
        return self._is_over()

    def _is_over(self) -> bool:
        return self.phase is Phase.TERMINAL or self.phase is Phase.FAILED

    @property
    def reusable(self) -> bool:
        """Whether the connection may carry another request."""
        return self._parser.reusable

    @property
    def finishing(self) -> bool:
        """Whether a finish reason was seen: usage may follow within moments."""
        return self.finish_reason is not None

    def ordinary(self, data: bytes) -> bool:
        """Whether `data` is one whole chunk of one whole ordinary event, metered if so.

        The fast path of a stream in phase CONTENT. False changes nothing: give the same bytes
        to `receive`.
        """
        if not self._verbatim or not data.endswith(b"}\n\n\r\n"):
            return False
        start = data.find(b"\r\n", 1, 6) + 2
        size = len(data) - start - 2
        if size > 8_192 or _CHUNK_SIZE_LINES[size] != data[: start - 2]:
            return False
        total = self.wire_bytes + size
        if total > self._checkpoint:
            return False
        if self._openai:
            if not data.startswith(b"data: {", start):
                return False
            if not self.meter.add_openai(openai_delta(data[start + 6 : -4]), size):
                return False
        else:
            if not data.startswith(b"event: content_block_delta\ndata: {", start):
                return False
            if not self.meter.add_anthropic(anthropic_event(data[start + 33 : -4]), size):
                return False
        self.wire_bytes = total
        self.events += 1
        return True

    def receive(self, data: bytes) -> bytes:
        """Take bytes off the wire; return whole events to forward, b"" while there are none."""
        if self.over:
            self._receive_after(data)
            return b""
        try:
            body = self._parser.receive(data)
        except FramingError as error:
            return self._fail(Failure(FailureKind.FRAMING, str(error)))
        if self.phase is Phase.HEAD and self._parser.head is not None:
            self._receive_head(self._parser.head)
        if self.phase is Phase.PLAIN:
            return self._receive_plain(body)
        if self.phase is Phase.HEAD or self.over:
            return b""
        out = self._receive_events(self._splitter.receive(body)) if body else b""
        if self._parser.complete and not self._is_over() and not self._backlog:
            return out + self._receive_end()
        self._set_verbatim()
        return out

    def receive_eof(self) -> bytes:
        """Take the end of the connection; return what may still be forwarded."""
        self._verbatim = False
        if self.over:
            return b""
        self._ended = True
        if self._backlog:
            return b""
        return self._receive_closed()

    def allow(self, tokens_allowed: int) -> bytes:
        """Move the edge of the hold to `tokens_allowed` output tokens; return what now passes."""
        self.tokens_allowed = tokens_allowed
        self.at_edge = False
        backlog, self._backlog, self._backlog_bytes = self._backlog, [], 0
        self._account()
        out = self._receive_events(backlog)
        if not self.over and not self._backlog:
            if self._ended:
                out += self._receive_closed()
            elif self._parser.complete:
                out += self._receive_end()
        self._set_verbatim()
        return out

    def tokens_delivered(self) -> int:
        """Count what has left this machine, exactly; the rest stays in the meter."""
        return self.meter.advance(self._unsent())

    def tokens_upper(self) -> int:
        """An upper bound of the output tokens written: counted, plus a token per unsent byte."""
        unsent = self._unsent()
        return self.meter.advance(unsent) + unsent

    def _receive_closed(self) -> bytes:
        complete = self._parser.receive_eof()
        if self.phase is Phase.PLAIN and complete:
            return self._receive_plain(b"")
        if self.phase in {Phase.PREAMBLE, Phase.CONTENT} and complete:
            return self._receive_end()
        return self._fail(
            Failure(FailureKind.TRUNCATED, "the upstream closed before its answer was complete")
        )

    # Heads and plain bodies

    def _receive_head(self, head: ResponseHead) -> None:
        if head.header("content-encoding") not in {None, "", "identity"}:
            self._fail(
                Failure(FailureKind.UNEXPECTED_ANSWER, "the upstream compressed its answer unasked")
            )
            return
        if not 200 <= head.status < 300 or not self._expect.stream:
            self.phase = Phase.PLAIN
            return
        kind = (head.header("content-type") or "").split(";")[0].strip().lower()
        if kind not in {"text/event-stream", ""}:
            # An error inside a 200 is often plain JSON: read it, then tell (FAULTS.md F20).
            self.phase = Phase.PLAIN
            return
        self.phase = Phase.PREAMBLE

    def _receive_plain(self, body: bytes) -> bytes:
        head = self._parser.head
        if head is None:
            raise AssertionError("a plain body before its head")
        good = 200 <= head.status < 300
        limit = RESPONSE_BYTES_MAX if good else ERROR_BODY_BYTES_MAX
        self.plain_bytes += len(body)
        if self.plain_bytes > limit and good:
            return self._fail(Failure(FailureKind.TOO_LARGE, f"an answer over {limit} bytes"))
        if body and self.plain_bytes <= limit:
            self._body.append(body)
        if not self._parser.complete and self.plain_bytes <= limit:
            return b""
        if not good:
            return self._fail(
                Failure(
                    FailureKind.STATUS,
                    f"the upstream answered {head.status}",
                    head.status,
                    head.header("retry-after"),
                    self.body,
                )
            )
        if self._expect.stream:
            return self._fail(
                Failure(
                    FailureKind.UNEXPECTED_ANSWER,
                    "the upstream answered a stream request without a stream",
                    None,
                    None,
                    self.body[:ERROR_BODY_BYTES_MAX],
                )
            )
        self.phase = Phase.TERMINAL
        return b""

    def _receive_after(self, data: bytes) -> None:
        """Read on after the end, so that the connection may be found reusable."""
        if self.phase is Phase.FAILED or self._parser.complete:
            self._parser.excess = True
            return
        try:
            self._parser.receive(data)
        except FramingError:
            self._parser.excess = True

    # Events

    def _set_verbatim(self) -> None:
        head = self._parser.head
        self._verbatim = (
            self.phase is Phase.CONTENT
            and self._expect.verbatim
            and head is not None
            and head.framing is Framing.CHUNKED
            and self._parser.between_chunks
            and self._splitter.idle
            and not self._backlog
        )

    def _receive_events(self, spans: list[tuple[bytes, bool]]) -> bytes:
        """Look at each event in turn; a flat loop because a read may hold many."""
        out: list[bytes] = []
        look = self._look_openai if self._openai else self._look_anthropic
        for position, (event, whole) in enumerate(spans):
            if self.over:
                break
            size = len(event)
            if self.at_edge or (
                self.wire_bytes + size > self._checkpoint and not self._affords(event, whole=whole)
            ):
                self._hold_back(spans[position:])
                break
            if not whole:
                self._part(event)
                out.append(event)
                continue
            passed = look(event)
            if passed:
                self.wire_bytes += size
                out.append(passed)
        if self.phase is Phase.PREAMBLE and out:
            self.held += b"".join(out)
            if len(self.held) > PREAMBLE_BYTES_MAX:
                return self._fail(Failure(FailureKind.TOO_LARGE, "a preamble without content"))
            return b""
        return b"".join(out)

    def _hold_back(self, spans: list[tuple[bytes, bool]]) -> None:
        self.at_edge = True
        self._backlog.extend(spans)
        self._backlog_bytes += sum([len(event) for event, _ in spans])
        if self._backlog_bytes > BACKLOG_BYTES_MAX:
            self._fail(Failure(FailureKind.TOO_LARGE, "more output than the hold could ever cover"))

    def _account(self) -> int:
        """Count what was written and set how many more bytes may pass unexamined.

        A token is at least one byte on the wire, so that many bytes cannot exceed the hold.
        """
        self.upper = upper = self.tokens_upper()
        room = min(max(0, self.tokens_allowed - upper), PENDING_BYTES_MAX)
        self._checkpoint = self.wire_bytes + room
        return upper

    def _affords(self, event: bytes, *, whole: bool) -> bool:
        """Whether the hold covers `event` too, looking closer than its length in bytes."""
        upper = self._account()
        if self.wire_bytes + len(event) <= self._checkpoint:
            return True
        if not whole:
            return False
        _, data, _ = fields(event)
        text = "" if data is None else _text(data, openai=self._openai)
        return not text or upper + self.meter.count(text) <= self.tokens_allowed

    def _part(self, part: bytes) -> None:
        """Pass a part of an event too large to hold: it counts as content, by estimate."""
        self._content_point()
        self.wire_bytes += len(part)
        self.meter.add_unread(len(part))

    def _content_point(self) -> None:
        if self.phase is Phase.PREAMBLE:
            self.phase = Phase.CONTENT

    def _finish(self, choice: int, reason: str) -> None:
        self._finished.add(choice)
        self.finish_reason = reason

    def _look_openai(self, event: bytes) -> bytes:
        _, data, has_id = fields(event)
        self.has_id |= has_id
        if data is None:
            return event
        if data.startswith(b"[DONE]"):
            self.phase = Phase.TERMINAL
            self.terminal = event
            return b""
        chunk = openai_delta(data)
        if chunk is OPENAI_GARBAGE:
            self.garbage += 1
            return event
        if is_set(chunk.error):
            return self._error_event(event, data)
        if chunk.usage is not None:
            self.tally.openai(chunk.usage)
            if self._expect.strip_usage and not chunk.choices:
                return b""
        shown = self._meter_runs(list(openai_runs(chunk)), len(event))
        for choice in chunk.choices:
            if choice.finish_reason is not None:
                self._finish(choice.index, choice.finish_reason)
                shown = True
        if shown:
            self._content_point()
        self.events += 1
        return event

    def _look_anthropic(self, event: bytes) -> bytes:
        _, data, has_id = fields(event)
        self.has_id |= has_id
        if data is None:
            return event
        message = anthropic_event(data)
        if message is ANTHROPIC_GARBAGE:
            self.garbage += 1
            return event
        if message.type == "error":
            return self._error_event(event, data)
        if message.type == "message_stop":
            self.phase = Phase.TERMINAL
            self.terminal = event
            return b""
        if message.message is not None and message.message.usage is not None:
            self.tally.anthropic(message.message.usage, final=False)
        elif message.usage is not None:
            self.tally.anthropic(message.usage, final=True)
        shown = self._meter_runs(list(anthropic_runs(message)), len(event))
        delta = message.delta
        if message.type == "message_delta" and delta is not None and delta.stop_reason:
            self._finish(0, delta.stop_reason)
            shown = True
        if shown or message.type == "content_block_delta":
            self._content_point()
        self.events += 1
        return event

    def _meter_runs(self, runs: list[tuple[tuple[int, str, int], str]], size: int) -> bool:
        """Give the meter an event's texts; the wire bytes go to the last of them."""
        for position, (run, text) in enumerate(runs):
            self.meter.add_run(run, text, size if position == len(runs) - 1 else 0)
        if not runs:
            self.meter.add("", size)
        return bool(runs)

    def _error_event(self, event: bytes, data: bytes) -> bytes:
        """An error inside a 200: before content it is a failure like any other."""
        shown = self.phase is Phase.CONTENT
        self._fail(
            Failure(
                FailureKind.ERROR_EVENT,
                "the upstream reported an error in its stream",
                body=data[:ERROR_BODY_BYTES_MAX],
            )
        )
        return event if shown else b""

    def _receive_end(self) -> bytes:
        """The body ended by its own framing: complete if that is enough, else truncated."""
        rest = self._splitter.receive_eof()
        out = b""
        if rest:
            # SDKs never dispatch an event without its blank line (WIRE.md section 2); a final
            # `[DONE]` without one is still a clean end.
            out = self._receive_events([(rest, True)])
        if self.over:
            return out
        everyone = len(self._finished) >= self._expect.choices
        if self._expect.terminal is TerminalRule.FINISH_REASON and everyone:
            self._content_point()
            self.phase = Phase.TERMINAL
            return out
        self._fail(
            Failure(FailureKind.TRUNCATED, "the upstream ended its stream without a terminal event")
        )
        return out

    def _fail(self, failure: Failure) -> bytes:
        self.phase = Phase.FAILED
        self.failure = failure
        self._verbatim = False
        return b""


def _text(data: bytes, *, openai: bool) -> str:
    if openai:
        chunk: OpenAIChunk = openai_delta(data)
        return "".join([text for _, text in openai_runs(chunk)])
    event: AnthropicEvent = anthropic_event(data)
    return "".join([text for _, text in anthropic_runs(event)])
