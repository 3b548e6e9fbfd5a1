"""An answer on its way into the caller's dialect, where its upstream speaks another one.

Rules: the exchange reads, meters and bills what the upstream sent; what leaves is translated, so
bytes that have not reached the client are told back in the upstream's own. A channel of the
caller's dialect is always preferred: only there events pass byte for byte. This module must not
know money, sockets or channels' order.
"""

import re
from collections import deque
from typing import Final

from proxy.core.entities import Channel, Dialect
from proxy.core.errors import ErrorCode, RelayError
from proxy.core.exchange import Exchange
from proxy.core.translation.conversation import Wire
from proxy.core.translation.translator import Translator
from proxy.edge.offer import Offer

WIRES: Final = {Dialect.OPENAI: Wire.CHAT, Dialect.ANTHROPIC: Wire.MESSAGES}
REMEMBERED_BYTES_MAX: Final = 4 << 20
"""Of translated events, the newest: more than a client's socket and our buffer hold."""
NAMES_SHOWN_MAX: Final = 20
_NAME: Final = re.compile(r"[A-Za-z0-9_.-]{1,64}")


class Translation:
    """One attempt's translator, and how much of the upstream's each stretch of output stands for.

    `left_out`: what the upstream's request could not say, for a response header.
    """

    __slots__ = ("_sizes", "_total", "_translator", "last", "left_out")

    def __init__(self, offer: Offer, channel: Channel, created: int) -> None:
        request = offer.request
        self.left_out: tuple[str, ...] = ()
        self.last = b""
        self._translator = Translator(
            WIRES[request.dialect],
            WIRES[channel.dialect],
            created,
            include_usage=request.include_usage,
        )
        self._sizes: deque[tuple[int, int]] = deque()
        self._total = 0

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
        )
        return written

    def feed(self, events: bytes) -> bytes:
        """Whole events of the upstream, as the caller's; nothing after a failure."""
        out = self._translator.feed(events)
        if self._translator.failure is not None:
            return b""
        self._sizes.append((len(events), len(out)))
        self._total += len(out)
        while self._total > REMEMBERED_BYTES_MAX:
            self._total -= self._sizes.popleft()[1]
        return out

    def unsent(self, client_bytes: int) -> int:
        """How many of the upstream's bytes the newest `client_bytes` of output stand for."""
        upstream_bytes = 0
        for read, written in reversed(self._sizes):
            if client_bytes <= 0:
                break
            client_bytes -= written
            upstream_bytes += read
        return upstream_bytes

    def conclude(self, exchange: Exchange) -> bytes:
        """End the answer: what a stream's caller is told before the end, which is then in `last`.

        `last` is what waits for the bill: the last event, or the whole of a plain answer. Raises
        RelayError 502 for an answer that cannot be carried over.
        """
        translator, out = self._translator, b""
        if exchange.plain_bytes:
            self.last = translator.answer(exchange.body)
            return b""
        out = translator.finish(exchange.terminal)
        self.last = translator.end()
        if translator.failure is not None:
            raise RelayError(ErrorCode.UPSTREAM_ERROR, translator.failure.message)
        return out

    def header(self) -> list[tuple[str, str]]:
        """Say what of the request the upstream was not told; no row if it was told all."""
        names = [name if _NAME.fullmatch(name) else "(other)" for name in self.left_out]
        if not names:
            return []
        return [("x-sluice-left-out", ", ".join(dict.fromkeys(names[:NAMES_SHOWN_MAX])))]


def check(offer: Offer, body: bytes) -> None:
    """Refuse, before anything is held, a call that no channel's dialect can say.

    Raises RelayError 400.
    """
    channel = offer.channels[0]
    if channel.dialect is not offer.request.dialect:
        Translation(offer, channel, 0).request(body, offer, channel.models[offer.model.name])
