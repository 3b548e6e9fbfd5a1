"""What this worker has learnt of its channels: breakers, resting keys, unwanted options.

Rules: knowledge lives as long as the process and is forgotten with its channel; a new catalog's
keys are adopted, resting ones keep resting. This module must not know how a call is relayed.
"""

from collections.abc import Iterable
from typing import Final

from proxy.core.breaker import Breaker, BreakerState
from proxy.core.catalog import Catalog
from proxy.core.entities import Channel, UsageOption
from proxy.core.routing import KeyPool

_OMIT: Final = UsageOption.OMIT  # a member of an enum costs ten globals on Python 3.11
_STATE_NUMBERS = {BreakerState.CLOSED: 0, BreakerState.HALF_OPEN: 1, BreakerState.OPEN: 2}


class ChannelHealth:
    """Health by channel id; `now` is loop time everywhere."""

    def __init__(self) -> None:
        self._breakers: dict[int, Breaker] = {}
        self._pools: dict[int, KeyPool] = {}
        self._omitting: set[int] = set()

    def breaker(self, channel: Channel) -> Breaker:
        """Return the channel's breaker."""
        breaker = self._breakers.get(channel.id)
        if breaker is None:
            breaker = self._breakers[channel.id] = Breaker()
        return breaker

    def pool(self, channel: Channel) -> KeyPool:
        """Return the channel's key pool."""
        pool = self._pools.get(channel.id)
        if pool is None:
            pool = self._pools[channel.id] = KeyPool(channel.keys)
        return pool

    def usable(self, channel: Channel, now: float) -> bool:
        """Whether a call could go to `channel` now."""
        return self.breaker(channel).allows(now) and self.pool(channel).ready(now)

    def omits_usage(self, channel: Channel) -> bool:
        """Whether `stream_options` must not be sent there, by its settings or its own word."""
        return channel.usage_option is _OMIT or channel.id in self._omitting

    def learn_omit(self, channel: Channel) -> None:
        """The channel refused `stream_options`: leave it out from now on."""
        self._omitting.add(channel.id)

    def adopt(self, catalog: Catalog) -> None:
        """Take over a new catalog's channels and keys."""
        for channel_id in set(self._breakers) - set(catalog.channels):
            del self._breakers[channel_id]
        for channel_id in set(self._pools) - set(catalog.channels):
            del self._pools[channel_id]
        self._omitting &= set(catalog.channels)
        for channel in catalog.channels.values():
            if channel.id in self._pools:
                self._pools[channel.id].adopt(channel.keys)

    def resting(self, catalog: Catalog, now: float) -> Iterable[tuple[str, int]]:
        """Yield (channel name, keys that rest) for channels that have any."""
        for channel_id, pool in self._pools.items():
            channel, resting = catalog.channels.get(channel_id), pool.resting(now)
            if channel is not None and resting:
                yield channel.name, resting

    def breakers(self, catalog: Catalog) -> Iterable[tuple[str, int]]:
        """Yield (channel name, 0 closed, 1 half-open, 2 open) for the metrics page."""
        for channel_id, breaker in self._breakers.items():
            channel = catalog.channels.get(channel_id)
            if channel is not None:
                yield channel.name, _STATE_NUMBERS[breaker.state]
