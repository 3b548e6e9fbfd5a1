"""What reads an upstream's answer: an exchange that meters a stream, or a bare one for plain calls.

Rules: a plain call holds its ceiling and is counted, if at all, when it is whole, so that nothing
of it is metered and no hold is watched. This module must not know sockets.
"""

from collections.abc import Callable
from typing import Final

from proxy.core.entities import Channel, Dialect
from proxy.core.exchange import Exchange, Expectation
from proxy.core.metering import Meter
from proxy.core.tokenizers import Calibration, new_meter
from proxy.core.usage import UsageTally
from proxy.edge.offer import Offer

_PLAIN: Final = {dialect: Expectation(dialect, stream=False) for dialect in Dialect}
_NO_METER: Final = Meter(len)


def plain_exchange(dialect: Dialect) -> Exchange:
    """Return what reads one plain answer."""
    return Exchange(_PLAIN[dialect], _NO_METER, UsageTally())


def stream_exchange(
    offer: Offer,
    channel: Channel,
    calibration: Calibration,
    *,
    held: int,
    omit_usage: bool,
    verbatim: bool,
    event_bytes_max: int,
    unsent: Callable[[], int],
) -> Exchange:
    """Return what reads one stream, as far as `held` nano-USD go; `unsent`: bytes not yet gone."""
    request = offer.request
    return Exchange(
        Expectation(
            dialect=request.dialect,
            stream=True,
            strip_usage=not request.include_usage and not omit_usage,
            terminal=channel.terminal,
            choices=request.choices,
            verbatim=verbatim,
            event_bytes_max=event_bytes_max,
        ),
        new_meter(offer.model, calibration),
        UsageTally(),
        tokens_allowed=offer.tokens_affordable(request.input_tokens_estimate, held),
        unsent=unsent,
    )
