"""The engine: one upstream response's bytes in, whole events for the client out, and a verdict.

Rules: the unit of forwarding is a whole SSE event (DESIGN.md section 5). Look, then pass: usage
nobody asked for is left out, the terminal event is held until its charge is committed, nothing
is shown before the first content, and output beyond what the hold affords stays in the backlog.
`passes` and `ordinary` are the fast paths: what they take may be written on as the very bytes
given, chunk framing and all. This module must not know sockets, clocks, money or who is asking.

Phases, and what moves between them:

    HEAD -> PREAMBLE   a 200 that streams events        HEAD -> PLAIN      any other answer
    PREAMBLE -> CONTENT  the first event worth showing (the content point)
    PREAMBLE, CONTENT -> TERMINAL   `[DONE]`, `message_stop`, or a clean end where that is enough
    PLAIN -> TERMINAL  a whole plain 2xx                every phase but TERMINAL -> FAILED
"""

from collections.abc import Callable

from proxy.core import outcomes, passthrough
from proxy.core.allowance import Allowance
from proxy.core.deltas import (
    ANTHROPIC_GARBAGE,
    OPENAI_GARBAGE,
    anthropic_event,
    anthropic_runs,
    has_other_content,
    is_set,
    openai_delta,
    openai_runs,
)
from proxy.core.entities import TerminalRule, Wire
from proxy.core.http1 import FramingError, ResponseHead, ResponseParser
from proxy.core.looks import LOOKS
from proxy.core.metering import UNREAD_BYTES_PER_TOKEN, Meter
from proxy.core.outcomes import Expectation, Failure, FailureKind, Phase
from proxy.core.sse import BYTE_ORDER_MARK, EventSplitter, fields
from proxy.core.usage import UsageTally

__all__ = ["UNLIMITED", "Exchange", "Expectation", "Failure", "FailureKind", "Phase"]

PREAMBLE_BYTES_MAX = 1 << 20
BACKLOG_BYTES_MAX = 4 << 20
FINISH_REASON_CHARACTERS_MAX = 64
LESSON_BYTES_MAX = 2_048
"""The longest event that is kept until the next one comes, which may be like it."""
UNLIMITED = 1 << 62

# What one byte of an event that is read with patience may become: bytes that are no UTF-8 are
# three of U+FFFD each, and numbers inside of arguments may be written longer.
_TEXT_PER_BYTE_MAX = 4

# Where an event names a role, the ones after it mostly do not.
_ROLE = b'"role"'
_REASON = b'"finish_reason":"'
_QUOTE = 0x22
# On Python 3.11 a member of an enum costs as much as ten globals.
_HEAD, _PLAIN, _PREAMBLE, _CONTENT, _TERMINAL, _FAILED = Phase
_CHAT, _FINISH_REASON = Wire.CHAT, TerminalRule.FINISH_REASON


class Exchange:
    """One attempt at one upstream; see the module docstring.

    `receive` returns body bytes to write (whole events, without chunk framing) and moves
    `phase`. `meter` and `tally` hold what was delivered and what was reported. `shown` stays
    True from the content point or the terminal event on, also when the exchange fails later.
    """

    __slots__ = (
        "_allowance", "_backlog", "_backlog_bytes", "_body", "_ended", "_events", "_expect",
        "_finished", "_lesson", "_look", "_meter", "_parser", "_passage", "_splitter", "_verbatim",
        "answer_id", "at_edge", "failure", "finish_reason", "garbage", "has_id", "held", "phase",
        "plain_bytes", "shown", "tally", "terminal", "tokens_allowed", "upper",
    )  # fmt: skip

    def __init__(
        self,
        expect: Expectation,
        meter: Meter,
        tally: UsageTally,
        *,
        tokens_allowed: int = UNLIMITED,
        unsent: Callable[[], int] = int,  # nothing
    ) -> None:
        self.phase = _HEAD
        self._meter = meter
        self.tally = tally
        self.failure: Failure | None = None
        self.held = self.terminal = self._lesson = b""
        self.finish_reason: str | None = None
        self.answer_id = ""
        self.at_edge = self.has_id = self.shown = self._verbatim = self._ended = False
        self._events = self.garbage = self.upper = self.plain_bytes = 0
        self.tokens_allowed = tokens_allowed
        self._expect = expect
        self._look = look = LOOKS[expect.wire](expect)
        self._passage = passthrough.Passage(look.take, look.lessons)
        self._parser = ResponseParser()
        self._splitter = EventSplitter(look.event_bytes_max or expect.event_bytes_max)
        self._finished: frozenset[int] = frozenset()
        self._body: list[bytes] = []
        self._backlog: list[tuple[bytes, bool]] = []
        self._backlog_bytes = 0
        self._allowance = Allowance(meter, tokens_allowed, unsent)

    @property
    def head(self) -> ResponseHead | None:
        """The response head, once it is whole."""
        return self._parser.head

    @property
    def body(self) -> bytes:
        """The plain body received so far (phase PLAIN, or TERMINAL of a plain call)."""
        return b"".join(self._body)

    @property
    def meter(self) -> Meter:
        """What was delivered."""
        self._drain()
        return self._meter

    @property
    def wire_bytes(self) -> int:
        """Bytes of whole events and parts of events that were passed."""
        return self._meter.written + sum(self._passage.sizes)

    @property
    def events(self) -> int:
        """Events that were passed, without comments and garbage."""
        return self._events + len(self._passage.sizes)

    @property
    def progress(self) -> int:
        """A number that grows when anything was received, and only then; cheap to ask for."""
        return self._meter.taken + len(self._passage.sizes) + self.plain_bytes

    @property
    def passes(self) -> Callable[[bytes], bool]:
        """What says of a read if it may be written on as it is; if not ask `ordinary`."""
        return self._passage.passes

    @property
    def over(self) -> bool:
        """Whether nothing more will come of this exchange."""
        return self.phase is _TERMINAL or self.phase is _FAILED

    @property
    def reusable(self) -> bool:
        """Whether the connection may carry another request."""
        return self._parser.reusable

    @property
    def finishing(self) -> bool:
        """Whether a finish reason was seen: usage may follow within moments."""
        return self.finish_reason is not None

    @property
    def in_event(self) -> bool:
        """Whether part of an event too large to hold has passed, and its end has not."""
        return self._splitter.oversized

    def ordinary(self, data: bytes) -> int:
        """How many leading bytes of `data` may be written on as they are; metered already.

        For a stream in phase CONTENT, where `passes` said no: whole chunks, canonically framed,
        each of whole ordinary events: no usage, error, finish reason or terminal, and within the
        hold. The rest, from that byte on, goes to `receive`.
        """
        self._drain()
        meter, passage, allowance = self._meter, self._passage, self._allowance
        if not self._verbatim:
            return 0
        if not allowance.covers(len(data), len(data)):
            if not allowance.stale:
                return 0
            # Fewer tokens than they could have been: more may pass.
            self.upper = allowance.count(self.tokens_allowed)
            if not allowance.covers(len(data), len(data)):
                return 0
        reason = data.find(_REASON)
        if 0 <= reason < data.find(b"\n\n") and data[reason + len(_REASON)] != _QUOTE:
            return 0  # a stream's end: it would be decoded here and by `receive` once more
        lesson, self._lesson = self._lesson, b""
        if lesson and lesson.find(_ROLE) < 0:
            # It was decoded already: learning from it saves decoding the event after it.
            passage.learn(lesson, meter)
            passage.grant(allowance.room)
            if passage.passes(data):
                return len(data)
        taken, events = passage.look(data, meter)
        self._events += events
        passage.grant(allowance.room)
        return taken

    def _stop_passing(self) -> None:
        self._passage.close()
        self._drain()

    def _drain(self) -> None:
        """Meter what has passed by the pattern."""
        self._events += self._passage.drain(self._meter)

    def receive(self, data: bytes) -> bytes:
        """Take bytes off the wire; return whole events to forward, b"" while there are none."""
        self._stop_passing()
        if self.over:
            self.finish(data)
            return b""
        fault: FramingError | None = None
        try:
            body = self._parser.receive(data)
        except FramingError as error:
            body, fault = error.body, error
        if self.phase is _HEAD and self._parser.head is not None:
            self._receive_head(self._parser.head)
        out = b""
        if self.phase is _PLAIN:
            self._receive_plain(body)
        elif self.phase is not _HEAD and not self.over:
            out = self._receive_events(self._splitter.receive(body)) if body else b""
            if self._parser.complete and not self._backlog and not self.over:
                out += self._receive_end()
        if fault is not None and not self.over:
            self._fail(Failure(FailureKind.FRAMING, str(fault)))
        self._set_verbatim()
        return out

    def receive_eof(self) -> bytes:
        """Take the end of the connection; return what may still be forwarded."""
        self._stop_passing()
        self._verbatim = False
        if self.over:
            return b""
        self._ended = True
        return b"" if self._backlog else self._receive_closed()

    def allow(self, tokens_allowed: int) -> bytes:
        """Move the edge of the hold to `tokens_allowed` output tokens; return what now passes."""
        self._stop_passing()
        self.tokens_allowed = tokens_allowed
        if self.over:
            return b""
        self.at_edge = False
        backlog, self._backlog, self._backlog_bytes = self._backlog, [], 0
        self.upper = self._allowance.count(tokens_allowed)
        out = self._receive_events(backlog)
        if not self._backlog:
            if self._ended:
                out += self._receive_closed()
            elif self._parser.complete:
                out += self._receive_end()
        self._set_verbatim()
        return out

    def _receive_closed(self) -> bytes:
        if self.over:
            return b""
        complete = self._parser.receive_eof()
        if complete and self.phase is _PLAIN:
            self._receive_plain(b"")
            return b""
        if complete:
            return self._receive_end()
        return self._fail(outcomes.truncated("the upstream closed before its answer was complete"))

    def _receive_head(self, head: ResponseHead) -> None:
        failure = outcomes.compressed(head)
        if failure is not None:
            self._fail(failure)
        elif self._expect.stream and outcomes.is_good(head) and outcomes.is_event_stream(head):
            self.phase = _PREAMBLE
        else:
            self.phase = _PLAIN

    def _receive_plain(self, body: bytes) -> None:
        head, stream = self._parser.head, self._expect.stream
        if head is None:
            raise AssertionError("a plain body before its head")
        limit = outcomes.plain_bytes_max(head, stream=stream)
        self._body.append(body[: max(0, limit - self.plain_bytes)])
        self.plain_bytes += len(body)
        fits = self.plain_bytes <= limit
        if fits and not self._parser.complete:
            return
        self._body = [self.body]
        failure = outcomes.plain(head, self._body[0], stream=stream, whole=fits)
        if failure is None:
            self.phase = _TERMINAL
        else:
            self._fail(failure)

    def finish(self, data: bytes) -> bool | None:
        """Take what follows the end (b"": nothing yet); see `ResponseParser.outlook`."""
        if data and self.phase is _FAILED:
            self._parser.excess = True
        elif data:
            self._parser.receive_rest(data)
        outlook = self._parser.outlook
        return outlook if self.phase is _TERMINAL else outlook is True

    def _set_verbatim(self) -> None:
        self._verbatim = (
            self.phase is _CONTENT
            and self._expect.verbatim
            and self._parser.between_chunks
            and self._splitter.idle
            and not self._backlog
        )

    def _receive_events(self, spans: list[tuple[bytes, bool]]) -> bytes:
        """Look at each event in turn; a flat loop because a read may hold many."""
        out: list[bytes] = []
        see = self._see_openai if self._expect.wire is _CHAT else self._see_anthropic
        if self._look.see is not None:
            see = self._see_any
        for position, (event, whole) in enumerate(spans):
            if self.over:
                break
            size = len(event)
            if self.at_edge or (
                not self._allowance.covers(size, _TEXT_PER_BYTE_MAX * size)
                and not self._affords(event, whole=whole)
            ):
                self._hold_back(spans[position:])
                break
            if whole:
                passed = see(event)
                self._lesson = event if size <= LESSON_BYTES_MAX else b""
            elif self._look.event_bytes_max:
                passed = self._fail(outcomes.too_large("an event of its stream"))
            else:
                # Part of an event too large to hold: it counts as content, by its weight.
                self._content_point()
                self._meter.add_unread(size)
                passed = event
            out.append(passed)
        if self.phase is _PREAMBLE:
            self.held += b"".join(out)
            if len(self.held) > max(PREAMBLE_BYTES_MAX, 2 * self._look.event_bytes_max):
                self._fail(outcomes.too_large("a preamble without content"))
        return b"".join(out) if self.shown else b""

    def _hold_back(self, spans: list[tuple[bytes, bool]]) -> None:
        self.at_edge = True
        self._backlog.extend(spans)
        self._backlog_bytes += sum([len(event) for event, _ in spans])
        if self._backlog_bytes > BACKLOG_BYTES_MAX:
            self._fail(outcomes.too_large("more output than the hold could ever cover"))

    def _affords(self, event: bytes, *, whole: bool) -> bool:
        """Whether the hold covers `event` too, looking closer than its length in bytes."""
        self.upper = upper = self._allowance.count(self.tokens_allowed)
        if self._allowance.covers(len(event), _TEXT_PER_BYTE_MAX * len(event)):
            return True
        if not whole:
            return upper - (-len(event) // UNREAD_BYTES_PER_TOKEN) <= self.tokens_allowed
        runs = self._look.runs(self._read(event)[1] or b"")
        return not runs or self._meter.projected(runs) <= self.tokens_allowed

    def _content_point(self) -> None:
        if self.phase is _PREAMBLE:
            self.phase = _CONTENT
            self.shown = True

    def _terminate(self, event: bytes) -> bytes:
        self.phase = _TERMINAL
        self.shown, self.terminal = True, event
        return b""

    def _finish(self, choice: int, reason: str) -> None:
        if len(self._finished) < self._expect.choices:
            self._finished |= {choice}
        self.finish_reason = reason[:FINISH_REASON_CHARACTERS_MAX]

    def _read(self, event: bytes) -> tuple[str, bytes | None]:
        """Return an event's name and data; a byte order mark counts only before the first."""
        if not self._meter.written:
            event = event.removeprefix(BYTE_ORDER_MARK)
        name, data, has_id = fields(event)
        self.has_id |= has_id
        return name, data

    def _see_openai(self, event: bytes) -> bytes:
        _, data = self._read(event)
        if data is None:
            self._meter.add("", len(event))
            return event
        if data.startswith(b"[DONE]"):
            return self._terminate(event)
        chunk = openai_delta(data)
        if self._meter.add_openai(chunk, len(event)):
            if self.phase is _PREAMBLE and (self._meter.last or has_other_content(data)):
                self._content_point()
            self._events += 1
            return event
        if chunk is OPENAI_GARBAGE:
            self.garbage += 1
            self._meter.add("", len(event))
            return event
        if is_set(chunk.error):
            # Its bytes never pass: they may quote the operator's key. The caller is told by us.
            return self._fail(outcomes.error_event(data))
        if chunk.usage is not None:
            self.tally.openai(chunk.usage)
            if self._expect.strip_usage and not chunk.choices:
                return b""
        shown = self._meter.add_runs(list(openai_runs(chunk)), len(event))
        for choice in chunk.choices:
            if choice.finish_reason:
                self._finish(choice.index, choice.finish_reason)
                shown = True
        if shown or (self.phase is _PREAMBLE and has_other_content(data)):
            self._content_point()
        self._events += 1
        return event

    def _see_anthropic(self, event: bytes) -> bytes:
        name, data = self._read(event)
        if name == "error":
            return self._fail(outcomes.error_event(data or b""))
        if data is None:
            self._meter.add("", len(event))
            return event
        message = anthropic_event(data)
        if self.phase is _CONTENT and self._meter.add_anthropic(message, len(event)):
            self._events += 1
            return event
        if message is ANTHROPIC_GARBAGE:
            self.garbage += 1
            self._meter.add("", len(event))
            return event
        kind, delta = message.type or name, message.delta
        if kind == "error" or (not message.type and is_set(message.error)):
            return self._fail(outcomes.error_event(data))
        if kind == "message_stop":
            return self._terminate(event)
        if message.message is not None and message.message.usage is not None:
            self.tally.anthropic(message.message.usage, final=False)
        elif message.usage is not None and kind != "content_block_delta":
            self.tally.anthropic(message.usage, final=True)
        shown = self._meter.add_runs(list(anthropic_runs(message)), len(event))
        if kind == "message_delta" and delta is not None and delta.stop_reason:
            self._finish(0, delta.stop_reason)
            shown = True
        if shown or kind == "content_block_delta":
            self._content_point()
        self._events += 1
        return event

    def _see_any(self, event: bytes) -> bytes:
        """The same for a form whose look says itself what an event means."""
        name, data = self._read(event)
        if data is None or self._look.see is None:
            self._meter.add("", len(event))
            return event
        sight = self._look.see(name, data)
        if sight.failed:
            return self._fail(outcomes.error_event(data))
        self.garbage += sight.garbage
        self.answer_id = self.answer_id or sight.answer_id
        if sight.usage is not None:
            self._look.report(self.tally, sight.usage)
            if sight.only_usage and self._expect.strip_usage:
                return b""
        for choice, reason in sight.finished:
            self._finish(choice, reason)
        if sight.runs or not sight.terminal:
            self._meter.add_runs(sight.runs, 0 if sight.terminal else len(event))
        if sight.terminal:
            return self._terminate(event)
        if sight.runs or sight.content or sight.finished:
            self._content_point()
        self._events += not sight.garbage
        return event

    def _receive_end(self) -> bytes:
        """The body ended by its own framing: complete if that is enough, else truncated."""
        event, whole = self._splitter.receive_eof()
        name, data = self._read(event)
        if not whole and data is not None and self._look.ends(name, data):
            # No SDK dispatches it so (WIRE.md section 2), but what it says is plain: mend it.
            event, whole = event.rstrip(b"\r\n") + b"\n\n", True
        out = self._receive_events([(event, True)]) if whole else b""
        if self.over or self._backlog:
            return out
        everyone = len(self._finished) >= self._expect.choices
        if everyone and (self._look.endless or self._expect.terminal is _FINISH_REASON):
            self._terminate(b"")
            return out
        self._fail(outcomes.truncated("the upstream ended its stream without a terminal event"))
        return out

    def reject(self, failure: Failure) -> None:
        """End in `failure`: what was read is of no use to the caller."""
        self._fail(failure)

    def _fail(self, failure: Failure) -> bytes:
        self.phase, self.failure = _FAILED, failure
        return b""
