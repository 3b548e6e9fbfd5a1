"""The engine of a service call: one upstream answer passed on as it comes, but for its last byte.

Rules: bytes are neither changed nor kept; the last one is held (`terminal`) until its charge is
committed, of a stream of events the last of its last event. Nothing is shown until it can no
longer be an error in disguise: a JSON answer of some size, or whole; anything else with its first
byte. A stream that ends without its last event, and JSON that ends before it is whole, were
truncated, whatever their framing says. This module must not know sockets, money, or what was
asked for.
"""

from collections.abc import Callable
from typing import Final

from proxy.core import outcomes
from proxy.core.http1 import ResponseParser
from proxy.core.outcomes import Failure, FailureKind, Phase
from proxy.core.response_head import FramingError, ResponseHead
from proxy.core.services.answers import open_answer
from proxy.core.services.service import AnswerReader, Measured
from proxy.core.sse import EventSplitter

EARLY_BYTES_MAX: Final = 65_536
"""What of a JSON answer is looked at before any of it is shown."""
EVENT_BYTES_MAX: Final = 65_536
"""An event up to this size is looked at before it passes; a larger one passes in parts."""
_UNLIMITED: Final = 1 << 62
_ANY_KIND: Final = frozenset({"speech", "transcriptions", "translations"})
"""Endpoints that may answer with sound or plain text; the others with JSON or events alone."""
_HEAD, _PLAIN, _PREAMBLE, _CONTENT, _TERMINAL, _FAILED = Phase
_DONE: Final = b"data: [DONE]"


class Delivery:
    """One attempt's answer; see the module docstring.

    `receive` returns body bytes to write and moves `phase`: HEAD, then PLAIN for an error's body,
    or PREAMBLE until the answer is shown and CONTENT after it; TERMINAL or FAILED. `uploaded` is
    how much of the request has been taken by the network, for whoever watches for progress.
    """

    __slots__ = (
        "_early", "_early_bytes", "_endpoint", "_is_json", "_parser", "_passed",
        "_reader", "_received", "_splitter", "_terminal_seen", "at_edge", "failure", "held",
        "is_events", "phase", "shown", "terminal", "tokens_allowed", "uploaded", "upper",
    )  # fmt: skip

    def __init__(self, endpoint: str) -> None:
        self.phase = _HEAD
        self.failure: Failure | None = None
        self.shown = False
        self.terminal = b""
        self.uploaded = 0
        self.is_events = False
        # No hold is watched: a service call holds all it may cost.
        self.upper = 0
        self.at_edge = False
        self.tokens_allowed = _UNLIMITED
        self.held = b""
        self._endpoint = endpoint
        self._parser = ResponseParser()
        self._reader: AnswerReader | None = None
        self._splitter = EventSplitter(EVENT_BYTES_MAX)
        self._is_json = False
        self._terminal_seen = False
        self._early: list[bytes] = []
        self._early_bytes = 0
        self._received = 0
        self._passed = 0

    @property
    def head(self) -> ResponseHead | None:
        """The response head, once it is whole."""
        return self._parser.head

    def progress(self) -> int:
        """Return a number that grows when anything was received or sent, and only then."""
        return self._received + self.uploaded

    @property
    def passed_bytes(self) -> int:
        """Body bytes that were passed on, without the last."""
        return self._passed

    @property
    def over(self) -> bool:
        """Whether nothing more will come."""
        return self.phase is _TERMINAL or self.phase is _FAILED

    @property
    def reusable(self) -> bool:
        """Whether the connection may carry another request."""
        return self._parser.reusable

    def splice(
        self,
        forward: Callable[[bytes], object],  # noqa: ARG002 - every byte is looked at
        otherwise: Callable[[bytes], object],  # noqa: ARG002 - likewise
    ) -> None:
        """Return what takes reads that may be written on as they are: none may."""
        return

    @property
    def measured(self) -> Measured:
        """What the answer has said of itself so far."""
        return Measured() if self._reader is None else self._reader.finish()

    def ordinary(self, data: bytes) -> int:  # noqa: ARG002 - every byte is looked at
        """How many leading bytes of a read may be written on as they are: none."""
        return 0

    def allow(self, tokens_allowed: int) -> bytes:  # noqa: ARG002 - nothing waits for a hold
        """Move the edge of the hold, which there is none of."""
        return b""

    def receive(self, data: bytes) -> bytes:
        """Take bytes off the wire; return what to forward."""
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
        out = self._receive_body(body)
        if self._parser.complete and not self.over:
            out += self._receive_end()
        if fault is not None and not self.over:
            self.reject(Failure(FailureKind.FRAMING, str(fault)))
        self._passed += len(out)
        return out

    def receive_eof(self) -> bytes:
        """Take the end of the connection; return what may still be forwarded."""
        if self.over:
            return b""
        if self._parser.receive_eof():
            out = self._receive_end()
            self._passed += len(out)
            return out
        self.reject(outcomes.truncated("the upstream closed before its answer was complete"))
        return b""

    def finish(self, data: bytes) -> bool | None:
        """Take what follows the end (b"": nothing yet); see `ResponseParser.outlook`."""
        if data and self.phase is _FAILED:
            self._parser.excess = True
        elif data:
            self._parser.receive_rest(data)
        outlook = self._parser.outlook()
        return outlook if self.phase is _TERMINAL else outlook is True

    def reject(self, failure: Failure) -> None:
        """End in `failure`."""
        self.phase = _FAILED
        self.failure = failure
        self._early.clear()

    def _receive_head(self, head: ResponseHead) -> None:
        failure = outcomes.compressed(head)
        if failure is not None:
            self.reject(failure)
            return
        if not outcomes.is_good(head):
            self.phase = _PLAIN
            return
        self.phase = _PREAMBLE
        kind = (head.header("content-type") or "").partition(";")[0].strip().lower()
        json_only = self._endpoint not in _ANY_KIND
        if not kind and json_only:
            kind = "application/json"
        self.is_events = kind == "text/event-stream"
        self._is_json = kind == "application/json" or kind.endswith("+json")
        if kind == "text/html" or (json_only and not self._is_json and not self.is_events):
            what = f"the upstream answered with {kind[:64]}"
            self.reject(Failure(FailureKind.UNEXPECTED_ANSWER, what))
            return
        self._reader = open_answer(self._endpoint, kind)

    def _receive_body(self, body: bytes) -> bytes:
        self._received += len(body)
        if self.over or not body:
            return b""
        if self.phase is _PLAIN:
            room = outcomes.ERROR_BODY_BYTES_MAX - self._early_bytes
            self._early.append(body[: max(0, room)])
            self._early_bytes += len(body)
            return b""
        if self.is_events:
            return self._receive_events(self._splitter.receive(body))
        self._read(body)
        if self.shown:
            return self._all_but_last(body)
        self._early.append(body)
        self._early_bytes += len(body)
        if self._is_json and self._early_bytes <= EARLY_BYTES_MAX:
            return b""
        return self._show()

    def _receive_events(self, spans: list[tuple[bytes, bool]]) -> bytes:
        """Look at each event, or part of a large one, before it passes."""
        out: list[bytes] = []
        last = len(spans) - 1
        for position, (event, _) in enumerate(spans):
            is_part = position == last and self._splitter.oversized
            out.append(self._receive_event(event, ended=not is_part))
            if self.over:
                break
        return b"".join(out)

    def _receive_event(self, event: bytes, *, ended: bool) -> bytes:
        self._read(event)
        measured = self.measured
        if measured.error:
            # Its bytes never pass: they may quote the operator's key. The caller is told by us.
            self.reject(outcomes.error_event(event.partition(b"data:")[2].strip()))
            return b""
        if not self.shown and event.startswith(b":"):
            return b""  # A comment is no content, and what is not content is not shown.
        self._show()
        is_last = event.replace(b"data:[", b"data: [", 1).startswith(_DONE)
        if ended and (measured.terminal or is_last):
            self._terminal_seen = True
        return self._all_but_last(event) if self._terminal_seen else event

    def _receive_end(self) -> bytes:
        """The body ended by its own framing."""
        head = self._parser.head
        if head is None:
            raise AssertionError("the end of an answer without a head")
        if self.phase is _PLAIN:
            self.reject(_refused(head, b"".join(self._early)))
            return b""
        out = b""
        if self.is_events:
            rest, _ = self._splitter.receive_eof()
            out = self._receive_event(rest, ended=True) if rest else b""
            if self.over:
                return b""
            if not self._terminal_seen:
                how = "the upstream ended its stream without a terminal event"
                self.reject(outcomes.truncated(how))
                return out
        elif not self.shown:
            failure = self._judge()
            if failure is not None:
                self.reject(failure)
                return b""
            out = self._show()
        elif self._is_json and not self.measured.readable:
            # Framing that ends does not make half an object whole; its last byte stays here.
            self.reject(outcomes.truncated("the upstream's answer ended inside its JSON"))
            return b""
        self.phase = _TERMINAL
        return out

    def _judge(self) -> Failure | None:
        """Judge a whole answer that nobody has seen yet; None if it is one."""
        if not self._early_bytes:
            return Failure(FailureKind.UNEXPECTED_ANSWER, "the upstream's answer is empty")
        measured = self.measured
        if not measured.error and (measured.readable or not self._is_json):
            return None
        kind = FailureKind.ERROR_EVENT if measured.error else FailureKind.UNEXPECTED_ANSWER
        return Failure(kind, "a plain answer without content", body=b"".join(self._early))

    def _show(self) -> bytes:
        """Reach the content point: return what was held back until now."""
        if self.shown:
            return b""
        self.shown = True
        self.phase = _CONTENT
        early = b"".join(self._early)
        self._early.clear()
        return self._all_but_last(early)

    def _all_but_last(self, piece: bytes) -> bytes:
        """Return what may pass when `piece` has come: its last byte waits."""
        if not piece:
            return b""
        before, self.terminal = self.terminal, piece[-1:]
        return before + piece[:-1]

    def _read(self, piece: bytes) -> None:
        if self._reader is None:
            raise AssertionError("content before a head")
        self._reader.feed(piece)


def _refused(head: ResponseHead, body: bytes) -> Failure:
    failure = outcomes.plain(head, body, stream=False, whole=True)
    if failure is None:
        raise AssertionError("a good answer was refused")
    return failure
