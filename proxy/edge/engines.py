"""What an attempt sends and what reads its answer: an exchange that meters, bare for plain calls.

Rules: a plain call holds its ceiling and is counted, if at all, when it is whole, so that nothing
of it is metered and no hold is watched. This module must not know sockets.
"""

from collections.abc import Callable
from functools import lru_cache
from typing import Final

from proxy.core.entities import Channel, TerminalRule, Wire
from proxy.core.exchange import Exchange, Expectation
from proxy.core.looks import LOOKS
from proxy.core.requests import edit_body
from proxy.core.tokenizers import Calibration, new_meter
from proxy.core.usage import UsageTally
from proxy.edge.offer import Offer
from proxy.edge.translation import Carrier

PLAIN: Final = {wire: Expectation(wire, stream=False) for wire in LOOKS}
"""What a plain answer is expected to be, for a `PlainExchange`, by its form."""


def stream_exchange(
    offer: Offer,
    channel: Channel,
    wire: Wire,
    calibration: Calibration,
    held: int,
    omit_usage: bool,  # noqa: FBT001 - by position, as all arguments of what each call makes
    verbatim: bool,  # noqa: FBT001 - likewise
    event_bytes_max: int,
    unsent: Callable[[], int],
) -> Exchange:
    """Return what reads one stream in the form `wire`, as far as `held` nano-USD go.

    `unsent`: bytes not yet gone.
    """
    request = offer.request
    own = wire is request.wire
    return Exchange(
        _expected(
            wire,
            own and not request.include_usage and not omit_usage,
            channel.terminal,
            request.choices,
            own and verbatim,
            event_bytes_max,
            request.echoed,
        ),
        new_meter(offer.model, calibration),
        UsageTally(),
        offer.tokens_affordable(request.input_tokens_estimate, held),
        unsent,
    )


@lru_cache(maxsize=256)
def _expected(
    wire: Wire,
    strip_usage: bool,  # noqa: FBT001 - a key of the cache, as all of them
    terminal: TerminalRule,
    choices: int,
    verbatim: bool,  # noqa: FBT001 - likewise
    event_bytes_max: int,
    echoed: tuple[int, ...],
) -> Expectation:
    """What a stream is expected to be: the same for nearly all of a channel's."""
    return Expectation(
        wire,
        stream=True,
        strip_usage=strip_usage,
        terminal=terminal,
        choices=choices,
        verbatim=verbatim,
        event_bytes_max=event_bytes_max,
        echoed=echoed,
    )


def request_body(
    offer: Offer,
    body: bytes,
    channel: Channel,
    translation: Carrier | None,
    *,
    omit_usage: bool,
) -> bytes:
    """The caller's bytes with the few edits `channel` needs, or what they mean in its dialect.

    Raises RelayError 400 for what its dialect cannot say.
    """
    model = channel.models[offer.request.model]
    if translation is not None:
        return translation.request(body, offer, model)
    return edit_body(
        body,
        offer.request,
        upstream_model=model,
        include_usage=not omit_usage,
        output_tokens_max=offer.output_limit,
        strip_stream_options=omit_usage,
    )
