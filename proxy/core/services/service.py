"""What a service call is to the relay: a request read, an edit of its model, an answer measured.

Rules: a reader takes the body in pieces and keeps no more of it than small members; it raises
RelayError as soon as the body cannot be served. Usage comes three times: `usage_max` is what may
have to be paid and is held before anything is sent, `usage_known` is what the request alone says
(counted or estimated) and is billed when an answer reports nothing, `usage_bound` is what no
true report exceeds. This module must not know channels or sockets.
"""

from typing import Final, Protocol

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from proxy.core import usage as reports
from proxy.core.entities import Formula, Price, Usage, UsageSource
from proxy.core.pricing import image_variant

Edit = tuple[int, int, bytes]
"""Replace the bytes from `start` to `end` of the body, both counted from its first byte."""


class ModelPlace(Struct, frozen=True):
    """Where the model's name stands in a body, or would have to be put."""

    start: int
    end: int
    before: bytes = b""
    after: bytes = b""
    quoted: bool = True
    """Whether the name is written as a JSON string, quotes included in the span."""
    prefix: str = ""
    """What the name must begin with here, unless it is a path already (Gemini)."""


class Measured(Struct, frozen=True):
    """What an answer alone says; None: nothing was said about it."""

    usage: Usage | None = None
    anomalies: tuple[str, ...] = ()
    images: int | None = None
    """Images whose data began to arrive."""
    size: str = ""
    quality: str = ""
    """Of the images, as the provider made them."""
    spoken: int | None = None
    """Tokens of the sound that came, by its length."""
    error: bool = False
    """An error object inside a 2xx."""
    readable: bool = True
    terminal: bool | None = None
    """Of a stream of events: whether its last one came. None: only the framing tells the end."""


class ServiceRequest(Struct, frozen=True):
    """One service call, read from its body."""

    endpoint: str
    model: str
    place: ModelPlace
    usage_max: Usage
    usage_bound: Usage
    usage_known: Usage
    known_source: UsageSource
    """How the tokens of `usage_known` were found."""
    units_source: UsageSource = UsageSource.COUNTED
    """How the rest of it was: images, characters, length."""
    stream: bool = False
    """Whether the answer is a stream of events."""
    model_given: bool = True
    """False: the body names no model, and `model` is the documented default."""
    size: str = ""
    quality: str = ""
    """Of the images asked for; empty where the provider chooses."""

    @property
    def tokens_max(self) -> int:
        """Tokens of all kinds the call may use, for limits per minute."""
        return self.usage_max.prompt_total + self.usage_max.completion_total

    def usage_held(self, price: Price) -> Usage:
        """Return the usage to hold money for: for images, of the variant that `price` has."""
        usage = self.usage_max
        if not usage.images or not self.size or not self.quality:
            return usage
        return replace(usage, variant=image_variant(price, self.size, self.quality))

    def edits(self, upstream_model: str) -> tuple[Edit, ...]:
        """Return what to change for an upstream that knows the model as `upstream_model`.

        A body without a model gets one in any case: an upstream's own default may be another.
        """
        place = self.place
        in_path = place.end == 0 and not place.before
        if in_path or (self.model_given and upstream_model == self.model):
            return ()
        named = upstream_model if "/" in upstream_model else place.prefix + upstream_model
        name = msgspec.json.encode(named) if place.quoted else named.encode()
        return ((place.start, place.end, place.before + name + place.after),)


class ServiceBill(Struct, frozen=True):
    """What a call is billed for, and what was odd about what the provider said."""

    usage: Usage
    source: UsageSource
    anomalies: tuple[str, ...] = ()


class RequestReader(Protocol):
    """Reads one request body."""

    def feed(self, piece: bytes) -> None:
        """Take the next bytes. Raises RelayError."""

    def finish(self) -> ServiceRequest:
        """Say that the body has ended. Raises RelayError."""


class AnswerReader(Protocol):
    """Reads one 2xx answer as it passes, in constant memory; never raises."""

    def feed(self, piece: bytes) -> None:
        """Take the next bytes of the body, without transfer coding."""

    def finish(self) -> Measured:
        """Tell what was seen; may be asked of an answer that was cut short."""


_UNITS: Final = ("images", "characters", "audio_ms")


def bill(
    request: ServiceRequest, measured: Measured, price: Price, *, complete: bool
) -> ServiceBill:
    """Decide what a call is billed for of which anything was delivered.

    Tokens are the answer's where it reports any, else what is known of the request. What an answer
    does not count (characters, length, images) is known of the request in any case. An answer
    that was cut short has as many images as began to arrive.
    """
    known = request.usage_known
    usage, source = known, _known_source(request, price)
    if measured.usage is not None:
        usage, source = measured.usage, UsageSource.REPORTED
    elif measured.spoken is not None:
        usage = replace(known, output=measured.spoken)
    images = known.images
    if images and measured.images is not None and (measured.images or not complete):
        images = measured.images
    size, quality = measured.size or request.size, measured.quality or request.quality
    usage = replace(
        usage,
        calls=known.calls,
        images=images,
        variant=image_variant(price, size, quality) if images else "",
        characters=usage.characters or known.characters,
        audio_ms=usage.audio_ms or known.audio_ms,
        searches=usage.searches or known.searches,
    )
    usage, anomalies = _bounded(usage, request.usage_bound)
    return ServiceBill(usage, source, tuple(sorted({*measured.anomalies, *anomalies})))


def _known_source(request: ServiceRequest, price: Price) -> UsageSource:
    """Tell how what is priced of a request was found."""
    tokens = price.input or price.output or price.formula is not Formula.TOKENS
    return request.known_source if tokens else request.units_source


def _bounded(usage: Usage, bound: Usage) -> tuple[Usage, tuple[str, ...]]:
    """Cut what is above its bound: no report costs what the request cannot have used."""
    usage, anomalies = reports.bounded(
        usage,
        bound.completion_total,
        input_tokens_max=bound.prompt_total,
        searches_max=bound.searches,
        slack=0,
    )
    over = {
        kind: getattr(bound, kind) for kind in _UNITS if getattr(usage, kind) > getattr(bound, kind)
    }
    return (replace(usage, **over), (*anomalies, "units_bounded")) if over else (usage, anomalies)
