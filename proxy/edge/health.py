"""What this worker has learnt of its channels: breakers, resting keys, unwanted options.

Rules: knowledge lives as long as the process and is forgotten with its channel; a new catalog's
keys are adopted, resting ones keep resting. This module must not know how a call is relayed.
"""

from collections.abc import Iterable
from typing import Final

from proxy.core.breaker import Breaker, BreakerState
from proxy.core.catalog import Catalog
from proxy.core.entities import Channel, ChannelKey, UsageOption
from proxy.core.routing import KeyPool

_OMIT: Final = UsageOption.OMIT  # a member of an enum costs ten globals on Python 3.11
_STATE_NUMBERS = {BreakerState.CLOSED: 0, BreakerState.HALF_OPEN: 1, BreakerState.OPEN: 2}


class Known:
    """What is known of one channel: its breaker, its keys, and what it will not be sent."""

    __slots__ = ("breaker", "keys", "omits_usage")

    def __init__(self, keys: Iterable[ChannelKey]) -> None:
        self.breaker = Breaker()
        self.keys = KeyPool(keys)
        self.omits_usage = False
        """It has refused `stream_options`."""


class ChannelHealth:
    """Health by channel id; `now` is loop time everywhere."""

    def __init__(self) -> None:
        self._known: dict[int, Known] = {}

    def of(self, channel: Channel) -> Known:
        """Return what is known of a channel: one look for all of it."""
        known = self._known.get(channel.id)
        if known is None:
            known = self._known[channel.id] = Known(channel.keys)
        return known

    def usable(self, channel: Channel, now: float) -> bool:
        """Whether a call could go to `channel` now."""
        known = self.of(channel)
        return known.breaker.allows(now) and known.keys.ready(now)

    def omits_usage(self, channel: Channel) -> bool:
        """Whether `stream_options` must not be sent there, by its settings or its own word."""
        return channel.usage_option is _OMIT or self.of(channel).omits_usage

    def learn_omit(self, channel: Channel) -> None:
        """The channel refused `stream_options`: leave it out from now on."""
        self.of(channel).omits_usage = True

    def adopt(self, catalog: Catalog) -> None:
        """Take over a new catalog's channels and keys."""
        for channel_id in set(self._known) - set(catalog.channels):
            del self._known[channel_id]
        for channel in catalog.channels.values():
            if channel.id in self._known:
                self._known[channel.id].keys.adopt(channel.keys)

    def resting(self, catalog: Catalog, now: float) -> Iterable[tuple[str, int]]:
        """Yield (channel name, keys that rest) for channels that have any."""
        for channel_id, known in self._known.items():
            channel, resting = catalog.channels.get(channel_id), known.keys.resting(now)
            if channel is not None and resting:
                yield channel.name, resting

    def breakers(self, catalog: Catalog) -> Iterable[tuple[str, int]]:
        """Yield (channel name, 0 closed, 1 half-open, 2 open) for the metrics page."""
        for channel_id, known in self._known.items():
            channel = catalog.channels.get(channel_id)
            if channel is not None:
                yield channel.name, _STATE_NUMBERS[known.breaker.state]
