"""An answer on its way into the caller's dialect, where its upstream speaks another one.

Rules: the exchange reads, meters and bills what the upstream sent; what leaves is translated, so
bytes that have not reached the client are told back in the upstream's own. A channel that serves
the caller's own wire form is always preferred: only there events pass byte for byte. This module
must not know money, sockets or channels' order.
"""

import re
from collections import deque
from typing import Final, Protocol

from proxy.core.catalog import spoken
from proxy.core.entities import WIRE_ENDPOINTS, Channel
from proxy.core.errors import ErrorCode, RelayError
from proxy.core.exchange import Exchange
from proxy.core.requests import CallRequest
from proxy.core.translation.conversation import Failed
from proxy.core.translation.responses_writer import EventWriter
from proxy.core.translation.translator import NOTHING_ASKED, Translator
from proxy.edge.offer import Offer

REMEMBERED_BYTES_MAX: Final = 4 << 20
"""Of translated events, the newest: more than a client's socket and our buffer hold."""
NAMES_SHOWN_MAX: Final = 20
_NAME: Final = re.compile(r"[A-Za-z0-9_.-]{1,64}")


class Carrier(Protocol):
    """Who carries an answer's events on to the caller; `Translation` is one."""

    @property
    def failure(self) -> str | None:
        """Why the answer cannot be carried further, once that is so."""

    @property
    def last(self) -> bytes:
        """What waits for the bill: the last event, or the whole of a plain answer."""

    def request(self, body: bytes, offer: Offer, model: str) -> bytes:
        """The upstream's request. Raises RelayError 400."""

    def feed(self, events: bytes) -> bytes:
        """Whole events of the upstream, as the caller's."""

    def unsent(self, client_bytes: int) -> int:
        """How many of the upstream's bytes the newest `client_bytes` of output stand for."""

    def conclude(self, exchange: Exchange) -> bytes:
        """End the answer. Raises RelayError 502."""

    def fail(self, error: RelayError, *, anew: bool) -> bytes:
        """The caller's last event in place of the end."""

    def header(self) -> list[tuple[str, str]]:
        """Say what of the request the upstream was not told."""


def native(request: CallRequest, channel: Channel) -> bool:
    """Whether `channel` serves the caller's wire form, so that events pass byte for byte."""
    return WIRE_ENDPOINTS[request.wire] in channel.endpoints


class Stretches:
    """How much of the upstream's each stretch of what was made of it stands for."""

    __slots__ = ("_sizes", "_total")

    def __init__(self) -> None:
        self._sizes: deque[tuple[int, int]] = deque()
        self._total = 0

    def add(self, read: int, written: int) -> None:
        """So many bytes of the upstream's became so many of the caller's."""
        self._sizes.append((read, written))
        self._total += written
        while self._total > REMEMBERED_BYTES_MAX:
            self._total -= self._sizes.popleft()[1]

    def unsent(self, client_bytes: int) -> int:
        """How many of the upstream's bytes the newest `client_bytes` of output stand for."""
        upstream_bytes = 0
        for read, written in reversed(self._sizes):
            if client_bytes <= 0:
                break
            client_bytes -= written
            upstream_bytes += read
        return upstream_bytes


class Translation:
    """One attempt's translator. `left_out`: what the upstream's request could not say."""

    __slots__ = ("_failing", "_last", "_stretches", "_translator", "left_out")

    def __init__(self, offer: Offer, channel: Channel, created: int) -> None:
        request = offer.request
        self.left_out: tuple[str, ...] = ()
        self._last: bytes | None = None
        self._failing = b""
        self._translator = Translator(
            request.wire,
            spoken(channel, request.wire),
            created,
            include_usage=request.include_usage,
        )
        self._stretches = Stretches()

    @property
    def failure(self) -> str | None:
        """Why the answer cannot be carried further, once that is so."""
        failure = self._translator.failure
        return None if failure is None else failure.message

    def request(self, body: bytes, offer: Offer, model: str) -> bytes:
        """The upstream's request. Raises RelayError 400."""
        written, self.left_out = self._translator.request(
            body,
            model=model,
            output_tokens_max=offer.output_limit,
            limit=offer.model.output_tokens_max,
            stream=offer.request.stream,
        )
        return written

    def feed(self, events: bytes) -> bytes:
        """Whole events of the upstream, as the caller's; nothing with a failure nor after it."""
        out = self._translator.feed(events)
        if self._translator.failure is not None:
            self._failing += out
            return b""
        self._stretches.add(len(events), len(out))
        return out

    def unsent(self, client_bytes: int) -> int:
        """How many of the upstream's bytes the newest `client_bytes` of output stand for."""
        return self._stretches.unsent(client_bytes)

    def conclude(self, exchange: Exchange) -> bytes:
        """End the answer: what a stream's caller is told before the end, which is then in `last`.

        Raises RelayError 502 for an answer that cannot be carried over.
        """
        translator = self._translator
        if exchange.plain_bytes:
            self._last = translator.answer(exchange.body)
            return b""
        out = translator.finish(exchange.terminal)
        if translator.failure is not None:
            self._failing += out
            raise RelayError(ErrorCode.UPSTREAM_ERROR, translator.failure.message)
        return out

    @property
    def last(self) -> bytes:
        """What waits for the bill: the last event, or the whole of a plain answer."""
        if self._last is None:
            self._last = self._translator.end()
        return self._last

    def fail(self, error: RelayError, *, anew: bool) -> bytes:
        """The caller's last event in place of the end; `anew`: nothing else has reached it."""
        if self._failing and not anew:
            return self._failing
        row = error.code.value
        failure = Failed(row.openai_type, error.message, row.code)
        return self._translator.fail(failure, anew=anew)

    def header(self) -> list[tuple[str, str]]:
        """Say what of the request the upstream was not told; no row if it was told all."""
        names = [name if _NAME.fullmatch(name) else "(other)" for name in self.left_out]
        if not names:
            return []
        return [("x-sluice-left-out", ", ".join(dict.fromkeys(names[:NAMES_SHOWN_MAX])))]


def failed_natively(
    error: RelayError, model: str, created: int, shown: tuple[str, int] | None
) -> bytes:
    """The last event of a Responses stream that passed as it came and does not go on.

    `shown`: its id and how many of its events have reached the caller; None: none have.
    """
    writer = EventWriter(created, NOTHING_ASKED)
    if shown is not None:
        answer_id, events = shown
        writer.resume(answer_id, model, events)
    row = error.code.value
    return writer.write(Failed(row.openai_type, error.message, row.code))


def check(offer: Offer, body: bytes) -> None:
    """Refuse, before anything is held, a call that no channel's dialect can say.

    Raises RelayError 400.
    """
    channel = offer.channels[0]
    if not native(offer.request, channel):
        Translation(offer, channel, 0).request(body, offer, channel.models[offer.model.name])
