"""One service call while it is open: its body for every attempt, its answer as it comes, its bill.

Rules: see edge/open_call.py, whose clients, deadlines and end these are. The contract where an
answer is not delivered whole (README, on the bill): nothing delivered, nothing charged; an answer
its upstream or we broke off is not charged either; who leaves in the middle pays for what was made,
because the work was done before the first byte. This module must not know SQL or HTTP heads.
"""

import asyncio
from typing import Final

from proxy.core import pricing
from proxy.core.bill import NOTHING, Delivered, Statement
from proxy.core.entities import Channel, ChannelKey, DisconnectMode, Usage, Verdict
from proxy.core.http1 import request_length
from proxy.core.outcomes import Phase
from proxy.core.response_head import Framing, ResponseHead
from proxy.core.services.delivery import Delivery
from proxy.core.services.service import bill
from proxy.core.urls import Endpoint
from proxy.edge import settlement
from proxy.edge.downstream import Downstream
from proxy.edge.heads import new_head
from proxy.edge.open_call import OpenCall
from proxy.edge.service_attempt import ServiceAttempt
from proxy.edge.service_offer import ServiceOffer
from proxy.edge.settlement import Ended
from proxy.edge.telling import foretell
from proxy.edge.upload import Source, Upload
from proxy.edge.upstream import Origin
from proxy.edge.world import World
from proxy.storage.ports import Admission, Closing, Opening

ANSWER_HEADERS: Final = ("content-disposition", "content-language")
"""Headers of an upstream's answer that go on, beside its type and length."""
HEADER_CHARS_MAX: Final = 512
_LENGTH: Final = Framing.LENGTH
_COMPLETE, _GONE = Verdict.COMPLETE, Verdict.CLIENT_GONE


class ServiceCall(OpenCall[Delivery]):
    """See the module docstring. `content_type`: the caller's, multipart boundary and all."""

    uploads = True

    def __init__(
        self,
        world: World,
        client: Downstream,
        offer: ServiceOffer,
        opening: Opening,
        admission: Admission,
        body: Upload,
        content_type: str,
    ) -> None:
        super().__init__(world, client, offer, opening, admission, flows=True)
        self.offer: ServiceOffer = offer
        self._endpoint = Endpoint(offer.request.endpoint)
        self._body = body
        self._content_type = content_type

    # The attempt in flight

    def begin_attempt(self, channel: Channel, now: float) -> ServiceAttempt:
        """Make the attempt for `channel`; the caller connects it."""
        attempt = ServiceAttempt(self.world.loop, self, Delivery(self._endpoint))
        self._begun(attempt, channel, now)
        return attempt

    def upstream_request(self, channel: Channel, key: ChannelKey) -> tuple[Origin, bytes]:
        """Return where the attempt in flight goes and its head but for the length."""
        return new_head(
            self.world,
            channel,
            key,
            self._endpoint,
            channel.models[self.offer.model.name],
            self.client.visit.forwarded,
            content_type=self._content_type,
            accept="text/event-stream" if self.offer.request.stream else "*/*",
        )

    def upload(self, transport: asyncio.Transport, head: bytes) -> None:
        """Send the caller's bytes with the model's name changed where it stands."""
        attempt, channel = self.attempt, self.channel
        if channel is None or not isinstance(attempt, ServiceAttempt):
            raise AssertionError("nothing to upload for")
        edits = self.offer.request.edits(channel.models[self.offer.model.name])
        source = Source(self._body, edits)
        attempt.upload(transport, head + request_length(source.size), source)

    def credit_needed(self, *, at_edge: bool) -> None:
        """Do nothing: all a service call may cost is held."""

    def show(self) -> None:
        """The content point: send what is there and let the rest flow by itself."""
        attempt, client = self.attempt, self.client
        if attempt is None or self.gone:
            return
        delivery = attempt.exchange
        head = delivery.head
        if head is None:
            raise AssertionError("content without a head")
        first = attempt.take_pending()
        self.shown = True
        self.first_byte_at = self.world.loop.time()
        self.name_channel()
        if delivery.phase is Phase.TERMINAL and not delivery.is_events:
            foretell(self, self._made(complete=True).charge)
        client.add_headers(
            [
                (name, value)
                for name in ANSWER_HEADERS
                if (value := head.header(name)) is not None and _is_plain(value)
            ]
        )
        client.begin_answer(
            answer_type(head),
            head.length if head.framing is _LENGTH else None,
            first,
        )
        transport = client.connection.transport
        if transport is not None and not self.gone:
            attempt.flow(transport.write, chunked=client.chunked)

    def last(self) -> bytes:
        """Return what was held for the commit: the last byte."""
        return self._delivery.terminal

    @property
    def _delivery(self) -> Delivery:
        if self.attempt is None:
            raise AssertionError("no attempt in flight")
        return self.attempt.exchange

    # The bill

    def _reported(self) -> Usage:
        """Return what the provider reported in an attempt."""
        return self._delivery.measured.usage or Usage(calls=0)

    def _measured(self, unsent_bytes: int) -> Delivered:
        """Tell whether anything of the answer left this machine."""
        content = self.shown and self._delivery.passed_bytes > unsent_bytes
        return Delivered(content=content, output_tokens=0, exact=True)

    def _drain_seconds(self) -> float:
        """How long to read on for the provider's figure, which comes at the end of an answer."""
        group = self.offer.group
        if group.disconnect is DisconnectMode.DRAIN:
            return group.drain_seconds_max
        return self.world.bounds.usage_wait_ms / 1000 if self.shown else 0.0

    def _mark(self) -> None:
        """Leave no mark: what breaks off by our death is not charged."""

    def _made(self, *, complete: bool) -> Statement:
        """Price what the answer made, as if all of it were charged."""
        offer = self.offer
        made = bill(offer.request, self._delivery.measured, offer.price, complete=complete)
        amount = pricing.charge(made.usage, offer.price, offer.group.multiplier)
        return Statement(made.usage, made.source, amount, 0, made.anomalies)

    def _closing(self, ended: Ended) -> Closing:
        """Return everything the ledger records of this call, which has just ended."""
        if self.attempt is None:
            return settlement.end(self, ended, NOTHING)
        delivery, complete = self._delivery, ended.verdict is _COMPLETE
        made = NOTHING
        if complete or delivery.shown:
            made = self._made(complete=complete)
            delivered = self.delivered or self._measured(0)
            if not delivered.content or not (complete or ended.verdict is _GONE):
                made = Statement(made.usage, made.source, 0, made.charge, made.anomalies)
        return settlement.end(
            self,
            ended,
            made,
            delivered_bytes=delivery.passed_bytes + complete,
        )


def answer_type(head: ResponseHead) -> str:
    """Return the type an answer is passed on with."""
    kind = head.header("content-type") or "application/json"
    return kind if _is_plain(kind) else "application/octet-stream"


def _is_plain(value: str) -> bool:
    return len(value) <= HEADER_CHARS_MAX and value.isascii() and value.isprintable()
