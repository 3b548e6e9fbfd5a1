"""What every request of one worker shares, built once by the wiring.

Rules: `catalog` is swapped by reference, never changed; a request reads it once and keeps what
it read. This module must not know how any of these are made.
"""

import asyncio
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol, TypeAlias

from proxy.core.cache import ResponseCache
from proxy.core.catalog import Catalog
from proxy.core.entities import Channel
from proxy.core.ids import IdSource
from proxy.core.routing import RetryBudget
from proxy.core.tokenizers import Calibration
from proxy.edge.bursts import Burst
from proxy.edge.health import ChannelHealth
from proxy.edge.metrics import Metrics
from proxy.edge.sweep import Sweep
from proxy.edge.upload import Spool
from proxy.edge.upstream import Origin, UpstreamPool, origin_of
from proxy.storage.ports import Billing, Durable, Records

if TYPE_CHECKING:
    from proxy.edge.open_call import AnyCall
    from proxy.edge.realtime_session import RealtimeSession
    from proxy.edge.replay import Replay


@dataclass(frozen=True, slots=True)
class Bounds:
    """The named limits of the request path; each is a setting of the same name."""

    body_bytes_max: int = 32 << 20
    body_seconds_max: float = 60.0
    upload_bytes_max: int = 32 << 20
    spool_memory_bytes_max: int = 262_144
    spool_bytes_max: int = 1 << 30
    spool_dir: str = ""
    event_bytes_max: int = 1 << 20
    header_seconds_max: float = 10.0
    heartbeat_first_ms: int = 10_000
    heartbeat_ms: int = 10_000
    usage_wait_ms: int = 2_000
    commit_wait_ms_max: int = 15_000
    write_stall_seconds_max: float = 60.0
    retry_attempts_max: int = 2
    slice_tokens: int = 4_096
    insufficient_quota_status: int = 402
    cache_bytes_max: int = 64 << 20
    cache_entry_bytes_max: int = 1 << 20
    cache_entries_max: int = 10_000
    cache_seconds: int = 300
    cors_allow_origins: str = "*"
    trusted_proxies: tuple[str, ...] = ()


class CatalogSource(Protocol):
    """Where the current snapshot is; the keeper satisfies it."""

    @property
    def catalog(self) -> Catalog:
        """The newest snapshot."""
        ...


Ready: TypeAlias = tuple[Channel, Origin, bytes, bytes]
"""A version of a channel, where it is, a head for it but for the length, its model as JSON."""


@dataclass(slots=True)
class World:
    """See the module docstring. `now` is Unix time, `loop.time()` is for deadlines."""

    loop: asyncio.AbstractEventLoop
    billing: Billing
    records: Records
    source: CatalogSource
    pool: UpstreamPool
    health: ChannelHealth
    metrics: Metrics
    sweep: Sweep
    ids: IdSource
    pepper: bytes = field(repr=False)
    bounds: Bounds = field(default_factory=Bounds)
    calibration: Calibration = field(default_factory=Calibration)
    retries: RetryBudget = field(default_factory=RetryBudget)
    spool: Spool = field(default_factory=Spool, repr=False)
    calls: "set[AnyCall]" = field(default_factory=set)
    cache: ResponseCache = field(default_factory=ResponseCache)
    replays: "set[Replay]" = field(default_factory=set)
    sessions: "set[RealtimeSession]" = field(default_factory=set)
    draining: bool = False
    charges_at_once: bool = False
    """Whether the last charge was in the ledger when it was made, so that the next will be too."""
    durable: Durable | None = field(default=None, repr=False)
    """The last commit that was found to have happened, which nobody has to ask again."""
    now: Callable[[], float] = time.time
    rng: random.Random = field(default_factory=random.Random)
    burst: Burst = field(default_factory=Burst)
    """Requests of plain calls on their way to upstreams, while there are many."""
    heads: dict[tuple[object, ...], Ready] = field(default_factory=dict, repr=False)
    """Upstream request heads ready to send by what they depend on (edge/heads.py)."""
    _origins: dict[int, tuple[Channel, Origin, str]] = field(default_factory=dict)

    @property
    def catalog(self) -> Catalog:
        """The current snapshot; read it once per request."""
        return self.source.catalog

    @property
    def open(self) -> "tuple[AnyCall | Replay | RealtimeSession, ...]":
        """Everything that is cut when its key or this process goes."""
        return (*self.calls, *self.replays, *self.sessions)

    def origin(self, channel: Channel) -> tuple[Origin, str]:
        """Return a channel's origin and path prefix, parsed once per version of the channel."""
        known = self._origins.get(channel.id)
        if known is None or known[0] is not channel:
            origin, prefix = origin_of(
                channel.base_url, channel.proxy, allow_private=channel.allow_private
            )
            known = self._origins[channel.id] = (channel, origin, prefix)
        return known[1], known[2]
