"""The engine of a plain call: one whole answer, kept until it can be billed and sent.

Rules: judges as `Exchange` does, whose plain phases these are, without what a stream needs: nothing
is metered, shown in parts or held back, so that most of an exchange would be made for nobody. This
module must not know sockets, clocks, money or who is asking.
"""

from collections.abc import Callable
from typing import Final

from proxy.core import outcomes
from proxy.core.exchange import UNLIMITED, Exchange, Expectation, Phase
from proxy.core.http1 import ResponseParser, whole_response
from proxy.core.metering import Meter
from proxy.core.outcomes import Failure, FailureKind
from proxy.core.response_head import FramingError, ResponseHead
from proxy.core.usage import UsageTally

# On Python 3.11 a member of an enum costs as much as ten globals.
_HEAD: Final = Phase.HEAD
_PLAIN: Final = Phase.PLAIN
_TERMINAL: Final = Phase.TERMINAL

_NO_PARSER: Final = ResponseParser()
"""Of an answer that nobody has had to parse, and of most never has: it is given nothing."""
_NO_METER: Final = Meter(len)
_NO_TALLY: Final = UsageTally()
"""What a plain answer reports is read from its body, so nobody ever writes into this one."""


class PlainExchange(Exchange):
    """One attempt at one upstream whose answer is wanted whole; see `Exchange`."""

    __slots__ = ("_excess", "head")

    # What only a stream has; of the class, so that no instance has to be told.
    tally = _NO_TALLY
    held = terminal = b""
    finish_reason = None
    answer_id = ""
    at_edge = has_id = shown = False
    upper = 0

    def __init__(self, expect: Expectation) -> None:  # none of the base's parts is needed
        self.phase = _HEAD
        self.over = False
        self.failure = None
        self.plain_bytes = 0
        self.tokens_allowed = UNLIMITED
        self._expect = expect
        self.head: ResponseHead | None = None
        """The response head, once it is whole."""
        self._excess = False
        """Bytes nobody asked for came behind an answer that needed no parser."""
        self._parser = _NO_PARSER
        self._body = []

    @property
    def meter(self) -> Meter:
        """Nothing is metered."""
        return _NO_METER

    @property
    def wire_bytes(self) -> int:
        """Nothing has passed before the end."""
        return 0

    @property
    def events(self) -> int:
        """There are none."""
        return 0

    def progress(self) -> int:
        """Return a number that grows when anything was received, and only then."""
        return self.plain_bytes

    def splice(
        self,
        forward: Callable[[bytes], object],  # noqa: ARG002 - nothing is forwarded
        otherwise: Callable[[bytes], object],  # noqa: ARG002 - likewise
    ) -> None:
        """Nothing passes before it was read."""
        return

    def passes(self, data: bytes) -> bool:  # noqa: ARG002 - nothing does
        """Nothing passes before it was read."""
        return False

    @property
    def in_event(self) -> bool:
        """There is no event to be in."""
        return False

    def ordinary(self, data: bytes) -> int:  # noqa: ARG002 - nothing is
        """Nothing passes before it was read."""
        return 0

    def receive(self, data: bytes) -> bytes:
        """Take bytes off the wire; there is never anything to forward."""
        if self.over:
            self.finish(data)
            return b""
        parser = self._parser
        if parser is _NO_PARSER:
            if len(data) <= outcomes.RESPONSE_BYTES_MAX:
                whole = whole_response(data)
                if whole is not None:  # nearly always
                    self.head, body = whole
                    self._body.append(body)
                    self.plain_bytes = len(body)
                    self.phase, self.over = _TERMINAL, True
                    return b""
            parser = self._parser = ResponseParser()
        first = self.phase is _HEAD
        fault: FramingError | None = None
        try:
            body = parser.receive(data)
        except FramingError as error:
            body, fault = error.body, error
        head = self.head = parser.head
        if head is None:
            pass
        elif first and (failure := outcomes.compressed(head)) is not None:
            self._fail(failure)
        else:
            self.phase = _PLAIN
            self._receive_plain(body)
        if fault is not None and not self.over:
            self._fail(Failure(FailureKind.FRAMING, str(fault)))
        return b""

    def finish(self, data: bytes) -> bool | None:
        """Take what follows the end (b"": nothing yet); see `ResponseParser.outlook`."""
        if self._parser is not _NO_PARSER:
            return Exchange.finish(self, data)
        if data:
            self._excess = True
        head = self.head
        return head is not None and head.keep_alive and not self._excess

    @property
    def reusable(self) -> bool:
        """Whether the connection may carry another request."""
        if self._parser is not _NO_PARSER:
            return self._parser.reusable
        return self.finish(b"") is True

    def receive_eof(self) -> bytes:
        """Take the end of the connection."""
        return b"" if self.over else self._receive_closed()

    def allow(self, tokens_allowed: int) -> bytes:
        """Nothing waits for the hold to grow."""
        self.tokens_allowed = tokens_allowed
        return b""
