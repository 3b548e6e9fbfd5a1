"""One conversation while it is open: its hold as it grows, its meter, its translation, its bill.

Rules: see edge/open_call.py, whose clients, deadlines and end these are. A hold that runs out is
asked to grow in time, and refused at its edge the call is cut. This module must not know SQL or
HTTP heads.
"""

from proxy.core.answers import READINGS, PlainReading
from proxy.core.bill import Delivered, Statement
from proxy.core.catalog import spoken
from proxy.core.entities import (
    NOTHING_USED,
    WIRE_ENDPOINTS,
    Channel,
    ChannelKey,
    DisconnectMode,
    Usage,
    Verdict,
    Wire,
)
from proxy.core.errors import RelayError
from proxy.core.exchange import UNLIMITED, Exchange
from proxy.core.http1 import REQUEST_LENGTH
from proxy.core.outcomes import Failure, FailureKind
from proxy.core.plain_exchange import PlainExchange
from proxy.core.requests import renamed
from proxy.core.response_head import PASSED_ON
from proxy.core.urls import Endpoint
from proxy.edge import settlement
from proxy.edge.attempt import Attempt, PlainAttempt
from proxy.edge.bursts import CALLS_MIN
from proxy.edge.downstream import Downstream
from proxy.edge.engines import PLAIN, request_body, stream_exchange
from proxy.edge.heads import known_head
from proxy.edge.offer import Offer
from proxy.edge.open_call import Notice, OpenCall
from proxy.edge.settlement import Ended
from proxy.edge.telling import foretell
from proxy.edge.translation import Translation, failed_natively
from proxy.edge.upstream import Origin
from proxy.edge.world import World
from proxy.storage.ports import Admission, Closing, Opening

ERROR_WORDS_BYTES_MAX = 65_536
"""What is read of an error inside a plain 200."""
_ENDPOINTS = {wire: Endpoint(name) for wire, name in WIRE_ENDPOINTS.items()}
_JSON = "application/json"
_PASSED_ON = frozenset(PASSED_ON)
LOW_WATER_DIVISOR = 2
"""The next slice is asked for when half of one is left."""


class Call(OpenCall[Exchange]):
    """See the module docstring. `tells`: its events are looked at on their way out."""

    __slots__ = ("_extending", "_held", "body", "made", "prompt_tokens", "reading", "wire")

    tells = False

    def __init__(
        self,
        world: World,
        client: Downstream,
        offer: Offer,
        opening: Opening,
        admission: Admission,
        body: bytes,
    ) -> None:
        # `super` would cost every call more than the ten lines below it.
        OpenCall.__init__(self, world, client, offer, opening, admission, offer.request.stream)
        self.offer: Offer = offer
        self.body = body
        self.wire = offer.request.wire
        """The form that the attempt in flight is asked in: the caller's, if its channel has it."""
        if offer.previous is not None:
            self.pinned = offer.previous.channel_key_id
        self.reading: PlainReading | None = None
        self.made: Statement | None = None
        """What a plain answer costs, once its head says so."""
        self.prompt_tokens: int | None = None
        self._held = admission.held
        self._extending = False

    # The attempt in flight

    def begin_attempt(self, channel: Channel, now: float) -> Attempt[Exchange]:
        """Make the attempt for `channel`; the caller connects it."""
        world, wire = self.world, self.wire
        translation = None
        if not self.offer.native:
            asked = self.offer.request.wire
            wire = self.wire = spoken(channel, asked)
            if wire is not asked:
                translation = Translation(self.offer, channel, int(world.now()))
        if not self.flows:
            exchange: Exchange = PlainExchange(PLAIN[wire])
            plain = PlainAttempt(world.loop, self, exchange, 0, translation)
            if len(world.calls) >= CALLS_MIN:
                plain.burst = world.burst
            return self._begun(plain, channel, now)
        exchange = stream_exchange(
            self.offer,
            channel,
            wire,
            world.calibration,
            self._held,
            self.omits_usage,
            self.client.chunked and not self.tells,
            world.bounds.event_bytes_max,
            self.unsent_bytes,
        )
        low_water = world.bounds.slice_tokens // LOW_WATER_DIVISOR
        attempt = Attempt(world.loop, self, exchange, low_water, translation)
        attempt.on_content = self.show_at_once
        return self._begun(attempt, channel, now)

    def upstream_request(self, channel: Channel, key: ChannelKey) -> tuple[Origin, bytes]:
        """Return where the attempt in flight goes and all it sends. Raises RelayError 400."""
        offer, wire, attempt = self.offer, self.wire, self.attempt
        request = offer.request
        model = channel.models[request.model]
        _, origin, head, name = known_head(
            self.world,
            channel,
            key,
            _ENDPOINTS[wire],
            model,
            # Versions and betas are of the caller's own wire form.
            self.client.visit.forwarded if wire is request.wire else (),
            self.flows,
        )
        parts = None
        if offer.output_limit is None and attempt is not None and attempt.translation is None:
            parts = renamed(self.body, request, model, name, not self.omits_usage)
        if parts is None:
            body = self.upstream_body(channel)
            return origin, b"".join((head, REQUEST_LENGTH % len(body), body))
        before, name, after = parts
        length = REQUEST_LENGTH % (len(before) + len(name) + len(after))
        return origin, b"".join((head, length, before, name, after))

    def upstream_body(self, channel: Channel) -> bytes:
        """Return the body of what the attempt in flight sends. Raises RelayError 400."""
        inner = None if self.attempt is None else self.attempt.translation
        return request_body(self.offer, self.body, channel, inner, omit_usage=self.omits_usage)

    def unsent_bytes(self) -> int:
        """How many of the upstream's bytes have not left for the client yet."""
        return self.upstream_bytes(self.client.connection.unsent_bytes())

    def upstream_bytes(self, client_bytes: int) -> int:
        """How many of the upstream's bytes the newest `client_bytes` stand for."""
        translation = None if self.attempt is None else self.attempt.translation
        return client_bytes if translation is None else translation.unsent(client_bytes)

    def prepare(self) -> None:
        """Put the head of the answer together, should it come of the attempt in flight."""
        channel, model, attempt = self.channel, self.upstream_model, self.attempt
        if channel is None or model is None or attempt is None:
            raise AssertionError("an answer without an attempt")
        if attempt.translation is None:  # what one leaves out, or tells, is known later
            self.client.prepare(channel.name, model)

    def show_at_once(self) -> bool:
        """Show the first content if nothing has to be waited for; says whether it did."""
        if self.abandoned or not self.is_reserved():
            return False
        try:
            self.show()
        except BaseException:
            # A fault of ours: as in a handler, there is no second answer after a first byte.
            self.client.abort()
            raise
        return True

    def show(self) -> None:
        """The content point: send what is there and let the rest flow by itself."""
        attempt, client = self.attempt, self.client
        if attempt is None or self.gone:
            return
        first = attempt.take_pending()
        self.shown = True
        self.first_byte_at = self.world.loop.time()
        if client.begun:
            client.write(first)
        else:
            more = self._passed_on()
            if attempt.translation is not None or not client.begin_prepared(first, more):
                self.name_channel()
                if more:
                    client.add_headers(more)
                client.begin(first)
        transport = client.connection.transport
        if transport is not None and not self.gone:
            attempt.flow(transport.write, chunked=client.chunked)
            attempt.exchange.learn()  # now that nobody waits for the first event

    def _passed_on(self) -> list[tuple[str, str]]:
        """Return headers of the upstream's that its answer keeps, unless it is another by now."""
        attempt = self.attempt
        head = None if attempt is None or attempt.translation else attempt.exchange.head
        return [] if head is None else head.passed_on()

    def _drain_seconds(self) -> float:
        """How long to read on for the provider's figure (DESIGN.md section 3)."""
        group = self.offer.group
        strict = self.offer.strict or self.admission.ceiling_held
        if group.disconnect is DisconnectMode.DRAIN or strict:
            return group.drain_seconds_max
        return self.world.bounds.usage_wait_ms / 1000 if self._exchange.finishing else 0.0

    @property
    def _exchange(self) -> Exchange:
        if self.attempt is None:
            raise AssertionError("no attempt in flight")
        return self.attempt.exchange

    # The hold

    def credit_needed(self, *, at_edge: bool) -> None:
        """Ask the keeper for the next slice, one at a time; refused at the edge, cut."""
        attempt = self.attempt
        if self._extending or self.gone or attempt is None:
            return
        exchange = attempt.exchange
        input_tokens = self._input_tokens(exchange)
        target = max(exchange.tokens_allowed, exchange.upper) + self.world.bounds.slice_tokens
        ceiling = self.offer.quote(input_tokens, self.offer.output_tokens_max)
        limit = self.offer.cost_max
        limited = limit is not None and limit < ceiling
        if limit is not None and limited:
            ceiling = limit
            if self._held >= limit:
                if at_edge:
                    self.cut(Notice.MAX_COST)
                return
        amount = min(self.offer.quote(input_tokens, target), ceiling) - self._held
        self._extending = True

        def covered() -> int:
            # No call is charged above its ceiling, however much of it waits unsent.
            if self._held >= ceiling and not limited:
                return UNLIMITED
            return self.offer.tokens_affordable(input_tokens, self._held)

        def answer(granted: int) -> None:
            self._extending = False
            self._held += granted
            if granted:
                attempt.allow(covered())
            elif (at_edge or attempt.exchange.at_edge) and not attempt.over:
                # Asked in time and refused late: the edge was reached while the keeper decided.
                self.cut(Notice.BALANCE)

        if amount > 0:
            self.world.billing.extend(self.opening.call_id, amount, answer)
            return
        # The input turned out smaller than its estimate: the hold covers the next slice as it is.
        self._extending = False
        attempt.allow(covered())

    def _input_tokens(self, exchange: Exchange) -> int:
        tally = exchange.tally
        known = tally.usage().prompt_total if tally.seen else 0
        return known or self.offer.request.input_tokens_estimate

    @property
    def _heartbeat_safe(self) -> bool:
        """Whether a heartbeat may stand between the events of the attempt in flight.

        After an `id:` line a comment makes openai-python raise (WIRE.md section 2); inside an
        event passed on in parts it would become part of that event; and a plain answer that waits
        with its last byte has no place for one.
        """
        if self.attempt is None or not self.offer.request.stream:
            return False
        exchange = self.attempt.exchange
        return not (exchange.has_id or exchange.in_event)

    def _mark(self) -> None:
        """Tell the keeper what this call costs if every process dies now."""
        attempt = self.attempt
        if self.shown and attempt is not None:
            self.world.billing.mark(settlement.progress(self, attempt.exchange))

    # The end

    def hand_over(self, ended: Ended) -> Ended:
        """Write all of the answer but its end; `ended`, or the end that this comes to.

        A plain answer waits with its last byte, a stream with its terminal event.
        """
        client, attempt = self.client, self.attempt
        if attempt is None:
            raise AssertionError("an answer without an attempt")
        if attempt.translation is not None:
            try:
                client.write(attempt.translation.conclude(attempt.exchange))
            except RelayError as error:
                return Ended(Verdict.UPSTREAM_ERROR, error)
        if not self.flows and not self.gone:
            self.name_channel()
            head = attempt.exchange.head
            if head is not None and not _PASSED_ON.isdisjoint(head.noted):  # few say any of it
                client.add_headers(self._passed_on())
            foretell(self, settlement.foresee(self, attempt.exchange).charge)
            client.begin_plain(self.last(), _JSON, self.world.charges_at_once)
        return settlement.CLIENT_GONE if self.gone else ended

    def in_band(self, error: RelayError) -> bytes | None:
        """Return the last event of a stream that fails, where its wire form has one of its own."""
        attempt = self.attempt
        if self.offer.request.wire is not Wire.RESPONSES or not self.client.begun:
            return None
        if attempt is None:
            raise AssertionError("a stream has begun without an attempt")
        if attempt.translation is not None:
            return attempt.translation.fail(error, anew=not self.shown)
        exchange = attempt.exchange
        shown = (exchange.answer_id, exchange.events) if self.shown else None
        return failed_natively(error, self.offer.model.name, int(self.world.now()), shown)

    def refuses(self) -> bool:
        """Whether a plain 200 holds an error, or nothing readable: a failure before content."""
        attempt = self.attempt
        if self.flows or attempt is None:
            return False
        exchange = attempt.exchange
        answer = self.reading = READINGS[self.wire](exchange.body)
        if answer.readable and not answer.error:
            return False
        kind = FailureKind.ERROR_EVENT if answer.readable else FailureKind.UNEXPECTED_ANSWER
        body = exchange.body[:ERROR_WORDS_BYTES_MAX]
        exchange.reject(Failure(kind, "a plain answer without content", body=body))
        self.reading = None
        return True

    # The bill

    def _reported(self) -> Usage:
        """Return what the provider reported in an attempt."""
        read = self.reading
        if read is not None and isinstance(read.reported, Usage):
            return read.reported  # nearly every plain answer
        reported = settlement.tally(self, self._exchange)
        return reported.bare or (reported.usage() if reported.seen else NOTHING_USED)

    def _measured(self, unsent_bytes: int) -> Delivered:
        """Count what left this machine, but for the newest `unsent_bytes`."""
        return settlement.measure(self, self._exchange, unsent_bytes)

    def _closing(self, ended: Ended) -> Closing:
        """Return everything the ledger records of this call, which has just ended."""
        return settlement.closing(self, ended)

    def last(self) -> bytes:
        """Return what was held for the commit: the terminal frame, or the whole plain body."""
        attempt = self.attempt
        if attempt is None:
            raise AssertionError("nothing was held")
        if attempt.translation is not None:
            return attempt.translation.last
        if self.flows:
            return attempt.exchange.terminal
        read = self.reading  # has it at hand
        return attempt.exchange.body if read is None else read.body
