"""A conversation whose caller asked for more than its answer: the cost in it, or to keep it.

Rules: events are kept as they are, then held and edited, after everything else was done to them,
so that what meters, bills and translates does not know of it; calls that asked for nothing never
come here. An answer is kept when all of it was billed and given, never before. This module must
not know sockets, nor how it was asked for.
"""

from proxy.core.cache import Entry
from proxy.core.entities import Channel, Verdict
from proxy.core.errors import RelayError
from proxy.core.exchange import Exchange
from proxy.core.telling import Cost, UsageEvents, tell_plain
from proxy.edge.attempt import Attempt
from proxy.edge.cache import Ticket, limits
from proxy.edge.call import Call
from proxy.edge.downstream import Downstream
from proxy.edge.engines import request_body
from proxy.edge.offer import Offer
from proxy.edge.settlement import Ended
from proxy.edge.telling import price_told
from proxy.edge.translation import Carrier
from proxy.edge.world import World
from proxy.storage.ports import Admission, Closing, Opening


class Retelling:
    """Carries one attempt's events further after `inner` has (None: they are the upstream's own).

    A `Carrier` of its own, for who forwards events. `usage` is to tell its cost, `kept` collects
    what passes, up to `kept_bytes_max`, and is None from then on.
    """

    __slots__ = ("_room", "inner", "kept", "usage")

    def __init__(self, inner: Carrier | None, usage: UsageEvents | None, room: int) -> None:
        self.inner = inner
        self.usage = usage
        self.kept: list[bytes] | None = [] if room else None
        self._room = room

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
        return self._passed(events if self.inner is None else self.inner.feed(events))

    def unsent(self, client_bytes: int) -> int:
        """How many of the upstream's bytes the newest `client_bytes` of output stand for.

        A report held here came after them, and is nothing anybody is charged for.
        """
        if not client_bytes:
            return 0
        waiting = client_bytes + (0 if self.usage is None else len(self.usage.held))
        return waiting if self.inner is None else self.inner.unsent(waiting)

    def conclude(self, exchange: Exchange) -> bytes:
        """End the answer: what a stream's caller is told before the end."""
        return b"" if self.inner is None else self._passed(self.inner.conclude(exchange))

    def fail(self, error: RelayError, *, anew: bool) -> bytes:
        """The caller's last event in place of the end."""
        return self._known.fail(error, anew=anew)

    def header(self) -> list[tuple[str, str]]:
        """Say what of the request the upstream was not told."""
        return [] if self.inner is None else self.inner.header()

    def _passed(self, out: bytes) -> bytes:
        if not out:
            return out
        if self.kept is not None:
            self._room -= len(out)
            self.kept.append(out)
            if self._room < 0:
                self.kept = None
        return out if self.usage is None else self.usage.feed(out)

    @property
    def _known(self) -> Carrier:
        if self.inner is None:
            raise AssertionError("nothing is translated")
        return self.inner


class ToldCall(Call):
    """See the module docstring. `told`: its usage tells what it cost."""

    tells = True

    def __init__(
        self,
        world: World,
        client: Downstream,
        offer: Offer,
        opening: Opening,
        admission: Admission,
        body: bytes,
        *,
        told: bool,
        ticket: Ticket | None,
    ) -> None:
        super().__init__(world, client, offer, opening, admission, body)
        self.told = told
        self.kept = None if ticket is None else ticket.entry
        """The answer, if it was given before and is to be given again."""
        self._ticket = ticket
        self._retelling: Retelling | None = None
        self._closed: Closing | None = None
        self._end: bytes | None = None
        """The last event or the plain answer, as they were before they were told."""
        self._plain: bytes | None = None

    def begin_attempt(self, channel: Channel, now: float) -> Attempt[Exchange]:
        """Make the attempt for `channel`, with its events going round here."""
        attempt = super().begin_attempt(channel, now)
        usage = UsageEvents(self.offer.request.wire) if self.told else None
        room = 0 if self._ticket is None else self.world.bounds.cache_entry_bytes_max
        attempt.translation = self._retelling = Retelling(attempt.translation, usage, room)
        self._end = self._plain = None
        return attempt

    def upstream_body(self, channel: Channel) -> bytes:
        """Return what the attempt in flight sends. Raises RelayError 400."""
        inner = None if self._retelling is None else self._retelling.inner
        return request_body(self.offer, self.body, channel, inner, omit_usage=self.omits_usage)

    def name_channel(self) -> None:
        """Say who answers, and whether the answer will be kept."""
        super().name_channel()
        if self._ticket is not None:
            fits = not self.flows and self.world.cache.takes(len(self._whole()), limits(self.world))
            self.client.add_headers([("x-sluice-cache", "stored" if fits else "miss")])

    def in_band(self, error: RelayError) -> bytes | None:
        """Return the last event of a stream that fails, as who translates it has it."""
        if self.attempt is not None and self._retelling is not None:
            self.attempt.translation = self._retelling.inner
        return super().in_band(error)

    def last(self) -> bytes:
        """Return what was held for the commit, with the cost in it."""
        end, usage = self._whole(), None if self._retelling is None else self._retelling.usage
        if usage is None:
            return end
        if self.flows:
            return usage.end(end, self._posted())
        if self._plain is None:
            self._plain = tell_plain(end, self.offer.request.wire, self._foretold())
        return self._plain

    def keep(self) -> None:
        """Keep the answer for the next call like this, if all of it was billed and given."""
        ticket, retelling, closed, end = self._ticket, self._retelling, self._closed, self._end
        if ticket is None or retelling is None or closed is None or end is None or self.gone:
            return
        receipt, channel = self.receipt, self.channel
        if receipt is None or channel is None or closed.verdict is not Verdict.COMPLETE:
            return
        commit = receipt.committed
        if retelling.kept is None or not commit.done() or commit.exception() is not None:
            return
        now = self.world.now()
        entry = Entry(
            body=b"".join(retelling.kept) if self.flows else end,
            last=end if self.flows else b"",
            stream=self.flows,
            content_type="application/json",
            usage=closed.usage,
            finish_reason=closed.finish_reason,
            channel=channel.name,
            upstream_model=channel.models[self.offer.model.name],
            stored_at=now,
            expires_at=now + ticket.seconds,
            headers=tuple(retelling.header()),
        )
        self.world.cache.put(ticket.digest, entry, limits(self.world))

    def _whole(self) -> bytes:
        """The last event, or the plain answer."""
        if self._end is None:
            retelling, attempt = self._retelling, self.attempt
            if retelling is None or attempt is None:
                raise AssertionError("nothing was held")
            if retelling.inner is not None:
                self._end = retelling.inner.last
            else:
                exchange = attempt.exchange
                self._end = exchange.terminal if self.flows else exchange.body
        return self._end

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
