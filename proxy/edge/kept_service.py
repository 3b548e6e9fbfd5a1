"""A service call whose answer is kept, to be given again to the very same request.

Rules: see edge/cache.py. Only bodies that are one JSON object in memory have a place in the cache:
forms come with another boundary each time, and what is spooled is too large to look for. This
module must not know what a service is.
"""

import dataclasses

from msgspec.structs import replace

from proxy.core.asks import Asks
from proxy.core.cache import Entry
from proxy.core.entities import Channel
from proxy.core.outcomes import Phase
from proxy.edge.cache import Ticket, limits, look_up, price_again
from proxy.edge.downstream import Downstream
from proxy.edge.service_attempt import ServiceAttempt
from proxy.edge.service_call import ServiceCall, answer_type
from proxy.edge.service_offer import ServiceOffer, limit_service_cost
from proxy.edge.settlement import Ended
from proxy.edge.told_call import Retelling
from proxy.edge.upload import Upload
from proxy.edge.world import World
from proxy.storage.ports import Admission, Closing, Opening


def look_up_service(
    world: World, client: Downstream, offer: ServiceOffer, asks: Asks, body: Upload, kind: str
) -> Ticket | None:
    """Return a request's place in the cache; None where it has none. `kind`: its content type."""
    if asks.cache is None or body.is_spooled or kind.lower().startswith("multipart/"):
        return None
    return look_up(world, client, offer.key, offer.group, asks, (body.read(0, body.size),))


def as_priced_service(offer: ServiceOffer, asks: Asks, ticket: Ticket | None) -> ServiceOffer:
    """Return what a call may cost at most. Raises RelayError MAX_COST_EXCEEDED."""
    entry = None if ticket is None else ticket.entry
    if entry is None:
        return offer if asks.cost_max is None else limit_service_cost(offer, asks.cost_max)
    multiplier, cost = price_again(offer.group, offer.price, entry, asks.cost_max)
    return replace(
        offer,
        group=dataclasses.replace(offer.group, multiplier=multiplier),
        hold=cost,
        tokens=entry.usage.input_total + entry.usage.output,
        cost_max=asks.cost_max,
    )


class KeptServiceCall(ServiceCall):
    """See the module docstring."""

    def __init__(
        self,
        world: World,
        client: Downstream,
        offer: ServiceOffer,
        opening: Opening,
        admission: Admission,
        body: Upload,
        content_type: str,
        ticket: Ticket,
    ) -> None:
        super().__init__(world, client, offer, opening, admission, body, content_type)
        self._ticket = ticket
        self._retelling: Retelling | None = None
        self._closed: Closing | None = None
        self._entry: Entry | None = None

    def begin_attempt(self, channel: Channel, now: float) -> ServiceAttempt:
        """Make the attempt for `channel`, with its answer going round here."""
        attempt = super().begin_attempt(channel, now)
        room = self.world.bounds.cache_entry_bytes_max
        attempt.translation = self._retelling = Retelling(None, None, room)
        return attempt

    def name_channel(self) -> None:
        """Say who answers, and whether the answer will be kept."""
        super().name_channel()
        delivery = self._delivery
        whole = delivery.phase is Phase.TERMINAL and not delivery.is_events
        fits = whole and self.world.cache.takes(delivery.passed_bytes + 1, limits(self.world))
        self.client.add_headers([("x-sluice-cache", "stored" if fits else "miss")])

    def last(self) -> bytes:
        """Return what was held for the commit, which is the moment to remember all of it."""
        retelling, closed, channel = self._retelling, self._closed, self.channel
        delivery = self._delivery
        head, last = delivery.head, super().last()
        if retelling is None or closed is None or channel is None or head is None:
            raise AssertionError("an answer ends that never began")
        if retelling.kept is not None:
            body, now = b"".join(retelling.kept), self.world.now()
            self._entry = Entry(
                body=body if delivery.is_events else body + last,
                last=last if delivery.is_events else b"",
                stream=delivery.is_events,
                content_type=answer_type(head),
                usage=closed.usage,
                finish_reason=closed.finish_reason,
                channel=channel.name,
                upstream_model=channel.models[self.offer.model.name],
                stored_at=now,
                expires_at=now + self._ticket.seconds,
            )
        return last

    def keep(self) -> None:
        """Keep the answer for the next call like this, if all of it was billed and given."""
        if self._entry is not None and not self.gone:
            self.world.cache.put(self._ticket.digest, self._entry, limits(self.world))

    def _closing(self, ended: Ended) -> Closing:
        self._closed = closing = super()._closing(ended)
        return closing
