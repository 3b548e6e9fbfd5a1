"""A conversation whose caller streams from Gemini's own endpoint without asking for events.

Rules: events become elements of an array after everything else was done to them, so that what
meters, bills and translates does not know of it; calls for events never come here. This module
must not know sockets, nor what is in an event.
"""

from proxy.core.entities import Channel
from proxy.core.errors import RelayError, error_event
from proxy.core.exchange import Exchange
from proxy.core.gemini_array import CONTENT_TYPE, ArrayFrames
from proxy.edge.attempt import Attempt
from proxy.edge.call import Call
from proxy.edge.downstream import Downstream
from proxy.edge.engines import request_body
from proxy.edge.offer import Offer
from proxy.edge.translation import Carrier, Stretches


class Array:
    """Carries one attempt's events into an array after `inner` has (None: the upstream's own).

    A `Carrier` of its own, for who forwards events.
    """

    __slots__ = ("_client", "_frames", "_stretches", "inner")

    def __init__(self, client: Downstream, inner: Carrier | None) -> None:
        self.inner = inner
        self._client = client
        self._frames = ArrayFrames()
        self._stretches = Stretches()

    @property
    def failure(self) -> str | None:
        """Why the answer cannot be carried further, once that is so."""
        return None if self.inner is None else self.inner.failure

    @property
    def last(self) -> bytes:
        """What waits for the bill: the last element, if it is not the upstream's, and the end."""
        return self._frames.end(b"" if self.inner is None else self.inner.last)

    def request(self, body: bytes, offer: Offer, model: str) -> bytes:
        """The upstream's request, where it is another one."""
        if self.inner is None:
            raise AssertionError("nothing is translated")
        return self.inner.request(body, offer, model)

    def feed(self, events: bytes) -> bytes:
        """Whole events of the upstream, as the caller gets them."""
        made = events if self.inner is None else self.inner.feed(events)
        out = self._frames.feed(made)
        self._stretches.add(len(made), len(out))
        return out

    def unsent(self, client_bytes: int) -> int:
        """How many of the upstream's bytes the newest `client_bytes` of output stand for."""
        waiting = self._stretches.unsent(client_bytes)
        return waiting if self.inner is None else self.inner.unsent(waiting)

    def conclude(self, exchange: Exchange) -> bytes:
        """End the answer: what a stream's caller is told before the end."""
        return b"" if self.inner is None else self._frames.feed(self.inner.conclude(exchange))

    def fail(self, error: RelayError, *, anew: bool) -> bytes:  # noqa: ARG002 - nothing is anew
        """The last element and the end of the array in place of the end."""
        client = self._client
        return self._frames.end(error_event(error, client.dialect, client.request_id))

    def header(self) -> list[tuple[str, str]]:
        """Say what of the request the upstream was not told."""
        return [] if self.inner is None else self.inner.header()


class ArrayCall(Call):
    """See the module docstring."""

    tells = True
    _array: Array | None = None

    def begin_attempt(self, channel: Channel, now: float) -> Attempt[Exchange]:
        """Make the attempt for `channel`, with its events going round here."""
        self.client.stream_type = CONTENT_TYPE
        attempt = super().begin_attempt(channel, now)
        attempt.translation = self._array = Array(self.client, attempt.translation)
        return attempt

    def upstream_body(self, channel: Channel) -> bytes:
        """Return what the attempt in flight sends. Raises RelayError 400."""
        inner = None if self._array is None else self._array.inner
        return request_body(self.offer, self.body, channel, inner, omit_usage=self.omits_usage)

    def in_band(self, error: RelayError) -> bytes | None:
        """Return the last element of an array that fails."""
        if self._array is None or not self.client.begun:
            return None
        return self._array.fail(error, anew=not self.shown)
