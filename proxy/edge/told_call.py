"""A conversation whose caller asked for more than its answer: the cost inside its usage.

Rules: events are held and edited after everything else was done to them, so that what meters,
bills and translates does not know of it; calls that asked for nothing never come here. This
module must not know sockets, nor how it was asked for.
"""

from proxy.core.entities import Channel
from proxy.core.errors import RelayError
from proxy.core.exchange import Exchange
from proxy.core.telling import Cost, UsageEvents, tell_plain
from proxy.edge.attempt import Attempt
from proxy.edge.call import Call
from proxy.edge.engines import request_body
from proxy.edge.offer import Offer
from proxy.edge.settlement import Ended
from proxy.edge.telling import price_told
from proxy.edge.translation import Carrier
from proxy.storage.ports import Closing


class Retelling:
    """Carries one attempt's events further after `inner` has (None: they are the upstream's own).

    A `Carrier` of its own, for who forwards events.
    """

    __slots__ = ("inner", "usage")

    def __init__(self, inner: Carrier | None, usage: UsageEvents) -> None:
        self.inner = inner
        self.usage = usage

    @property
    def failure(self) -> str | None:
        """Why the answer cannot be carried further, once that is so."""
        return None if self.inner is None else self.inner.failure

    @property
    def last(self) -> bytes:
        """What waits for the bill, before it is told."""
        return self._known.last

    def request(self, body: bytes, offer: Offer, model: str) -> bytes:
        """The upstream's request, where it is another one."""
        return self._known.request(body, offer, model)

    def feed(self, events: bytes) -> bytes:
        """Whole events of the upstream, as the caller gets them."""
        out = events if self.inner is None else self.inner.feed(events)
        return self.usage.feed(out) if out else out

    def unsent(self, client_bytes: int) -> int:
        """How many of the upstream's bytes the newest `client_bytes` of output stand for.

        A report held here came after them, and is nothing anybody is charged for.
        """
        if not client_bytes:
            return 0
        waiting = client_bytes + len(self.usage.held)
        return waiting if self.inner is None else self.inner.unsent(waiting)

    def conclude(self, exchange: Exchange) -> bytes:
        """End the answer: what a stream's caller is told before the end."""
        return b"" if self.inner is None else self.usage.feed(self.inner.conclude(exchange))

    def fail(self, error: RelayError, *, anew: bool) -> bytes:
        """The caller's last event in place of the end."""
        return self._known.fail(error, anew=anew)

    def header(self) -> list[tuple[str, str]]:
        """Say what of the request the upstream was not told."""
        return [] if self.inner is None else self.inner.header()

    @property
    def _known(self) -> Carrier:
        if self.inner is None:
            raise AssertionError("nothing is translated")
        return self.inner


class ToldCall(Call):
    """See the module docstring."""

    tells = True
    _retelling: Retelling | None = None
    _closed: Closing | None = None
    _plain: bytes | None = None

    def begin_attempt(self, channel: Channel, *, omit_usage: bool) -> Attempt[Exchange]:
        """Make the attempt for `channel`, with its events going round here."""
        attempt = super().begin_attempt(channel, omit_usage=omit_usage)
        usage = UsageEvents(self.offer.request.wire)
        attempt.translation = self._retelling = Retelling(attempt.translation, usage)
        self._plain = None
        return attempt

    def upstream_body(self, channel: Channel, *, omit_usage: bool) -> bytes:
        """Return what the attempt in flight sends. Raises RelayError 400."""
        inner = None if self._retelling is None else self._retelling.inner
        return request_body(self.offer, self.body, channel, inner, omit_usage=omit_usage)

    def in_band(self, error: RelayError) -> bytes | None:
        """Return the last event of a stream that fails, as who translates it has it."""
        if self.attempt is not None and self._retelling is not None:
            self.attempt.translation = self._retelling.inner
        return super().in_band(error)

    def last(self) -> bytes:
        """Return what was held for the commit, with the cost in it."""
        retelling, attempt = self._retelling, self.attempt
        if retelling is None or attempt is None:
            raise AssertionError("nothing was held")
        if self.flows:
            terminal = attempt.exchange.terminal
            return retelling.usage.end(
                terminal if retelling.inner is None else retelling.inner.last, self._posted()
            )
        if self._plain is None:
            body = attempt.exchange.body if retelling.inner is None else retelling.inner.last
            self._plain = tell_plain(body, self.offer.request.wire, self._foretold())
        return self._plain

    def _closing(self, ended: Ended) -> Closing:
        self._closed = closing = super()._closing(ended)
        return closing

    def _foretold(self) -> Cost:
        """What a plain answer says of its cost, as its head does, before it is posted."""
        if self.made is None:
            raise AssertionError("a plain answer is told before it has a price")
        return Cost(*price_told(self, self.made.charge), self.made.usage)

    def _posted(self) -> Cost:
        receipt, closed = self.receipt, self._closed
        if receipt is None or closed is None:
            raise AssertionError("the end of a stream is told before its bill")
        return Cost(receipt.charged, receipt.balance_after, closed.usage)
