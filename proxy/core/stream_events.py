"""What the events of one stream mean: what they say, whether they are content, and the last.

Rules: each event is seen once, in order, and returned as it may be shown: usage nobody asked for is
left out, the terminal event is held until its charge is committed, an error's bytes never pass.
This module must not know framing, the hold, or how an event came (core/exchange.py).
"""

from collections.abc import Callable

from proxy.core import outcomes
from proxy.core.deltas import (
    ANTHROPIC_GARBAGE,
    FINISH_REASON_CHARACTERS_MAX,
    OPENAI_GARBAGE,
    anthropic_event,
    anthropic_runs,
    has_other_content,
    is_set,
    openai_delta,
    openai_first,
    openai_runs,
)
from proxy.core.entities import Wire
from proxy.core.looks import LOOKS
from proxy.core.metering import Meter
from proxy.core.outcomes import Expectation, Failure, Phase
from proxy.core.sse import BYTE_ORDER_MARK, fields
from proxy.core.usage import UsageTally

# On Python 3.11 a member of an enum costs as much as ten globals.
_HEAD, _PLAIN, _PREAMBLE, _CONTENT, _TERMINAL, _FAILED = Phase
_CHAT, _MESSAGES = Wire.CHAT, Wire.MESSAGES


class StreamEvents:
    """The events of one attempt, and what they have come to; see the module docstring.

    `_meter` and `tally` hold what was delivered and what was reported. `shown` stays True from the
    content point or the terminal event on, also when the stream fails later. `over`: nothing more
    will come. An attribute, because a call asks for it a dozen times.
    """

    __slots__ = (
        "_events", "_expect", "_finished", "_look", "_meter", "answer_id", "failure",
        "finish_reason", "garbage", "has_id", "over", "phase", "shown", "tally", "terminal",
    )  # fmt: skip

    def __init__(self, expect: Expectation, meter: Meter, tally: UsageTally) -> None:
        self.phase = _HEAD
        self.tally = tally
        self.failure: Failure | None = None
        self.finish_reason: str | None = None
        self.terminal = b""
        self.answer_id = ""
        self.has_id = self.shown = self.over = False
        self.garbage = self._events = 0
        self._expect = expect
        self._look = LOOKS[expect.wire](expect)
        self._meter = meter
        self._finished: frozenset[int] = frozenset()

    @property
    def finishing(self) -> bool:
        """Whether a finish reason was seen: usage may follow within moments."""
        return self.finish_reason is not None

    @property
    def _see(self) -> Callable[[bytes, str, bytes | None], bytes]:
        """What looks at one event, given with its name and data."""
        wire = self._expect.wire
        if wire is _CHAT:
            return self._see_openai
        return self._see_anthropic if wire is _MESSAGES else self._see_any

    def _content_point(self) -> None:
        if self.phase is _PREAMBLE:
            self.phase = _CONTENT
            self.shown = True

    def _terminate(self, event: bytes) -> bytes:
        self.phase = _TERMINAL
        self.shown = self.over = True
        self.terminal = event
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

    def _see_openai(self, event: bytes, _name: str, data: bytes | None) -> bytes:
        meter, size = self._meter, len(event)
        if data is None:
            meter.add("", size)
            return event
        if data[:6] == b"[DONE]":
            return self._terminate(event)
        if self.phase is _PREAMBLE:
            chunk, read = openai_first(data)
            if meter.add_openai(chunk, size):
                if meter.last or (not read and has_other_content(data)):
                    self.phase, self.shown = _CONTENT, True
                self._events += 1
                return event
        else:
            chunk = openai_delta(data)
            if meter.add_openai(chunk, size):
                self._events += 1
                return event
        if chunk is OPENAI_GARBAGE:
            self.garbage += 1
            meter.add("", size)
            return event
        if is_set(chunk.error):
            # Its bytes never pass: they may quote the operator's key. The caller is told by us.
            return self._fail(outcomes.error_event(data))
        if chunk.usage is not None:
            self.tally.openai(chunk.usage)
            if self._expect.strip_usage and not chunk.choices:
                return b""
        shown = meter.add_runs(list(openai_runs(chunk)), size)
        for choice in chunk.choices:
            if choice.finish_reason:
                self._finish(choice.index, choice.finish_reason)
                shown = True
        if shown or (self.phase is _PREAMBLE and has_other_content(data)):
            self._content_point()
        self._events += 1
        return event

    def _see_anthropic(self, event: bytes, name: str, data: bytes | None) -> bytes:
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

    def _see_any(self, event: bytes, name: str, data: bytes | None) -> bytes:
        """The same for a form whose look says itself what an event means."""
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

    def _fail(self, failure: Failure) -> bytes:
        self.phase, self.failure, self.over = _FAILED, failure, True
        return b""
