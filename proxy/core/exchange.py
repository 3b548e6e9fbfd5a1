"""The engine: one upstream response's bytes in, whole events for the client out, and a verdict.

Rules: the unit of forwarding is a whole SSE event (DESIGN.md section 5). Look, then pass: usage
nobody asked for is left out, the terminal event is held until its charge is committed, nothing
is shown before the first content, and output beyond what the hold affords stays in the backlog.
`splice` and `ordinary` are the fast paths: what they take may be written on as the very bytes
given, chunk framing and all. This module must not know sockets, clocks, money or who is asking.

Phases, and what moves between them:

    HEAD -> PREAMBLE   a 200 that streams events        HEAD -> PLAIN      any other answer
    PREAMBLE -> CONTENT  the first event worth showing (the content point)
    PREAMBLE, CONTENT -> TERMINAL   `[DONE]`, `message_stop`, or a clean end where that is enough
    PLAIN -> TERMINAL  a whole plain 2xx                every phase but TERMINAL -> FAILED
"""

from collections.abc import Callable

from proxy.core import beginnings, outcomes, passthrough
from proxy.core.allowance import Allowance
from proxy.core.entities import TerminalRule, Wire
from proxy.core.http1 import ResponseParser
from proxy.core.metering import MAIN_RUN, UNREAD_BYTES_PER_TOKEN, Meter
from proxy.core.outcomes import Expectation, Failure, FailureKind, Phase
from proxy.core.response_head import Framing, FramingError, ResponseHead
from proxy.core.sse import EventSplitter
from proxy.core.stream_events import StreamEvents
from proxy.core.usage import UsageTally
from proxy.core.whole_chunks import events_in_chunks

__all__ = ["UNLIMITED", "Exchange", "Expectation", "Failure", "FailureKind", "Phase"]

PREAMBLE_BYTES_MAX = 1 << 20
BACKLOG_BYTES_MAX = 4 << 20
LESSON_BYTES_MAX = 2_048
"""The longest event that is kept until the next one comes, which may be like it."""
FOREIGN_READS_MAX = 4
"""Reads that did not begin with a canonical chunk of one event, before no more is tried as such."""
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
_FINISH_REASON = TerminalRule.FINISH_REASON
_CHAT = Wire.CHAT
_CHUNKED = Framing.CHUNKED


class Exchange(StreamEvents):
    """One attempt at one upstream; see the module docstring.

    `receive` returns body bytes to write (whole events, without chunk framing) and moves
    `phase`. `meter` and `tally` hold what was delivered and what was reported. `shown` stays
    True from the content point or the terminal event on, also when the exchange fails later.
    """

    __slots__ = (
        "_aligned", "_allowance", "_backlog", "_backlog_bytes", "_beginning", "_body", "_ended",
        "_expecting", "_foreign", "_lesson", "_parser", "_passage", "_splitter", "_verbatim",
        "at_edge", "held", "plain_bytes", "tokens_allowed", "upper",
    )  # fmt: skip

    def __init__(
        self,
        expect: Expectation,
        meter: Meter,
        tally: UsageTally,
        tokens_allowed: int = UNLIMITED,
        unsent: Callable[[], int] = int,  # nothing
    ) -> None:
        super().__init__(expect, meter, tally)
        look = self._look
        self.held = self._lesson = self._beginning = b""
        self.at_edge = self._aligned = self._verbatim = self._ended = self._expecting = False
        self.upper = self.plain_bytes = self._backlog_bytes = self._foreign = 0
        self.tokens_allowed = tokens_allowed
        self._passage = passthrough.Passage(look.take, look.lessons)
        self._parser = ResponseParser()
        self._splitter = EventSplitter(look.event_bytes_max or expect.event_bytes_max)
        self._body: list[bytes] = []
        self._backlog: list[tuple[bytes, bool]] = []
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
        if self._passage.sizes:
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

    def progress(self) -> int:
        """Return a number that grows when anything was received, and only then; cheap."""
        return self._meter.taken + len(self._passage.sizes) + self.plain_bytes

    def splice(
        self, forward: Callable[[bytes], object], otherwise: Callable[[bytes], object]
    ) -> Callable[[bytes], object] | None:
        """Return what takes reads from now on, in place of `receive`; None: nothing else may.

        It gives those that may be written on as they are to `forward`, all others to `otherwise`,
        which asks `ordinary` of them.
        """
        passage = self._passage
        passage.forward, passage.otherwise = forward, otherwise
        return passage.receive

    def passes(self, data: bytes) -> bool:
        """Whether a read may be written on as it is; metered already."""
        return self._passage.passes(data)

    @property
    def reusable(self) -> bool:
        """Whether the connection may carry another request."""
        return self._parser.reusable

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
        if not self._verbatim or len(self._finished) >= self._expect.choices:
            return 0
        reason = data.find(_REASON)
        if 0 <= reason < data.find(b"\n\n") and data[reason + len(_REASON)] != _QUOTE:
            return 0  # a stream's end: it would be decoded here and by `receive` once more
        self._drain()
        meter, passage, allowance = self._meter, self._passage, self._allowance
        if not allowance.covers(len(data), len(data)):
            if not allowance.stale:
                return 0
            # Fewer tokens than they could have been: more may pass.
            self.upper = allowance.count(self.tokens_allowed)
            if not allowance.covers(len(data), len(data)):
                return 0
        if self._lesson and self.learn() and passage.passes(data):
            return len(data)
        taken, events = passage.look(data, meter)
        self._events += events
        passage.grant(allowance.room)
        return taken

    def learn(self) -> bool:
        """Take the event that was looked at last for the pattern of those to come, if it may be.

        It was decoded already, so that this saves decoding the one after it. Changes nothing of
        what passes or is counted; best done when nobody waits for it.
        """
        lesson, beginning = self._lesson, self._beginning
        self._lesson = self._beginning = b""
        if not (self._verbatim and lesson and lesson.find(_ROLE) < 0):
            return False
        passage = self._passage
        passage.learn(lesson, self._meter)
        passage.grant(self._allowance.room)
        if beginning and self._expect.wire is _CHAT:  # in another form it may say something
            beginnings.learn(beginning, passage)
        return True

    def _stop_passing(self) -> None:
        self._passage.close()
        self._drain()

    def _drain(self) -> None:
        """Meter what has passed by the pattern."""
        self._events += self._passage.drain(self._meter)

    def receive(self, data: bytes) -> bytes:
        """Take bytes off the wire; return whole events to forward, b"" while there are none."""
        if self._verbatim:  # only then anything passes
            self._stop_passing()
        if self.over:
            self.finish(data)
            return b""
        parser, out = self._parser, b""
        fault: FramingError | None = None
        try:
            if self.phase is _HEAD:
                data = parser.receive_head(data)
                if parser.head is None:
                    return b""
                self._receive_head(parser.head)
            if self._aligned and data:
                if self.phase is _PREAMBLE and self._expect.wire is _CHAT:
                    out, data = self._receive_beginning(data)
                    if not data:
                        return out
                out, taken = self._receive_chunks(data)
                if taken == len(data):
                    self._verbatim = self.phase is _CONTENT and self._expect.verbatim
                    return out
                data = data[taken:]
            body = parser.receive(data)
        except FramingError as error:
            body, fault = error.body, error
        if self.phase is _PLAIN:
            self._receive_plain(body)
        elif self.phase is not _HEAD and not self.over:
            if body:
                out += self._receive_events(self._splitter.receive(body))
            if parser.complete and not self._backlog and not self.over:
                out += self._receive_end()
        if fault is not None and not self.over:
            self._fail(Failure(FailureKind.FRAMING, str(fault)))
        self._align()
        return out

    def receive_eof(self) -> bytes:
        """Take the end of the connection; return what may still be forwarded."""
        self._stop_passing()
        self._verbatim = self._aligned = False
        if self.over:
            return b""
        self._ended = True
        return b"" if self._backlog else self._receive_closed()

    def allow(self, tokens_allowed: int) -> bytes:
        """Move the edge of the hold to `tokens_allowed` output tokens; return what now passes."""
        self._drain()
        self.tokens_allowed = tokens_allowed
        if self.over:
            return b""
        self.upper = self._allowance.count(tokens_allowed)
        if not self._backlog:  # in time, as nearly always: the pattern goes on with more room
            self._passage.grant(self._allowance.room)
            return b""
        self._passage.close()
        self.at_edge = False
        backlog, self._backlog, self._backlog_bytes = self._backlog, [], 0
        out = self._receive_events(backlog)
        if not self._backlog:
            if self._ended:
                out += self._receive_closed()
            elif self._parser.complete:
                out += self._receive_end()
        self._align()
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
        if self._expect.stream and outcomes.streams(head):  # nearly every stream
            self.phase = _PREAMBLE
            self._aligned = head.framing is _CHUNKED
            return
        failure = outcomes.compressed(head) if "content-encoding" in head.noted else None
        if failure is not None:
            self._fail(failure)
        elif self._expect.stream and outcomes.is_good(head) and outcomes.is_event_stream(head):
            self.phase = _PREAMBLE
            self._aligned = head.framing is _CHUNKED
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
            self.phase, self.over = _TERMINAL, True
        else:
            self._fail(failure)

    def finish(self, data: bytes) -> bool | None:
        """Take what follows the end (b"": nothing yet); see `ResponseParser.outlook`."""
        if data and self.phase is _FAILED:
            self._parser.excess = True
        elif data:
            self._parser.receive_rest(data)
        outlook = self._parser.outlook()
        return outlook if self.phase is _TERMINAL else outlook is True

    def _align(self) -> None:
        """Find out whether what comes next may be taken by the chunk, or passed unopened."""
        whole = (
            self.phase is not _PLAIN
            and self._parser.between_chunks
            and self._splitter.idle
            and not self._backlog
        )
        self._aligned = whole and self._foreign < FOREIGN_READS_MAX
        self._verbatim = whole and self.phase is _CONTENT and self._expect.verbatim

    def _receive_beginning(self, data: bytes) -> tuple[bytes, bytes]:
        """Take what other streams like this one began with, as `_receive_chunks` would.

        Returns what passes, which is the first content or nothing, and what is left of `data`.
        """
        meter, passage = self._meter, self._passage
        if not self._expecting:
            found = beginnings.begun(data)
            # What is more than a preamble may be is refused where all others are.
            if found is None or len(self.held) + len(found[0]) > PREAMBLE_BYTES_MAX:
                return b"", data
            event, own, pattern, data = found
            self._beginning = event
            self.held += event
            self._events += 1
            meter.add("", len(event))
            if not self._expect.verbatim:
                return b"", data
            passage.expect(own, pattern, MAIN_RUN)
            self._expecting = True
            if not data:
                return b"", b""
        self._expecting = False
        passage.grant(self._allowance.room)
        content = passage.first(data)
        if content is None:
            return b"", data
        self._beginning = b""  # no news
        event, text = content
        meter.add(text, len(event))
        self._events += 1
        self.phase = _CONTENT
        self.shown = self._verbatim = True
        return event, b""

    def _receive_chunks(self, data: bytes) -> tuple[bytes, int]:
        """Look at the whole events that `data` begins with, each in a chunk of its own.

        As parser, splitter and `_receive_events` would, in one go, as far as the hold covers them
        for certain. For a read that begins a chunk and an event. Returns what passes, and how many
        bytes of `data` that was; the rest is theirs.
        """
        events = events_in_chunks(data, self._splitter.event_bytes_max)
        if not events:
            self._foreign += 1
            return b"", 0
        out: list[bytes] = []
        see, taken, last = self._see, 0, b""
        covers = self._allowance.covers
        covered = covers(len(data), _TEXT_PER_BYTE_MAX * len(data))
        for event, payload, end in events:
            if not (covered or covers(len(event), _TEXT_PER_BYTE_MAX * len(event))):
                break
            name, said = "", payload
            if said is None:
                name, said = self._read(event)
            out.append(see(event, name, said))
            taken, last = end, event
            if self.phase is _PREAMBLE:
                self._beginning = event
            elif self.over:
                break
        if last:
            self._lesson = last if len(last) <= LESSON_BYTES_MAX else b""
        return self._passed(out), taken

    def _receive_events(self, spans: list[tuple[bytes, bool]]) -> bytes:
        """Look at each event in turn; a flat loop because a read may hold many."""
        out: list[bytes] = []
        see = self._see
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
                name, data = self._read(event)
                passed = see(event, name, data)
                self._lesson = event if size <= LESSON_BYTES_MAX else b""
            elif self._look.event_bytes_max:
                passed = self._fail(outcomes.too_large("an event of its stream"))
            else:
                # Part of an event too large to hold: it counts as content, by its weight.
                self._content_point()
                self._meter.add_unread(size)
                passed = event
            out.append(passed)
        return self._passed(out)

    def _passed(self, out: list[bytes]) -> bytes:
        """Return what of the events that were looked at is to be shown now; keep the preamble."""
        passed = out[0] if len(out) == 1 else b"".join(out)
        if self.phase is _PREAMBLE:
            self.held += passed
            if len(self.held) > max(PREAMBLE_BYTES_MAX, 2 * self._look.event_bytes_max):
                self._fail(outcomes.too_large("a preamble without content"))
        return passed if self.shown else b""

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
